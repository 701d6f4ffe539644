//! What a notice says, from the line, its call and the calls before.

use ::domain::messages::capital_calls::{
    CallLine, CallNotice, CapitalCall, Commitment, FeeCalculation, LinePurpose, NoticeTotals, NoticeTransaction, Purpose, PurposeKind,
};
use ::domain::{Amount, Currency};

use super::FundCopy;

fn transaction(part: &LinePurpose, currency: Currency) -> NoticeTransaction {
    NoticeTransaction {
        kind: part.kind,
        allocation_id: part.allocation_id,
        amount: part.amount,
        inside_commitment: part.inside_commitment,
        impact_on_unfunded: part.impact_on_unfunded() + currency.zero(),
    }
}

/// What a call does to what all have unfunded.
fn impact(call: &CapitalCall) -> Amount {
    let of = |purpose: &Purpose| match (purpose.kind, purpose.inside_commitment) {
        (PurposeKind::RecallableReturn, _) => purpose.amount,
        (_, true) => -purpose.amount,
        (_, false) => Amount::ZERO,
    };
    call.purposes.iter().map(of).sum()
}

fn totals(currency: Currency, commitment: Amount, before: (Amount, Amount), this: (Amount, Amount)) -> NoticeTotals {
    let zero = currency.zero();
    let ((called_before, impact_before), (called, impact)) = (before, this);
    NoticeTotals {
        commitment: commitment + zero,
        called_before: called_before + zero,
        unfunded_before: commitment + impact_before + zero,
        called: called + zero,
        impact_on_unfunded: impact + zero,
        called_after: called_before + called + zero,
        unfunded_after: commitment + impact_before + impact + zero,
    }
}

/// What a notice is made of.
#[derive(Clone, Copy, Debug)]
pub struct NoticeParts<'a> {
    /// The line, and its call.
    pub line: &'a CallLine,
    /// See [`NoticeParts::line`].
    pub call: &'a CapitalCall,
    /// Calls of the fund that were issued before and are in force.
    pub earlier_calls: &'a [CapitalCall],
    /// The investor's lines of them, and those that it had in this call before.
    pub earlier_lines: &'a [CallLine],
    /// The investor's commitment.
    pub commitment: &'a Commitment,
    /// What all have promised.
    pub committed: Amount,
    /// The fund.
    pub fund: &'a FundCopy,
    /// Name of the investor.
    pub investor_name: &'a str,
}

/// The notice of a line.
pub fn notice(parts: NoticeParts<'_>) -> CallNotice {
    let NoticeParts { line, call, earlier_calls, earlier_lines, commitment, committed, fund, investor_name } = parts;
    let currency = line.currency;
    let of_calls = (earlier_calls.iter().map(|call| call.amount).sum(), earlier_calls.iter().map(impact).sum());
    let of_lines =
        (earlier_lines.iter().map(|line| line.amount).sum(), earlier_lines.iter().map(|line| line.impact_on_unfunded).sum::<Amount>());
    let called: Vec<&LinePurpose> = line.purposes.iter().filter(|part| part.amount != currency.zero()).collect();
    let is_fee = |part: &&&LinePurpose| matches!(part.kind, PurposeKind::ManagementFee | PurposeKind::Expenses);
    let is_of = |purpose: &Purpose, part: &LinePurpose| (purpose.kind, purpose.inside_commitment) == (part.kind, part.inside_commitment);
    let fee = |part: &&LinePurpose| FeeCalculation {
        kind: part.kind,
        fund_amount: call.purposes.iter().filter(|purpose| is_of(purpose, part)).map(|purpose| purpose.amount).sum::<Amount>(),
        commitment_percent: commitment.amount.percent(committed),
        amount: part.amount,
        inside_commitment: part.inside_commitment,
    };
    CallNotice {
        format: "ILPA-style capital call notice".into(),
        line_id: line.id,
        line_version: line.version,
        call_id: call.id,
        amendment: line.amendment,
        fund_id: line.fund_id,
        fund_name: fund.name.clone(),
        investor_id: line.investor_id,
        investor_name: investor_name.to_owned(),
        currency,
        issued_on: line.issued_on,
        due_on: line.due_on,
        wire_reference: line.reference.clone(),
        instructions: line.instructions.clone(),
        instructions_superseded: line.instructions.is_some() && line.instructions != fund.instructions,
        amount: line.amount,
        fund_totals: totals(currency, committed, of_calls, (call.amount, impact(call))),
        investor_totals: totals(
            currency,
            commitment.amount - commitment.drawn_transferred,
            of_lines,
            (line.amount, line.impact_on_unfunded),
        ),
        transactions: called.iter().map(|part| transaction(part, currency)).collect(),
        fees: called.iter().filter(is_fee).map(fee).collect(),
    }
}
