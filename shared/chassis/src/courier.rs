//! The courier sends commands and queries to other services and brings back the answer.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Request, RequestErrorKind};
use bytes::Bytes;
use domain::{Command, Problem, Rejection};

use crate::context::{Context, DRY_RUN, IDEMPOTENCY_KEY, REPLAYED, SERVICE_ERROR};
use crate::limits::REQUEST_TIMEOUT;

/// Nobody answered: it is not known whether the request was carried out. Ask again with the same key.
#[derive(Debug)]
pub struct Unanswered {
    /// Why.
    pub why: String,
    /// Whether nobody listens on the subject.
    pub nobody: bool,
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answered {
    /// The body, or the refusal.
    pub result: Result<Bytes, Rejection>,
    /// Whether it was given before.
    pub replayed: bool,
}

/// Sends requests over one NATS connection.
#[derive(Clone)]
pub struct Courier {
    client: Client,
}

impl Courier {
    /// A courier on this connection.
    pub fn new(client: Client) -> Courier {
        Courier { client }
    }

    /// Sends a request once and waits for the answer so long. Commands carry a key.
    pub async fn send(
        &self,
        subject: &str,
        key: Option<&str>,
        context: &Context,
        body: Bytes,
        within: Duration,
    ) -> Result<Answered, Unanswered> {
        let dry_run = context.is_dry_run.then(|| format!("{subject}.{DRY_RUN}"));
        let subject = dry_run.as_deref().unwrap_or(subject);
        let mut headers = HeaderMap::new();
        context.write(&mut headers);
        if let Some(key) = key {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        let request = Request::new().headers(headers).payload(body).timeout(Some(within));
        let reply = self
            .client
            .send_request(subject.to_owned(), request)
            .await
            .map_err(|error| Unanswered { nobody: error.kind() == RequestErrorKind::NoResponders, why: format!("{subject}: {error}") })?;
        let headers = reply.headers.as_ref();
        let replayed = headers.is_some_and(|headers| headers.get(REPLAYED).is_some());
        if headers.is_none_or(|headers| headers.get(SERVICE_ERROR).is_none()) {
            return Ok(Answered { result: Ok(reply.payload), replayed });
        }
        match serde_json::from_slice::<Problem>(&reply.payload) {
            Ok(problem) => Ok(Answered { result: Err(problem.into()), replayed }),
            Err(error) => Err(Unanswered { why: format!("{subject}: an error without a problem: {error}"), nobody: false }),
        }
    }

    /// Sends a command once and reads the reply.
    pub async fn command<C: Command>(&self, key: &str, context: &Context, command: &C) -> Result<Result<C::Reply, Rejection>, Unanswered> {
        let unreadable = |error: serde_json::Error| Unanswered { why: format!("{}: {error}", C::SUBJECT), nobody: false };
        let body = serde_json::to_vec(command).map_err(unreadable)?;
        match self.send(C::SUBJECT, Some(key), context, body.into(), REQUEST_TIMEOUT).await?.result {
            Ok(reply) => serde_json::from_slice(&reply).map(Ok).map_err(unreadable),
            Err(rejection) => Ok(Err(rejection)),
        }
    }
}
