//! The business rules as data: layers that are merged field by field, global first, then the
//! environment, the fund's type and the fund itself.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::calendar::{self, HOLIDAYS_MAX};
use crate::interest;
use crate::messages::capital_calls::{PaymentMethod, Priority};
use crate::messages::workflow::SubjectKind;
use crate::money::{Amount, Ratio};
use crate::predicate::Predicate;
use crate::rejection::{Reason, Rejection};

mod book;
pub mod concentration;
mod deals;
mod investments;
mod steps;
mod tiers;
mod transitions;

pub use book::{RuleBook, RuleOrigin, RuleScope, RulesUsed};
pub use concentration::{Concentration, Percents};
pub use deals::{DealWithdrawn, StageAsked, WhenWithdrawn};
pub use investments::InvestmentType;
pub use steps::{StepDefinition, StepProgram, WhenAbsent, decisive};
pub use tiers::{ApprovalGroup, ApprovalTier};
pub use transitions::Transition;

/// Business days that lie at least between the issue of a call and its due date, by the call's priority (ILPA recommends ten). With 0 for
/// all of them nothing is checked, as when a firm brings its history in: a call may even be due before it is issued, and interest on what
/// is late runs from that date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoticeDays {
    /// Of a normal call.
    pub normal: u16,
    /// Of one with high priority.
    pub high: u16,
    /// Of an urgent one.
    pub urgent: u16,
}

/// Most business days of notice: a quarter of a year.
pub const NOTICE_DAYS_MAX: u16 = 63;

/// Business days until a payment is certain, by its method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the names are those of the methods")]
pub struct ClearingDays {
    pub wire: u16,
    pub ach: u16,
    pub sepa: u16,
    pub check: u16,
    pub internal_transfer: u16,
}

impl NoticeDays {
    /// Those of a priority.
    pub fn of(self, priority: Priority) -> u16 {
        match priority {
            Priority::Normal => self.normal,
            Priority::High => self.high,
            Priority::Urgent => self.urgent,
        }
    }
}

impl ClearingDays {
    /// Those of a method.
    pub fn of(self, method: PaymentMethod) -> u16 {
        match method {
            PaymentMethod::Wire => self.wire,
            PaymentMethod::Ach => self.ach,
            PaymentMethod::Sepa => self.sepa,
            PaymentMethod::Check => self.check,
            PaymentMethod::InternalTransfer => self.internal_transfer,
        }
    }
}

/// Most business days until a payment is certain: a bank may hold a check for as long as it takes to come back from abroad.
pub const CLEARING_DAYS_MAX: u16 = 60;

/// Interest on what is paid late: simple, on principal, actual/365, from the due date to the value date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefaultInterest {
    /// Percent a year; 0 for none.
    pub percent: Ratio,
    /// At most so many percent of what is called.
    pub cap_percent: Ratio,
    /// Whether cash that comes within the days of grace bears none.
    #[serde(default)]
    pub free_in_grace: bool,
}

/// Most business days that an investor may be given to cure a failure to pay: a quarter of a year.
pub const CURE_DAYS_MAX: u16 = 63;
/// Longest cooling-off time of bank details: a month.
const COOLING_OFF_HOURS_MAX: u16 = 720;

/// Most alerts of an hour that a limit is of use for.
const ALERTS_PER_HOUR_MAX: u16 = 1_000;

/// Longest time until a workflow counts as stuck: a quarter of a year.
const STUCK_HOURS_MAX: u16 = 2_200;

/// Which of an investor's open lines cash pays first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationOrder {
    /// The one that is due first.
    #[default]
    OldestDue,
    /// The one that was issued first.
    OldestIssued,
    /// The one with the least outstanding.
    SmallestOutstanding,
}

/// One layer: what is none is taken from the layer below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleLayer {
    /// Smallest allocation, in the fund's currency.
    pub allocation_min: Option<Amount>,
    /// Largest allocation, in the fund's currency.
    pub allocation_max: Option<Amount>,
    /// Most allocations of one deal that are pending or active.
    pub allocations_per_deal_max: Option<u32>,
    /// How much of a fund's size may be in one deal, in percent.
    pub deal_percent_max: Option<Ratio>,
    /// How much of a fund's size may be in deals of one sector, in percent by sector; `*` is for all others.
    pub sector_percents_max: Option<Percents>,
    /// How much investors of one type may have promised, in percent of the fund's size by type; `*` is for all others.
    pub investor_type_percents_max: Option<Percents>,
    /// What people may not have happen, though the states would allow it.
    pub transitions_closed: Option<Vec<Transition>>,
    /// Alerts of one kind that people of a fund get in an hour at most; what is above is told together. 0: all at once.
    pub alerts_per_hour_max: Option<u16>,
    /// Approval tiers; the highest one that an amount reaches applies. An empty list: no approval.
    pub approval_tiers: Option<Vec<ApprovalTier>>,
    /// Days after the due date before a line is overdue.
    pub grace_days: Option<u16>,
    /// Days before the due date on which a reminder is sent.
    pub reminder_days: Option<Vec<u16>>,
    /// Days after the due date on which an unpaid line is escalated.
    pub escalation_days: Option<u16>,
    /// Business days between the issue of a call and its due date.
    pub notice_business_days: Option<NoticeDays>,
    /// Days that are no business days of the fund, besides those of its calendars.
    pub closed_on: Option<Vec<NaiveDate>>,
    /// Approval tiers of refunds. An empty list: no approval.
    pub refund_tiers: Option<Vec<ApprovalTier>>,
    /// People, besides those who wrote it, who must approve a change of these rules. 0: what is put is in force at once.
    pub rule_votes: Option<u16>,
    /// How payments may come.
    pub payment_methods: Option<Vec<PaymentMethod>>,
    /// Business days until a payment is certain.
    pub clearing_business_days: Option<ClearingDays>,
    /// By how much a payment may be short of what is outstanding, for bank charges, in the fund's currency; 0 for none.
    pub short_payment_tolerance: Option<Amount>,
    /// Which of an investor's open lines cash pays first.
    pub application_order: Option<ApplicationOrder>,
    /// Interest on what is paid late; a line keeps that of its issue.
    pub default_interest: Option<DefaultInterest>,
    /// Business days from the notice of a failure to pay to the end of the time in which it can be cured.
    pub cure_business_days: Option<u16>,
    /// What another investor pays for one who has failed is at most so many percent of what it was called itself.
    pub cover_cap_percent: Option<Ratio>,
    /// Hours from the confirmation of bank details to their first use: the time in which a fraud can still be noticed.
    pub cooling_off_hours: Option<u16>,
    /// The steps of an allocation, in order.
    pub allocation_steps: Option<Vec<StepDefinition>>,
    /// The steps of a capital call and of its amendments.
    pub capital_call_steps: Option<Vec<StepDefinition>>,
    /// The steps of a refund.
    pub refund_steps: Option<Vec<StepDefinition>>,
    /// The steps of an allocation that is taken back.
    pub withdrawal_steps: Option<Vec<StepDefinition>>,
    /// The steps of a change of bank details.
    pub bank_details_steps: Option<Vec<StepDefinition>>,
    /// The steps of a change of rules, of whatever scope: the global layer or the environment's says it.
    pub rule_change_steps: Option<Vec<StepDefinition>>,
    /// What becomes of allocations whose deal will not happen.
    pub deal_withdrawn: Option<DealWithdrawn>,
    /// How the deal system is asked to move a deal on.
    pub stage_request: Option<StageAsked>,
    /// The programs that steps may ask, by their names.
    pub programs: Option<BTreeMap<String, StepProgram>>,
    /// The conditions that steps look at, by their names.
    pub predicates: Option<BTreeMap<String, Predicate>>,
    /// The types of investments whose allocations have details, by their names as `security_type`.
    pub investment_types: Option<BTreeMap<String, InvestmentType>>,
    /// Hours in one step after which a workflow that no vote is missing from counts as stuck; 0: never.
    pub stuck_after_hours: Option<u16>,
}

/// The rules in force for one fund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are those of RuleLayer")]
pub struct Rules {
    pub allocation_min: Amount,
    pub allocation_max: Amount,
    pub allocations_per_deal_max: u32,
    pub deal_percent_max: Ratio,
    pub sector_percents_max: Percents,
    pub investor_type_percents_max: Percents,
    pub transitions_closed: Vec<Transition>,
    pub alerts_per_hour_max: u16,
    pub approval_tiers: Vec<ApprovalTier>,
    pub grace_days: u16,
    pub reminder_days: Vec<u16>,
    pub escalation_days: u16,
    pub notice_business_days: NoticeDays,
    pub closed_on: Vec<NaiveDate>,
    pub refund_tiers: Vec<ApprovalTier>,
    pub rule_votes: u16,
    pub payment_methods: Vec<PaymentMethod>,
    pub clearing_business_days: ClearingDays,
    pub short_payment_tolerance: Amount,
    pub application_order: ApplicationOrder,
    pub default_interest: DefaultInterest,
    pub cure_business_days: u16,
    pub cover_cap_percent: Ratio,
    pub cooling_off_hours: u16,
    pub allocation_steps: Vec<StepDefinition>,
    pub capital_call_steps: Vec<StepDefinition>,
    pub refund_steps: Vec<StepDefinition>,
    pub withdrawal_steps: Vec<StepDefinition>,
    pub bank_details_steps: Vec<StepDefinition>,
    pub rule_change_steps: Vec<StepDefinition>,
    pub deal_withdrawn: DealWithdrawn,
    pub stage_request: StageAsked,
    pub programs: BTreeMap<String, StepProgram>,
    pub predicates: BTreeMap<String, Predicate>,
    pub investment_types: BTreeMap<String, InvestmentType>,
    pub stuck_after_hours: u16,
}

/// Where no layer says anything.
const NO_INTEREST: DefaultInterest =
    DefaultInterest { percent: Ratio(Decimal::ZERO), cap_percent: Ratio(Decimal::ZERO), free_in_grace: false };

/// The files that are version 0 of their scopes, by the name of the environment; `global` is below all of them.
const FILES: [(&str, &str); 4] = [
    ("global", include_str!("../../../deploy/rules/global.yaml")),
    ("development", include_str!("../../../deploy/rules/development.yaml")),
    ("staging", include_str!("../../../deploy/rules/staging.yaml")),
    ("production", include_str!("../../../deploy/rules/production.yaml")),
];

static FIRST: LazyLock<BTreeMap<&str, RuleLayer>> = LazyLock::new(|| {
    // a test reads them strictly
    FILES.into_iter().map(|(name, text)| (name, serde_saphyr::from_str(text).unwrap_or_default())).collect()
});

/// The environments that have a file in `deploy/rules`.
fn environments() -> impl Iterator<Item = &'static str> {
    FILES.into_iter().map(|(name, _)| name).filter(|name| *name != "global")
}

/// The layer that stands below all: what `deploy/rules/global.yaml` says.
pub fn built_in() -> RuleLayer {
    built_in_environment("global")
}

/// The first layer of an environment: what its file in `deploy/rules` says.
pub fn built_in_environment(environment: &str) -> RuleLayer {
    FIRST.get(environment).cloned().unwrap_or_default()
}

impl RuleLayer {
    /// This layer with `above` laid over it.
    pub fn with(mut self, above: &RuleLayer) -> RuleLayer {
        fn over<T: Clone>(below: &mut Option<T>, above: &Option<T>) {
            if above.is_some() {
                below.clone_from(above);
            }
        }
        over(&mut self.allocation_min, &above.allocation_min);
        over(&mut self.allocation_max, &above.allocation_max);
        over(&mut self.allocations_per_deal_max, &above.allocations_per_deal_max);
        over(&mut self.deal_percent_max, &above.deal_percent_max);
        over(&mut self.sector_percents_max, &above.sector_percents_max);
        over(&mut self.investor_type_percents_max, &above.investor_type_percents_max);
        over(&mut self.transitions_closed, &above.transitions_closed);
        over(&mut self.alerts_per_hour_max, &above.alerts_per_hour_max);
        over(&mut self.approval_tiers, &above.approval_tiers);
        over(&mut self.grace_days, &above.grace_days);
        over(&mut self.reminder_days, &above.reminder_days);
        over(&mut self.escalation_days, &above.escalation_days);
        over(&mut self.notice_business_days, &above.notice_business_days);
        over(&mut self.closed_on, &above.closed_on);
        over(&mut self.refund_tiers, &above.refund_tiers);
        over(&mut self.rule_votes, &above.rule_votes);
        over(&mut self.payment_methods, &above.payment_methods);
        over(&mut self.clearing_business_days, &above.clearing_business_days);
        over(&mut self.short_payment_tolerance, &above.short_payment_tolerance);
        over(&mut self.application_order, &above.application_order);
        over(&mut self.default_interest, &above.default_interest);
        over(&mut self.cure_business_days, &above.cure_business_days);
        over(&mut self.cover_cap_percent, &above.cover_cap_percent);
        over(&mut self.cooling_off_hours, &above.cooling_off_hours);
        over(&mut self.allocation_steps, &above.allocation_steps);
        over(&mut self.capital_call_steps, &above.capital_call_steps);
        over(&mut self.refund_steps, &above.refund_steps);
        over(&mut self.withdrawal_steps, &above.withdrawal_steps);
        over(&mut self.bank_details_steps, &above.bank_details_steps);
        over(&mut self.rule_change_steps, &above.rule_change_steps);
        over(&mut self.deal_withdrawn, &above.deal_withdrawn);
        over(&mut self.stage_request, &above.stage_request);
        over(&mut self.programs, &above.programs);
        over(&mut self.predicates, &above.predicates);
        over(&mut self.investment_types, &above.investment_types);
        over(&mut self.stuck_after_hours, &above.stuck_after_hours);
        self
    }

    /// Refuses values that cannot be meant, whatever the other layers say.
    pub fn check(&self) -> Result<(), Rejection> {
        let refuse = |why: String| Err(Reason::InvalidRules.with(why));
        for (field, amount) in [("allocation_min", self.allocation_min), ("allocation_max", self.allocation_max)] {
            if amount.is_some_and(|amount| !amount.is_positive()) {
                return refuse(format!("{field} is not above zero"));
            }
        }
        if self.allocations_per_deal_max == Some(0) {
            return refuse("allocations_per_deal_max is zero".into());
        }
        if let Some(percent) = self.deal_percent_max {
            interest::check_rate("deal_percent_max", percent)?;
            if percent.0.is_zero() {
                return refuse("deal_percent_max is zero: nothing could be allocated".into());
            }
        }
        if self.payment_methods.as_ref().is_some_and(Vec::is_empty) {
            return refuse("payment_methods is empty: nothing could be paid".into());
        }
        for (field, percents) in
            [("sector_percents_max", &self.sector_percents_max), ("investor_type_percents_max", &self.investor_type_percents_max)]
        {
            percents.as_ref().map_or(Ok(()), |percents| concentration::check(field, percents))?;
        }
        transitions::check(self.transitions_closed.as_deref().unwrap_or_default())?;
        if self.alerts_per_hour_max.is_some_and(|alerts| alerts > ALERTS_PER_HOUR_MAX) {
            return refuse(format!("alerts_per_hour_max is above {ALERTS_PER_HOUR_MAX}"));
        }
        for (field, tiers) in [("approval_tiers", &self.approval_tiers), ("refund_tiers", &self.refund_tiers)] {
            tiers::check(field, tiers.as_deref().unwrap_or_default())?;
        }
        if self.rule_votes.is_some_and(|votes| votes > tiers::VOTES_MAX) {
            return refuse(format!("rule_votes is above {}", tiers::VOTES_MAX));
        }
        if self.reminder_days.as_ref().is_some_and(|days| days.len() > 10 || days.contains(&0)) {
            return refuse("reminder_days has more than 10 entries or a zero".into());
        }
        if let Some(NoticeDays { normal, high, urgent }) = self.notice_business_days
            && (normal.max(high).max(urgent) > NOTICE_DAYS_MAX || normal < high || high < urgent)
        {
            return refuse(format!("notice_business_days has more than {NOTICE_DAYS_MAX} days, or more for a higher priority"));
        }
        if let Some(ClearingDays { wire, ach, sepa, check, internal_transfer }) = self.clearing_business_days
            && [wire, ach, sepa, check, internal_transfer].into_iter().any(|days| days > CLEARING_DAYS_MAX)
        {
            return refuse(format!("clearing_business_days has more than {CLEARING_DAYS_MAX} days"));
        }
        if let Some(DefaultInterest { percent, cap_percent, .. }) = self.default_interest {
            interest::check_rate("default_interest.percent", percent)?;
            interest::check_rate("default_interest.cap_percent", cap_percent)?;
        }
        if let Some(percent) = self.cover_cap_percent {
            interest::check_rate("cover_cap_percent", percent)?;
        }
        if self.cure_business_days.is_some_and(|days| days > CURE_DAYS_MAX) {
            return refuse(format!("cure_business_days is above {CURE_DAYS_MAX}"));
        }
        if self.cooling_off_hours.is_some_and(|hours| hours > COOLING_OFF_HOURS_MAX) {
            return refuse(format!("cooling_off_hours is above {COOLING_OFF_HOURS_MAX}"));
        }
        if self.short_payment_tolerance.is_some_and(|tolerance| tolerance < Amount::ZERO) {
            return refuse("short_payment_tolerance is below zero".into());
        }
        if self.closed_on.as_ref().is_some_and(|days| days.len() > HOLIDAYS_MAX) {
            return refuse(format!("closed_on has more than {HOLIDAYS_MAX} days"));
        }
        for (kind, field, steps) in self.steps() {
            if let Some(given) = steps {
                steps::check(field, kind, given)?;
            }
        }
        if let Some(then) = self.deal_withdrawn {
            then.check()?;
        }
        if let Some(asked) = &self.stage_request {
            asked.check()?;
        }
        investments::check(self.investment_types.as_ref().unwrap_or(&BTreeMap::new()))?;
        steps::check_predicates(self.predicates.as_ref().unwrap_or(&BTreeMap::new()))?;
        steps::check_programs(self.programs.as_ref().unwrap_or(&BTreeMap::new()))?;
        if self.stuck_after_hours.is_some_and(|hours| hours > STUCK_HOURS_MAX) {
            return refuse(format!("stuck_after_hours is above {STUCK_HOURS_MAX}"));
        }
        for date in self.closed_on.iter().flatten() {
            calendar::plausible_date("closed_on", *date)?;
        }
        Ok(())
    }

    /// The steps of each kind of workflow, with the names of their fields.
    fn steps(&self) -> [(SubjectKind, &'static str, Option<&[StepDefinition]>); 6] {
        [
            (SubjectKind::Allocation, "allocation_steps", self.allocation_steps.as_deref()),
            (SubjectKind::CapitalCall, "capital_call_steps", self.capital_call_steps.as_deref()),
            (SubjectKind::Refund, "refund_steps", self.refund_steps.as_deref()),
            (SubjectKind::Withdrawal, "withdrawal_steps", self.withdrawal_steps.as_deref()),
            (SubjectKind::BankDetails, "bank_details_steps", self.bank_details_steps.as_deref()),
            (SubjectKind::RuleChange, "rule_change_steps", self.rule_change_steps.as_deref()),
        ]
    }

    /// Refuses when the layers together contradict each other.
    pub fn complete(self) -> Result<Rules, Rejection> {
        let full = built_in().with(&self);
        let programs = full.programs.clone().unwrap_or_default();
        let predicates = full.predicates.clone().unwrap_or_default();
        // those of a change of rules do not depend on a fund: see RuleBook::of_firm
        for (kind, field, steps) in full.steps().into_iter().filter(|(kind, ..)| *kind != SubjectKind::RuleChange) {
            steps::check_asked(field, kind, steps.unwrap_or_default(), &programs, &predicates)?;
        }
        let rules = Rules {
            allocation_min: full.allocation_min.unwrap_or_default(),
            allocation_max: full.allocation_max.unwrap_or_default(),
            allocations_per_deal_max: full.allocations_per_deal_max.unwrap_or_default(),
            deal_percent_max: full.deal_percent_max.unwrap_or(Ratio(Decimal::ONE_HUNDRED)),
            sector_percents_max: full.sector_percents_max.unwrap_or_default(),
            investor_type_percents_max: full.investor_type_percents_max.unwrap_or_default(),
            transitions_closed: full.transitions_closed.unwrap_or_default(),
            alerts_per_hour_max: full.alerts_per_hour_max.unwrap_or_default(),
            approval_tiers: full.approval_tiers.unwrap_or_default(),
            grace_days: full.grace_days.unwrap_or_default(),
            reminder_days: full.reminder_days.unwrap_or_default(),
            escalation_days: full.escalation_days.unwrap_or_default(),
            notice_business_days: full.notice_business_days.unwrap_or_default(),
            closed_on: full.closed_on.unwrap_or_default(),
            refund_tiers: full.refund_tiers.unwrap_or_default(),
            rule_votes: full.rule_votes.unwrap_or_default(),
            payment_methods: full.payment_methods.unwrap_or_default(),
            clearing_business_days: full.clearing_business_days.unwrap_or_default(),
            short_payment_tolerance: full.short_payment_tolerance.unwrap_or_default(),
            application_order: full.application_order.unwrap_or_default(),
            default_interest: full.default_interest.unwrap_or(NO_INTEREST),
            cure_business_days: full.cure_business_days.unwrap_or_default(),
            cover_cap_percent: full.cover_cap_percent.unwrap_or(NO_INTEREST.cap_percent),
            cooling_off_hours: full.cooling_off_hours.unwrap_or_default(),
            allocation_steps: full.allocation_steps.unwrap_or_default(),
            capital_call_steps: full.capital_call_steps.unwrap_or_default(),
            refund_steps: full.refund_steps.unwrap_or_default(),
            withdrawal_steps: full.withdrawal_steps.unwrap_or_default(),
            bank_details_steps: full.bank_details_steps.unwrap_or_default(),
            rule_change_steps: full.rule_change_steps.unwrap_or_default(),
            deal_withdrawn: full.deal_withdrawn.unwrap_or(DealWithdrawn::ALERT),
            stage_request: full.stage_request.unwrap_or_default(),
            programs,
            predicates,
            investment_types: full.investment_types.unwrap_or_default(),
            stuck_after_hours: full.stuck_after_hours.unwrap_or_default(),
        };
        transitions::check_with(&rules.transitions_closed, rules.deal_withdrawn)?;
        if rules.allocation_min > rules.allocation_max {
            return Err(Reason::InvalidRules
                .with(format!("allocation_min {} is above allocation_max {}", rules.allocation_min, rules.allocation_max)));
        }
        Ok(rules)
    }
}

impl Rules {
    /// The tier that a request reaches, or none when it needs no approval.
    pub fn tier(&self, kind: SubjectKind, priority: Priority, amount: Amount) -> Option<&ApprovalTier> {
        tiers::highest(self.tiers(kind), kind, priority, amount)
    }

    /// The tiers above one that a request is escalated to in turn, the lowest first.
    pub fn tiers_above(&self, kind: SubjectKind, priority: Priority, tier: &ApprovalTier) -> Vec<ApprovalTier> {
        tiers::above(self.tiers(kind), kind, priority, tier.from_amount)
    }

    /// Refuses what the firm has closed.
    ///
    /// # Errors
    /// `transition_closed`.
    pub fn check_open(&self, transition: Transition) -> Result<(), Rejection> {
        match self.transitions_closed.contains(&transition) {
            true => Err(Reason::TransitionClosed.with(format!("{} is closed by the rules", transitions::name(transition)))),
            false => Ok(()),
        }
    }

    fn tiers(&self, kind: SubjectKind) -> &[ApprovalTier] {
        if kind == SubjectKind::Refund { &self.refund_tiers } else { &self.approval_tiers }
    }

    /// Refuses details that are not of the shape which the type of an investment asks for.
    ///
    /// # Errors
    /// `invalid_details`, with the place.
    pub fn check_details(&self, security_type: &str, details: Option<&serde_json::Value>) -> Result<(), Rejection> {
        investments::check_details(&self.investment_types, security_type, details)
    }

    /// The steps of a kind of workflow, in order.
    pub fn steps(&self, kind: SubjectKind) -> &[StepDefinition] {
        match kind {
            SubjectKind::Allocation => &self.allocation_steps,
            SubjectKind::CapitalCall => &self.capital_call_steps,
            SubjectKind::Refund => &self.refund_steps,
            SubjectKind::Withdrawal => &self.withdrawal_steps,
            SubjectKind::BankDetails => &self.bank_details_steps,
            SubjectKind::RuleChange => &self.rule_change_steps,
        }
    }
}

#[cfg(test)]
mod tests;
