//! A parallel run: files of the system that came before, what is made of their rows, and their figures beside ours.

use std::collections::BTreeMap;

use ::domain::messages::allocation_status::Allocation;
use ::domain::messages::capital_calls::{CallLine, CapitalCall, Payment, PaymentMethod, Priority, Purpose, PurposeKind};
use ::domain::rejection::Problem;
use ::domain::{Amount, Currency, Reason, Rejection};
use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Most rows of a file: as many payments as one request takes.
pub const ROWS_MAX: usize = 10_000;

/// What a file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One row an allocation.
    Allocations,
    /// One row a purpose of a call.
    Calls,
    /// One row a call and investor; for comparison only: lines are made by calls.
    Lines,
    /// One row a payment.
    Payments,
}

/// An allocation there.
#[derive(Clone, Debug, Deserialize)]
pub struct TheirAllocation {
    /// The deal, by the deal system's id.
    pub deal_id: Uuid,
    /// The fund, by id or name.
    pub fund: String,
    /// What is allocated.
    pub amount: Amount,
    /// Currency of the amounts; the fund's if not given.
    pub currency: Option<Currency>,
    /// Type of the security; needed to import it.
    pub security_type: Option<String>,
    /// What is called for it; for comparison.
    pub called: Option<Amount>,
    /// What is paid of that; for comparison.
    pub paid: Option<Amount>,
    /// Its status, in our words; for comparison.
    pub status: Option<String>,
}

/// Whether something is so, as a file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// `true`.
    True,
    /// `false`.
    False,
}

/// A purpose of a call there.
#[derive(Clone, Debug, Deserialize)]
pub struct TheirPurpose {
    /// Number of the call; the rows of one call stand together.
    pub call: String,
    /// The fund, by id or name.
    pub fund: String,
    /// Due date of the call.
    pub due_on: NaiveDate,
    /// What for.
    pub purpose: PurposeKind,
    /// The deal of an investment.
    pub deal_id: Option<Uuid>,
    /// Amount of the purpose.
    pub amount: Amount,
    /// Whether it draws on the commitments; true if not given.
    pub inside_commitment: Option<Flag>,
    /// Urgency of the call.
    pub priority: Option<Priority>,
    /// What is paid of the call, in its first row; for comparison.
    pub paid: Option<Amount>,
    /// Status of the call in our words, in its first row; for comparison.
    pub status: Option<String>,
}

/// A line of a call there.
#[derive(Clone, Debug, Deserialize)]
pub struct TheirLine {
    /// Number of the call.
    pub call: String,
    /// The fund, by id or name.
    pub fund: String,
    /// The investor, by id or name.
    pub investor: String,
    /// What it is asked for.
    pub amount: Amount,
    /// What it has paid.
    pub paid: Option<Amount>,
    /// What is left.
    pub outstanding: Option<Amount>,
}

/// A payment there.
#[derive(Clone, Debug, Deserialize)]
pub struct TheirPayment {
    /// Its number there.
    pub payment: String,
    /// Number of the call.
    pub call: String,
    /// The fund, by id or name.
    pub fund: String,
    /// The investor, by id or name.
    pub investor: String,
    /// Amount.
    pub amount: Amount,
    /// Currency of the amount; the fund's if not given.
    pub currency: Option<Currency>,
    /// How it came.
    pub method: PaymentMethod,
    /// Value date.
    pub received_on: NaiveDate,
    /// The payer's reference; its number if not given.
    pub reference: Option<String>,
    /// Its status, in our words; for comparison.
    pub status: Option<String>,
}

/// The columns of a kind: those that every file has, and those that it may have.
pub const fn columns(kind: Kind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        Kind::Allocations => (&["deal_id", "fund", "amount"], &["currency", "security_type", "called", "paid", "status"]),
        Kind::Calls => (&["call", "fund", "due_on", "purpose", "amount"], &["deal_id", "inside_commitment", "priority", "paid", "status"]),
        Kind::Lines => (&["call", "fund", "investor", "amount"], &["paid", "outstanding"]),
        Kind::Payments => {
            (&["payment", "call", "fund", "investor", "amount", "method", "received_on"], &["currency", "reference", "status"])
        }
    }
}

/// A row with the line of the file that it begins in.
#[derive(Clone, Debug)]
pub struct Row<T> {
    /// The line, from 1.
    pub line: u64,
    /// What it says, or why it cannot be read.
    pub said: Result<T, Rejection>,
}

/// Reads a file: CSV with a header, in UTF-8. A row that cannot be read is a refusal of its own.
///
/// # Errors
/// `malformed_request` where the header has other columns, naming them; `request_too_large`.
pub fn read<T: DeserializeOwned>(kind: Kind, file: &[u8]) -> Result<Vec<Row<T>>, Rejection> {
    let malformed = |why: String| Reason::MalformedRequest.with(why);
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
    let header = reader.headers().map_err(|error| malformed(format!("header: {error}")))?.clone();
    let (needed, optional) = columns(kind);
    let missing: Vec<&str> = needed.iter().copied().filter(|column| !header.iter().any(|name| name == *column)).collect();
    let unknown: Vec<&str> = header.iter().filter(|name| !needed.contains(name) && !optional.contains(name)).collect();
    let twice = header.iter().enumerate().find(|(at, name)| header.iter().take(*at).any(|before| before == *name));
    if !missing.is_empty() || !unknown.is_empty() || twice.is_some() {
        let twice = twice.map(|(_, name)| name).unwrap_or_default();
        return Err(malformed(format!(
            "line 1: missing columns [{}], unknown columns [{}], columns that stand twice [{twice}]; there may be [{}]",
            missing.join(", "),
            unknown.join(", "),
            optional.join(", ")
        )));
    }
    let mut rows = Vec::new();
    let mut lines = Lines { file, at: 0, line: 1 };
    for record in reader.records() {
        if rows.len() == ROWS_MAX {
            return Err(Reason::RequestTooLarge.with(format!("the file has more than {ROWS_MAX} rows")));
        }
        rows.push(match record {
            Ok(record) => {
                let line = lines.of(record.position());
                // an empty cell says nothing
                let cells = header.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty());
                let cells: Map<String, Value> = cells.map(|(name, cell)| (name.to_owned(), cell.into())).collect();
                let said = serde_path_to_error::deserialize::<_, T>(Value::Object(cells));
                Row { line, said: said.map_err(|error| malformed(format!("column {}: {}", error.path(), error.inner()))) }
            }
            Err(error) => {
                let line = lines.of(error.position());
                Row { line, said: Err(malformed(error.to_string())) }
            }
        });
    }
    if rows.is_empty() {
        return Err(malformed("the file has a header and no rows".into()));
    }
    Ok(rows)
}

/// Counts lines as an editor does, whatever ends them.
struct Lines<'a> {
    file: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of a row's first character: the reader's place is before what ends the row above, and before empty lines.
    fn of(&mut self, place: Option<&csv::Position>) -> u64 {
        let begin = place.map_or(0, csv::Position::byte);
        while let Some(byte) = self.file.get(self.at) {
            let is_end = matches!(byte, b'\r' | b'\n');
            if self.at as u64 >= begin && !is_end {
                break;
            }
            let is_half = *byte == b'\r' && self.file.get(self.at + 1) == Some(&b'\n');
            self.line += u64::from(is_end && !is_half);
            self.at += 1;
        }
        self.line
    }
}

/// What became of a row, or of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is taken in, or would be.
    Accepted,
    /// It was there before; nothing has changed.
    ThereAlready,
    /// It is not taken in.
    Refused,
}

/// What became of one row; of a call that has several, of its first.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Taken {
    /// The line of the file.
    pub line: u64,
    /// What it is called there.
    pub reference: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Our id of it; in a dry run nothing has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// The workflow that carries it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<Uuid>,
    /// Why it is not taken in, or what is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

impl Taken {
    /// A row that was taken in before.
    fn there_already(line: u64, reference: &str, id: Uuid) -> Taken {
        let outcome = Outcome::ThereAlready;
        Taken { line, reference: reference.to_owned(), outcome, id: Some(id), workflow_id: None, problem: None }
    }

    /// A row whose name is there already: as it is said, or as something else, which is refused.
    pub fn found(line: u64, compared: Compared, otherwise: Reason) -> Taken {
        let Compared { reference, standing, id, figures, .. } = compared;
        match (standing, id) {
            (Standing::Equal, Some(id)) => Taken::there_already(line, &reference, id),
            _ => {
                let differs = figures.iter().filter(|figure| !figure.equal).map(|figure| {
                    let [theirs, ours] = [&figure.theirs, &figure.ours].map(|said| said.as_deref().unwrap_or("nothing"));
                    format!("{} is {ours}, the file says {theirs}", figure.field)
                });
                let why = format!("{reference} is there otherwise: {}", differs.collect::<Vec<_>>().join("; "));
                Taken::of(line, &reference, Err(otherwise.with(why)))
            }
        }
    }

    /// A row that is taken in, or is not.
    pub fn of(line: u64, reference: &str, became: Result<(Uuid, Option<Uuid>), Rejection>) -> Taken {
        let (outcome, ids, problem) = match became {
            Ok(ids) => (Outcome::Accepted, Some(ids), None),
            Err(rejection) => (Outcome::Refused, None, Some(rejection.into())),
        };
        Taken { line, reference: reference.to_owned(), outcome, id: ids.map(|ids| ids.0), workflow_id: ids.and_then(|ids| ids.1), problem }
    }
}

/// What became of a file.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Imported {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Rows, or calls, that are taken in.
    pub accepted: usize,
    /// Those that were there before.
    pub there_already: usize,
    /// Those that are not taken in.
    pub refused: usize,
    /// What became of each.
    pub results: Vec<Taken>,
}

impl Imported {
    /// The sums of what became of rows, in the order of the file.
    pub fn of(dry_run: bool, mut results: Vec<Taken>) -> Imported {
        results.sort_by_key(|taken| taken.line);
        let count = |outcome| results.iter().filter(|taken| taken.outcome == outcome).count();
        let (accepted, there_already, refused) = (count(Outcome::Accepted), count(Outcome::ThereAlready), count(Outcome::Refused));
        Imported { dry_run, accepted, there_already, refused, results }
    }
}

/// How two systems stand to each other in one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Both say the same.
    Equal,
    /// They differ.
    Different,
    /// We do not have it, or not once.
    OnlyTheirs,
    /// They do not have it.
    OnlyOurs,
}

/// One figure of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Figure {
    /// What it is.
    pub field: &'static str,
    /// What they say.
    pub theirs: Option<String>,
    /// What we say.
    pub ours: Option<String>,
    /// Whether that is the same.
    pub equal: bool,
}

/// One thing in both systems.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Compared {
    /// The line of the file; none where they do not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What it is called.
    pub reference: String,
    /// How they stand.
    pub standing: Standing,
    /// Our id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Their figures beside ours.
    pub figures: Vec<Figure>,
    /// Why it cannot be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Figures that are being put beside each other.
#[derive(Debug, Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    fn add(mut self, field: &'static str, theirs: Option<String>, ours: String, equal: bool) -> Figures {
        if theirs.is_some() {
            self.0.push(Figure { field, theirs, ours: Some(ours), equal });
        }
        self
    }
    fn amount(self, field: &'static str, theirs: Option<Amount>, ours: Amount) -> Figures {
        self.add(
            field,
            theirs.map(|amount| amount.to_string()),
            ours.to_string(),
            theirs.is_some_and(|theirs| theirs.decimal() == ours.decimal()),
        )
    }
    fn text(self, field: &'static str, theirs: Option<&str>, ours: &str) -> Figures {
        self.add(field, theirs.map(str::to_owned), ours.to_owned(), theirs.is_some_and(|theirs| theirs.eq_ignore_ascii_case(ours)))
    }
    /// What a call is for: the sum of each kind of purpose, inside the commitments and outside.
    fn purposes(self, theirs: &[TheirPurpose], ours: &[Purpose]) -> Figures {
        let mut sums: BTreeMap<String, [Amount; 2]> = BTreeMap::new();
        let mut add = |at: usize, kind: &PurposeKind, inside: bool, amount: Amount| {
            let name = format!("{}{}", chassis::row::name(kind), if inside { "" } else { " outside the commitment" });
            let sum = &mut sums.entry(name).or_default()[at];
            *sum += amount;
        };
        theirs.iter().for_each(|theirs| add(0, &theirs.purpose, theirs.inside_commitment != Some(Flag::False), theirs.amount));
        ours.iter().for_each(|ours| add(1, &ours.kind, ours.inside_commitment, ours.amount));
        let text = |at: usize| sums.iter().map(|(name, both)| format!("{name} {}", both[at])).collect::<Vec<_>>().join(", ");
        let equal = sums.values().all(|[theirs, ours]| theirs.decimal() == ours.decimal());
        let (theirs, ours) = (text(0), text(1));
        self.add("purposes", Some(theirs), ours, equal)
    }
    fn compared(self, line: u64, reference: &str, id: Uuid) -> Compared {
        let standing = if self.0.iter().all(|figure| figure.equal) { Standing::Equal } else { Standing::Different };
        Compared { line: Some(line), reference: reference.to_owned(), standing, id: Some(id), figures: self.0, problem: None }
    }
}

impl Compared {
    /// What only they have, or what cannot be compared.
    pub fn only_theirs(line: u64, reference: &str, why: Rejection) -> Compared {
        Compared {
            line: Some(line),
            reference: reference.to_owned(),
            standing: Standing::OnlyTheirs,
            id: None,
            figures: vec![],
            problem: Some(why.into()),
        }
    }

    /// What only we have.
    pub fn only_ours(reference: String, id: Uuid, amount: Amount) -> Compared {
        let figure = Figure { field: "amount", theirs: None, ours: Some(amount.to_string()), equal: false };
        Compared { line: None, reference, standing: Standing::OnlyOurs, id: Some(id), figures: vec![figure], problem: None }
    }

    /// An allocation.
    pub fn allocation(line: u64, theirs: &TheirAllocation, ours: &Allocation) -> Compared {
        Figures::default()
            .amount("amount", Some(theirs.amount), ours.amount)
            .text("currency", theirs.currency.map(Currency::code), ours.currency.code())
            .text("security_type", theirs.security_type.as_deref(), &ours.security_type)
            .amount("called", theirs.called, ours.called)
            .amount("paid", theirs.paid, ours.paid)
            .text("status", theirs.status.as_deref(), &ours.status)
            .compared(line, &theirs.deal_id.to_string(), ours.id)
    }

    /// A call: what its purposes come to.
    pub fn call(line: u64, theirs: &[TheirPurpose], ours: &CapitalCall) -> Compared {
        let signed = |purpose: &TheirPurpose| match purpose.purpose {
            PurposeKind::RecallableReturn => -purpose.amount,
            _ => purpose.amount,
        };
        let first = &theirs[0];
        Figures::default()
            .amount("amount", Some(theirs.iter().map(signed).sum()), ours.amount)
            .purposes(theirs, &ours.purposes)
            .text("due_on", Some(&first.due_on.to_string()), &ours.due_on.to_string())
            .amount("paid", first.paid, ours.paid)
            .text("status", first.status.as_deref(), &chassis::row::name(&ours.status))
            .compared(line, &first.call, ours.id)
    }

    /// What an investor is asked for by a call, in all of its lines.
    pub fn line(line: u64, theirs: &TheirLine, ours: &[&CallLine]) -> Compared {
        let sum = |of: fn(&CallLine) -> Amount| ours.iter().map(|line| of(line)).sum::<Amount>();
        Figures::default()
            .amount("amount", Some(theirs.amount), sum(|line| line.amount))
            .amount("paid", theirs.paid, sum(|line| line.paid))
            .amount("outstanding", theirs.outstanding, sum(|line| line.outstanding))
            .compared(line, &format!("{} {}", theirs.call, theirs.investor), ours[0].id)
    }

    /// One more figure.
    pub fn also(mut self, field: &'static str, theirs: String, ours: String) -> Compared {
        let equal = theirs == ours;
        if !equal {
            self.standing = Standing::Different;
        }
        self.figures.push(Figure { field, theirs: Some(theirs), ours: Some(ours), equal });
        self
    }

    /// A payment; its fund, investor and call there, by our ids where the names are known.
    pub fn payment(line: u64, theirs: &TheirPayment, [fund, investor, call]: &[String; 3], ours: &Payment) -> Compared {
        Figures::default()
            .text("fund", Some(fund), &ours.fund_id.to_string())
            .text("investor", Some(investor), &ours.investor_id.to_string())
            .text("call", Some(call), &ours.call_id.to_string())
            .amount("amount", Some(theirs.amount), ours.amount)
            .text("currency", theirs.currency.map(Currency::code), ours.currency.code())
            .text("received_on", Some(&theirs.received_on.to_string()), &ours.received_on.to_string())
            .text("method", Some(&chassis::row::name(&theirs.method)), &chassis::row::name(&ours.method))
            .text("status", theirs.status.as_deref(), &chassis::row::name(&ours.status))
            .compared(line, &theirs.payment, ours.id)
    }
}

/// Two systems beside each other.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Comparison {
    /// Both say the same.
    pub equal: usize,
    /// They differ.
    pub different: usize,
    /// Only they have it.
    pub only_theirs: usize,
    /// Only we have it, of the funds or calls that the file names.
    pub only_ours: usize,
    /// Each of them.
    pub results: Vec<Compared>,
}

impl Comparison {
    /// The sums of what was compared.
    pub fn of(mut results: Vec<Compared>) -> Comparison {
        results.sort_by_key(|compared| compared.line.unwrap_or(u64::MAX));
        let count = |standing| results.iter().filter(|compared| compared.standing == standing).count();
        Comparison {
            equal: count(Standing::Equal),
            different: count(Standing::Different),
            only_theirs: count(Standing::OnlyTheirs),
            only_ours: count(Standing::OnlyOurs),
            results,
        }
    }

    /// As CSV: one row a figure.
    pub fn csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(vec![]);
        writer.write_record(["line", "reference", "standing", "id", "field", "theirs", "ours", "equal", "problem"])?;
        for compared in &self.results {
            let line = compared.line.map(|line| line.to_string()).unwrap_or_default();
            let id = compared.id.map(|id| id.to_string()).unwrap_or_default();
            let (standing, problem) = (
                chassis::row::name(&compared.standing),
                compared.problem.as_ref().map(|problem| problem.detail.clone()).unwrap_or_default(),
            );
            let none = Figure { field: "", theirs: None, ours: None, equal: false };
            let figures = if compared.figures.is_empty() { std::slice::from_ref(&none) } else { &compared.figures };
            for Figure { field, theirs, ours, equal } in figures {
                let texts = [theirs, ours].map(|text| text.as_deref().unwrap_or_default());
                let equal = if *equal { "true" } else { "false" };
                writer.write_record([&line, &compared.reference, &standing, &id, *field, texts[0], texts[1], equal, &problem])?;
            }
        }
        writer.into_inner().map_err(|error| error.into_error().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_row_by_row_and_each_that_cannot_be_read_says_why() {
        let file = "\u{feff}fund,deal_id,amount,currency,security_type\n\
            Fund A, 6f1a1c52-6d6f-4f6e-9f58-0c6a3e1f4b10 ,1000.50,,equity\n\
            Fund A,not-an-id,1000,USD,equity\n\
            \"Fund, B\",6f1a1c52-6d6f-4f6e-9f58-0c6a3e1f4b10,12e3,USD,\n\
            Fund A,6f1a1c52-6d6f-4f6e-9f58-0c6a3e1f4b10,1,XXX,\n\
            Fund A,6f1a1c52-6d6f-4f6e-9f58-0c6a3e1f4b10\n";
        let rows = read::<TheirAllocation>(Kind::Allocations, file.as_bytes()).unwrap();
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        let first = rows[0].said.as_ref().unwrap();
        assert_eq!((first.fund.as_str(), first.amount.to_string().as_str(), first.currency), ("Fund A", "1000.50", None));
        for (row, why) in rows[1..].iter().zip(["column deal_id", "column amount", "column currency", "found record with 2 fields"]) {
            let detail = &row.said.as_ref().unwrap_err().detail;
            assert!(detail.contains(why), "{detail:?} does not say {why:?}");
        }
        let header = |file: &str| read::<TheirPayment>(Kind::Payments, file.as_bytes()).unwrap_err().detail;
        assert!(
            header("payment,call,fund,investor,amount,method,amount,when\n")
                .contains("missing columns [received_on], unknown columns [when], columns that stand twice [amount]")
        );
        assert!(header("payment,call,fund,investor,amount,method,received_on\n").contains("no rows"));
        assert!(header("\u{0}\u{1}").contains("missing columns"));
        let long = format!("call,fund,investor,amount\n{}", "c,f,i,1\n".repeat(ROWS_MAX + 1));
        assert_eq!(read::<TheirLine>(Kind::Lines, long.as_bytes()).unwrap_err().reason, Reason::RequestTooLarge);
    }

    #[test]
    fn lines_are_those_of_an_editor_whatever_ends_them() {
        let file = "call,fund,investor,amount|c,f,i,1|||c,f,\"i|j\",2|c,f,i,x|c,f|";
        for end in ["\n", "\r\n", "\r"] {
            let rows = read::<TheirLine>(Kind::Lines, file.replace('|', end).as_bytes()).unwrap();
            assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 5, 7, 8], "{end:?}");
        }
    }

    #[test]
    fn purposes_are_compared_by_kind_and_what_is_there_otherwise_is_refused() {
        let theirs = |purpose, amount: &str| TheirPurpose {
            call: "7".into(),
            fund: "F".into(),
            due_on: NaiveDate::default(),
            purpose,
            deal_id: None,
            amount: amount.parse().unwrap(),
            inside_commitment: None,
            priority: None,
            paid: None,
            status: None,
        };
        let ours = |kind, amount: &str, inside_commitment| Purpose {
            kind,
            allocation_id: None,
            amount: amount.parse().unwrap(),
            inside_commitment,
        };
        use PurposeKind::{Investment, ManagementFee};
        let said = [theirs(Investment, "60"), theirs(ManagementFee, "30"), theirs(Investment, "40")];
        for (purposes, equal) in [
            (vec![ours(ManagementFee, "30.00", true), ours(Investment, "100.00", true)], true),
            (vec![ours(ManagementFee, "100.00", true), ours(Investment, "30.00", true)], false),
            (vec![ours(ManagementFee, "30.00", false), ours(Investment, "100.00", true)], false),
            (vec![ours(Investment, "130.00", true)], false),
        ] {
            let compared = Figures::default().purposes(&said, &purposes).compared(2, "7", Uuid::nil());
            assert_eq!(compared.standing == Standing::Equal, equal, "{compared:?}");
            let taken = Taken::found(2, compared, Reason::DuplicateCapitalCall);
            assert_eq!((taken.outcome == Outcome::ThereAlready, taken.id.is_some()), (equal, equal));
            assert_eq!(taken.problem.map(|problem| problem.code), (!equal).then_some(Reason::DuplicateCapitalCall));
        }
    }

    #[test]
    fn amounts_are_compared_as_numbers_and_what_they_do_not_say_is_not_compared() {
        let figures = Figures::default()
            .amount("amount", Some("100".parse().unwrap()), "100.00".parse().unwrap())
            .amount("paid", Some("99.99".parse().unwrap()), "100.00".parse().unwrap())
            .amount("called", None, "7".parse().unwrap())
            .text("status", Some("Funded"), "funded");
        let compared = figures.compared(2, "x", Uuid::nil());
        assert_eq!(compared.standing, Standing::Different);
        assert_eq!(
            compared.figures.iter().map(|figure| (figure.field, figure.equal)).collect::<Vec<_>>(),
            [("amount", true), ("paid", false), ("status", true)]
        );
        let comparison = Comparison::of(vec![compared, Compared::only_ours("ours".into(), Uuid::nil(), "5.00".parse().unwrap())]);
        let csv = String::from_utf8(comparison.csv().unwrap()).unwrap();
        assert!(csv.contains("2,x,different,00000000-0000-0000-0000-000000000000,paid,99.99,100.00,false,\n"), "{csv}");
        assert!(csv.contains(",ours,only_ours,00000000-0000-0000-0000-000000000000,amount,,5.00,false,\n"), "{csv}");
    }
}
