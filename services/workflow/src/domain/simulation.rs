//! What rules would have said of what was asked for.

use std::cmp::Ordering;
use std::collections::HashMap;

use ::domain::messages::workflow::{Difference, Simulation, SubjectKind, Verdict};
use ::domain::rules::concentration::limit;
use ::domain::rules::{ApprovalTier, Concentration, RuleBook, Rules};
use ::domain::{Currency, Reason, Rejection};
use chrono::{DateTime, Datelike, Duration, Utc};
use uuid::Uuid;

use super::Subject;

/// Most requests that are looked at: a large firm's year, answered within seconds.
pub const PAST_REQUESTS_MAX: i64 = 20_000;
/// Most differences that a change keeps: it stays a small event.
pub const DIFFERENCES_KEPT: usize = 25;
/// Most differences that are shown to whoever asks without a change.
pub const DIFFERENCES_SHOWN: usize = 1_000;
/// How far back is looked where nothing is said, and at most.
const DAYS: i64 = 366;
/// How far back anything may lie: no firm's record is older.
const YEARS_MAX: i32 = 100;

/// A request that was made.
#[derive(Clone, Debug)]
pub struct PastRequest {
    /// What kind of request.
    pub kind: SubjectKind,
    /// Id of the allocation, call or refund.
    pub subject_id: Uuid,
    /// The fund.
    pub fund_id: Uuid,
    /// Who asked.
    pub requested_by: String,
    /// When it was asked for.
    pub asked_at: DateTime<Utc>,
    /// Currency of its amount.
    pub currency: Currency,
    /// What the workflow kept of it.
    pub subject: Subject,
    /// Allocations of its deal that came before it, and did not fail.
    pub of_deal_before: i64,
}

/// The time that is looked at.
///
/// # Errors
/// `implausible_date` where it is empty, longer than a year, not past or too long ago.
pub fn time_looked_at(
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(DateTime<Utc>, DateTime<Utc>), Rejection> {
    let until = until.unwrap_or(now);
    let refuse = || Reason::ImplausibleDate.with(format!("until {until} is not within the last {YEARS_MAX} years"));
    if until > now || until.year() < now.year() - YEARS_MAX {
        return Err(refuse());
    }
    let longest = Duration::days(DAYS);
    let from = from.unwrap_or(until - longest);
    if from >= until || until.signed_duration_since(from) > longest {
        return Err(Reason::ImplausibleDate.with(format!("from {from} until {until} is no time of at most {DAYS} days")));
    }
    Ok((from, until))
}

/// Whether an allocation took its sector above the limit.
fn is_above_limit(rules: &Rules, concentration: &Concentration) -> bool {
    limit(&rules.sector_percents_max, &concentration.sector).is_some_and(|percent| concentration.sector_percent > *percent)
}

/// What rules say of a request.
pub fn verdict(rules: &Result<Rules, Rejection>, request: &PastRequest) -> Verdict {
    let refused = |code| Verdict::Refused { code };
    let asks = |tier: Option<&ApprovalTier>| match tier {
        Some(tier) => {
            Verdict::NeedsApproval { votes: tier.votes_in_all(), roles: tier.groups().map(|(role, _)| role.to_owned()).collect() }
        }
        None => Verdict::Passes,
    };
    let (rules, amount) = match rules {
        Ok(rules) => (rules, request.subject.amount),
        Err(rejection) => return refused(rejection.reason),
    };
    let concentration = request.subject.concentration.as_ref();
    let notice = rules.notice_business_days.of(request.subject.priority);
    let facts = request.subject.facts(request.kind, &request.requested_by);
    let mut conditions = rules.steps(request.kind).iter().filter_map(|step| rules.predicates.get(step.predicate.as_ref()?));
    match request.kind {
        SubjectKind::Allocation if amount < rules.allocation_min => refused(Reason::AmountBelowMinimum),
        SubjectKind::Allocation if amount > rules.allocation_max => refused(Reason::AmountAboveMaximum),
        SubjectKind::Allocation if request.of_deal_before >= i64::from(rules.allocations_per_deal_max) => {
            refused(Reason::TooManyAllocations)
        }
        SubjectKind::Allocation if concentration.is_some_and(|of| of.deal_percent > rules.deal_percent_max) => {
            refused(Reason::DealConcentration)
        }
        SubjectKind::Allocation if concentration.is_some_and(|of| is_above_limit(rules, of)) => refused(Reason::SectorConcentration),
        SubjectKind::CapitalCall if request.subject.notice_days.is_some_and(|days| days < notice) => refused(Reason::NoticeTooShort),
        _ if conditions.any(|condition| facts.as_ref().is_none_or(|facts| !condition.holds(facts))) => refused(Reason::PredicateRefused),
        kind => asks(rules.tier(kind, request.subject.priority, amount)),
    }
}

/// Compares what two books say of requests.
pub fn simulate(
    before: &RuleBook,
    after: &RuleBook,
    requests: &[PastRequest],
    (from, until): (DateTime<Utc>, DateTime<Utc>),
    (at, shown): (DateTime<Utc>, usize),
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
        other_roles: 0,
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
            (now, then) => match votes(then).cmp(&votes(now)) {
                Ordering::Greater => &mut simulation.more_votes,
                Ordering::Less => &mut simulation.fewer_votes,
                Ordering::Equal => &mut simulation.other_roles,
            },
        };
        *count += 1;
        if simulation.differences.len() < shown {
            simulation.differences.push(Difference {
                subject_kind: request.kind,
                subject_id: request.subject_id,
                fund_id: request.fund_id,
                asked_at: request.asked_at,
                amount: request.subject.amount,
                currency: request.currency,
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
    use ::domain::money::Ratio;
    use ::domain::rules::{RuleLayer, RuleScope};
    use ::domain::{Amount, Currency};

    use super::*;

    fn usd(units: i128) -> Amount {
        "USD".parse::<Currency>().unwrap().from_minor(units * 100)
    }

    fn request(kind: SubjectKind, units: i128, of_deal_before: i64) -> PastRequest {
        let subject = Subject::of("buyout", usd(units), "USD".parse().ok(), "");
        PastRequest {
            kind,
            subject_id: Uuid::nil(),
            fund_id: Uuid::from_u128(1),
            requested_by: "mia".into(),
            asked_at: DateTime::UNIX_EPOCH,
            currency: "USD".parse().unwrap(),
            subject,
            of_deal_before,
        }
    }

    #[test]
    fn requests_are_counted_by_what_would_be_said_of_them() {
        let before = RuleBook::new("staging");
        let tier = |units, votes| ApprovalTier::of(usd(units), votes, "committee");
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
        let found = simulate(&before, &after, &requests, time, (DateTime::UNIX_EPOCH, DIFFERENCES_KEPT));
        let counts = (found.looked_at, found.newly_refused, found.no_longer_refused, found.more_votes, found.fewer_votes);
        assert_eq!(counts, (10, 2, 1, 2, 2));
        assert_eq!(found.differences.len(), 7);
        assert_eq!(found.differences[0].after, Verdict::Refused { code: Reason::AmountBelowMinimum });
        let none = simulate(&before, &before, &requests, time, (DateTime::UNIX_EPOCH, DIFFERENCES_KEPT));
        assert_eq!((none.looked_at, none.differences.len()), (10, 0));
    }

    #[test]
    fn notice_and_concentration_of_what_was_asked_for_are_looked_at() {
        let percent = |text: &str| Ratio(text.parse().unwrap());
        let notice = ::domain::rules::NoticeDays { normal: 10, high: 5, urgent: 0 };
        let rules = RuleLayer {
            notice_business_days: Some(notice),
            deal_percent_max: Some(percent("10")),
            sector_percents_max: Some([("software".to_owned(), percent("20"))].into()),
            ..RuleLayer::default()
        };
        let rules = rules.complete();
        let allocation = |deal: &str, sector: &str, of_sector: &str| {
            let mut request = request(SubjectKind::Allocation, 5_000, 0);
            request.subject.concentration =
                Some(Concentration { deal_percent: percent(deal), sector: sector.into(), sector_percent: percent(of_sector) });
            verdict(&rules, &request)
        };
        assert_eq!(allocation("10", "software", "20"), Verdict::Passes);
        assert_eq!(allocation("10.0001", "software", "20"), Verdict::Refused { code: Reason::DealConcentration });
        assert_eq!(allocation("1", "software", "20.5"), Verdict::Refused { code: Reason::SectorConcentration });
        assert_eq!(allocation("1", "timber", "80"), Verdict::Passes);
        let call = |days, priority| {
            let mut request = request(SubjectKind::CapitalCall, 5_000, 0);
            (request.subject.notice_days, request.subject.priority) = (days, priority);
            verdict(&rules, &request)
        };
        use ::domain::messages::capital_calls::Priority::{High, Normal};
        assert_eq!(call(Some(10), Normal), Verdict::Passes);
        assert_eq!(call(Some(9), Normal), Verdict::Refused { code: Reason::NoticeTooShort });
        assert_eq!(call(Some(9), High), Verdict::Passes);
        assert_eq!(call(None, Normal), Verdict::Passes, "it is not known of those before");
    }

    #[test]
    fn a_time_is_a_year_at_most_and_past() {
        let now = DateTime::UNIX_EPOCH + Duration::days(5_000);
        assert_eq!(time_looked_at(None, None, now).unwrap(), (now - Duration::days(DAYS), now));
        let days = |days| Some(now + Duration::days(days));
        for (from, until) in [
            (days(0), None),
            (days(-DAYS - 1), None),
            (days(0), days(-1)),
            (None, days(1)),
            (None, Some(DateTime::<Utc>::MIN_UTC)),
            (Some(DateTime::<Utc>::MIN_UTC), None),
            (None, Some(DateTime::<Utc>::MAX_UTC)),
        ] {
            assert_eq!(time_looked_at(from, until, now).unwrap_err().reason, Reason::ImplausibleDate);
        }
    }
}
