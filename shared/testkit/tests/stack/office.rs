//! People of a firm, and the steps that most tests begin with.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{Days, NaiveDate};
use domain::messages::deals::{Deal, DealChange};
use domain::{Currency, Event};
use serde_json::{Value, json};
use testkit::{Client, Stack};
use uuid::Uuid;

/// The users of a firm, each with one role.
pub struct Office {
    pub admin: Client,
    pub analyst: Client,
    pub manager: Client,
    pub ann: Client,
    pub bob: Client,
    pub treasurer: Client,
    pub auditor: Client,
}

/// A fund with its investors.
pub struct Fund {
    pub id: Uuid,
    pub investors: Vec<Uuid>,
}

pub fn id(value: &Value, field: &str) -> Uuid {
    value[field].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {field} in {value:#}"))
}

pub fn items(page: &Value) -> &Vec<Value> {
    page["items"].as_array().unwrap_or_else(|| panic!("no items in {page:#}"))
}

pub fn sum(values: &[Value], field: &str) -> domain::Amount {
    values.iter().map(|value| value[field].as_str().unwrap().parse::<domain::Amount>().unwrap()).sum()
}

impl Office {
    pub fn of(stack: &Stack) -> Office {
        Office {
            admin: stack.user("ada", &["admin"]),
            analyst: stack.user("alan", &["analyst"]),
            manager: stack.user("mia", &["fund_manager"]),
            ann: stack.user("ann", &["committee"]),
            bob: stack.user("bob", &["committee"]),
            treasurer: stack.user("tom", &["treasurer"]),
            auditor: stack.user("olga", &["auditor"]),
        }
    }

    /// A fund of 100 million with so many investors of 1 million each.
    pub async fn fund(&self, investors: usize) -> Fund {
        self.fund_of("100000000", investors, "1000000").await
    }

    pub async fn fund_of(&self, size: &str, investors: usize, commitment: &str) -> Fund {
        let name = format!("Fund {}", Uuid::now_v7());
        let fund = json!({"name": name, "fund_type": "buyout", "currency": "USD", "vintage_year": 2026, "size": size, "calendar": "NYSE", "timezone": "UTC"});
        let fund = id(&self.admin.post("/funds", fund).await.expect(201), "id");
        let mut ids = Vec::new();
        for number in 0..investors {
            let investor = id(&self.admin.post("/investors", json!({"name": format!("Investor {number}")})).await.expect(201), "id");
            let commitment = json!({"investor_id": investor, "amount": commitment, "effective_on": "2020-01-01"});
            self.admin.post(&format!("/funds/{fund}/commitments"), commitment).await.expect(201);
            ids.push(investor);
        }
        Fund { id: fund, investors: ids }
    }

    /// A deal that the deal system has published.
    pub async fn deal(&self, stack: &Stack) -> Uuid {
        let id = Uuid::now_v7();
        publish_deal(stack, &deal(id, 1)).await;
        self.analyst.until(&format!("/deals/{id}"), |_| true).await;
        id
    }

    /// Votes for a pending approval of a subject by as many people as it needs, two at most.
    pub async fn approve(&self, subject_id: Uuid) {
        let page = self.ann.until(&format!("/approvals?status=pending&subject_id={subject_id}"), |page| !items(page).is_empty()).await;
        let approval = id(&items(&page)[0], "id");
        let votes = items(&page)[0]["tier"]["votes"].as_u64().unwrap() as usize;
        for member in [&self.ann, &self.bob].into_iter().take(votes) {
            member.post(&format!("/approvals/{approval}/votes"), json!({"decision": "approve"})).await.expect(200);
        }
    }

    /// An active allocation of an amount below the approval tiers.
    pub async fn allocation(&self, stack: &Stack, fund: &Fund, amount: &str) -> Uuid {
        let deal = self.deal(stack).await;
        let accepted = self
            .analyst
            .post("/allocations", json!({"deal_id": deal, "fund_id": fund.id, "amount": amount, "security_type": "equity"}))
            .await
            .expect(202);
        let allocation = id(&accepted, "allocation_id");
        self.analyst.until(&format!("/allocations/{allocation}"), |allocation| allocation["decision"] == "active").await;
        allocation
    }

    /// An issued call for an allocation.
    pub async fn call(&self, fund: &Fund, allocation: Uuid, amount: &str, due_on: &str) -> Value {
        let purposes = json!([{"kind": "investment", "allocation_id": allocation, "amount": amount, "inside_commitment": true}]);
        let call = json!({"purposes": purposes, "due_on": due_on, "priority": "normal"});
        let accepted = self.manager.post(&format!("/funds/{}/capital-calls", fund.id), call).await.expect(202);
        let path = format!("/capital-calls/{}", id(&accepted, "capital_call_id"));
        self.manager.until(&path, |call| call["decision"] == "issued").await
    }

    /// An issued call of 100.00 over so many investors: what most payment tests begin with.
    pub async fn open_call(&self, stack: &Stack, investors: usize, amount: &str) -> (Fund, Uuid, Value) {
        let fund = self.fund(investors).await;
        let allocation = self.allocation(stack, &fund, "500000").await;
        let call = self.call(&fund, allocation, amount, "2099-12-31").await;
        (fund, allocation, call)
    }

    pub async fn pay(&self, line: Uuid, amount: &str, reference: &str) -> Value {
        self.treasurer.post(&format!("/call-lines/{line}/payments"), payment(amount, reference)).await.expect(201)
    }
}

/// A payment with a value date of its own: cash of one amount and date for a line would be taken for a duplicate.
pub fn payment(amount: &str, reference: &str) -> Value {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let received_on = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap() + Days::new(MADE.fetch_add(1, Ordering::Relaxed) % 9_000);
    payment_on(amount, reference, &received_on.to_string())
}

pub fn payment_on(amount: &str, reference: &str, received_on: &str) -> Value {
    json!({"amount": amount, "method": "wire", "reference": reference, "received_on": received_on})
}

pub fn lines(call: &Value) -> &Vec<Value> {
    call["lines"].as_array().unwrap_or_else(|| panic!("no lines in {call:#}"))
}

pub fn deal(id: Uuid, version: i64) -> Event<Deal, DealChange> {
    let currency: Option<Currency> = "USD".parse().ok();
    let state = Deal {
        id,
        version,
        schema_version: 1,
        name: format!("Deal {id}"),
        stage: "due_diligence".into(),
        company: None,
        sector: None,
        currency,
        size: None,
        stage_replies: vec![],
        created_at: None,
    };
    Event { state, change: DealChange::Registered }
}

pub async fn publish_deal(stack: &Stack, event: &Event<Deal, DealChange>) {
    publish_raw(stack, serde_json::to_vec(event).unwrap()).await;
}

/// Publishes a body as the deal system, and waits until the broker has it.
pub async fn publish_raw(stack: &Stack, body: Vec<u8>) {
    let jetstream = async_nats::jetstream::new(stack.nats_as("deals").await);
    jetstream.publish("deals.evt.registered", body.into()).await.unwrap().await.unwrap();
}

/// What capital-calls keeps beside its rows is what the rows come to.
pub fn assert_sums(stack: &Stack) {
    let output = stack.settings.command("capital-calls", 0).args(["verify", "--recompute"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Whoever raced has waited in one order.
pub async fn assert_no_deadlocks(stack: &Stack) {
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    let deadlocks: i64 = sqlx::query_scalar(deadlocks).fetch_one(&stack.database().await).await.unwrap();
    assert_eq!(deadlocks, 0);
}

/// The date of the machine.
pub fn today() -> chrono::NaiveDate {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    chrono::DateTime::from_timestamp(i64::try_from(since.as_secs()).unwrap(), 0).unwrap().date_naive()
}
