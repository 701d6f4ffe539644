//! The checker: compares the client's journal with the databases. It shares no code with the services.

use std::collections::{HashMap, HashSet};

use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::journal::{Entry, Operation, Outcome};

/// Findings that are told in words; the rest is counted.
const TOLD_MAX: usize = 40;

/// What was found wrong.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Acknowledged commands, events or notices that are missing.
    pub lost: u64,
    /// Commands, events or notices that count twice.
    pub doubled: u64,
    /// Places that say different things.
    pub diverged: u64,
    /// Some of them, in words.
    pub told: Vec<String>,
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.diverged == 0
    }

    fn tell(&mut self, count: u64, kind: &str, what: &str) {
        if count > 0 && self.told.len() < TOLD_MAX {
            self.told.push(format!("{kind} {count}: {what}"));
        }
    }

    /// Notes what is missing.
    pub fn lost(&mut self, count: u64, what: &str) {
        self.lost += count;
        self.tell(count, "lost", what);
    }

    /// Notes what counts twice.
    pub fn doubled(&mut self, count: u64, what: &str) {
        self.doubled += count;
        self.tell(count, "doubled", what);
    }

    /// Notes what differs.
    pub fn diverged(&mut self, count: u64, what: &str) {
        self.diverged += count;
        self.tell(count, "diverged", what);
    }

    /// All of both.
    pub fn and(mut self, other: Findings) -> Findings {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.diverged += other.diverged;
        self.told.extend(other.told);
        self
    }
}

/// A service whose database was set back, and the time for which its own acknowledgements no longer hold, in milliseconds of the
/// journal.
#[derive(Clone, Debug)]
pub struct SetBack {
    /// The service.
    pub service: &'static str,
    /// When the copy was made.
    pub copied: u128,
    /// When it served again.
    pub restored: u128,
}

/// One effect of an operation, as it is found in a table.
struct Effect {
    id: Uuid,
    /// Whether it has the values that were asked for.
    right: bool,
}

/// The tables, by what an operation is found by.
struct Tables {
    payments: HashMap<String, Vec<(Uuid, Uuid, String)>>,
    reversals: HashMap<Uuid, String>,
    calls: HashMap<String, Vec<(Uuid, Uuid)>>,
    allocations: HashMap<Uuid, Vec<(Uuid, Uuid, String)>>,
    withdrawals: HashMap<String, Vec<Uuid>>,
    rules: HashMap<String, Vec<Uuid>>,
    votes: HashMap<(Uuid, String), usize>,
    names: HashMap<String, Vec<Uuid>>,
    commitments: HashMap<Uuid, Vec<(Uuid, Uuid, String)>>,
    closings: HashMap<Uuid, Vec<(Uuid, Uuid, String)>>,
    receipts: HashMap<String, Vec<(Uuid, Uuid, String)>>,
    refunds: HashMap<String, Vec<(Uuid, Uuid)>>,
    payouts: HashMap<Uuid, String>,
    statements: HashMap<String, Vec<(Uuid, i64, String)>>,
    lines: HashSet<Uuid>,
    /// Whether lines may be missing, because the database was set back that had them.
    forgets_lines: bool,
}

impl Tables {
    async fn read(database: &PgPool, set_backs: &[SetBack]) -> Result<Tables, sqlx::Error> {
        let mut tables = Tables {
            payments: HashMap::new(),
            reversals: HashMap::new(),
            calls: HashMap::new(),
            allocations: HashMap::new(),
            withdrawals: HashMap::new(),
            rules: HashMap::new(),
            votes: HashMap::new(),
            names: HashMap::new(),
            commitments: HashMap::new(),
            closings: HashMap::new(),
            receipts: HashMap::new(),
            refunds: HashMap::new(),
            payouts: HashMap::new(),
            statements: HashMap::new(),
            lines: HashSet::new(),
            forgets_lines: set_backs.iter().any(|set_back| set_back.service == "capital-calls"),
        };
        let payments = "select reference, id, line_id, (amount * 100)::bigint::text as cents, reversal->>'reason' as reason from capital_calls.payments";
        for row in sqlx::query(payments).fetch_all(database).await? {
            let id: Uuid = row.try_get("id")?;
            tables.payments.entry(row.try_get("reference")?).or_default().push((id, row.try_get("line_id")?, row.try_get("cents")?));
            if let Some(reason) = row.try_get("reason")? {
                tables.reversals.insert(id, reason);
            }
        }
        let calls = "select (amount * 100)::bigint::text as cents, id, fund_id from capital_calls.capital_calls";
        for row in sqlx::query(calls).fetch_all(database).await? {
            tables.calls.entry(row.try_get("cents")?).or_default().push((row.try_get("id")?, row.try_get("fund_id")?));
        }
        // one that was taken back has been more
        let allocations =
            "select deal_id, id, fund_id, (greatest(amount, asked) * 100)::bigint::text as cents from allocation_status.allocations
             left join (select aggregate_id as id, max((body::jsonb -> 'state' ->> 'amount')::numeric) as asked
                        from allocation_status.event_log where aggregate = 'allocation' group by 1) as log using (id)";
        for row in sqlx::query(allocations).fetch_all(database).await? {
            let found = (row.try_get("id")?, row.try_get("fund_id")?, row.try_get("cents")?);
            tables.allocations.entry(row.try_get("deal_id")?).or_default().push(found);
        }
        // one that was not decided yet is cancelled at once: so is one whose decision was forgotten
        let withdrawals = "with log as (
                select aggregate_id, body::jsonb -> 'state' -> 'withdrawal' as withdrawal, body::jsonb -> 'change' as change
                from allocation_status.event_log where aggregate = 'allocation'
             ), asked as (
                select distinct withdrawal ->> 'reason' as reason, withdrawal ->> 'workflow_id', aggregate_id
                from log where withdrawal ->> 'reason' is not null
             )
             select reason, aggregate_id from asked
             union all
             select distinct change ->> 'reason', aggregate_id
             from log where change ->> 'kind' = 'cancelled' and change ->> 'reason' not in (select reason from asked)";
        for row in sqlx::query(withdrawals).fetch_all(database).await? {
            tables.withdrawals.entry(row.try_get("reason")?).or_default().push(row.try_get("aggregate_id")?);
        }
        let rules = "select change ->> 'comment' as comment, id from workflow.rule_changes";
        for row in sqlx::query(rules).fetch_all(database).await? {
            tables.rules.entry(row.try_get("comment")?).or_default().push(row.try_get("id")?);
        }
        let votes = "select id, vote->>'user' as member from workflow.approvals cross join jsonb_array_elements(votes) as vote";
        for row in sqlx::query(votes).fetch_all(database).await? {
            *tables.votes.entry((row.try_get("id")?, row.try_get("member")?)).or_default() += 1;
        }
        let names = "select name, id from capital_calls.investors union all select name, id from allocation_status.funds";
        for row in sqlx::query(names).fetch_all(database).await? {
            tables.names.entry(row.try_get("name")?).or_default().push(row.try_get("id")?);
        }
        let commitments = "select investor_id, id, fund_id, (amount * 100)::bigint::text as cents from capital_calls.commitments";
        for row in sqlx::query(commitments).fetch_all(database).await? {
            let found = (row.try_get("id")?, row.try_get("fund_id")?, row.try_get("cents")?);
            tables.commitments.entry(row.try_get("investor_id")?).or_default().push(found);
        }
        let closings = "select investor_id, closing_id, entry.fund_id, (entry.amount * 100)::bigint::text as cents
                        from capital_calls.commitment_entries as entry join capital_calls.commitments on commitments.id = commitment_id
                        where closing_id is not null";
        for row in sqlx::query(closings).fetch_all(database).await? {
            let found = (row.try_get("closing_id")?, row.try_get("fund_id")?, row.try_get("cents")?);
            tables.closings.entry(row.try_get("investor_id")?).or_default().push(found);
        }
        let receipts = "select reference, receipt_id, fund_id, sum(amount * 100)::bigint::text as cents from capital_calls.payments
                        where receipt_id is not null and moved_from is null group by reference, receipt_id, fund_id";
        for row in sqlx::query(receipts).fetch_all(database).await? {
            let found = (row.try_get("receipt_id")?, row.try_get("fund_id")?, row.try_get("cents")?);
            tables.receipts.entry(row.try_get("reference")?).or_default().push(found);
        }
        let refunds =
            "select reason, id, payment_id, payout ->> 'reference' as payout from capital_calls.refunds where payment_id is not null";
        for row in sqlx::query(refunds).fetch_all(database).await? {
            let id: Uuid = row.try_get("id")?;
            tables.refunds.entry(row.try_get("reason")?).or_default().push((id, row.try_get("payment_id")?));
            if let Some(payout) = row.try_get("payout")? {
                tables.payouts.insert(id, payout);
            }
        }
        let statements = "select import ->> 'file_name' as file, import.id, count(payments.id) as payments,
                                 coalesce(sum(amount_paid * 100), 0)::bigint::text as cents
                          from capital_calls.bank_imports as import
                          left join capital_calls.bank_entries as entry on entry.import_id = import.id
                          left join lateral (select id, amount as amount_paid from capital_calls.payments where id = any(entry.payment_ids)) as payments
                              on true
                          group by 1, 2";
        for row in sqlx::query(statements).fetch_all(database).await? {
            let found = (row.try_get("id")?, row.try_get("payments")?, row.try_get("cents")?);
            tables.statements.entry(row.try_get("file")?).or_default().push(found);
        }
        let lines = sqlx::query_scalar("select id from capital_calls.call_lines").fetch_all(database).await?;
        tables.lines = lines.into_iter().collect();
        Ok(tables)
    }

    /// What an operation has done; an id that is not known from outside is nil.
    fn effects(&self, operation: &Operation) -> Vec<Effect> {
        let effect = |id: Uuid, right: bool| Effect { id, right };
        match operation {
            Operation::Pay { line, reference, cents } => {
                let found = self.payments.get(reference).into_iter().flatten();
                found.map(|(id, of, paid)| effect(*id, of == line && *paid == cents.to_string())).collect()
            }
            Operation::Reverse { payment, reason } => {
                self.reversals.get(payment).filter(|found| *found == reason).map(|_| effect(*payment, true)).into_iter().collect()
            }
            Operation::Call { fund, cents, .. } => {
                self.calls.get(&cents.to_string()).into_iter().flatten().map(|(id, of)| effect(*id, of == fund)).collect()
            }
            Operation::Allocate { deal, fund, cents } => {
                let found = self.allocations.get(deal).into_iter().flatten();
                found.map(|(id, of, amount)| effect(*id, of == fund && *amount == cents.to_string())).collect()
            }
            Operation::Withdraw { allocation, reason } => {
                self.withdrawals.get(reason).into_iter().flatten().map(|id| effect(*id, id == allocation)).collect()
            }
            Operation::Rules { comment } => self.rules.get(comment).into_iter().flatten().map(|id| effect(*id, true)).collect(),
            Operation::Vote { approval, member } => {
                let times = self.votes.get(&(*approval, member.clone())).copied().unwrap_or_default();
                (0..times).map(|_| effect(*approval, true)).collect()
            }
            Operation::Fund { name } | Operation::Investor { name } => {
                self.names.get(name).into_iter().flatten().map(|id| effect(*id, true)).collect()
            }
            Operation::Commit { fund, investor, cents } => {
                let found = self.commitments.get(investor).into_iter().flatten();
                found.map(|(id, of, amount)| effect(*id, of == fund && *amount == cents.to_string())).collect()
            }
            Operation::Close { fund, investor, cents } => {
                let found = self.closings.get(investor).into_iter().flatten();
                found.map(|(id, of, amount)| effect(*id, of == fund && *amount == cents.to_string())).collect()
            }
            Operation::Receipt { fund, reference, cents } => {
                let found = self.receipts.get(reference).into_iter().flatten();
                found.map(|(id, of, amount)| effect(*id, of == fund && *amount == cents.to_string())).collect()
            }
            Operation::Refund { payment, reason } => {
                self.refunds.get(reason).into_iter().flatten().map(|(id, of)| effect(*id, of == payment)).collect()
            }
            Operation::Payout { refund, reference } => {
                self.payouts.get(refund).filter(|found| *found == reference).map(|_| effect(*refund, true)).into_iter().collect()
            }
            Operation::Statement { line, file, cents } => {
                // cash for a line that was forgotten with its call waits for a person
                let times = i64::from(self.lines.contains(line) || !self.forgets_lines);
                let paid = times * cents;
                let found = self.statements.get(file).into_iter().flatten();
                found.map(|(id, payments, amount)| effect(*id, *payments == times && *amount == paid.to_string())).collect()
            }
        }
    }
}

/// Compares the journal with the databases.
pub async fn commands(database: &PgPool, journal: &[Entry], set_backs: &[SetBack]) -> Result<Findings, String> {
    let tables = Tables::read(database, set_backs).await.map_err(|error| format!("checker: {error}"))?;
    let mut findings = Findings::default();
    for entry in journal {
        let effects = tables.effects(&entry.operation);
        let forgotten = set_backs.iter().any(|set_back| {
            set_back.service == entry.operation.owner() && entry.answered >= set_back.copied && entry.asked <= set_back.restored
        });
        let told = || format!("{:?} under {}, asked at {} ms", entry.operation, entry.key, entry.asked);
        if effects.len() > 1 {
            findings.doubled(effects.len() as u64 - 1, &told());
        }
        if entry.contradicted && !forgotten {
            findings.doubled(1, &format!("answered twice and differently: {}", told()));
        }
        match &entry.outcome {
            Outcome::Acknowledged { .. } if effects.is_empty() && !forgotten => findings.lost(1, &told()),
            Outcome::Acknowledged { id } if !effects.is_empty() && !forgotten => {
                let is_right = effects.iter().any(|effect| effect.id == *id && effect.right);
                findings.diverged(u64::from(!is_right), &format!("not what was acknowledged as {id}: {}", told()));
            }
            Outcome::Refused { code } => findings.doubled(effects.len() as u64, &format!("refused as {code} but done: {}", told())),
            _ => {}
        }
    }
    Ok(findings)
}
