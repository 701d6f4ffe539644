// Parts of a page that keep themselves up to date: while events arrive, the part is fetched again at most
// twice a second, and once more after the last event and after each new connection.
for (const part of document.querySelectorAll("[data-live]")) {
  let waiting = false;
  const refresh = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      htmx.trigger(part, "live");
    }, 500);
  };
  const events = new EventSource(part.dataset.live);
  events.onopen = refresh;
  events.onmessage = refresh;
}
