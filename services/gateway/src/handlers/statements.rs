//! Bank statement files: read to their end before anything of them is sent on.
//!
//! The body goes to a file without a name, so that a large one is held in no memory. It is read twice: once to see that it is whole and
//! says what it should, once to send its entries on, in pieces, to be put aside. Only when all are there does the import count.
//! Whoever repeats the request with the same key goes on where it broke off.

use std::fmt::Display;
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use ::domain::messages::capital_calls::{
    BankImport, CompleteBankImport, GetBankImport, ImportedEntry, ListColumnMaps, PaymentMethod, RECEIPT_PARTS_MAX, STAGED_MAX,
    StageBankEntries,
};
use ::domain::{Amount, Command, Query, Reason, Rejection, ids};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query as Parameters, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chassis::Context;
use chassis::limits::REQUEST_TIMEOUT;
use futures::{Stream, StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use statements::{ColumnMap, Details, Entry, Format, Status, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use super::Door;
use super::api::{idempotency_key, refuse};
use crate::domain::{TREASURY, check_role};

/// Largest file: a month of a busy account, and some.
pub const FILE_BYTES_MAX: usize = 128 << 20;
/// Files that are read at once: each takes a thread and a file of its own.
pub const FILES_AT_ONCE: usize = 4;
/// How long a caller waits for all entries to be matched; the import goes on without it.
const MATCHING_MAX: Duration = Duration::from_secs(100);
/// Longest pause of whoever sends a file: one that is gone keeps no place.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a file may take to come, at most: the largest one at 230 kB a second.
const SENDING_MAX: Duration = Duration::from_secs(600);
/// Pause between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(50);
/// What stands where a payer has given no id.
const NO_REFERENCE: [&str; 4] = ["NOTPROVIDED", "NONREF", "NOREF", "NONE"];
/// Longest name of a payer (ISO 20022, Max140Text).
const NAME_CHARACTERS_MAX: usize = 140;
/// Longest text that is kept of what the payer or the bank says (ISO 20022, Max500Text).
const TEXT_CHARACTERS_MAX: usize = 500;
/// Sub-family of returns (ISO 20022 external code list of bank transactions).
const RETURN: &str = "RRTN";
/// Pieces that are read ahead while others are sent.
const READ_AHEAD: usize = 2;
/// Pieces that are sent at once: one is written while another is read and a third is on its way.
const PIECES_AT_ONCE: usize = 4;

/// The route.
pub fn router() -> Router<Arc<Door>> {
    Router::new().route("/api/v1/bank-statements", post(import))
}

/// What is said beside the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Name of the file.
    #[serde(default)]
    pub file_name: Option<String>,
    /// The saved map of the columns of a CSV file.
    #[serde(default)]
    pub column_map: Option<String>,
}

async fn import(
    State(door): State<Arc<Door>>,
    about: Result<Parameters<About>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let prepared = door.actor(&parts.headers).and_then(|actor| {
        check_role(&actor, TREASURY)?;
        let missing = || Reason::IdempotencyKeyMissing.with("the request has no Idempotency-Key header");
        let key = idempotency_key(&parts.headers)?.ok_or_else(missing)?;
        let Parameters(about) = about.map_err(|error| Reason::MalformedRequest.with(error.to_string()))?;
        Ok((actor, key, about))
    });
    let done = match prepared {
        Ok((actor, key, about)) => {
            let context = door.context(&parts.headers, actor);
            match Place::take(&door.files) {
                Ok(place) => take_in(&door, &context, &key, about, body.into_data_stream(), place).await,
                Err(rejection) => Err(rejection),
            }
        }
        Err(rejection) => Err(rejection),
    };
    match done {
        Ok(import) => (StatusCode::CREATED, axum::Json(import)).into_response(),
        Err(rejection) => refuse(rejection),
    }
}

fn broken(error: impl Display) -> Rejection {
    Reason::Internal.with(format!("the file could not be kept: {error}"))
}

/// A place for a file that is read, held until it is sent on.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    since: Instant,
}

impl Place {
    /// Takes one of [`FILES_AT_ONCE`].
    ///
    /// # Errors
    /// `overloaded` when all are taken.
    pub fn take(files: &Arc<Semaphore>) -> Result<Place, Rejection> {
        let busy = |_| Reason::Overloaded.with(format!("{FILES_AT_ONCE} statement files are being read"));
        Ok(Place { _permit: files.clone().try_acquire_owned().map_err(busy)?, since: Instant::now() })
    }

    /// Waits for what is sent next.
    ///
    /// # Errors
    /// `request_incomplete` when nothing comes for [`PAUSE_MAX`], or not all within [`SENDING_MAX`].
    pub async fn next<T>(&self, next: impl Future<Output = T>) -> Result<T, Rejection> {
        let left = SENDING_MAX.saturating_sub(self.since.elapsed());
        let late = |_| match left {
            _ if left < PAUSE_MAX => Reason::RequestIncomplete.with(format!("not all came within {} s", SENDING_MAX.as_secs())),
            _ => Reason::RequestIncomplete.with(format!("nothing came for {} s", PAUSE_MAX.as_secs())),
        };
        tokio::time::timeout(left.min(PAUSE_MAX), next).await.map_err(late)
    }
}

/// Takes a file in, and waits until its entries are matched, for a while.
pub async fn take_in(
    door: &Door,
    context: &Context,
    key: &str,
    about: About,
    file: impl Stream<Item = Result<Bytes, impl Display>>,
    place: Place,
) -> Result<BankImport, Rejection> {
    let file = spool(file, &place).await?;
    let format = match &about.column_map {
        Some(name) => Some(Format::Csv(Box::new(column_map(door, context, name).await?))),
        None => None,
    };
    let import_id = ids::derived(&format!("bank import {} {key}", context.actor.user), ids::NAMESPACE);
    // the file is read to its end before anything of it is sent
    let (file, kind, discrepancies) = blocking({
        let format = format.clone();
        move || check(file, format)
    })
    .await?;
    let entries = send(door, context, key, import_id, file, format).await?;
    let command = CompleteBankImport {
        import_id,
        file_name: about.file_name.unwrap_or_else(|| "statement".into()),
        format: kind,
        entries,
        discrepancies,
    };
    let mut import: BankImport = ask(door, context, Some(&format!("{key}/complete")), CompleteBankImport::SUBJECT, &command).await?;
    drop(place);
    let since = Instant::now();
    while import.left > 0 && since.elapsed() < MATCHING_MAX {
        tokio::time::sleep(LOOK).await;
        import = ask(door, context, None, GetBankImport::SUBJECT, &GetBankImport { import_id }).await?;
    }
    Ok(import)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Rejection> + Send + 'static) -> Result<T, Rejection> {
    tokio::task::spawn_blocking(work).await.map_err(broken)?
}

/// Writes what comes into a file that nobody else can see, and that is gone when it is closed.
async fn spool(stream: impl Stream<Item = Result<Bytes, impl Display>>, place: &Place) -> Result<std::fs::File, Rejection> {
    let mut file = blocking(|| tempfile::tempfile().map_err(broken)).await?;
    let mut stream = std::pin::pin!(stream);
    let mut length = 0;
    while let Some(chunk) = place.next(stream.next()).await? {
        let chunk = chunk.map_err(|error| Reason::RequestIncomplete.with(format!("the body broke off: {error}")))?;
        length += chunk.len();
        if length > FILE_BYTES_MAX {
            return Err(Reason::RequestTooLarge.with(format!("the file has more than {FILE_BYTES_MAX} bytes")));
        }
        file = blocking(move || file.write_all(&chunk).map(|()| file).map_err(broken)).await?;
    }
    Ok(file)
}

async fn column_map(door: &Door, context: &Context, name: &str) -> Result<ColumnMap, Rejection> {
    let maps: ::domain::Page<::domain::messages::capital_calls::ColumnMapSaved> =
        ask(door, context, None, ListColumnMaps::SUBJECT, &ListColumnMaps {}).await?;
    let found = maps.items.into_iter().find(|map| map.name == name);
    let map = found.ok_or_else(|| Reason::UnknownColumnMap.with(format!("column map {name:?}")))?;
    serde_json::from_value(map.map).map_err(|error| Reason::Internal.with(error.to_string()))
}

async fn ask<M: serde::Serialize, R: serde::de::DeserializeOwned>(
    door: &Door,
    context: &Context,
    key: Option<&str>,
    subject: &str,
    message: &M,
) -> Result<R, Rejection> {
    let body = serde_json::to_vec(message).map_err(broken)?;
    let reply = door.ask(subject, key, context, body.into(), REQUEST_TIMEOUT).await?.result?;
    serde_json::from_slice(&reply).map_err(|error| Reason::Internal.with(error.to_string()))
}

/// Reads a file to its end; returns it with its format and what does not add up in it.
fn check(mut file: std::fs::File, format: Option<Format>) -> Result<(std::fs::File, String, Vec<String>), Rejection> {
    file.seek(SeekFrom::Start(0)).map_err(broken)?;
    let mut head = [0; statements::limits::HEAD_BYTES_MAX];
    let read = std::io::Read::read(&mut file, &mut head).map_err(broken)?;
    let kind = match format.clone().or_else(|| statements::detect(&head[..read])) {
        Some(Format::Camt053) => "camt.053",
        Some(Format::Camt054) => "camt.054",
        Some(Format::Bai2) => "BAI2",
        Some(Format::Csv(_)) => "CSV",
        None => "unknown",
    };
    file.seek(SeekFrom::Start(0)).map_err(broken)?;
    let outcome = statements::read(format, BufReader::new(&file), &mut |_| Ok::<(), statements::Unreadable>(()))?;
    let discrepancies = outcome.discrepancies.iter().map(ToString::to_string).collect();
    Ok((file, kind.to_owned(), discrepancies))
}

/// Sends the entries of a file on, to be put aside; returns how many.
async fn send(
    door: &Door,
    context: &Context,
    key: &str,
    import_id: Uuid,
    file: std::fs::File,
    format: Option<Format>,
) -> Result<i32, Rejection> {
    let (pieces, mut waiting) = mpsc::channel::<Vec<ImportedEntry>>(READ_AHEAD);
    let reader = tokio::task::spawn_blocking(move || read_again(file, format, &pieces));
    let mut from = 0;
    let pieces = futures::stream::poll_fn(move |context| waiting.poll_recv(context)).map(|entries| {
        let place = from;
        from += i32::try_from(entries.len()).unwrap_or_default();
        (place, entries)
    });
    let staged = pieces.map(|(from, entries)| async move {
        let count = i32::try_from(entries.len()).unwrap_or_default();
        let command = StageBankEntries { import_id, from, entries };
        let key = format!("{key}/{from}");
        let _: Value = ask(door, context, Some(&key), StageBankEntries::SUBJECT, &command).await?;
        Ok::<i32, Rejection>(count)
    });
    let sent = staged.buffer_unordered(PIECES_AT_ONCE).try_fold(0, |sum, count| std::future::ready(Ok(sum + count))).await?;
    reader.await.map_err(broken)??;
    Ok(sent)
}

fn read_again(mut file: std::fs::File, format: Option<Format>, pieces: &mpsc::Sender<Vec<ImportedEntry>>) -> Result<(), Rejection> {
    file.seek(SeekFrom::Start(0)).map_err(broken)?;
    let mut piece = Vec::with_capacity(STAGED_MAX);
    // who waits for the pieces may have given up
    let gone = || Reason::ServiceUnavailable.with("the entries could not be sent on");
    let mut sink = |entry: Entry| -> Result<(), Rejection> {
        for entry in imported(entry) {
            piece.push(entry);
            if piece.len() == STAGED_MAX {
                pieces.blocking_send(std::mem::replace(&mut piece, Vec::with_capacity(STAGED_MAX))).map_err(|_| gone())?;
            }
        }
        Ok(())
    };
    statements::read(format, BufReader::new(&file), &mut sink)?;
    if piece.is_empty() { Ok(()) } else { pieces.blocking_send(piece).map_err(|_| gone()) }
}

/// The transactions of an entry; one that does not add up stays whole, for a person to look at. What is information only is no entry.
fn imported(entry: Entry) -> Vec<ImportedEntry> {
    if entry.status == Status::Information {
        return vec![];
    }
    let several = entry.transactions.len() > 1;
    // one part that came back does not make the others come back
    let came_back = |part: &Transaction| entry.reversal || entry.code.sub_family.as_deref() == Some(RETURN) || part.return_reason.is_some();
    let adds_up =
        matches!(entry.details, Details::Complete) && entry.transactions.iter().all(|part| part.amount.is_some() && !part.opposite);
    if several && adds_up {
        let all = entry.transactions.iter().zip(0..);
        return all
            .map(|(part, ordinal)| ImportedEntry {
                ordinal,
                is_return: came_back(part),
                ..one(&entry, part, part.amount.unwrap_or_default(), false)
            })
            .collect();
    }
    let whole = Transaction::default();
    let part = if several { &whole } else { entry.transactions.first().unwrap_or(&whole) };
    let differs = several || matches!(entry.details, Details::Partial | Details::Differ);
    vec![one(&entry, part, entry.amount, differs)]
}

/// Without what is longer than anybody reads: names and texts of the standard have at most 140 and 500 characters. One with more references
/// than a receipt has parts is for a person.
fn one(entry: &Entry, part: &Transaction, amount: Amount, differs: bool) -> ImportedEntry {
    let identity = entry.identity();
    let references = part.references();
    let cut = |text: Option<&String>, longest: usize| text.map(|text| text.chars().take(longest).collect::<String>());
    let remittance = part.remittance.as_ref().or(part.information.as_ref()).or(entry.information.as_ref());
    let reason = part
        .return_reason
        .as_ref()
        .map(|reason| [reason.code.as_deref(), reason.text.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" "));
    ImportedEntry {
        reference_key: identity.reference.clone(),
        content_key: identity.content.clone(),
        ordinal: 0,
        account: entry.account.id.clone(),
        account_key: None,
        statement_id: entry.statement_id.clone(),
        entry_id: entry.entry_id.clone(),
        pending: entry.status == Status::Pending,
        credit: entry.credit,
        is_return: entry.is_return(),
        amount: entry.currency.from_minor(amount.minor(entry.currency)),
        currency: entry.currency,
        booked_on: entry.booked_on,
        value_on: entry.value_on,
        payer_name: cut(part.payer.ultimate_name.as_ref().or(part.payer.name.as_ref()), NAME_CHARACTERS_MAX),
        payer_account: part.payer.account.clone(),
        payer_key: None,
        references: references.iter().take(RECEIPT_PARTS_MAX).map(|reference| reference.as_str().to_owned()).collect(),
        remittance: cut(remittance, TEXT_CHARACTERS_MAX),
        end_to_end_id: part.end_to_end_id.clone().filter(|id| !NO_REFERENCE.contains(&id.to_uppercase().as_str())),
        return_reason: cut(reason.as_ref(), TEXT_CHARACTERS_MAX).or_else(|| entry.reversal.then(|| "reversal".into())),
        method: method(entry),
        differs: differs || references.len() > RECEIPT_PARTS_MAX,
        line: entry.line,
    }
}

/// How cash came, by the bank's code (ISO 20022 external code list of bank transactions; BAI2 type codes of ACH, checks).
fn method(entry: &Entry) -> PaymentMethod {
    let code = &entry.code;
    match (code.family.as_deref(), code.sub_family.as_deref(), code.proprietary.as_deref()) {
        (_, Some("ESCT"), _) => PaymentMethod::Sepa,
        (Some("RCHQ" | "ICHQ"), ..) => PaymentMethod::Check,
        (.., Some("142" | "143" | "145" | "147" | "164" | "165" | "166" | "168" | "169")) => PaymentMethod::Ach,
        (.., Some("170" | "171" | "172" | "173" | "174" | "175" | "180")) => PaymentMethod::Check,
        (.., Some("206" | "208")) => PaymentMethod::InternalTransfer,
        _ => PaymentMethod::Wire,
    }
}

/// The operation's description.
pub fn operation(import: &Value, problem: &Value) -> Value {
    let parameter = |name: &str, place: &str, required: bool, description: &str| json!({"name": name, "in": place, "required": required, "description": description, "schema": {"type": "string", "minLength": 1, "maxLength": 200}});
    let octets = json!({"schema": {"type": "string", "format": "binary"}});
    json!({
        "operationId": "capital-calls-import-bank-statement",
        "summary": "Imports a bank statement: camt.053 or camt.054 (version 02 and later), BAI2, or CSV with a saved column map. The file counts as a whole or not at all; its entries are matched, and found under /bank-entries.",
        "description": "Roles: treasurer.",
        "parameters": [
            parameter("Idempotency-Key", "header", true, "a new one for each file; the same key goes on with the file where it broke off"),
            parameter("file_name", "query", false, "name of the file"),
            parameter("column_map", "query", false, "name of the saved column map of a CSV file"),
        ],
        "requestBody": {"required": true, "content": {"application/xml": octets, "text/plain": octets, "text/csv": octets}},
        "responses": {
            "201": {"description": "as asked; `left` above 0 when entries are still being matched", "content": {"application/json": {"schema": import}}},
            "default": {"description": "a problem with its code and a recommendation", "content": {"application/problem+json": {"schema": problem}}},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a batch of these transactions, of 1.00 each, becomes.
    fn batch(transactions: &[&str]) -> Vec<ImportedEntry> {
        let parts: String = transactions
            .iter()
            .map(|part| format!("<TxDtls><Amt Ccy=\"EUR\">1.00</Amt><CdtDbtInd>CRDT</CdtDbtInd>{part}</TxDtls>"))
            .collect();
        let file = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:camt.053.001.08\"><BkToCstmrStmt>\
             <GrpHdr><MsgId>M</MsgId><CreDtTm>2026-11-02T18:00:00</CreDtTm></GrpHdr><Stmt><Id>S</Id><CreDtTm>2026-11-02T18:00:00</CreDtTm>\
             <Acct><Id><IBAN>DE89370400440532013000</IBAN></Id></Acct><Ntry><Amt Ccy=\"EUR\">{}.00</Amt><CdtDbtInd>CRDT</CdtDbtInd>\
             <Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>2026-11-02</Dt></BookgDt><AcctSvcrRef>B</AcctSvcrRef><BkTxCd/>\
             <NtryDtls>{parts}</NtryDtls></Ntry></Stmt></BkToCstmrStmt></Document>",
            transactions.len()
        );
        let mut all = vec![];
        let mut sink = |entry| {
            all.extend(imported(entry));
            Ok::<(), statements::Unreadable>(())
        };
        statements::read(None, file.as_bytes(), &mut sink).unwrap();
        all
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_sending_or_never_ends_keeps_no_place() {
        let files = Arc::new(Semaphore::new(1));
        let place = Place::take(&files).unwrap();
        assert_eq!(Place::take(&files).err().unwrap().reason, Reason::Overloaded);
        let silent = futures::stream::pending::<Result<Bytes, String>>();
        let refused = spool(silent, &place).await.unwrap_err();
        assert_eq!((refused.reason, refused.detail.contains("30 s")), (Reason::RequestIncomplete, true), "{}", refused.detail);
        let slow = futures::stream::repeat(()).then(|()| async {
            tokio::time::sleep(PAUSE_MAX - Duration::from_secs(1)).await;
            Ok::<Bytes, String>(Bytes::from_static(b"x"))
        });
        let refused = spool(slow, &place).await.unwrap_err();
        assert_eq!((refused.reason, refused.detail.contains("600 s")), (Reason::RequestIncomplete, true), "{}", refused.detail);
        drop(place);
        let place = Place::take(&files).unwrap();
        let broken = futures::stream::iter([Ok(Bytes::from_static(b"x")), Err("reset")]);
        assert_eq!(spool(broken, &place).await.unwrap_err().reason, Reason::RequestIncomplete);
        let piece = Bytes::from(vec![b'x'; FILE_BYTES_MAX / 2 + 1]);
        let large = futures::stream::iter([Ok::<Bytes, String>(piece.clone()), Ok(piece)]);
        assert_eq!(spool(large, &place).await.unwrap_err().reason, Reason::RequestTooLarge);
    }

    #[test]
    fn one_part_that_came_back_leaves_the_others_of_its_batch() {
        let returned = "<RtrInf><Rsn><Cd>AC04</Cd></Rsn></RtrInf>";
        let parts = batch(&["", returned, ""]);
        assert_eq!(parts.iter().map(|part| (part.ordinal, part.is_return)).collect::<Vec<_>>(), [(0, false), (1, true), (2, false)]);
        assert!(batch(&[returned])[0].is_return);
    }

    #[test]
    fn long_texts_are_cut_and_too_many_references_are_for_a_person() {
        let text = |text: String| format!("<RmtInf><Ustrd>{text}</Ustrd></RmtInf>");
        let long = &batch(&[&text("ä".repeat(5_000))])[0];
        assert_eq!(long.remittance.as_deref().unwrap().chars().count(), TEXT_CHARACTERS_MAX);
        let references = |count: u128| -> String {
            (1..=count).map(|id| format!("{} ", ::domain::CreditorReference::of(Uuid::from_u128(id << 64)).as_str())).collect()
        };
        for (count, differs) in [(RECEIPT_PARTS_MAX, false), (RECEIPT_PARTS_MAX + 1, true)] {
            let part = &batch(&[&text(references(count as u128))])[0];
            assert_eq!((part.references.len(), part.differs), (RECEIPT_PARTS_MAX, differs), "{count}");
        }
    }
}
