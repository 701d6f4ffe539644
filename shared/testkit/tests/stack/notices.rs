//! Notices: each once for a line and a rule, also after an outage, published and sent by mail.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use testkit::Stack;

use crate::office::{Office, id, lines};

/// How often each rule was raised, from the stream itself.
async fn raised(stack: &Stack) -> BTreeMap<String, usize> {
    let jetstream = async_nats::jetstream::new(stack.nats_as("notices").await);
    let config = async_nats::jetstream::consumer::pull::OrderedConfig::default();
    let consumer = jetstream.create_consumer_on_stream(config, "NOTICES").await.unwrap();
    let waiting = consumer.cached_info().num_pending;
    let mut ids = std::collections::HashSet::new();
    let mut rules = BTreeMap::new();
    let mut messages = consumer.messages().await.unwrap().take(usize::try_from(waiting).unwrap());
    while let Some(Ok(message)) = messages.next().await {
        let notice: Value = serde_json::from_slice(&message.payload).unwrap();
        // a consumer that remembers ids sees each notice once, however often it was published
        if ids.insert(message.headers.as_ref().unwrap().get("ce-id").unwrap().to_string()) {
            *rules.entry(notice["state"]["rule"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    rules
}

async fn wait_for(stack: &Stack, expected: &[(&str, usize)]) {
    let expected: BTreeMap<String, usize> = expected.iter().map(|(rule, count)| ((*rule).to_owned(), *count)).collect();
    let reached = testkit::wait::until(Duration::from_secs(15), || async { raised(stack).await == expected });
    assert!(reached.await, "expected {expected:?}, raised {:?}", raised(stack).await);
}

fn in_days(days: u64) -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    (chrono::DateTime::from_timestamp(i64::try_from(seconds).unwrap(), 0).unwrap().date_naive() + chrono::Days::new(days)).to_string()
}

#[tokio::test]
async fn reminders_seven_three_and_one_day_before_then_overdue_then_escalation_each_once() {
    let mut stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let allocation = office.allocation(&stack, &fund, "500000").await;
    let call = office.call(&fund, allocation, "100.00", &in_days(20)).await;
    wait_for(&stack, &[("issued", 2)]).await;
    stack.set_clock(13 * 86_400).await;
    wait_for(&stack, &[("issued", 2), ("due-7", 2)]).await;
    // one investor pays; the service is away while three more notices become due
    office.pay(id(&lines(&call)[0], "id"), "50.00", "paid").await;
    let database = stack.database().await;
    let known = testkit::wait::until(Duration::from_secs(10), || async {
        sqlx::query_scalar::<_, i64>("select count(*) from notifications.lines where outstanding = 0").fetch_one(&database).await.unwrap()
            == 1
    });
    assert!(known.await);
    stack.kill("notifications");
    stack.set_clock(21 * 86_400).await;
    stack.restart("notifications").await;
    let before_escalation = [("issued", 2), ("due-7", 2), ("due-3", 1), ("due-1", 1), ("overdue", 1)];
    wait_for(&stack, &before_escalation).await;
    stack.crash("notifications").await;
    stack.set_clock(25 * 86_400).await;
    wait_for(&stack, &[&before_escalation[..], &[("escalation", 1)]].concat()).await;
}

#[tokio::test]
async fn notices_are_sent_by_mail_where_it_is_configured() {
    let sink = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("smtp://{}", sink.local_addr().unwrap());
    let mails = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    tokio::spawn(mail_sink(sink, mails.clone()));
    let stack = Stack::start_with(&[("SMTP_URL", &address), ("MAIL_FROM", "calls@fund.example")]).await;
    let office = Office::of(&stack);
    let fund = office.fund_of("1000000", 0, "1").await;
    let investor = id(
        &office.admin.post("/investors", serde_json::json!({"name": "Pension", "email": "cash@pension.example"})).await.expect(201),
        "id",
    );
    office
        .admin
        .post(
            &format!("/funds/{}/commitments", fund.id),
            serde_json::json!({"investor_id": investor, "amount": "1000000", "effective_on": "2020-01-01"}),
        )
        .await
        .expect(201);
    let allocation = office.allocation(&stack, &fund, "500000").await;
    let call = office.call(&fund, allocation, "100.00", "2099-12-31").await;
    let arrived = testkit::wait::until(Duration::from_secs(15), || async { !mails.lock().unwrap().is_empty() });
    assert!(arrived.await);
    let mails = mails.lock().unwrap().clone();
    assert_eq!(mails.len(), 1);
    let reference = format!("Reference:   {}", crate::office::lines(&call)[0]["reference"].as_str().unwrap());
    for part in [
        reference.as_str(),
        "To: cash@pension.example",
        "From: calls@fund.example",
        "Subject: capital call: 100.00 USD due on 2099-12-31",
        "@tranche>",
    ] {
        assert!(mails[0].contains(part), "{part} is missing in\n{}", mails[0]);
    }
}

/// The least that a mail server says; keeps what it is told.
async fn mail_sink(listener: tokio::net::TcpListener, mails: std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    while let Ok((stream, _)) = listener.accept().await {
        let mails = mails.clone();
        tokio::spawn(async move {
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            let _ = write.write_all(b"220 sink\r\n").await;
            let mut mail: Option<String> = None;
            while let Ok(Some(line)) = lines.next_line().await {
                let answer: &[u8] = match &mut mail {
                    Some(text) if line == "." => {
                        mails.lock().unwrap().push(std::mem::take(text));
                        mail = None;
                        b"250 kept\r\n"
                    }
                    Some(text) => {
                        text.push_str(&line);
                        text.push('\n');
                        continue;
                    }
                    None if line.starts_with("DATA") => {
                        mail = Some(String::new());
                        b"354 go on\r\n"
                    }
                    None if line.starts_with("QUIT") => b"221 bye\r\n",
                    None => b"250 ok\r\n",
                };
                let _ = write.write_all(answer).await;
            }
        });
    }
}
