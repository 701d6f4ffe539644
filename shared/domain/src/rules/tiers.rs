//! Approval tiers: who must agree to what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::messages::capital_calls::Priority;
use crate::messages::workflow::SubjectKind;
use crate::money::Amount;
use crate::rejection::{Reason, Rejection};

/// Most approval tiers of a layer.
const TIERS_MAX: usize = 20;
/// Most votes that a tier may ask for.
pub(super) const VOTES_MAX: u16 = 20;
/// Longest time that a tier may wait: a quarter of a year.
const HOURS_MAX: u16 = 2_200;
/// The roles whose holders may vote: all that deal with single funds' business but those who only prepare, keep or audit it.
const VOTING_ROLES: [&str; 3] = ["committee", "fund_manager", "treasurer"];

/// From this amount on, so many people of these roles must approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalTier {
    /// Smallest amount of the tier, in the fund's currency.
    pub from_amount: Amount,
    /// Number of approving votes that are needed.
    pub votes: u16,
    /// The role that may vote: `committee`, `fund_manager` or `treasurer`.
    pub role: String,
    /// Further groups whose votes are needed as well. A person has one vote, in one group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<ApprovalGroup>,
    /// Whether a group votes only once those before it have agreed; else all vote at any time.
    #[serde(default)]
    pub in_sequence: bool,
    /// Votes against it that end it.
    #[serde(default = "one")]
    pub denials: u16,
    /// The kinds of requests that it is for; none for all but withdrawals, which the rules have decided
    /// already, and bank details, which have no amount. Changes of rules have votes of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<SubjectKind>,
    /// The priorities that it is for; none for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<Priority>,
    /// Hours after which an event says, once, that votes are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind_after_hours: Option<u16>,
    /// Hours after which the next higher tier is asked instead, where there is one; votes that were cast count there for groups of their roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_after_hours: Option<u16>,
    /// Hours after which the request is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_after_hours: Option<u16>,
}

const fn one() -> u16 {
    1
}

/// So many people of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalGroup {
    /// Number of approving votes that are needed.
    pub votes: u16,
    /// The role that may vote.
    pub role: String,
}

impl ApprovalTier {
    /// A tier of one group.
    pub fn of(from_amount: Amount, votes: u16, role: &str) -> ApprovalTier {
        let role = role.to_owned();
        ApprovalTier {
            from_amount,
            votes,
            role,
            then: vec![],
            in_sequence: false,
            denials: 1,
            kinds: vec![],
            priorities: vec![],
            remind_after_hours: None,
            escalate_after_hours: None,
            expire_after_hours: None,
        }
    }

    /// Its groups, in the order in which they vote: role and votes.
    pub fn groups(&self) -> impl Iterator<Item = (&str, u16)> {
        [(self.role.as_str(), self.votes)].into_iter().chain(self.then.iter().map(|group| (group.role.as_str(), group.votes)))
    }

    /// All approving votes that are needed.
    pub fn votes_in_all(&self) -> u16 {
        self.groups().map(|(_, votes)| votes).sum()
    }

    fn is_for(&self, kind: SubjectKind, priority: Priority) -> bool {
        self.is_for_kind(kind) && (self.priorities.is_empty() || self.priorities.contains(&priority))
    }

    fn is_for_kind(&self, kind: SubjectKind) -> bool {
        let needs_naming = matches!(kind, SubjectKind::Withdrawal | SubjectKind::BankDetails | SubjectKind::RuleChange);
        if self.kinds.is_empty() { !needs_naming } else { self.kinds.contains(&kind) }
    }

    /// Whether there is a request that both are for.
    fn overlaps(&self, other: &ApprovalTier) -> bool {
        fn share<T: PartialEq>(one: &[T], other: &[T]) -> bool {
            one.is_empty() || other.is_empty() || one.iter().any(|value| other.contains(value))
        }
        let kinds =
            [SubjectKind::Allocation, SubjectKind::CapitalCall, SubjectKind::Refund, SubjectKind::Withdrawal, SubjectKind::BankDetails];
        let share_a_kind = kinds.into_iter().any(|kind| self.is_for_kind(kind) && other.is_for_kind(kind));
        self.from_amount == other.from_amount && share_a_kind && share(&self.priorities, &other.priorities)
    }
}

/// The tier for a request with the highest amount that it reaches.
pub(super) fn highest(tiers: &[ApprovalTier], kind: SubjectKind, priority: Priority, amount: Amount) -> Option<&ApprovalTier> {
    tiers.iter().filter(|tier| amount >= tier.from_amount && tier.is_for(kind, priority)).max_by_key(|tier| tier.from_amount)
}

/// The tiers for a request that are above one, the lowest first.
pub(super) fn above(tiers: &[ApprovalTier], kind: SubjectKind, priority: Priority, amount: Amount) -> Vec<ApprovalTier> {
    let mut above: Vec<ApprovalTier> =
        tiers.iter().filter(|tier| tier.from_amount > amount && tier.is_for(kind, priority)).cloned().collect();
    above.sort_by_key(|tier| tier.from_amount);
    above
}

/// Refuses tiers that nobody can satisfy, or of which two hold for one request.
pub(super) fn check(field: &str, tiers: &[ApprovalTier]) -> Result<(), Rejection> {
    let refuse = |why: String| Err(Reason::InvalidRules.with(format!("{field}: {why}")));
    if tiers.len() > TIERS_MAX {
        return refuse(format!("more than {TIERS_MAX} tiers"));
    }
    for (place, tier) in tiers.iter().enumerate() {
        let from = tier.from_amount;
        if tier.kinds.contains(&SubjectKind::RuleChange) {
            return refuse("who votes on changes of rules is what rule_votes says".into());
        }
        if tier.groups().any(|(role, votes)| votes == 0 || !VOTING_ROLES.contains(&role)) {
            return refuse(format!("the tier from {from} needs 1 to {VOTES_MAX} votes, of the roles {}", VOTING_ROLES.join(", ")));
        }
        if tier.then.len() >= VOTING_ROLES.len() || u32::from(VOTES_MAX) < tier.groups().map(|(_, votes)| u32::from(votes)).sum() {
            return refuse(format!("the tier from {from} needs more than {VOTES_MAX} votes, or has more groups than there are roles"));
        }
        let mut roles: Vec<&str> = tier.groups().map(|(role, _)| role).collect();
        roles.sort_unstable();
        roles.dedup();
        if roles.len() <= tier.then.len() {
            return refuse(format!("the tier from {from} names a role twice"));
        }
        if tier.denials == 0 || tier.denials > VOTES_MAX {
            return refuse(format!("the tier from {from} is ended by 1 to {VOTES_MAX} denials"));
        }
        let hours = [tier.remind_after_hours, tier.escalate_after_hours, tier.expire_after_hours];
        if hours.into_iter().flatten().any(|hours| !(1..=HOURS_MAX).contains(&hours)) {
            return refuse(format!("the tier from {from} reminds, escalates or expires after 1 to {HOURS_MAX} hours"));
        }
        let before_it_expires = |hours: Option<u16>| hours.zip(tier.expire_after_hours).is_none_or(|(hours, expires)| hours < expires);
        if !before_it_expires(tier.remind_after_hours) || !before_it_expires(tier.escalate_after_hours) {
            return refuse(format!("the tier from {from} expires before it reminds or escalates"));
        }
        if tiers[..place].iter().any(|other| other.overlaps(tier)) {
            return refuse(format!("two tiers from {from} hold for the same requests"));
        }
    }
    Ok(())
}
