//! A parallel run with the system that came before: its files are taken in row by row, as if each were a request of whoever sends the
//! file, and its figures are put beside ours.
//!
//! Nothing is kept here. A row that was taken in before is found by what names it: deal and fund of an allocation, number of a call, source
//! and number of a payment. So a file may be sent again, whatever broke off.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ::domain::message::{Outcome as Part, Outcomes};
use ::domain::messages::allocation_status::{
    Allocation, AllocationAccepted, ListAllocations, ListFunds, ProposeAllocation, ProposeAllocations,
};
use ::domain::messages::capital_calls::{
    CallLine, CapitalCall, CapitalCallAccepted, CapitalCallView, FIND_PAYMENTS_MAX, FindPayments, GetCapitalCall, ListCapitalCalls,
    ListInvestors, Payment, PaymentAccepted, Purpose, PurposeKind, RecordPayment, RecordPayments, SubmitCapitalCall,
};
use ::domain::rejection::check_text;
use ::domain::{Amount, Command, Page, Query, Reason, Rejection};
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query as Parameters, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use chassis::Context;
use chassis::limits::REQUEST_TIMEOUT;
use futures::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Door;
use super::access::Attempt;
use super::api::{idempotency_key, read_body, refuse};
use crate::domain::parallel_run::{
    Compared, Comparison, Flag, Imported, Kind, Row, Taken, TheirAllocation, TheirPayment, TheirPurpose, read,
};
use crate::domain::{CALLERS, PROPOSERS, READERS, TREASURY, check_role};

mod comparing;

/// Requests that are under way for one file.
const AT_ONCE: usize = 4;
/// Allocations or payments that are sent in one request.
const TOGETHER: usize = 500;
/// Items of one page of a list.
const PAGE: u16 = 500;
/// Most pages of funds, investors, or what only we have that are read: names beyond are given as ids.
const PAGES_MAX: usize = 40;
/// Longest name of the system that came before, as payments have it.
const SOURCE_CHARACTERS_MAX: usize = 100;

/// The routes.
pub fn router() -> Router<Arc<Door>> {
    Router::new().route("/api/v1/imports/{kind}", post(import)).route("/api/v1/imports/{kind}/compare", post(compare))
}

/// What is said beside a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    /// The system that came before.
    source: String,
    /// Whether nothing is to be changed.
    #[serde(default)]
    dry_run: bool,
}

/// A file with what is said beside it.
struct File {
    kind: Kind,
    about: About,
    bytes: Bytes,
}

type Asked<T> = Result<Parameters<T>, QueryRejection>;

async fn import(State(door): State<Arc<Door>>, kind: Result<Path<Kind>, PathRejection>, about: Asked<About>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = read_body(body).await;
    let actor = door.actor(&parts.headers);
    let context = door.context(&parts.headers, actor.as_ref().map_or_else(|_| anonymous(), Clone::clone));
    let imported = async {
        let file = opened(kind, about, body)?;
        let actor = actor?;
        let roles = match file.kind {
            Kind::Allocations => PROPOSERS,
            Kind::Calls => CALLERS,
            Kind::Payments => TREASURY,
            Kind::Lines => return Err(Reason::UnknownPath.with("lines are made by calls; they are compared only")),
        };
        check_role(&actor, roles)?;
        let missing = || Reason::IdempotencyKeyMissing.with("the request has no Idempotency-Key header");
        let key = idempotency_key(&parts.headers)?.ok_or_else(missing)?;
        let mut desk = Desk::at(&door, Context { is_dry_run: file.about.dry_run, ..context.clone() }, key);
        let results = match file.kind {
            Kind::Allocations => desk.take_allocations(read(file.kind, &file.bytes)?).await?,
            Kind::Payments => desk.take_payments(&file.about.source, read(file.kind, &file.bytes)?).await?,
            Kind::Calls | Kind::Lines => desk.take_calls(read(file.kind, &file.bytes)?).await?,
        };
        Ok(Imported::of(file.about.dry_run, results))
    };
    let imported: Result<Imported, Rejection> = imported.await;
    // what is taken in is recorded by whoever decides about it; the rest is recorded here
    if imported.as_ref().map_or(true, |imported| imported.dry_run) {
        record(&door, &context, &parts.uri, imported.as_ref().err()).await;
    }
    match imported {
        Ok(imported) => Json(imported).into_response(),
        Err(rejection) => refuse(rejection),
    }
}

async fn compare(
    State(door): State<Arc<Door>>,
    kind: Result<Path<Kind>, PathRejection>,
    about: Asked<About>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = read_body(body).await;
    let actor = door.actor(&parts.headers);
    let context = door.context(&parts.headers, actor.as_ref().map_or_else(|_| anonymous(), Clone::clone));
    let compared = async {
        check_role(&actor?, READERS)?;
        let file = opened(kind, about, body)?;
        let mut desk = Desk::at(&door, context.clone(), String::new());
        Ok(Comparison::of(match file.kind {
            Kind::Allocations => desk.compare_allocations(read(file.kind, &file.bytes)?).await?,
            Kind::Calls => desk.compare_calls(read(file.kind, &file.bytes)?).await?,
            Kind::Lines => desk.compare_lines(read(file.kind, &file.bytes)?).await?,
            Kind::Payments => desk.compare_payments(&file.about.source, read(file.kind, &file.bytes)?).await?,
        }))
    };
    let compared: Result<Comparison, Rejection> = compared.await;
    record(&door, &context, &parts.uri, compared.as_ref().err()).await;
    match compared {
        Ok(compared) if wants_csv(&parts.headers) => match compared.csv() {
            Ok(csv) => ([(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"))], csv).into_response(),
            Err(error) => refuse(Reason::Internal.with(error.to_string())),
        },
        Ok(compared) => Json(compared).into_response(),
        Err(rejection) => refuse(rejection),
    }
}

fn anonymous() -> ::domain::Actor {
    ::domain::Actor { user: "anonymous".into(), ..Default::default() }
}

/// Records who looked at something, or tried.
async fn record(door: &Door, context: &Context, uri: &axum::http::Uri, refusal: Option<&Rejection>) {
    let status = refusal.map_or(200, |rejection| rejection.reason.entry().0);
    let resource = uri.to_string();
    door.access.record(Attempt { context, method: "POST", resource: &resource, status, refusal }).await;
}

fn wants_csv(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains("text/csv"))
}

fn opened(kind: Result<Path<Kind>, PathRejection>, about: Asked<About>, body: Result<Bytes, Rejection>) -> Result<File, Rejection> {
    let Path(kind) = kind.map_err(|_| Reason::UnknownPath.with("there are allocations, calls, lines and payments"))?;
    let Parameters(about) = about.map_err(|error| Reason::MalformedRequest.with(error.to_string()))?;
    check_text("source", &about.source, SOURCE_CHARACTERS_MAX)?;
    Ok(File { kind, about, bytes: body? })
}

/// A call, by its fund and its number there.
type Named = (Uuid, String);

/// What is looked up while a file is worked on.
struct Desk<'a> {
    door: &'a Door,
    context: Context,
    key: String,
    funds: Option<HashMap<String, Uuid>>,
    investors: Option<HashMap<String, Vec<Uuid>>>,
    calls: HashMap<Named, Option<CapitalCallView>>,
    allocations: HashMap<Uuid, Vec<Allocation>>,
    /// What the rows so far pay on each line.
    placed: HashMap<Uuid, Amount>,
}

impl<'a> Desk<'a> {
    fn at(door: &'a Door, context: Context, key: String) -> Desk<'a> {
        Desk {
            door,
            context,
            key,
            funds: None,
            investors: None,
            calls: HashMap::new(),
            allocations: HashMap::new(),
            placed: HashMap::new(),
        }
    }

    async fn ask<M: Query>(&self, question: &M) -> Result<M::Reply, Rejection> {
        let context = Context { is_dry_run: false, ..self.context.clone() };
        self.send(M::SUBJECT, None, &context, question).await
    }

    /// Sends a command. Its key is made of the file's and of what it says, so that a part of the file which was changed is another one.
    async fn tell<C: Command>(&self, command: &C) -> Result<C::Reply, Rejection> {
        let said = serde_json::to_vec(command).map_err(|error| Reason::Internal.with(error.to_string()))?;
        let key = hex::encode(Sha256::digest([self.key.as_bytes(), &said].concat()));
        self.send(C::SUBJECT, Some(&key), &self.context, command).await
    }

    async fn send<M: serde::Serialize, R: serde::de::DeserializeOwned>(
        &self,
        subject: &str,
        key: Option<&str>,
        context: &Context,
        message: &M,
    ) -> Result<R, Rejection> {
        let unreadable = |error: serde_json::Error| Reason::Internal.with(error.to_string());
        let body = serde_json::to_vec(message).map_err(unreadable)?;
        let reply = self.door.ask(subject, key, context, body.into(), REQUEST_TIMEOUT).await?.result?;
        serde_json::from_slice(&reply).map_err(unreadable)
    }

    /// The fund of an id or a name.
    async fn fund(&mut self, named: &str) -> Result<Uuid, Rejection> {
        if let Ok(id) = named.parse() {
            return Ok(id);
        }
        if self.funds.is_none() {
            let mut funds = HashMap::new();
            let mut cursor = None;
            for _ in 0..PAGES_MAX {
                let page = self.ask(&ListFunds { cursor, limit: Some(PAGE) }).await?;
                funds.extend(page.items.into_iter().map(|fund| (fund.name, fund.id)));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            self.funds = Some(funds);
        }
        let found = self.funds.as_ref().and_then(|funds| funds.get(named)).copied();
        found.ok_or_else(|| Reason::UnknownFund.with(format!("fund {named:?}")))
    }

    /// The investor of an id, or of a name that only one has.
    async fn investor(&mut self, named: &str) -> Result<Uuid, Rejection> {
        if let Ok(id) = named.parse() {
            return Ok(id);
        }
        if self.investors.is_none() {
            let mut investors: HashMap<String, Vec<Uuid>> = HashMap::new();
            let mut cursor = None;
            for _ in 0..PAGES_MAX {
                let page = self.ask(&ListInvestors { cursor, limit: Some(PAGE) }).await?;
                for investor in page.items {
                    investors.entry(investor.name).or_default().push(investor.id);
                }
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            self.investors = Some(investors);
        }
        match self.investors.as_ref().and_then(|investors| investors.get(named)).map(Vec::as_slice) {
            Some([id]) => Ok(*id),
            Some(several) => Err(Reason::UnknownInvestor.with(format!("{} investors are called {named:?}; give the id", several.len()))),
            None => Err(Reason::UnknownInvestor.with(format!("investor {named:?}"))),
        }
    }

    /// The allocation of a fund to a deal that is in force; else the newest that there is.
    async fn allocation(&self, fund_id: Uuid, deal_id: Uuid) -> Result<Allocation, Rejection> {
        let of = ListAllocations { fund_id: Some(fund_id), deal_id: Some(deal_id), ..ListAllocations::default() };
        let known = self.ask(&of).await?.items;
        let found = known.iter().find(|allocation| allocation.decision.holds_capacity()).or(known.first());
        found.cloned().ok_or_else(|| no_allocation(fund_id, deal_id))
    }

    /// The call of a fund with a number, and its lines.
    async fn call(&mut self, fund_id: Uuid, number: &str) -> Result<CapitalCallView, Rejection> {
        let named = (fund_id, number.to_owned());
        if !self.calls.contains_key(&named) {
            let found = match self.call_named(fund_id, number).await? {
                Some(call) => Some(self.ask(&GetCapitalCall { call_id: call.id }).await?),
                None => None,
            };
            self.calls.insert(named.clone(), found);
        }
        let found = self.calls.get(&named).cloned().flatten();
        found.ok_or_else(|| {
            Reason::UnknownCapitalCall.with(format!("fund {fund_id} has no capital call with the external_reference {number:?}"))
        })
    }

    /// The call of a fund with a number, where there is one.
    async fn call_named(&self, fund_id: Uuid, number: &str) -> Result<Option<CapitalCall>, Rejection> {
        let of = ListCapitalCalls {
            fund_id: Some(fund_id),
            external_reference: Some(number.to_owned()),
            limit: Some(1),
            ..ListCapitalCalls::default()
        };
        Ok(self.ask(&of).await?.items.into_iter().next())
    }

    /// The payments of a file that were reported before, by their numbers.
    async fn reported(&self, source: &str, rows: &[Row<TheirPayment>]) -> Result<HashMap<String, Payment>, Rejection> {
        let numbers: Vec<String> = rows.iter().filter_map(|row| row.said.as_ref().ok()).map(|theirs| theirs.payment.clone()).collect();
        let mut known: HashMap<String, Payment> = HashMap::new();
        for part in numbers.chunks(FIND_PAYMENTS_MAX) {
            let found = self.ask(&FindPayments { source: source.to_owned(), external_references: part.to_vec() }).await?;
            known.extend(found.items.into_iter().filter_map(|payment| Some((payment.external_reference.clone()?, payment))));
        }
        Ok(known)
    }

    /// All allocations of a fund.
    async fn allocations_of(&mut self, fund_id: Uuid) -> Result<&[Allocation], Rejection> {
        if !self.allocations.contains_key(&fund_id) {
            let (mut all, mut cursor) = (vec![], None);
            for _ in 0..PAGES_MAX {
                let of = ListAllocations { fund_id: Some(fund_id), cursor, limit: Some(PAGE), ..ListAllocations::default() };
                let page: Page<Allocation> = self.ask(&of).await?;
                all.extend(page.items);
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            if cursor.is_some() {
                return Err(Reason::RequestTooLarge.with(format!("fund {fund_id} has more than {} allocations", all.len())));
            }
            self.allocations.insert(fund_id, all);
        }
        Ok(self.allocations.get(&fund_id).map_or(&[], Vec::as_slice))
    }

    // ---- taking in

    async fn take_allocations(&mut self, rows: Vec<Row<TheirAllocation>>) -> Result<Vec<Taken>, Rejection> {
        let mut taken = Vec::with_capacity(rows.len());
        let mut wanted: Vec<(u64, TheirAllocation, ProposeAllocation)> = Vec::new();
        for (line, theirs) in readable(rows, &mut taken) {
            match self.wanted_allocation(&theirs).await {
                Ok(allocation) => wanted.push((line, theirs, allocation)),
                Err(rejection) => taken.push(Taken::of(line, &theirs.deal_id.to_string(), Err(rejection))),
            }
        }
        for part in wanted.chunks(TOGETHER) {
            let command = ProposeAllocations { allocations: part.iter().map(|(_, _, allocation)| allocation.clone()).collect() };
            let outcomes: Outcomes<AllocationAccepted> = self.tell(&command).await?;
            let became = outcomes.outcomes.into_iter().map(|outcome| match outcome {
                Part::Accepted(accepted) => Ok((accepted.allocation_id, Some(accepted.workflow_id))),
                Part::Refused { problem } => Err(Rejection::from(problem)),
            });
            for ((line, theirs, allocation), became) in part.iter().zip(became) {
                taken.push(match became {
                    Err(rejection) if rejection.reason == Reason::DuplicateAllocation => {
                        // what they say of its progress is for comparison
                        let asked = TheirAllocation { called: None, paid: None, status: None, ..theirs.clone() };
                        let of_deal = |ours: &&Allocation| ours.deal_id == allocation.deal_id && ours.decision.holds_capacity();
                        match self.allocations_of(allocation.fund_id).await?.iter().find(of_deal) {
                            Some(ours) => Taken::found(*line, Compared::allocation(*line, &asked, ours), rejection.reason),
                            // it stands in the file before
                            None => Taken::of(*line, &theirs.deal_id.to_string(), Err(rejection)),
                        }
                    }
                    became => Taken::of(*line, &theirs.deal_id.to_string(), became),
                });
            }
        }
        Ok(taken)
    }

    async fn wanted_allocation(&mut self, theirs: &TheirAllocation) -> Result<ProposeAllocation, Rejection> {
        let missing = || Reason::MalformedRequest.with("column security_type: it is needed to take an allocation in");
        Ok(ProposeAllocation {
            deal_id: theirs.deal_id,
            fund_id: self.fund(&theirs.fund).await?,
            amount: theirs.amount,
            currency: theirs.currency,
            security_type: theirs.security_type.clone().ok_or_else(missing)?,
            details: None,
        })
    }

    async fn take_calls(&mut self, rows: Vec<Row<TheirPurpose>>) -> Result<Vec<Taken>, Rejection> {
        let (calls, mut taken) = grouped(rows);
        let mut wanted = Vec::with_capacity(calls.len());
        for (line, purposes) in calls {
            match self.wanted_call(&purposes).await {
                Ok(command) => wanted.push((line, purposes, command)),
                Err(rejection) => taken.push(Taken::of(line, &purposes[0].call, Err(rejection))),
            }
        }
        for part in wanted.chunks(AT_ONCE) {
            let told: Vec<_> = part.iter().map(|(_, _, command)| self.tell(command)).collect();
            for ((line, purposes, command), accepted) in part.iter().zip(join_all(told).await) {
                if let Err(rejection) = &accepted
                    && rejection.reason.entry().0 >= 500
                {
                    return Err(rejection.clone());
                }
                let became = accepted.map(|CapitalCallAccepted { capital_call_id, workflow_id }| (capital_call_id, Some(workflow_id)));
                let number = &purposes[0].call;
                taken.push(match became {
                    Err(rejection) if rejection.reason == Reason::DuplicateCapitalCall => {
                        let mut asked = purposes.clone();
                        (asked[0].paid, asked[0].status) = (None, None);
                        match self.call_named(command.fund_id, number).await? {
                            Some(ours) => {
                                let compared = Compared::call(*line, &asked, &ours)
                                    .also("deals", purposes_by_deal(&command.purposes), purposes_by_deal(&ours.purposes))
                                    .also("priority", chassis::row::name(&command.priority), chassis::row::name(&ours.priority));
                                Taken::found(*line, compared, rejection.reason)
                            }
                            None => Taken::of(*line, number, Err(rejection)),
                        }
                    }
                    became => Taken::of(*line, number, became),
                });
            }
        }
        Ok(taken)
    }

    async fn wanted_call(&mut self, purposes: &[TheirPurpose]) -> Result<SubmitCapitalCall, Rejection> {
        let first = &purposes[0];
        let fund_id = self.fund(&first.fund).await?;
        let mut asked = Vec::with_capacity(purposes.len());
        for purpose in purposes {
            if (purpose.due_on, purpose.priority) != (first.due_on, first.priority) {
                return Err(Reason::MalformedRequest.with(format!("the rows of call {} have several due_on or priority", first.call)));
            }
            let allocation_id = match (purpose.purpose, purpose.deal_id) {
                (PurposeKind::Investment, Some(deal_id)) => Some(self.allocation(fund_id, deal_id).await?.id),
                (PurposeKind::Investment, None) => return Err(Reason::PurposeMismatch.with("column deal_id: an investment has a deal")),
                (_, Some(_)) => return Err(Reason::PurposeMismatch.with("column deal_id: only an investment has a deal")),
                (_, None) => None,
            };
            let inside_commitment = purpose.inside_commitment != Some(Flag::False);
            asked.push(Purpose { kind: purpose.purpose, allocation_id, amount: purpose.amount, inside_commitment });
        }
        Ok(SubmitCapitalCall {
            fund_id,
            purposes: asked,
            due_on: first.due_on,
            priority: first.priority.unwrap_or_default(),
            adjustments: vec![],
            rounding: Default::default(),
            external_reference: Some(first.call.clone()),
            draft: false,
            currency: None,
        })
    }

    async fn take_payments(&mut self, source: &str, rows: Vec<Row<TheirPayment>>) -> Result<Vec<Taken>, Rejection> {
        let mut taken = Vec::with_capacity(rows.len());
        let mut wanted: Vec<(u64, String, RecordPayment)> = Vec::new();
        let known = self.reported(source, &rows).await?;
        for (line, theirs) in readable(rows, &mut taken) {
            if let Some(payment) = known.get(&theirs.payment) {
                let asked = TheirPayment { status: None, ..theirs };
                let compared = self.compared_payment(line, &asked, payment).await?;
                taken.push(Taken::found(line, compared, Reason::ExternalReferenceReused));
                continue;
            }
            let number = theirs.payment.clone();
            match self.wanted_payment(source, theirs).await {
                Ok(payment) => wanted.push((line, number, payment)),
                Err(rejection) => taken.push(Taken::of(line, &number, Err(rejection))),
            }
        }
        for part in wanted.chunks(TOGETHER) {
            let command = RecordPayments { payments: part.iter().map(|(_, _, payment)| payment.clone()).collect() };
            let outcomes: Outcomes<PaymentAccepted> = self.tell(&command).await?;
            let became = outcomes.outcomes.into_iter().map(|outcome| match outcome {
                Part::Accepted(accepted) => Ok((accepted.payment_id, None)),
                Part::Refused { problem } => Err(Rejection::from(problem)),
            });
            taken.extend(part.iter().zip(became).map(|((line, number, _), became)| Taken::of(*line, number, became)));
        }
        Ok(taken)
    }

    /// A payment of both beside each other, whose it is, and of which call. A name that nobody has is not ours.
    async fn compared_payment(&mut self, line: u64, theirs: &TheirPayment, ours: &Payment) -> Result<Compared, Rejection> {
        let id = |found: Result<Uuid, Rejection>, name: &str| match found {
            Ok(id) => Ok(id.to_string()),
            Err(rejection) if rejection.reason.entry().0 >= 500 => Err(rejection),
            Err(_) => Ok(name.to_owned()),
        };
        let fund = self.fund(&theirs.fund).await;
        let call = match &fund {
            Ok(fund_id) => self.call(*fund_id, &theirs.call).await.map(|view| view.call.id),
            Err(rejection) => Err(rejection.clone()),
        };
        let investor = self.investor(&theirs.investor).await;
        let whose = [id(fund, &theirs.fund)?, id(investor, &theirs.investor)?, id(call, &theirs.call)?];
        Ok(Compared::payment(line, theirs, &whose, ours))
    }

    async fn wanted_payment(&mut self, source: &str, theirs: TheirPayment) -> Result<RecordPayment, Rejection> {
        let fund_id = self.fund(&theirs.fund).await?;
        let investor_id = self.investor(&theirs.investor).await?;
        let call = self.call(fund_id, &theirs.call).await?;
        let mut lines = call.lines.iter().filter(|line| line.investor_id == investor_id);
        // of several, as after a closing, the first on which something is outstanding after the rows before
        let placed = &self.placed;
        let left = |line: &&CallLine| line.outstanding - placed.get(&line.id).copied().unwrap_or_default();
        let first = lines.clone().find(|line| left(line).is_positive()).or_else(|| lines.next());
        let line = first.ok_or_else(|| {
            Reason::UnknownCallLine.with(format!(
                "call {} is {} and has no line of {}",
                theirs.call,
                chassis::row::name(&call.call.status),
                theirs.investor
            ))
        })?;
        let payment = RecordPayment {
            line_id: line.id,
            amount: theirs.amount,
            currency: theirs.currency,
            method: theirs.method,
            reference: theirs.reference.unwrap_or_else(|| theirs.payment.clone()),
            received_on: theirs.received_on,
            source: Some(source.to_owned()),
            external_reference: Some(theirs.payment.clone()),
        };
        *self.placed.entry(payment.line_id).or_default() += payment.amount;
        Ok(payment)
    }
}

/// What a call is for, by deal, as a text that is the same where it is.
fn purposes_by_deal(purposes: &[Purpose]) -> String {
    let mut sums: BTreeMap<(String, Option<Uuid>, bool), Amount> = BTreeMap::new();
    for Purpose { kind, allocation_id, amount, inside_commitment } in purposes {
        *sums.entry((chassis::row::name(kind), *allocation_id, *inside_commitment)).or_default() += *amount;
    }
    let text = |((kind, allocation, inside), amount): (&(String, Option<Uuid>, bool), &Amount)| {
        let allocation = allocation.map(|id| format!(" of allocation {id}")).unwrap_or_default();
        let outside = if *inside { "" } else { " outside the commitment" };
        format!("{kind}{allocation}{outside} {}", amount.decimal().normalize())
    };
    sums.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn no_allocation(fund_id: Uuid, deal_id: Uuid) -> Rejection {
    Reason::UnknownAllocation.with(format!("fund {fund_id} has no allocation to deal {deal_id}"))
}

fn unread() -> Rejection {
    Reason::MalformedRequest.with("the row cannot be read")
}

fn not_read(taken: Taken) -> Compared {
    Compared::only_theirs(taken.line, &taken.reference, taken.problem.map_or_else(unread, Rejection::from))
}

/// The rows that can be read, with their lines; the others are refused.
fn readable<T>(rows: Vec<Row<T>>, taken: &mut Vec<Taken>) -> Vec<(u64, T)> {
    let mut readable = Vec::with_capacity(rows.len());
    for Row { line, said } in rows {
        match said {
            Ok(theirs) => readable.push((line, theirs)),
            Err(rejection) => taken.push(Taken::of(line, "", Err(rejection))),
        }
    }
    readable
}

/// The rows of each call, with the line of the first; and the rows that cannot be read.
fn grouped(rows: Vec<Row<TheirPurpose>>) -> (Vec<(u64, Vec<TheirPurpose>)>, Vec<Taken>) {
    let (mut calls, mut unreadable): (Vec<(u64, Vec<TheirPurpose>)>, Vec<Taken>) = (vec![], vec![]);
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    for Row { line, said } in rows {
        match said {
            Ok(purpose) => match places.get(&(purpose.fund.clone(), purpose.call.clone())) {
                Some(place) => calls[*place].1.push(purpose),
                None => {
                    places.insert((purpose.fund.clone(), purpose.call.clone()), calls.len());
                    calls.push((line, vec![purpose]));
                }
            },
            Err(rejection) => unreadable.push(Taken::of(line, "", Err(rejection))),
        }
    }
    (calls, unreadable)
}

/// The two operations, for the API's document.
pub fn operations(imported: &Value, comparison: &Value, problem: &Value) -> (Value, Value) {
    let parameter = |name: &str, place: &str, required: bool, schema: Value, description: &str| json!({"name": name, "in": place, "required": required, "description": description, "schema": schema});
    let kinds = |kinds: &[&str]| parameter("kind", "path", true, json!({"type": "string", "enum": kinds}), "what the file is about");
    let text = || json!({"type": "string", "minLength": 1, "maxLength": SOURCE_CHARACTERS_MAX});
    let source = parameter("source", "query", true, text(), "the system that the file comes from; payments keep it");
    let csv = json!({"required": true, "content": {"text/csv": {"schema": {"type": "string"}}}});
    let problem = json!({"description": "a problem with its code and a recommendation", "content": {"application/problem+json": {"schema": problem}}});
    let key = json!({"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"});
    let import = json!({
        "operationId": "gateway-import-file",
        "summary": "Takes in a CSV file of the system that came before, row by row, each as a request of the sender: allocations, calls, payments. What was taken in before is found by its name and left as it is.",
        "description": "Roles: those of the requests.",
        "parameters": [
            kinds(&["allocations", "calls", "payments"]), source.clone(),
            parameter("dry_run", "query", false, json!({"type": "boolean"}), "true: each row is decided and nothing is changed; a call does not see those before it"),
            parameter("Idempotency-Key", "header", true, key, "a new one for each intent"),
        ],
        "requestBody": csv.clone(),
        "responses": {"200": {"description": "what became of each row", "content": {"application/json": {"schema": imported}}}, "default": problem.clone()},
    });
    let compare = json!({
        "operationId": "gateway-compare-file",
        "summary": "Puts the figures of a CSV file of the system that came before beside ours, and names what only one of them has.",
        "description": "Roles: analyst, fund_manager, committee, treasurer, auditor, admin. With `Accept: text/csv` the answer is a table.",
        "parameters": [kinds(&["allocations", "calls", "lines", "payments"]), source],
        "requestBody": csv,
        "responses": {
            "200": {"description": "both beside each other", "content": {"application/json": {"schema": comparison}, "text/csv": {"schema": {"type": "string"}}}},
            "default": problem,
        },
    });
    (import, compare)
}
