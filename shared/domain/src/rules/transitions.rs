//! The transitions between states that a firm may close.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DealWithdrawn, WhenWithdrawn};
use crate::rejection::{Reason, Rejection};

/// What a person may have happen to something, and a firm may rule out. What has happened, as a payment that bounced, is recorded always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// An allocation in force is taken back.
    AllocationWithdrawn,
    /// What a call says is changed before its issue.
    CallRevised,
    /// A call, or an amendment of one, is given up before it is in force.
    CallCancelled,
    /// An issued call is changed.
    CallAmended,
    /// An issued call is taken back.
    CallRescinded,
    /// A later closing is held.
    ClosingHeld,
    /// A commitment grows.
    CommitmentIncreased,
    /// A commitment shrinks.
    CommitmentReduced,
    /// What is unfunded of a commitment is promised no more.
    CommitmentReleased,
    /// A commitment passes to another investor.
    CommitmentTransferred,
    /// An investor pays no part of an allocation.
    InvestorExcused,
    /// An investor is told that it has failed to pay.
    FailureNoticed,
    /// A default is declared.
    DefaultDeclared,
    /// A remedy: the interest is forfeited.
    DefaultForfeited,
    /// A remedy: the interest is sold.
    DefaultSold,
    /// A remedy: what the fund owes the investor pays the line.
    DefaultSetOff,
    /// A default is forgiven.
    DefaultReinstated,
    /// Others pay for an investor in default.
    ShortfallCovered,
    /// A payment in suspense is counted.
    PaymentReleased,
    /// Credit pays another line.
    CreditUsed,
    /// Credit is paid back.
    RefundRequested,
}

use Transition as T;

/// The states that these transitions lead from and to; where there is none, it happens by itself or cannot be closed. Each kind of thing
/// begins in the first state that stands here of it.
const STATES: [(&str, &str, &str, Option<Transition>); 30] = [
    ("allocation", "pending", "active", None),
    ("allocation", "active", "withdrawn", Some(T::AllocationWithdrawn)),
    ("capital_call", "draft", "pending", None),
    ("capital_call", "draft", "draft", Some(T::CallRevised)),
    ("capital_call", "draft", "cancelled", Some(T::CallCancelled)),
    ("capital_call", "pending", "issued", None),
    ("capital_call", "issued", "issued", Some(T::CallAmended)),
    ("capital_call", "issued", "rescinded", Some(T::CallRescinded)),
    ("commitment", "none", "active", None),
    ("commitment", "active", "active", Some(T::ClosingHeld)),
    ("commitment", "active", "active", Some(T::CommitmentIncreased)),
    ("commitment", "active", "active", Some(T::CommitmentReduced)),
    ("commitment", "active", "released", Some(T::CommitmentReleased)),
    ("commitment", "active", "transferred", Some(T::CommitmentTransferred)),
    ("commitment", "active", "excused", Some(T::InvestorExcused)),
    ("call_line", "open", "overdue", None),
    ("call_line", "overdue", "paid", None),
    ("call_line", "overdue", "default_noticed", Some(T::FailureNoticed)),
    ("call_line", "default_noticed", "paid", None),
    ("call_line", "default_noticed", "defaulted", Some(T::DefaultDeclared)),
    ("call_line", "defaulted", "forfeited", Some(T::DefaultForfeited)),
    ("call_line", "defaulted", "sold", Some(T::DefaultSold)),
    ("call_line", "defaulted", "paid", Some(T::DefaultSetOff)),
    ("call_line", "defaulted", "overdue", Some(T::DefaultReinstated)),
    ("call_line", "defaulted", "covered_by_others", Some(T::ShortfallCovered)),
    ("payment", "booked", "suspense", None),
    ("payment", "suspense", "applied", Some(T::PaymentReleased)),
    ("payment", "booked", "credit", None),
    ("payment", "credit", "applied", Some(T::CreditUsed)),
    ("payment", "credit", "refunded", Some(T::RefundRequested)),
];

/// Refuses closed transitions that leave others open which can then never happen.
pub(super) fn check(closed: &[Transition]) -> Result<(), Rejection> {
    let is_open = |transition: Option<Transition>| transition.is_none_or(|transition| !closed.contains(&transition));
    for (kind, _, _, transition) in STATES {
        let Some(open) = transition.filter(|transition| is_open(Some(*transition))) else { continue };
        let of_kind = || STATES.iter().filter(|(other, ..)| *other == kind);
        let mut reached: Vec<&str> = of_kind().map(|(_, from, ..)| *from).take(1).collect();
        // a round for each state at most: each reaches another one, or none does
        for _ in 0..STATES.len() {
            let next = of_kind().find(|(_, from, to, by)| reached.contains(from) && !reached.contains(to) && is_open(*by));
            match next {
                Some((_, _, to, _)) => reached.push(to),
                None => break,
            }
        }
        if !of_kind().any(|(_, from, _, by)| *by == Some(open) && reached.contains(from)) {
            let from: Vec<&str> = of_kind().filter(|(_, _, _, by)| *by == Some(open)).map(|(_, from, ..)| *from).collect();
            return Err(Reason::InvalidRules.with(format!(
                "transitions_closed: {} stays open, and no {kind} can be {} any more; close it, too",
                name(open),
                from.join(" or ")
            )));
        }
    }
    Ok(())
}

/// Refuses rules by which a deal that is withdrawn does what is closed.
pub(super) fn check_with(closed: &[Transition], deal: DealWithdrawn) -> Result<(), Rejection> {
    let contradicts = |transition: Transition| {
        Err(Reason::InvalidRules.with(format!("deal_withdrawn.active: {} is in transitions_closed", name(transition))))
    };
    match deal.active {
        WhenWithdrawn::Cancel | WhenWithdrawn::Rescind if closed.contains(&T::AllocationWithdrawn) => contradicts(T::AllocationWithdrawn),
        WhenWithdrawn::Rescind if closed.contains(&T::CallRescinded) => contradicts(T::CallRescinded),
        _ => Ok(()),
    }
}

/// The name on the wire.
pub(super) fn name(transition: Transition) -> String {
    serde_json::to_value(transition).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_happen_must_be_closed_too() {
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[T::CallRescinded, T::CommitmentReduced, T::RefundRequested, T::CreditUsed, T::PaymentReleased]), Ok(()));
        let why = check(&[T::FailureNoticed]).unwrap_err().detail;
        assert!(why.contains("default_declared stays open, and no call_line can be default_noticed"), "{why}");
        let why = check(&[T::FailureNoticed, T::DefaultDeclared]).unwrap_err().detail;
        assert!(why.contains("default_forfeited stays open, and no call_line can be defaulted"), "{why}");
        let all_of_default = [
            T::FailureNoticed,
            T::DefaultDeclared,
            T::DefaultForfeited,
            T::DefaultSold,
            T::DefaultSetOff,
            T::DefaultReinstated,
            T::ShortfallCovered,
        ];
        assert_eq!(check(&all_of_default), Ok(()));
        let rescinds = DealWithdrawn { pending: WhenWithdrawn::Cancel, active: WhenWithdrawn::Rescind };
        assert!(check_with(&[T::CallRescinded], rescinds).is_err());
        assert!(check_with(&[T::AllocationWithdrawn], rescinds).is_err());
        assert_eq!(check_with(&[T::CallRescinded], DealWithdrawn { active: WhenWithdrawn::Cancel, ..rescinds }), Ok(()));
    }
}
