//! Queries: requests that change nothing.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::service::Request;
use domain::{Problem, Query, Reason, Rejection};
use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::context::{Context, SERVICE_ERROR, SERVICE_ERROR_CODE, parse};
use crate::database::{Database, Tx};
use crate::fault::Fault;
use crate::limits;
use crate::shell::Shell;

/// Why a query gets no answer.
#[derive(Debug)]
pub enum Miss {
    /// It is refused.
    Refused(Rejection),
    /// Something failed.
    Failed(Fault),
}

impl From<Rejection> for Miss {
    fn from(rejection: Rejection) -> Miss {
        Miss::Refused(rejection)
    }
}

impl From<Fault> for Miss {
    fn from(fault: Fault) -> Miss {
        Miss::Failed(fault)
    }
}

/// What a query gets.
pub type Answer<R> = Result<R, Miss>;

/// A service that answers a query.
pub trait Show<Q: Query>: Send + Sync + 'static {
    /// Answers the query. The transaction is rolled back afterwards.
    fn show(&self, tx: &mut Tx, context: &Context, query: Q) -> impl Future<Output = Answer<Q::Reply>> + Send;
}

/// Answers a query's requests until the service stops.
pub(crate) async fn serve<Q: Query, S: Show<Q>>(service: Arc<S>, shell: Arc<Shell>, database: Database) {
    let Some(mut endpoint) = shell.endpoint(Q::SUBJECT).await else { return };
    let places = Arc::new(Semaphore::new(limits::QUERIES_AT_ONCE));
    loop {
        let request = tokio::select! {
            request = endpoint.next() => request,
            () = shell.stopped() => None,
        };
        let (Some(request), Ok(place)) = (request, places.clone().acquire_owned().await) else { return };
        let (service, database) = (service.clone(), database.clone());
        tokio::spawn(async move {
            let answer = answer::<Q, S>(&*service, &database, &request).await;
            respond(&request, answer).await;
            drop(place);
        });
    }
}

async fn answer<Q: Query, S: Show<Q>>(service: &S, database: &Database, request: &Request) -> Result<Vec<u8>, Rejection> {
    let since = Instant::now();
    let context = Context::read(request.message.headers.as_ref());
    let payload: &[u8] = if request.message.payload.is_empty() { b"{}" } else { &request.message.payload };
    let query: Q = parse(payload)?;
    loop {
        let shown = async {
            let mut tx = database.begin().await?;
            service.show(&mut tx, &context, query.clone()).await
        };
        match database.within_time(limits::QUERY_WITHIN, shown).await {
            Ok(reply) => return serde_json::to_vec(&reply).map_err(|error| Reason::Internal.with(error.to_string())),
            Err(Miss::Refused(rejection)) if rejection.reason.may_be_behind() && since.elapsed() < limits::COPY_PATIENCE => {
                tokio::time::sleep(limits::COPY_PAUSE).await;
            }
            Err(Miss::Refused(rejection)) => return Err(rejection),
            Err(Miss::Failed(Fault::Transient(why))) => return Err(Reason::ServiceUnavailable.with(why)),
            Err(Miss::Failed(Fault::Fatal(why))) => {
                tracing::error!(subject = Q::SUBJECT, %why, "query failed");
                return Err(Reason::Internal.with("the query could not be answered"));
            }
        }
    }
}

async fn respond(request: &Request, answer: Result<Vec<u8>, Rejection>) {
    let mut headers = HeaderMap::new();
    let body = match answer {
        Ok(body) => body,
        Err(rejection) => {
            let problem = Problem::from(rejection);
            headers.insert(SERVICE_ERROR, problem.title.as_str());
            headers.insert(SERVICE_ERROR_CODE, problem.status.to_string());
            serde_json::to_vec(&problem).unwrap_or_default()
        }
    };
    if let Err(error) = request.respond_with_headers(Ok(body.into()), headers).await {
        tracing::warn!(%error, "reply could not be sent");
    }
}
