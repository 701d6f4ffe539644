//! The load: closed loops of clients that each wait for their answer, as callers of a synchronous database do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use chrono::{Days, NaiveDate};
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use uuid::Uuid;

use crate::world::World;

/// Longest latency that is told apart, in microseconds.
const LATENCY_MAX: u64 = 600_000_000;
/// Lines at the end of the firm that the load leaves to the tracer.
pub const TRACED_LINES: usize = 64;
/// Pause of the tracer between two looks at what is committed; looking more often takes from what it looks at.
const TRACE_LOOK: Duration = Duration::from_millis(5);
/// Pause of the tracer between two payments.
const TRACE_PAUSE: Duration = Duration::from_millis(20);
/// What a client does that was told to come again later.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// An empty histogram of microseconds.
pub fn histogram() -> Histogram<u64> {
    // three digits are more than the machine's noise leaves
    Histogram::new_with_bounds(1, LATENCY_MAX, 3).unwrap_or_else(|error| panic!("histogram: {error}"))
}

/// What came of a load.
pub struct Outcome {
    /// Payments (or requests) accepted.
    pub accepted: u64,
    /// Requests answered with 429 or 503.
    pub busy: u64,
    /// How long the load ran.
    pub elapsed: Duration,
    /// Microseconds from request to answer.
    pub replies: Histogram<u64>,
}

/// How payments are sent.
#[derive(Clone, Copy, Debug)]
pub enum Door {
    /// As commands over NATS.
    Nats,
    /// As HTTP requests with keep-alive.
    Http,
}

/// One form of the payment load.
#[derive(Clone, Debug)]
pub struct Form {
    /// How.
    pub door: Door,
    /// Requests in flight.
    pub in_flight: usize,
    /// Payments of one request.
    pub per_request: usize,
    /// Payments a second that are asked for in all; none asks as fast as the answers come.
    pub rate: Option<f64>,
    /// Only the first so many lines get payments.
    pub lines: usize,
}

/// Runs clients for so long.
pub async fn run(world: &World, form: &Form, time: Duration) -> Result<Outcome, String> {
    run_at(world, &world.gateway(), form, time).await
}

/// The same; requests over HTTP go to this address.
pub async fn run_at(world: &World, address: &str, form: &Form, time: Duration) -> Result<Outcome, String> {
    let lines: Arc<Vec<Uuid>> = Arc::new(world.firm.lines[..form.lines].to_vec());
    let sent = Arc::new(AtomicU64::new(0));
    let since = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    let nats = world.sender().await?;
    let token = world.token(&["treasurer"]);
    let address = address.trim_start_matches("http://").to_owned();
    for number in 0..form.in_flight {
        let writer = Writer { lines: lines.clone(), place: number as u64, per_request: form.per_request };
        let pace = Pace { since, until: since + time, rate: form.rate.map(|rate| rate / form.per_request as f64), sent: sent.clone() };
        let (nats, token, address) = (nats.clone(), token.clone(), address.clone());
        match form.door {
            Door::Nats => clients.spawn(over_nats(nats, writer, pace)),
            Door::Http => clients.spawn(over_http(address, token, writer, pace)),
        };
    }
    let mut outcome = Outcome { accepted: 0, busy: 0, elapsed: time, replies: histogram() };
    while let Some(done) = clients.join_next().await {
        let part = done.map_err(|error| error.to_string())??;
        outcome.accepted += part.accepted;
        outcome.busy += part.busy;
        outcome.replies.add(part.replies).map_err(|error| error.to_string())?;
    }
    outcome.elapsed = since.elapsed();
    Ok(outcome)
}

/// When a client sends next, and when it stops.
struct Pace {
    since: Instant,
    until: Instant,
    /// Requests a second of all clients together.
    rate: Option<f64>,
    sent: Arc<AtomicU64>,
}

impl Pace {
    /// The instant at which the next request is due; none when the time is over. Latency counts from the instant that
    /// the request was due, so that a stall is not hidden by the requests that it kept from being sent.
    async fn next(&self) -> Option<Instant> {
        let due = match self.rate {
            None => Instant::now(),
            Some(rate) => {
                let place = self.sent.fetch_add(1, Ordering::Relaxed);
                let due = self.since + Duration::from_secs_f64(place as f64 / rate);
                tokio::time::sleep_until(due.min(self.until).into()).await;
                due
            }
        };
        (due < self.until).then_some(due)
    }
}

/// A value date of its own for each of so many payments: cash of one amount, date and payer would be taken for a duplicate.
fn value_date(number: u64) -> NaiveDate {
    NaiveDate::default() + Days::new(11_000 + number % 9_000)
}

/// Different amounts of payments; a prime, so that it takes many even steps to come back to one.
const AMOUNTS: usize = 97;

/// Writes requests.
struct Writer {
    lines: Arc<Vec<Uuid>>,
    place: u64,
    per_request: usize,
}

impl Writer {
    /// The place of the line that is paid now.
    fn line(&self) -> usize {
        (self.place >> 33) as usize % self.lines.len()
    }

    /// The next payment, from a full cycle of a linear congruence: no line comes twice in short order.
    fn payment(&mut self, with_line: bool) -> String {
        self.place = self.place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let line = if with_line { format!("\"line_id\":\"{}\",", self.lines[self.line()]) } else { String::new() };
        // the lines of one investor stand in even steps: no two of them have the same amount
        let (cents, reference, received_on) = (self.line() % AMOUNTS, self.place, value_date(self.place >> 20));
        format!(
            "{{{line}\"amount\":\"1.{cents:02}\",\"method\":\"wire\",\"reference\":\"bench {reference}\",\"received_on\":\"{received_on}\"}}"
        )
    }

    fn body(&mut self) -> String {
        if self.per_request == 1 {
            return self.payment(true);
        }
        let payments: Vec<String> = (0..self.per_request).map(|_| self.payment(true)).collect();
        format!("{{\"payments\":[{}]}}", payments.join(","))
    }
}

async fn over_nats(client: async_nats::Client, mut writer: Writer, pace: Pace) -> Result<Outcome, String> {
    let subject = match writer.per_request {
        1 => "tranche.cmd.capital-calls.record-payment",
        _ => "tranche.cmd.capital-calls.record-payments",
    };
    let mut outcome = Outcome { accepted: 0, busy: 0, elapsed: Duration::ZERO, replies: histogram() };
    while let Some(due) = pace.next().await {
        let mut headers = HeaderMap::new();
        headers.insert("Idempotency-Key", Uuid::new_v4().to_string());
        headers.insert("ce-id", Uuid::now_v7().to_string());
        headers.insert("ce-actor", "treasurer");
        headers.insert("ce-actorroles", "treasurer");
        let body = writer.body();
        let reply = client.request_with_headers(subject, headers, body.into()).await.map_err(|error| error.to_string())?;
        let code = reply.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error-Code")).map(|code| code.as_str().to_owned());
        match code.as_deref() {
            None => {
                outcome.accepted += accepted(writer.per_request, &reply.payload)?;
                note(&mut outcome, due);
            }
            Some("429" | "503") => {
                outcome.busy += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Some(code) => return Err(format!("{code}: {}", String::from_utf8_lossy(&reply.payload))),
        }
    }
    Ok(outcome)
}

fn note(outcome: &mut Outcome, due: Instant) {
    let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(LATENCY_MAX).clamp(1, LATENCY_MAX);
    outcome.replies.saturating_record(micros);
}

/// How many of a request's payments were accepted; a refusal is an error of the bench.
fn accepted(per_request: usize, reply: &[u8]) -> Result<u64, String> {
    if per_request == 1 {
        return Ok(1);
    }
    let all = format!("{{\"accepted\":{per_request},");
    if reply.starts_with(all.as_bytes()) {
        return Ok(per_request as u64);
    }
    Err(format!("not all of {per_request} payments were accepted: {}", String::from_utf8_lossy(&reply[..reply.len().min(500)])))
}

async fn over_http(address: String, token: String, mut writer: Writer, pace: Pace) -> Result<Outcome, String> {
    let fault = |error: &dyn std::fmt::Display| format!("http: {error}");
    let stream = tokio::net::TcpStream::connect(&address).await.map_err(|error| fault(&error))?;
    stream.set_nodelay(true).map_err(|error| fault(&error))?;
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.map_err(|error| fault(&error))?;
    tokio::spawn(connection);
    let mut outcome = Outcome { accepted: 0, busy: 0, elapsed: Duration::ZERO, replies: histogram() };
    while let Some(due) = pace.next().await {
        let (path, body) = match writer.per_request {
            1 => {
                let body = writer.payment(false);
                (format!("/api/v1/call-lines/{}/payments", writer.lines[writer.line()]), body)
            }
            _ => ("/api/v1/payments/batch".to_owned(), writer.body()),
        };
        let request = Request::post(path)
            .header("host", &address)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("idempotency-key", Uuid::new_v4().to_string())
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| fault(&error))?;
        let reply = sender.send_request(request).await.map_err(|error| fault(&error))?;
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await.map_err(|error| fault(&error))?.to_bytes();
        match status {
            200..300 => {
                outcome.accepted += accepted(writer.per_request, &body)?;
                note(&mut outcome, due);
            }
            429 | 503 => {
                outcome.busy += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            _ => return Err(format!("{status}: {}", String::from_utf8_lossy(&body))),
        }
        sender.ready().await.map_err(|error| fault(&error))?;
    }
    Ok(outcome)
}

/// What the tracer saw: microseconds from sending a payment until every projection and the audit had committed it.
pub struct Trace {
    /// The payments that it sent itself.
    pub sent: u64,
    /// End-to-end latencies.
    pub histogram: Histogram<u64>,
}

/// Sends a payment now and then on lines of its own and looks for it in every projection, until told to stop.
pub async fn trace(world: &World, stop: Arc<AtomicBool>) -> Result<Trace, String> {
    let fault = |error: &dyn std::fmt::Display| format!("tracer: {error}");
    let client = world.sender().await?;
    let mut idle: Vec<Uuid> = world.firm.lines[world.firm.lines.len() - TRACED_LINES..].to_vec();
    let mut waiting: Vec<(Uuid, i64, Instant)> = Vec::new();
    let mut trace = Trace { sent: 0, histogram: histogram() };
    let (committed, mut answered) = tokio::sync::mpsc::unbounded_channel();
    let mut next = Instant::now();
    let mut unanswered = 0;
    while !stop.load(Ordering::Relaxed) || !waiting.is_empty() || unanswered > 0 {
        if Instant::now() >= next && !stop.load(Ordering::Relaxed) && !idle.is_empty() {
            next = Instant::now() + TRACE_PAUSE;
            unanswered += 1;
            let line = idle.remove(0);
            let received_on = value_date(trace.sent);
            let (client, database, committed) = (client.clone(), world.database.clone(), committed.clone());
            tokio::spawn(async move {
                let since = Instant::now();
                let mut headers = HeaderMap::new();
                headers.insert("Idempotency-Key", Uuid::new_v4().to_string());
                headers.insert("ce-actor", "tracer");
                let body = format!(
                    "{{\"line_id\":\"{line}\",\"amount\":\"1.00\",\"method\":\"wire\",\"reference\":\"trace\",\"received_on\":\"{received_on}\"}}"
                );
                let subject = "tranche.cmd.capital-calls.record-payment";
                let reply = client.request_with_headers(subject, headers, body.into()).await;
                let good = reply.is_ok_and(|reply| reply.headers.is_none_or(|headers| headers.get("Nats-Service-Error-Code").is_none()));
                // nobody else pays on this line, so its version is the one that this payment made
                let version = sqlx::query_scalar("select version from capital_calls.call_lines where id = $1");
                let version: Result<i64, _> = version.bind(line).fetch_one(&database).await;
                let _ = committed.send((line, version.ok().filter(|_| good), since));
            });
        }
        while let Ok((line, version, since)) = answered.try_recv() {
            unanswered -= 1;
            match version {
                Some(version) => {
                    trace.sent += 1;
                    waiting.push((line, version, since));
                }
                None => idle.push(line),
            }
        }
        if !waiting.is_empty() {
            let done: Vec<Uuid> = sqlx::query_scalar(
                "select asked.id from unnest($1::uuid[], $2::bigint[]) as asked (id, version)
                 join fund_metrics.lines as metrics on metrics.id = asked.id and metrics.version >= asked.version
                 join notifications.lines as notices on notices.id = asked.id and notices.version >= asked.version
                 join allocation_status.line_shares as shares on shares.line_id = asked.id and shares.version >= asked.version
                 where exists (select from audit.records where aggregate_id = asked.id and records.version = asked.version)",
            )
            .bind(waiting.iter().map(|(id, _, _)| *id).collect::<Vec<_>>())
            .bind(waiting.iter().map(|(_, version, _)| *version).collect::<Vec<_>>())
            .fetch_all(&world.database)
            .await
            .map_err(|error| fault(&error))?;
            waiting.retain(|(id, _, since)| {
                let is_done = done.contains(id);
                if is_done {
                    trace.histogram.saturating_record(u64::try_from(since.elapsed().as_micros()).unwrap_or(LATENCY_MAX));
                    idle.push(*id);
                }
                !is_done
            });
        }
        tokio::time::sleep(TRACE_LOOK).await;
    }
    Ok(trace)
}
