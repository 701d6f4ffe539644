//! The money workload: funds, commitments, later closings, deals, allocations and what is taken back of them, votes, changes of rules,
//! calls, payments one by one and in batches, receipts, bank statements, reversals, refunds.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{Days, NaiveDate, Utc};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::client::{Asked, Manner, Person};
use crate::journal::{Entry, Journal, Operation, Outcome};

/// Funds at the beginning.
const FUNDS: usize = 3;
/// Investors of each.
const INVESTORS: usize = 4;
/// Clients at work at once.
const CLIENTS: u64 = 16;
/// Longest pause of a client between two operations, in milliseconds.
const PAUSE_MAX: u64 = 60;
/// Payments of a batch.
const BATCH: i64 = 20;
/// Below the amount from which an allocation needs votes; cents.
const SMALL_ALLOCATION: i64 = 90_000_000;
/// Above it.
const LARGE_ALLOCATION: i64 = 100_000_000;
/// A call of this amount and a bit; cents.
const CALL: i64 = 100_000;
/// What another service has to do first is waited for so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// A deal that is not seen for so long is published again: the broker may have lost it.
const DEAL_PATIENCE: Duration = Duration::from_secs(3);
/// A deal is told of so often at most.
const DEAL_TIMES: usize = 10;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Clone)]
struct Fund {
    id: Uuid,
    allocation: Uuid,
}

/// A call line.
#[derive(Clone)]
struct Line {
    id: Uuid,
    fund: Uuid,
    investor: Uuid,
    /// What cash for it names.
    reference: String,
}

/// What the clients know of the firm.
#[derive(Default)]
struct Known {
    funds: Vec<Fund>,
    lines: Vec<Line>,
    payments: Vec<Uuid>,
}

/// The people of the firm.
struct People {
    admin: Person,
    analyst: Person,
    manager: Person,
    members: [Person; 2],
    treasurer: Person,
}

/// Everything that the clients share.
pub struct Workload {
    people: People,
    journal: Arc<Journal>,
    deals: async_nats::Client,
    known: Mutex<Known>,
    /// Makes amounts, names and references unique.
    counter: AtomicI64,
    /// Held for reading by each operation, for writing by whoever wants silence.
    gate: tokio::sync::RwLock<()>,
}

fn amount(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// The bank account of a fund.
fn account(fund: Uuid) -> String {
    format!("CHAOS{}", &fund.simple().to_string()[20..])
}

impl Workload {
    /// The firm's people; nothing is asked yet.
    pub fn new(secret: &str, gateways: &Arc<RwLock<Vec<String>>>, journal: &Arc<Journal>, deals: async_nats::Client) -> Workload {
        let person = |name: &str, role: &str| Person::new(name, role, secret, gateways.clone(), journal.clone());
        let people = People {
            admin: person("ada", "admin"),
            analyst: person("alan", "analyst"),
            manager: person("mia", "fund_manager"),
            members: [person("ann", "committee"), person("bob", "committee")],
            treasurer: person("tom", "treasurer"),
        };
        Workload {
            people,
            journal: journal.clone(),
            deals,
            known: Mutex::default(),
            counter: AtomicI64::new(1),
            gate: tokio::sync::RwLock::default(),
        }
    }

    fn next(&self) -> i64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    fn known<R>(&self, look: impl FnOnce(&mut Known) -> R) -> R {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The firm before the first fault.
    pub async fn found(&self, seed: u64) -> Result<(), String> {
        for _ in 0..FUNDS {
            let number = self.next();
            let fund = json!({"name": format!("Fund {number}"), "fund_type": "buyout", "currency": "USD", "vintage_year": 2026,
                              "size": "100000000000", "calendar": "NYSE", "timezone": "UTC"});
            let made = self.register_fund(fund).await?;
            for _ in 0..INVESTORS {
                self.join(made, Manner::Careful).await;
            }
            self.open_account(made).await?;
            let allocation = self.allocate(made, SMALL_ALLOCATION, Manner::Careful).await.ok_or("no allocation became active")?;
            self.known(|known| known.funds.push(Fund { id: made, allocation }));
            self.call(&Fund { id: made, allocation }, Manner::Careful).await;
        }
        if self.known(|known| known.lines.is_empty()) {
            return Err("no call was issued".into());
        }
        let mut chance = fastrand::Rng::with_seed(seed);
        self.import(&mut chance, Manner::Doubled).await;
        self.refund(&mut chance, Manner::Doubled).await;
        self.pay(&mut chance, Manner::Doubled).await;
        self.pay_wrongly(&mut chance, Manner::Careful).await;
        self.change_rules(Manner::Doubled).await;
        Ok(())
    }

    async fn register_fund(&self, fund: Value) -> Result<Uuid, String> {
        let operation = Operation::Fund { name: fund["name"].as_str().unwrap_or_default().to_owned() };
        let asked = Asked { operation, path: "/funds".into(), body: fund, id: "id" };
        let made = self.people.admin.ask(Manner::Careful, asked).await.ok_or("no fund could be registered")?;
        made["id"].as_str().and_then(|id| id.parse().ok()).ok_or_else(|| format!("no id in {made}"))
    }

    /// Starts the clients; each works until it is aborted.
    pub fn start(self: &Arc<Workload>, seed: u64) -> Vec<JoinHandle<()>> {
        let work = |number: u64| {
            let (workload, mut chance) = (self.clone(), fastrand::Rng::with_seed(seed.wrapping_add(number)));
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(chance.u64(0..PAUSE_MAX))).await;
                    let _gate = workload.gate.read().await;
                    workload.one(&mut chance).await;
                }
            })
        };
        (0..CLIENTS).map(work).collect()
    }

    /// Waits until nothing is in flight, and keeps the clients silent while the guard lives.
    pub async fn silence(&self) -> tokio::sync::RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    async fn one(&self, chance: &mut fastrand::Rng) {
        let manner = match chance.u8(0..10) {
            0 => Manner::Careless,
            1 => Manner::Doubled,
            _ => Manner::Careful,
        };
        let Some(fund) = self.known(|known| chance.choice(&known.funds).cloned()) else { return };
        match chance.u8(0..100) {
            0..46 => self.pay(chance, manner).await,
            46..48 => self.withdraw(chance, manner).await,
            48 => self.change_rules(manner).await,
            49..53 => self.receive(chance, manner).await,
            53..56 => self.import(chance, manner).await,
            56..58 => self.refund(chance, manner).await,
            58 => self.close(fund.id, manner).await,
            59..67 => self.pay_many(chance, manner).await,
            67..77 => self.reverse(chance, manner).await,
            77..85 => self.call(&fund, manner).await,
            85..89 => self.allocate_to_call(fund.id, SMALL_ALLOCATION, manner).await,
            89..93 => self.allocate_to_call(fund.id, LARGE_ALLOCATION, manner).await,
            93..95 => self.join(fund.id, manner).await,
            _ => self.pay_wrongly(chance, manner).await,
        }
    }

    /// An allocation that later calls are for.
    async fn allocate_to_call(&self, fund: Uuid, least: i64, manner: Manner) {
        if let Some(allocation) = self.allocate(fund, least, manner).await {
            self.known(|known| known.funds.push(Fund { id: fund, allocation }));
        }
    }

    fn line(&self, chance: &mut fastrand::Rng) -> Option<Line> {
        self.known(|known| chance.choice(&known.lines).cloned())
    }

    fn payment(&self, chance: &mut fastrand::Rng, line: Uuid) -> (Operation, Value) {
        let (cents, number) = (chance.i64(1..500), self.next());
        let reference = format!("p-{number}");
        // cash of one amount and date for a line would be taken for a duplicate
        let received_on = NaiveDate::default() + Days::new(14_000 + number.unsigned_abs() % 6_000);
        let body = json!({"amount": amount(cents), "method": "wire", "reference": reference, "received_on": received_on});
        (Operation::Pay { line, reference, cents }, body)
    }

    async fn pay(&self, chance: &mut fastrand::Rng, manner: Manner) {
        let Some(Line { id: line, .. }) = self.line(chance) else { return };
        let (operation, body) = self.payment(chance, line);
        let asked = Asked { operation, path: format!("/call-lines/{line}/payments"), body, id: "id" };
        if let Some(made) = self.people.treasurer.ask(manner, asked).await
            && let Some(id) = made["id"].as_str().and_then(|id| id.parse().ok())
        {
            self.known(|known| known.payments.push(id));
        }
    }

    /// A payment that can never be right.
    async fn pay_wrongly(&self, chance: &mut fastrand::Rng, manner: Manner) {
        let Some(Line { id: line, .. }) = self.line(chance) else { return };
        let (operation, mut body) = self.payment(chance, line);
        body["amount"] = json!("-1.00");
        self.people.treasurer.ask(manner, Asked { operation, path: format!("/call-lines/{line}/payments"), body, id: "id" }).await;
    }

    /// A batch has one key; what it knows of each payment is a line of the journal.
    async fn pay_many(&self, chance: &mut fastrand::Rng, manner: Manner) {
        let mut operations = Vec::new();
        let mut payments = Vec::new();
        for _ in 0..BATCH {
            let Some(Line { id: line, .. }) = self.line(chance) else { return };
            let (operation, mut body) = self.payment(chance, line);
            body["line_id"] = json!(line);
            operations.push(operation);
            payments.push(body);
        }
        let Some(first) = operations.first().cloned() else { return };
        let asked = Asked { operation: first, path: "/payments/batch".into(), body: json!({"payments": payments}), id: "" };
        let (mut whole, body) = self.people.treasurer.ask_unnoted(manner, asked).await;
        for (position, operation) in operations.into_iter().enumerate() {
            let item = body.as_ref().map(|body| body["outcomes"][position].clone()).unwrap_or_default();
            let id = item["payment_id"].as_str().and_then(|id| id.parse().ok());
            let outcome = match (&whole.outcome, id) {
                (Outcome::Acknowledged { .. }, Some(id)) => Outcome::Acknowledged { id },
                (Outcome::Acknowledged { .. }, None) => Outcome::Refused { code: item["problem"]["code"].to_string() },
                (other, _) => other.clone(),
            };
            self.journal.note(Entry { operation, outcome, ..whole.clone() });
            // one contradiction of a batch is one
            whole.contradicted = false;
        }
    }

    /// Cash for whatever the investor of a line owes.
    async fn receive(&self, chance: &mut fastrand::Rng, manner: Manner) {
        let Some(Line { fund, investor, .. }) = self.line(chance) else { return };
        let (Operation::Pay { reference, cents, .. }, mut body) = self.payment(chance, Uuid::nil()) else { return };
        (body["fund_id"], body["investor_id"]) = (json!(fund), json!(investor));
        let operation = Operation::Receipt { fund, reference, cents };
        self.people.treasurer.ask(manner, Asked { operation, path: "/receipts".into(), body, id: "receipt_id" }).await;
    }

    /// The fund's account, and how the bank's files are read.
    async fn open_account(&self, fund: Uuid) -> Result<(), String> {
        let said = self.people.admin.send(&format!("/funds/{fund}/bank-accounts"), json!({"account": account(fund)})).await;
        said.ok_or("no bank account could be registered")?;
        let column = |name: &str| json!({"column": name});
        let map = json!({"account": column("account"), "currency": {"fixed": "USD"}, "booked_on": "date", "amount": {"signed": column("amount")},
                         "bank_reference": "reference", "creditor_reference": "creditor"});
        let said = self.people.treasurer.send("/column-maps", json!({"name": "bank", "map": map})).await;
        said.map(drop).ok_or_else(|| "no column map could be saved".into())
    }

    /// A bank statement with one entry, that names a line.
    async fn import(&self, chance: &mut fastrand::Rng, manner: Manner) {
        let Some(line) = self.line(chance) else { return };
        let (Operation::Pay { reference, cents, .. }, body) = self.payment(chance, line.id) else { return };
        let date = body["received_on"].as_str().unwrap_or_default();
        let file = format!(
            "account,date,amount,reference,creditor\n{},{date},{},{reference},{}\n",
            account(line.fund),
            amount(cents),
            line.reference
        );
        let path = format!("/bank-statements?column_map=bank&file_name={reference}");
        let operation = Operation::Statement { line: line.id, file: reference, cents };
        let asked = Asked { operation, path, body: json!(file), id: "id" };
        self.people.treasurer.ask(manner, asked).await;
    }

    /// More than a line can take, asked back, approved and paid out.
    async fn refund(&self, chance: &mut fastrand::Rng, manner: Manner) {
        let Some(Line { id: line, .. }) = self.line(chance) else { return };
        let (Operation::Pay { reference, .. }, mut body) = self.payment(chance, line) else { return };
        let cents = 2 * CALL;
        body["amount"] = json!(amount(cents));
        let operation = Operation::Pay { line, reference, cents };
        let asked = Asked { operation, path: format!("/call-lines/{line}/payments"), body, id: "id" };
        let Some(paid) = self.people.treasurer.ask(manner, asked).await else { return };
        let Some(payment) = paid["id"].as_str().and_then(|id| id.parse().ok()) else { return };
        let reason = format!("f-{}", self.next());
        let asked = Asked {
            operation: Operation::Refund { payment, reason: reason.clone() },
            path: format!("/payments/{payment}/refunds"),
            body: json!({"reason": reason}),
            id: "refund_id",
        };
        let Some(asked) = self.people.treasurer.ask(manner, asked).await else { return };
        let Some(refund) = asked["refund_id"].as_str().and_then(|id| id.parse().ok()) else { return };
        let path = format!("/refunds/{refund}");
        self.vote(refund, manner).await;
        if look_for(&self.people.treasurer, &path, PATIENCE, |refund| refund["status"] == "approved").await.is_none() {
            return;
        }
        let reference = format!("o-{}", self.next());
        let operation = Operation::Payout { refund, reference: reference.clone() };
        let body = json!({"paid_on": "2026-02-01", "reference": reference});
        self.people.treasurer.ask(manner, Asked { operation, path: format!("{path}/payout"), body, id: "id" }).await;
    }

    /// A later closing at which one investor joins.
    async fn close(&self, fund: Uuid, manner: Manner) {
        let Some(investor) = self.register_investor(manner).await else { return };
        let (cents, today) = (1_000_000_000 + self.next(), Utc::now().date_naive());
        let commitments = json!([{"investor_id": investor, "amount": amount(cents)}]);
        let body = json!({"commitments": commitments, "closed_on": today, "due_on": today + Days::new(30), "interest_percent": "8"});
        let operation = Operation::Close { fund, investor, cents };
        self.people.admin.ask(manner, Asked { operation, path: format!("/funds/{fund}/closings"), body, id: "id" }).await;
    }

    async fn reverse(&self, chance: &mut fastrand::Rng, manner: Manner) {
        let taken = self.known(|known| {
            let count = known.payments.len();
            (count > 0).then(|| known.payments.swap_remove(chance.usize(0..count)))
        });
        let Some(payment) = taken else { return };
        let reason = format!("r-{}", self.next());
        let body = json!({"reason": reason, "effective_on": "2026-01-20"});
        let asked =
            Asked { operation: Operation::Reverse { payment, reason }, path: format!("/payments/{payment}/reverse"), body, id: "id" };
        self.people.treasurer.ask(manner, asked).await;
    }

    async fn register_investor(&self, manner: Manner) -> Option<Uuid> {
        let name = format!("Investor {}", self.next());
        let asked = Asked {
            operation: Operation::Investor { name: name.clone() },
            path: "/investors".into(),
            body: json!({"name": name}),
            id: "id",
        };
        self.people.admin.ask(manner, asked).await?["id"].as_str()?.parse().ok()
    }

    async fn join(&self, fund: Uuid, manner: Manner) {
        let Some(investor) = self.register_investor(manner).await else { return };
        let cents = 10_000_000_000 + self.next();
        let body = json!({"investor_id": investor, "amount": amount(cents), "effective_on": "2020-01-01"});
        let operation = Operation::Commit { fund, investor, cents };
        self.people.admin.ask(manner, Asked { operation, path: format!("/funds/{fund}/commitments"), body, id: "id" }).await;
    }

    /// Proposes an allocation to a new deal, votes if it must be approved, and waits until it is active.
    async fn allocate(&self, fund: Uuid, least: i64, manner: Manner) -> Option<Uuid> {
        let (deal, cents) = (Uuid::now_v7(), least + self.next());
        self.publish_deal(deal).await?;
        let body = json!({"deal_id": deal, "fund_id": fund, "amount": amount(cents), "security_type": "equity"});
        let asked = Asked { operation: Operation::Allocate { deal, fund, cents }, path: "/allocations".into(), body, id: "allocation_id" };
        let made = self.people.analyst.ask(manner, asked).await?;
        let allocation: Uuid = made["allocation_id"].as_str()?.parse().ok()?;
        if least >= LARGE_ALLOCATION {
            self.vote(allocation, manner).await?;
        }
        let path = format!("/allocations/{allocation}");
        let active = |body: &Value| body["decision"] == "active";
        look_for(&self.people.analyst, &path, PATIENCE, active).await.map(|_| allocation)
    }

    /// Takes an allocation back, as far as it is not called; the fund keeps another to call for.
    async fn withdraw(&self, chance: &mut fastrand::Rng, manner: Manner) {
        let taken = self.known(|known| {
            let place = chance.usize(0..known.funds.len().max(1));
            let fund = known.funds.get(place)?.id;
            let is_one_of_many = known.funds.iter().filter(|other| other.id == fund).count() > 1;
            is_one_of_many.then(|| known.funds.swap_remove(place))
        });
        let Some(Fund { allocation, .. }) = taken else { return };
        let reason = format!("w-{}", self.next());
        let body = json!({"reason": reason});
        let operation = Operation::Withdraw { allocation, reason };
        let asked = Asked { operation, path: format!("/allocations/{allocation}/withdraw"), body, id: "allocation_id" };
        self.people.manager.ask(manner, asked).await;
    }

    /// Proposes rules for a type of fund that nobody has, and has them simulated: they come into force, or others were first.
    async fn change_rules(&self, manner: Manner) {
        let number = self.next();
        let comment = format!("c-{number}");
        let body = json!({"rules": {"grace_days": number.unsigned_abs() % 30}, "comment": comment});
        let asked = Asked { operation: Operation::Rules { comment }, path: "/rules/fund-type:chaos/changes".into(), body, id: "id" };
        let Some(made) = self.people.admin.ask(manner, asked).await else { return };
        self.people.admin.send(&format!("/rule-changes/{}/simulate", made["id"].as_str().unwrap_or_default()), json!({})).await;
    }

    /// Tells of a deal as the deal system does: until the broker has it and our copy is there.
    async fn publish_deal(&self, deal: Uuid) -> Option<()> {
        let state = json!({"id": deal, "version": 1, "schema_version": 1, "name": format!("Deal {deal}"), "stage": "due_diligence", "currency": "USD"});
        let body = json!({"state": state, "change": {"kind": "registered"}}).to_string();
        let (jetstream, path) = (async_nats::jetstream::new(self.deals.clone()), format!("/deals/{deal}"));
        for _ in 0..DEAL_TIMES {
            let published = jetstream.publish("deals.evt.registered", body.clone().into()).await;
            if let Ok(acknowledged) = published
                && acknowledged.await.is_ok()
                && look_for(&self.people.analyst, &path, DEAL_PATIENCE, |_| true).await.is_some()
            {
                return Some(());
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    async fn vote(&self, subject: Uuid, manner: Manner) -> Option<()> {
        let path = format!("/approvals?status=pending&subject_id={subject}");
        let page =
            look_for(&self.people.members[0], &path, PATIENCE, |page| page["items"].as_array().is_some_and(|items| !items.is_empty()))
                .await?;
        let approval: Uuid = page["items"][0]["id"].as_str()?.parse().ok()?;
        for member in &self.people.members {
            let operation = Operation::Vote { approval, member: member.name().to_owned() };
            let body = json!({"decision": "approve"});
            member.ask(manner, Asked { operation, path: format!("/approvals/{approval}/votes"), body, id: "id" }).await;
        }
        Some(())
    }

    /// Calls capital for an allocation and waits until its lines are there.
    async fn call(&self, fund: &Fund, manner: Manner) {
        let number = self.next();
        let cents = CALL + number;
        let due_on = (Utc::now().date_naive() + Days::new(20 + number.unsigned_abs() % 40)).to_string();
        let purposes =
            json!([{"kind": "investment", "allocation_id": fund.allocation, "amount": amount(cents), "inside_commitment": true}]);
        let body = json!({"purposes": purposes, "due_on": due_on, "priority": "normal"});
        let operation = Operation::Call { fund: fund.id, allocation: fund.allocation, cents };
        let asked = Asked { operation, path: format!("/funds/{}/capital-calls", fund.id), body, id: "capital_call_id" };
        let Some(made) = self.people.manager.ask(manner, asked).await else { return };
        let path = format!("/capital-calls/{}", made["capital_call_id"].as_str().unwrap_or_default());
        let Some(call) = look_for(&self.people.manager, &path, PATIENCE, |call| call["decision"] == "issued").await else { return };
        let line = |line: &Value| {
            let id = |field: &str| line[field].as_str()?.parse::<Uuid>().ok();
            Some(Line { id: id("id")?, fund: fund.id, investor: id("investor_id")?, reference: line["reference"].as_str()?.to_owned() })
        };
        let lines: Vec<Line> = call["lines"].as_array().into_iter().flatten().filter_map(line).collect();
        self.known(|known| known.lines.extend(lines));
    }
}

/// Reads until it is as wanted; none when it is not in time.
async fn look_for(person: &Person, path: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
    let since = Instant::now();
    while since.elapsed() < within {
        if let Some(body) = person.read(path).await
            && wanted(&body)
        {
            return Some(body);
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}
