//! Commands: those that arrive together are decided together, in one transaction.
//!
//! The order of work for a batch: let the service decide, store the answers beside the changes, commit, reply. When
//! storing finds that a key was answered before (idempotency) nothing is committed, and the batch is decided again with
//! the answers that were given before looked up first. If the process
//! dies before the commit nothing has happened and the caller asks again; if it dies after it, the
//! caller asks again and gets the stored answer.

use std::collections::HashMap;
use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::service::Request;
use async_nats::service::endpoint::Endpoint;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use domain::message::{Outcome, Outcomes, Several, without_values};
use domain::{Command, Problem, Reason, Rejection};
use futures::{FutureExt, StreamExt};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use crate::context::{Context, DRY_RUN, IDEMPOTENCY_KEY, REPLAYED, SERVICE_ERROR, SERVICE_ERROR_CODE, parse};
use crate::crash;
use crate::database::{Committed, Database, Tx};
use crate::fault::Fault;
use crate::limits;
use crate::outcome::Kept;
use crate::row::sorted_ids;
use crate::shell::Shell;

/// One command of a batch.
#[derive(Debug)]
pub struct Sent<C> {
    /// Who sent it.
    pub context: Context,
    /// Its idempotency key.
    pub key: String,
    /// The command.
    pub body: C,
}

/// Commands that arrived together, each with another idempotency key.
#[derive(Debug)]
pub struct Batch<C>(Vec<Sent<C>>);

impl<C> Batch<C> {
    /// A batch of these commands.
    pub fn new(commands: Vec<Sent<C>>) -> Batch<C> {
        Batch(commands)
    }

    /// The commands in the order in which they arrived.
    pub fn iter(&self) -> std::slice::Iter<'_, Sent<C>> {
        self.0.iter()
    }

    /// The ids that the commands name, sorted, each once: the order in which rows are locked.
    pub fn ids(&self, id: impl Fn(&C) -> Uuid) -> Vec<Uuid> {
        sorted_ids(self.0.iter().map(|sent| id(&sent.body)))
    }
}

impl<C: Several> Batch<C> {
    /// The parts of the commands that have neither none nor too many, in their order: what is decided.
    pub fn parts(&self) -> Vec<(&Context, &C::Part)> {
        let fitting = self.0.iter().filter(|sent| sent.body.check_count().is_ok());
        fitting.flat_map(|sent| sent.body.parts().iter().map(|part| (&sent.context, part))).collect()
    }

    /// The answers of the commands, from what became of [`Batch::parts`]; each part that is refused is recorded.
    pub fn answers_of_parts(&self, tx: &mut Tx, decided: Answers<C::Accepted>) -> Result<Answers<C::Reply>, Fault> {
        let mut decided = decided.into_iter();
        let mut answers = Answers::with_capacity(self.0.len());
        for Sent { context, body, .. } in &self.0 {
            if let Err(rejection) = body.check_count() {
                answers.push(Err(rejection));
                continue;
            }
            let mut answer = Outcomes { accepted: 0, refused: 0, outcomes: Vec::with_capacity(body.parts().len()) };
            for outcome in decided.by_ref().take(body.parts().len()) {
                answer.outcomes.push(match outcome {
                    Ok(accepted) => {
                        answer.accepted += 1;
                        Outcome::Accepted(accepted)
                    }
                    Err(rejection) => {
                        answer.refused += 1;
                        tx.record_refusal::<C>(context, &rejection)?;
                        Outcome::Refused { problem: rejection.into() }
                    }
                });
            }
            answers.push(Ok(answer));
        }
        Ok(answers)
    }
}

/// One answer for each command of a batch, in its order.
pub type Answers<R> = Vec<Result<R, Rejection>>;

/// A service that decides a command.
pub trait Handle<C: Command>: Send + Sync + 'static {
    /// Decides the commands one by one on top of each other. A refusal is an answer; it must leave
    /// nothing changed. A fault undoes the whole batch.
    fn handle(&self, tx: &mut Tx, batch: &Batch<C>) -> impl Future<Output = Result<Answers<C::Reply>, Fault>> + Send;
}

struct Waiting {
    request: Request,
    since: Instant,
}

struct Reply {
    body: Bytes,
    problem: Option<Problem>,
    replayed: bool,
}

impl Reply {
    fn accepted(body: Bytes) -> Reply {
        Reply { body, problem: None, replayed: false }
    }
    fn refused(rejection: Rejection) -> Reply {
        let problem = Problem::from(rejection);
        Reply { body: serde_json::to_vec(&problem).unwrap_or_default().into(), problem: Some(problem), replayed: false }
    }
}

/// Answers a command's requests until the service stops; then answers what has arrived already, so
/// that nobody waits in vain while another replica takes over.
pub(crate) async fn serve<C: Command, S: Handle<C>>(service: Arc<S>, shell: Arc<Shell>, database: Database) {
    let Some(endpoint) = shell.endpoint(C::SUBJECT).await else { return };
    let mut arriving = endpoint;
    let mut behind: Vec<Waiting> = Vec::new();
    loop {
        // the more refusals wait to be decided again, the more rarely they are
        let pause = limits::COPY_PAUSE * (1 + u32::try_from(behind.len() / 50).unwrap_or(u32::MAX));
        let chunk = tokio::select! {
            first = arriving.next() => match first {
                Some(first) => together(first, &mut arriving),
                None => break,
            },
            () = tokio::time::sleep(pause), if !behind.is_empty() => vec![],
            () = shell.stopped() => break,
        };
        behind = answer(&*service, &shell, &database, arrived(behind, chunk)).await;
    }
    let _ = arriving.stop().await;
    while let Some(Some(first)) = arriving.next().now_or_never() {
        let chunk = together(first, &mut arriving);
        behind = answer(&*service, &shell, &database, arrived(behind, chunk)).await;
    }
}

/// The first request and those that have arrived already, up to the limits.
fn together(first: Request, arriving: &mut Endpoint) -> Vec<Request> {
    let mut bytes = first.message.payload.len();
    let mut chunk = vec![first];
    while chunk.len() < limits::BATCH_MAX && bytes < limits::BATCH_BYTES_MAX {
        // outside the runtime's budget, which would end every batch at 64
        let Some(Some(next)) = tokio::task::unconstrained(arriving.next()).now_or_never() else { break };
        bytes += next.message.payload.len();
        chunk.push(next);
    }
    chunk
}

fn arrived(mut waiting: Vec<Waiting>, chunk: Vec<Request>) -> Vec<Waiting> {
    let since = Instant::now();
    waiting.extend(chunk.into_iter().map(|request| Waiting { request, since }));
    waiting
}

/// Answers dry runs of a command until the service stops, one after the other: they hold up no command that is meant.
pub(crate) async fn serve_dry_runs<C: Command, S: Handle<C>>(service: Arc<S>, shell: Arc<Shell>, database: Database) {
    let Some(mut arriving) = shell.endpoint(&format!("{}.{DRY_RUN}", C::SUBJECT)).await else { return };
    loop {
        let request = tokio::select! {
            next = arriving.next() => match next {
                Some(request) => request,
                None => return,
            },
            () = shell.stopped() => break,
        };
        let reply = match shell.overload() {
            Some(why) => Reply::refused(Reason::Overloaded.with(why)),
            None => try_out::<C, S>(&*service, &database, &request).await,
        };
        respond(&request, reply).await;
    }
    let _ = arriving.stop().await;
}

/// Decides a command by itself, in a transaction that is rolled back: its answer is what it would be, and nothing is kept, not even
/// under its key. A copy that may be behind is not waited for.
async fn try_out<C: Command, S: Handle<C>>(service: &S, database: &Database, request: &Request) -> Reply {
    let sent = match read::<C>(0, request) {
        Ok(Read { sent, .. }) => sent,
        Err(rejection) => return Reply::refused(rejection),
    };
    let decided = database.within(async {
        let mut tx = database.begin().await?;
        let mut answers = service.handle(&mut tx, &Batch(vec![sent])).await?;
        let answer = answers.pop().ok_or_else(|| Fault::Fatal("no answer to a command".into()))?;
        Ok(answer.map(|answer| serde_json::to_vec(&answer)))
    });
    match decided.await {
        Ok(Ok(Ok(body))) => Reply::accepted(body.into()),
        Ok(Err(rejection)) => Reply::refused(rejection),
        Ok(Ok(Err(error))) => Reply::refused(Reason::Internal.with(error.to_string())),
        Err(Fault::Transient(why)) => Reply::refused(Reason::ServiceUnavailable.with(why)),
        Err(Fault::Fatal(why)) => {
            tracing::error!(subject = C::SUBJECT, %why, "dry run failed");
            Reply::refused(Reason::Internal.with("the command could not be decided"))
        }
    }
}

/// Decides and answers what waits; returns what shall be decided again.
async fn answer<C: Command, S: Handle<C>>(service: &S, shell: &Shell, database: &Database, waiting: Vec<Waiting>) -> Vec<Waiting> {
    metrics::histogram!("tranche_batch_size", "subject" => C::SUBJECT).record(waiting.len() as f64);
    let mut attempt = 0;
    let mut keys = Keys::Fresh;
    let replies = loop {
        if let Some(why) = shell.overload() {
            break refuse_all(&waiting, Reason::Overloaded, &why);
        }
        if shell.lag() > limits::LAG_SLOW {
            tokio::time::sleep(shell.lag() / limits::LAG_PART).await;
        }
        match database.within(decide::<C, S>(service, database, &waiting, keys)).await {
            Ok(Some(replies)) => break replies,
            Ok(None) if keys == Keys::Fresh => keys = Keys::LookedUp,
            Ok(None) if attempt < limits::BATCH_ATTEMPTS => {
                tracing::info!(subject = C::SUBJECT, "another replica has just answered a key of the batch");
                attempt += 1;
            }
            Ok(None) => break refuse_all(&waiting, Reason::ServiceUnavailable, "other replicas answer the same keys"),
            Err(Fault::Transient(why)) if attempt < limits::BATCH_ATTEMPTS => {
                tracing::warn!(subject = C::SUBJECT, %why, "batch is tried again");
                tokio::time::sleep(limits::backoff(attempt)).await;
                attempt += 1;
            }
            Err(Fault::Transient(why)) => break refuse_all(&waiting, Reason::ServiceUnavailable, &why),
            Err(Fault::Fatal(why)) if waiting.len() == 1 => {
                tracing::error!(subject = C::SUBJECT, %why, "command failed");
                break refuse_all(&waiting, Reason::Internal, "the command could not be carried out");
            }
            // one command spoils the others: decide each by itself
            Err(Fault::Fatal(_)) => {
                let mut behind = Vec::new();
                for one in waiting {
                    behind.extend(Box::pin(answer::<C, S>(service, shell, database, vec![one])).await);
                }
                return behind;
            }
        }
    };
    let mut behind = Vec::new();
    for (waiting, reply) in waiting.into_iter().zip(replies) {
        match reply {
            Some(reply) => {
                respond(&waiting.request, reply).await;
                crash::point("command-after-answer");
            }
            None => behind.push(waiting),
        }
    }
    behind
}

fn refuse_all(waiting: &[Waiting], reason: Reason, why: &str) -> Vec<Option<Reply>> {
    waiting.iter().map(|_| Some(Reply::refused(reason.with(why)))).collect()
}

/// Sends a reply the way NATS micro-services do: an error has its two headers, and a problem as body.
async fn respond(request: &Request, reply: Reply) {
    let mut headers = HeaderMap::new();
    if let Some(problem) = &reply.problem {
        headers.insert(SERVICE_ERROR, problem.title.as_str());
        headers.insert(SERVICE_ERROR_CODE, problem.status.to_string());
    }
    if reply.replayed {
        headers.insert(REPLAYED, "true");
    }
    if let Err(error) = request.respond_with_headers(Ok(reply.body), headers).await {
        tracing::warn!(%error, "reply could not be sent; the caller will ask again");
    }
}

/// A command that was read.
struct Read<C> {
    position: usize,
    sent: Sent<C>,
    hash: Vec<u8>,
}

fn read<C: Command>(position: usize, request: &Request) -> Result<Read<C>, Rejection> {
    let headers = request.message.headers.as_ref();
    let key = headers.and_then(|headers| headers.get(IDEMPOTENCY_KEY)).map(|key| key.as_str().to_owned()).unwrap_or_default();
    if key.is_empty() || key.chars().count() > limits::KEY_CHARACTERS_MAX {
        return Err(Reason::IdempotencyKeyMissing.with(format!("the Idempotency-Key header has {} characters", key.chars().count())));
    }
    let body: C = parse(&request.message.payload).map_err(|refusal| if C::IS_SECRET { without_values(refusal) } else { refusal })?;
    let mut context = Context::read(headers);
    if context.message_id.is_nil() {
        context.message_id = domain::ids::derived(C::SUBJECT, Uuid::new_v5(&domain::ids::NAMESPACE, key.as_bytes()));
    }
    let hash = Sha256::digest(serde_json::to_vec(&body).unwrap_or_default());
    Ok(Read { position, hash: hash.to_vec(), sent: Sent { context, key, body } })
}

fn reused<C: Command>(tx: &mut Tx, context: &Context, key: &str) -> Result<Reply, Fault> {
    let rejection = Reason::IdempotencyKeyReused.with(format!("the key {key:?} was used for another request"));
    tx.record_refusal::<C>(context, &rejection)?;
    Ok(Reply::refused(rejection))
}

/// Who sent a command, and with which key.
type KeyOf = (String, String);

fn key_of<C>(sent: &Sent<C>) -> KeyOf {
    (sent.context.actor.user.clone(), sent.key.clone())
}

/// A command that repeats another of the same batch.
struct Repeat {
    position: usize,
    first: usize,
    hash: Vec<u8>,
    context: Context,
    key: String,
}

/// What is taken for granted of the keys of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// None was answered before; nearly always so. If one was, storing the answers finds it, and nothing is committed.
    Fresh,
    /// Those that were answered are looked up first.
    LookedUp,
}

/// One transaction for everything that waits. None for a command that shall be decided again; none at all when a key
/// turns out to be known.
async fn decide<C: Command, S: Handle<C>>(
    service: &S,
    database: &Database,
    waiting: &[Waiting],
    keys: Keys,
) -> Result<Option<Vec<Option<Reply>>>, Fault> {
    let mut replies: Vec<Option<Reply>> = waiting.iter().map(|_| None).collect();
    let mut tx = database.begin().await?;
    let (mut fresh, mut repeats) = read_all::<C>(&mut tx, waiting, &mut replies)?;
    if C::IS_SECRET {
        let index = tx.blind_index().await?;
        let hashes = fresh.iter_mut().map(|read| &mut read.hash).chain(repeats.iter_mut().map(|repeat| &mut repeat.hash));
        hashes.for_each(|hash| *hash = index.of(&BASE64.encode(&*hash)).into_bytes());
    }
    let known = match keys {
        Keys::Fresh => Stored::new(),
        Keys::LookedUp => stored_answers(&mut tx, fresh.iter().map(|read| key_id::<C>(&read.sent)).collect()).await?,
    };
    // the request that the answer of a position belongs to
    let mut answered: HashMap<usize, Vec<u8>> = fresh.iter().map(|read| (read.position, read.hash.clone())).collect();
    let mut originals: HashMap<usize, Reply> = HashMap::new();
    let mut undecided = Vec::with_capacity(fresh.len());
    for read in fresh {
        match known.get(&key_id::<C>(&read.sent)) {
            None => undecided.push(read),
            Some((hash, reply)) => {
                replies[read.position] =
                    Some(if *hash == read.hash { replay(reply) } else { reused::<C>(&mut tx, &read.sent.context, &read.sent.key)? });
                answered.insert(read.position, hash.clone());
                originals.insert(read.position, replay(reply));
            }
        }
    }
    let unkept = decide_fresh(service, &mut tx, waiting, undecided, &mut replies).await?;
    for Repeat { position, first, hash, context, key } in repeats {
        let original = originals.get(&first).or(replies[first].as_ref());
        replies[position] = match original {
            Some(reply) if answered[&first] == hash => {
                Some(Reply { body: reply.body.clone(), problem: reply.problem.clone(), replayed: true })
            }
            Some(_) => Some(reused::<C>(&mut tx, &context, &key)?),
            None => None,
        };
    }
    // what is kept finds a known key when it is stored; a refusal that is not kept must look
    if keys == Keys::Fresh && !stored_answers(&mut tx, unkept).await?.is_empty() {
        return Ok(None);
    }
    crash::point("command-before-commit");
    let committed = tx.commit_answers().await?;
    crash::point("command-after-commit");
    Ok(match committed {
        Committed::Yes => Some(replies),
        Committed::KeyKnown => None,
    })
}

/// Reads what waits: the commands by their positions, and those that repeat another of the batch. What cannot be read is
/// refused.
fn read_all<C: Command>(tx: &mut Tx, waiting: &[Waiting], replies: &mut [Option<Reply>]) -> Result<(Vec<Read<C>>, Vec<Repeat>), Fault> {
    let mut fresh: Vec<Read<C>> = Vec::with_capacity(waiting.len());
    let mut repeats: Vec<Repeat> = Vec::new();
    let mut first_of_key: HashMap<KeyOf, usize> = HashMap::new();
    for (position, waiting) in waiting.iter().enumerate() {
        match read::<C>(position, &waiting.request) {
            Err(rejection) => {
                tx.record_refusal::<C>(&Context::read(waiting.request.message.headers.as_ref()), &rejection)?;
                replies[position] = Some(Reply::refused(rejection));
            }
            Ok(Read { sent, hash, .. }) => match first_of_key.get(&key_of(&sent)) {
                Some(&first) => repeats.push(Repeat { position, first, hash, context: sent.context, key: sent.key }),
                None => {
                    first_of_key.insert(key_of(&sent), position);
                    fresh.push(Read { position, sent, hash });
                }
            },
        }
    }
    Ok((fresh, repeats))
}

/// Lets the service decide commands whose keys have no answer yet, and keeps what is final. Returns the ids of the answers
/// that are not kept.
async fn decide_fresh<C: Command, S: Handle<C>>(
    service: &S,
    tx: &mut Tx,
    waiting: &[Waiting],
    undecided: Vec<Read<C>>,
    replies: &mut [Option<Reply>],
) -> Result<Vec<Uuid>, Fault> {
    let mut unkept = Vec::new();
    if undecided.is_empty() {
        return Ok(unkept);
    }
    let mut places = Vec::with_capacity(undecided.len());
    let mut sent = Vec::with_capacity(undecided.len());
    for read in undecided {
        places.push((read.position, read.hash));
        sent.push(read.sent);
    }
    let batch = Batch(sent);
    let answers = service.handle(tx, &batch).await?;
    if answers.len() != batch.0.len() {
        return Err(Fault::Fatal(format!("{} answers to {} commands", answers.len(), batch.0.len())));
    }
    for (((position, hash), sent), answer) in places.into_iter().zip(batch.0).zip(answers) {
        // so many can wait; further ones are answered at once
        let patient = waiting[position].since.elapsed() < limits::COPY_PATIENCE && waiting.len() <= limits::BATCH_MAX;
        let (reply, keep) = match answer {
            Err(rejection) if rejection.reason.may_be_behind() && patient => {
                unkept.push(key_id::<C>(&sent));
                continue;
            }
            Err(rejection) => {
                tx.record_refusal::<C>(&sent.context, &rejection)?;
                let keep = rejection.reason.is_final();
                if !keep {
                    unkept.push(key_id::<C>(&sent));
                }
                (Reply::refused(rejection), keep)
            }
            Ok(reply) => (Reply::accepted(serde_json::to_vec(&reply)?.into()), true),
        };
        if keep {
            tx.keep_answer(Kept {
                id: key_id::<C>(&sent),
                subject: C::SUBJECT,
                actor: sent.context.actor.user,
                key: sent.key,
                hash,
                reply: String::from_utf8_lossy(&reply.body).into_owned(),
            });
        }
        replies[position] = Some(reply);
    }
    Ok(unkept)
}

/// The id of an answer: a key belongs to who sent it and to the command that it was sent with, so that nobody can use up
/// another's.
fn key_id<C: Command>(sent: &Sent<C>) -> Uuid {
    let hash = Sha256::digest(format!("{}\n{}\n{}", C::SUBJECT, sent.context.actor.user, sent.key));
    Uuid::from_slice(&hash[..16]).unwrap_or_default()
}

fn replay(stored: &str) -> Reply {
    // a stored refusal is a problem; nothing else that is answered has its code and recommendation
    let problem = serde_json::from_str::<Problem>(stored).ok();
    Reply { body: stored.to_owned().into(), problem, replayed: true }
}

/// Answers that were given, with the hash of their requests.
type Stored = HashMap<Uuid, (Vec<u8>, String)>;

async fn stored_answers(tx: &mut Tx, ids: Vec<Uuid>) -> Result<Stored, Fault> {
    if ids.is_empty() {
        return Ok(Stored::new());
    }
    let rows: Vec<(Uuid, Vec<u8>, String)> =
        sqlx::query_as("select id, request_hash, reply from idempotency where id = any($1)").bind(ids).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|(id, hash, reply)| (id, (hash, reply))).collect())
}
