//! A client as a careful program would be: the same key again and again until it is answered; and as a careless one.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::Client;
use testkit::client::token;
use uuid::Uuid;

use crate::journal::{Entry, Journal, Operation, Outcome};

/// A careful client asks again for so long; then it does not know.
const PATIENCE: Duration = Duration::from_secs(60);
/// A careless one waits so long for its only attempt.
const CARELESS: Duration = Duration::from_millis(400);
/// Longest wait for the answer to one attempt.
const ATTEMPT: Duration = Duration::from_secs(15);
/// Longest wait for what is read.
const READ: Duration = Duration::from_secs(5);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(150);
/// Tokens are good for longer than any run.
const TOKEN_SECONDS: i64 = 30 * 86_400;

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Again and again until it is answered.
    Careful,
    /// Once, with little patience.
    Careless,
    /// Twice at the same time, and once more afterwards.
    Doubled,
}

/// A request, and what is written about it.
pub struct Asked {
    /// What for.
    pub operation: Operation,
    /// The path.
    pub path: String,
    /// The body; a text is a file and is sent as it stands.
    pub body: Value,
    /// The field of the answer with the id of what was made.
    pub id: &'static str,
}

/// One person at the gateways.
#[derive(Clone)]
pub struct Person {
    name: String,
    token: String,
    gateways: Arc<RwLock<Vec<String>>>,
    journal: Arc<Journal>,
}

/// An answer that ends the asking.
enum Answer {
    Acknowledged(Value),
    Refused(String),
}

/// What an attempt came to.
struct Attempt {
    answer: Option<Answer>,
    replayed: bool,
}

impl Person {
    /// A person with one role.
    pub fn new(name: &str, role: &str, secret: &str, gateways: Arc<RwLock<Vec<String>>>, journal: Arc<Journal>) -> Person {
        let token = token(secret, name, &[role], None, TOKEN_SECONDS);
        Person { name: name.to_owned(), token, gateways, journal }
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One of the gateways, as a balancer would choose.
    fn client(&self, number: usize) -> Client {
        let gateways = self.gateways.read().map(|gateways| gateways.clone()).unwrap_or_default();
        Client::new(&gateways[number % gateways.len()], Some(self.token.clone()))
    }

    /// Reads once; none when it is not there or nobody answers.
    pub async fn read(&self, path: &str) -> Option<Value> {
        let client = self.client(fastrand::usize(..));
        match tokio::time::timeout(READ, client.send("GET", path, None, None)).await {
            Ok(Ok(reply)) if reply.status == 200 => Some(reply.body),
            _ => None,
        }
    }

    async fn attempt(&self, number: usize, within: Duration, key: &str, asked: &Asked) -> Attempt {
        let client = self.client(number);
        let body = match &asked.body {
            Value::String(file) => file.clone().into_bytes(),
            body => body.to_string().into_bytes(),
        };
        let Ok(Ok(reply)) = tokio::time::timeout(within, client.send("POST", &asked.path, Some(key), Some(body))).await else {
            return Attempt { answer: None, replayed: false };
        };
        let answer = match reply.status {
            200..300 => Some(Answer::Acknowledged(reply.body)),
            429 | 500.. => None,
            _ => Some(Answer::Refused(reply.text("code"))),
        };
        Attempt { answer, replayed: reply.replayed }
    }

    /// Sends once what no operation of the journal is.
    pub async fn send(&self, path: &str, body: Value) -> Option<Value> {
        let client = self.client(0);
        let reply = client.send("POST", path, Some(&Uuid::new_v4().to_string()), Some(body.to_string().into_bytes())).await.ok()?;
        (200..300).contains(&reply.status).then_some(reply.body)
    }

    /// Sends a request in a manner and notes what became of it. Returns the body of an acknowledgement.
    pub async fn ask(&self, manner: Manner, asked: Asked) -> Option<Value> {
        let (entry, body) = self.ask_unnoted(manner, asked).await;
        self.journal.note(entry);
        body
    }

    /// The same, and leaves the noting to the caller.
    pub async fn ask_unnoted(&self, manner: Manner, asked: Asked) -> (Entry, Option<Value>) {
        let key = Uuid::new_v4().to_string();
        let (since, began) = (Instant::now(), self.journal.now());
        let mut entry = Entry {
            operation: asked.operation.clone(),
            key: key.clone(),
            asked: began,
            answered: began,
            attempts: 0,
            replayed: false,
            outcome: Outcome::Unknown,
            contradicted: false,
        };
        let mut unanswered = false;
        let mut acknowledged = None;
        loop {
            let within = if manner == Manner::Careless { CARELESS } else { ATTEMPT };
            let number = entry.attempts as usize;
            let attempts = if manner == Manner::Doubled && entry.attempts == 0 {
                let both = tokio::join!(self.attempt(number, within, &key, &asked), self.attempt(number + 1, within, &key, &asked));
                vec![both.0, both.1]
            } else {
                vec![self.attempt(number, within, &key, &asked).await]
            };
            for attempt in attempts {
                entry.attempts += 1;
                entry.replayed |= attempt.replayed;
                match attempt.answer {
                    None => unanswered = true,
                    Some(answer) => settle(&mut entry, &mut acknowledged, answer, asked.id),
                }
            }
            entry.answered = self.journal.now();
            let again = entry.outcome == Outcome::Unknown && manner != Manner::Careless && since.elapsed() < PATIENCE;
            if !again {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if manner == Manner::Doubled && acknowledged.is_some() {
            let again = self.attempt(0, ATTEMPT, &key, &asked).await;
            entry.replayed |= again.replayed;
            if let Some(answer) = again.answer {
                settle(&mut entry, &mut acknowledged, answer, asked.id);
            }
        }
        if unanswered && matches!(entry.outcome, Outcome::Refused { .. }) {
            // the attempt that was not answered may yet be carried out
            entry.outcome = Outcome::Unknown;
        }
        (entry, acknowledged)
    }
}

/// Notes an answer; one that is not like the first acknowledgement contradicts it.
fn settle(entry: &mut Entry, acknowledged: &mut Option<Value>, answer: Answer, field: &str) {
    match answer {
        Answer::Acknowledged(body) => {
            let id = body[field].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
            match acknowledged {
                Some(first) => entry.contradicted |= *first != body,
                None => *acknowledged = Some(body),
            }
            entry.outcome = Outcome::Acknowledged { id };
        }
        Answer::Refused(code) => match &entry.outcome {
            Outcome::Acknowledged { .. } => entry.contradicted = true,
            _ => entry.outcome = Outcome::Refused { code },
        },
    }
}
