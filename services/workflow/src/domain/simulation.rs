//! What rules would have said of what was asked for.

use std::collections::HashMap;

use ::domain::messages::workflow::{Difference, Simulation, SubjectKind, Verdict};
use ::domain::rules::{ApprovalTier, RuleBook, Rules};
use ::domain::{Reason, Rejection};
use chrono::{DateTime, Duration, Utc};
use uuid::Uuid;

use super::Subject;

/// Most requests that are looked at.
pub const PAST_REQUESTS_MAX: i64 = 200_000;
/// Most differences that are shown.
const DIFFERENCES_MAX: usize = 100;
/// How far back is looked where nothing is said, and at most.
const DAYS: i64 = 366;

/// A request that was made.
#[derive(Clone, Debug)]
pub struct PastRequest {
    /// What for.
    pub kind: SubjectKind,
    /// Id of the allocation, call or refund.
    pub subject_id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// When.
    pub asked_at: DateTime<Utc>,
    /// What the workflow kept of it.
    pub subject: Subject,
    /// Allocations of its deal that came before it, and did not fail.
    pub of_deal_before: i64,
}

/// The time that is looked at.
///
/// # Errors
/// `implausible_date` where it is empty, or longer than a year.
pub fn past(
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(DateTime<Utc>, DateTime<Utc>), Rejection> {
    let until = until.unwrap_or(now);
    let from = from.unwrap_or(until - Duration::days(DAYS));
    if from >= until || until - from > Duration::days(DAYS) {
        return Err(Reason::ImplausibleDate.with(format!("from {from} until {until} is no time of at most {DAYS} days")));
    }
    Ok((from, until))
}

/// What rules say of a request.
pub fn verdict(rules: &Result<Rules, Rejection>, request: &PastRequest) -> Verdict {
    let refused = |code| Verdict::Refused { code };
    let asks = |tier: Option<&ApprovalTier>| match tier {
        Some(tier) => Verdict::NeedsApproval { votes: tier.votes, role: tier.role.clone() },
        None => Verdict::Passes,
    };
    let (rules, amount) = match rules {
        Ok(rules) => (rules, request.subject.amount),
        Err(rejection) => return refused(rejection.reason),
    };
    match request.kind {
        SubjectKind::Allocation if amount < rules.allocation_min => refused(Reason::AmountBelowMinimum),
        SubjectKind::Allocation if amount > rules.allocation_max => refused(Reason::AmountAboveMaximum),
        SubjectKind::Allocation if request.of_deal_before >= i64::from(rules.allocations_per_deal_max) => {
            refused(Reason::TooManyAllocations)
        }
        SubjectKind::Allocation | SubjectKind::CapitalCall => asks(rules.tier(amount)),
        SubjectKind::Refund => asks(rules.refund_tier(amount)),
    }
}

/// Compares what two books say of requests.
pub fn simulate(
    before: &RuleBook,
    after: &RuleBook,
    requests: &[PastRequest],
    (from, until): (DateTime<Utc>, DateTime<Utc>),
    at: DateTime<Utc>,
) -> Simulation {
    let mut simulation = Simulation {
        from,
        until,
        at,
        looked_at: u32::try_from(requests.len()).unwrap_or(u32::MAX),
        newly_refused: 0,
        no_longer_refused: 0,
        more_votes: 0,
        fewer_votes: 0,
        differences: vec![],
    };
    let mut known = HashMap::new();
    for request in requests {
        let of = |book: &RuleBook| book.rules(&request.subject.fund_type, request.fund_id);
        let (now, then) = known.entry((&request.subject.fund_type, request.fund_id)).or_insert_with(|| (of(before), of(after)));
        let (now, then) = (verdict(now, request), verdict(then, request));
        let count = match (&now, &then) {
            (now, then) if now == then => continue,
            // for another reason
            (Verdict::Refused { .. }, Verdict::Refused { .. }) => continue,
            (_, Verdict::Refused { .. }) => &mut simulation.newly_refused,
            (Verdict::Refused { .. }, _) => &mut simulation.no_longer_refused,
            (now, then) if votes(then) > votes(now) => &mut simulation.more_votes,
            _ => &mut simulation.fewer_votes,
        };
        *count += 1;
        if simulation.differences.len() < DIFFERENCES_MAX {
            simulation.differences.push(Difference {
                subject_kind: request.kind,
                subject_id: request.subject_id,
                fund_id: request.fund_id,
                asked_at: request.asked_at,
                amount: request.subject.amount,
                currency: request.subject.currency,
                before: now,
                after: then,
            });
        }
    }
    simulation
}

fn votes(verdict: &Verdict) -> u16 {
    match verdict {
        Verdict::NeedsApproval { votes, .. } => *votes,
        Verdict::Passes | Verdict::Refused { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use ::domain::rules::{RuleLayer, RuleScope};
    use ::domain::{Amount, Currency};

    use super::*;

    fn usd(units: i128) -> Amount {
        "USD".parse::<Currency>().unwrap().from_minor(units * 100)
    }

    fn request(kind: SubjectKind, units: i128, of_deal_before: i64) -> PastRequest {
        let subject = Subject {
            deal_id: None,
            fund_type: "buyout".into(),
            amount: usd(units),
            currency: "USD".parse().unwrap(),
            content_hash: String::new(),
            priority: Default::default(),
            amendment: None,
            authors: vec![],
            asked: 0,
        };
        PastRequest { kind, subject_id: Uuid::nil(), fund_id: Uuid::from_u128(1), asked_at: DateTime::UNIX_EPOCH, subject, of_deal_before }
    }

    #[test]
    fn requests_are_counted_by_what_would_be_said_of_them() {
        let before = RuleBook::new("staging");
        let tier = |units, votes| ApprovalTier { from_amount: usd(units), votes, role: "committee".into() };
        let layer = RuleLayer {
            allocation_min: Some(usd(20_000)),
            allocation_max: Some(usd(200_000_000)),
            allocations_per_deal_max: Some(3),
            approval_tiers: Some(vec![tier(50_000, 1), tier(1_000_000, 3)]),
            refund_tiers: Some(vec![]),
            ..RuleLayer::default()
        };
        let mut after = before.clone();
        after.put(RuleScope::FundType("buyout".into()), 1, layer);
        let (allocation, call, refund) = (SubjectKind::Allocation, SubjectKind::CapitalCall, SubjectKind::Refund);
        let requests = [
            request(allocation, 19_999, 0),      // refused: below the minimum
            request(allocation, 30_000, 3),      // refused: three before it
            request(allocation, 30_000, 2),      // as before
            request(allocation, 150_000_000, 0), // was above the maximum
            request(allocation, 250_000_000, 0), // refused as before
            request(call, 60_000, 0),            // one vote, none before
            request(call, 150_000, 0),           // one vote, two before
            request(call, 2_000_000, 0),         // three votes, two before
            request(call, 10, 0),                // nothing, as before
            request(refund, 10, 0),              // none, one before
        ];
        let time = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + Duration::days(1));
        let found = simulate(&before, &after, &requests, time, DateTime::UNIX_EPOCH);
        let counts = (found.looked_at, found.newly_refused, found.no_longer_refused, found.more_votes, found.fewer_votes);
        assert_eq!(counts, (10, 2, 1, 2, 2));
        assert_eq!(found.differences.len(), 7);
        assert_eq!(found.differences[0].after, Verdict::Refused { code: Reason::AmountBelowMinimum });
        let none = simulate(&before, &before, &requests, time, DateTime::UNIX_EPOCH);
        assert_eq!((none.looked_at, none.differences.len()), (10, 0));
    }

    #[test]
    fn a_time_is_a_year_at_most() {
        let now = DateTime::UNIX_EPOCH + Duration::days(5_000);
        assert_eq!(past(None, None, now).unwrap(), (now - Duration::days(DAYS), now));
        for (from, until) in [(Some(now), None), (Some(now - Duration::days(DAYS + 1)), None), (Some(now), Some(now - Duration::days(1)))] {
            assert_eq!(past(from, until, now).unwrap_err().reason, Reason::ImplausibleDate);
        }
    }
}
