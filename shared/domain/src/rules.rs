//! The business rules as data: layers that are merged field by field, global first, then the
//! environment, the fund's type and the fund itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::calendar::{self, HOLIDAYS_MAX};
use crate::interest;
use crate::messages::capital_calls::PaymentMethod;
use crate::money::{Amount, Ratio};
use crate::rejection::{Reason, Rejection};

/// Most approval tiers of a layer.
pub const TIERS_MAX: usize = 20;
/// Most votes that a tier may ask for.
pub const VOTES_MAX: u16 = 20;

/// From this amount on, so many people of this role must approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalTier {
    /// Smallest amount of the tier, in the fund's currency.
    pub from_amount: Amount,
    /// Number of approving votes that are needed.
    pub votes: u16,
    /// The role that may vote.
    pub role: String,
}

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
}

/// The rules in force for one fund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields are those of RuleLayer")]
pub struct Rules {
    pub allocation_min: Amount,
    pub allocation_max: Amount,
    pub allocations_per_deal_max: u32,
    pub approval_tiers: Vec<ApprovalTier>,
    pub grace_days: u16,
    pub reminder_days: Vec<u16>,
    pub escalation_days: u16,
    pub notice_business_days: NoticeDays,
    pub closed_on: Vec<NaiveDate>,
    pub refund_tiers: Vec<ApprovalTier>,
    pub payment_methods: Vec<PaymentMethod>,
    pub clearing_business_days: ClearingDays,
    pub short_payment_tolerance: Amount,
    pub application_order: ApplicationOrder,
    pub default_interest: DefaultInterest,
    pub cure_business_days: u16,
    pub cover_cap_percent: Ratio,
    pub cooling_off_hours: u16,
}

/// Where no layer says anything.
const NO_INTEREST: DefaultInterest =
    DefaultInterest { percent: Ratio(Decimal::ZERO), cap_percent: Ratio(Decimal::ZERO), free_in_grace: false };

fn units(amount: i64) -> Amount {
    Amount::from_decimal(amount.into())
}

fn committee_from(amount: i64) -> Vec<ApprovalTier> {
    vec![ApprovalTier { from_amount: units(amount), votes: 2, role: "committee".into() }]
}

/// The layer that stands below all: the defaults.
pub fn built_in() -> RuleLayer {
    RuleLayer {
        allocation_min: Some(units(1_000)),
        allocation_max: Some(units(100_000_000)),
        allocations_per_deal_max: Some(10),
        approval_tiers: Some(committee_from(1_000_000)),
        grace_days: Some(30),
        reminder_days: Some(vec![7, 3, 1]),
        escalation_days: Some(5),
        notice_business_days: Some(NoticeDays { normal: 10, high: 5, urgent: 1 }),
        closed_on: Some(vec![]),
        refund_tiers: Some(vec![ApprovalTier { from_amount: units(0), votes: 1, role: "committee".into() }]),
        payment_methods: Some(PaymentMethod::ALL.to_vec()),
        clearing_business_days: Some(ClearingDays { wire: 0, ach: 2, sepa: 0, check: 5, internal_transfer: 0 }),
        short_payment_tolerance: Some(units(0)),
        application_order: Some(ApplicationOrder::OldestDue),
        default_interest: Some(DefaultInterest { percent: Ratio(0.into()), cap_percent: Ratio(100.into()), free_in_grace: false }),
        cure_business_days: Some(10),
        cover_cap_percent: Some(Ratio(50.into())),
        cooling_off_hours: Some(24),
    }
}

/// The built-in layer of an environment.
pub fn built_in_environment(environment: &str) -> RuleLayer {
    match environment {
        "production" => {
            RuleLayer { allocation_min: Some(units(10_000)), approval_tiers: Some(committee_from(500_000)), ..RuleLayer::default() }
        }
        "staging" => RuleLayer { approval_tiers: Some(committee_from(100_000)), ..RuleLayer::default() },
        // so that a developer's calls can fall due at once
        "development" => RuleLayer { notice_business_days: Some(NoticeDays::default()), ..RuleLayer::default() },
        _ => RuleLayer::default(),
    }
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
        over(&mut self.approval_tiers, &above.approval_tiers);
        over(&mut self.grace_days, &above.grace_days);
        over(&mut self.reminder_days, &above.reminder_days);
        over(&mut self.escalation_days, &above.escalation_days);
        over(&mut self.notice_business_days, &above.notice_business_days);
        over(&mut self.closed_on, &above.closed_on);
        over(&mut self.refund_tiers, &above.refund_tiers);
        over(&mut self.payment_methods, &above.payment_methods);
        over(&mut self.clearing_business_days, &above.clearing_business_days);
        over(&mut self.short_payment_tolerance, &above.short_payment_tolerance);
        over(&mut self.application_order, &above.application_order);
        over(&mut self.default_interest, &above.default_interest);
        over(&mut self.cure_business_days, &above.cure_business_days);
        over(&mut self.cover_cap_percent, &above.cover_cap_percent);
        over(&mut self.cooling_off_hours, &above.cooling_off_hours);
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
        for (field, tiers) in [("approval_tiers", &self.approval_tiers), ("refund_tiers", &self.refund_tiers)] {
            if tiers.as_ref().is_some_and(|tiers| tiers.len() > TIERS_MAX) {
                return refuse(format!("{field} has more than {TIERS_MAX} entries"));
            }
        }
        for tier in self.approval_tiers.iter().chain(&self.refund_tiers).flatten() {
            if tier.votes == 0 || tier.votes > VOTES_MAX || tier.role != "committee" {
                return refuse(format!("approval tier from {}: it needs 1 to {VOTES_MAX} votes of the role committee", tier.from_amount));
            }
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
        for date in self.closed_on.iter().flatten() {
            calendar::plausible_date("closed_on", *date)?;
        }
        Ok(())
    }

    /// Refuses when the layers together contradict each other.
    pub fn complete(self) -> Result<Rules, Rejection> {
        let full = built_in().with(&self);
        let rules = Rules {
            allocation_min: full.allocation_min.unwrap_or_default(),
            allocation_max: full.allocation_max.unwrap_or_default(),
            allocations_per_deal_max: full.allocations_per_deal_max.unwrap_or_default(),
            approval_tiers: full.approval_tiers.unwrap_or_default(),
            grace_days: full.grace_days.unwrap_or_default(),
            reminder_days: full.reminder_days.unwrap_or_default(),
            escalation_days: full.escalation_days.unwrap_or_default(),
            notice_business_days: full.notice_business_days.unwrap_or_default(),
            closed_on: full.closed_on.unwrap_or_default(),
            refund_tiers: full.refund_tiers.unwrap_or_default(),
            payment_methods: full.payment_methods.unwrap_or_default(),
            clearing_business_days: full.clearing_business_days.unwrap_or_default(),
            short_payment_tolerance: full.short_payment_tolerance.unwrap_or_default(),
            application_order: full.application_order.unwrap_or_default(),
            default_interest: full.default_interest.unwrap_or(NO_INTEREST),
            cure_business_days: full.cure_business_days.unwrap_or_default(),
            cover_cap_percent: full.cover_cap_percent.unwrap_or(NO_INTEREST.cap_percent),
            cooling_off_hours: full.cooling_off_hours.unwrap_or_default(),
        };
        if rules.allocation_min > rules.allocation_max {
            return Err(Reason::InvalidRules
                .with(format!("allocation_min {} is above allocation_max {}", rules.allocation_min, rules.allocation_max)));
        }
        Ok(rules)
    }
}

impl Rules {
    /// The tier that an amount reaches, or none when it needs no approval.
    pub fn tier(&self, amount: Amount) -> Option<&ApprovalTier> {
        highest(&self.approval_tiers, amount)
    }

    /// The tier that a refund of an amount reaches, or none when it needs no approval.
    pub fn refund_tier(&self, amount: Amount) -> Option<&ApprovalTier> {
        highest(&self.refund_tiers, amount)
    }
}

fn highest(tiers: &[ApprovalTier], amount: Amount) -> Option<&ApprovalTier> {
    tiers.iter().filter(|tier| amount >= tier.from_amount).max_by_key(|tier| tier.from_amount)
}

/// What a rule layer holds for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleScope {
    /// Every fund.
    Global,
    /// Every fund of a deployment, for example `env:production`.
    Environment(String),
    /// Funds of a type.
    FundType(String),
    /// One fund.
    Fund(Uuid),
}

impl FromStr for RuleScope {
    type Err = Rejection;

    fn from_str(text: &str) -> Result<Self, Rejection> {
        let token = |name: &str| -> Result<String, Rejection> {
            let fits = !name.is_empty()
                && name.len() <= 60
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            fits.then(|| name.to_owned())
                .ok_or_else(|| Reason::UnknownScope.with(format!("{text:?} names no scope: letters, digits, - and _ are allowed")))
        };
        match text.split_once(':') {
            None if text == "global" => Ok(RuleScope::Global),
            Some(("env", name)) => Ok(RuleScope::Environment(token(name)?)),
            Some(("fund-type", name)) => Ok(RuleScope::FundType(token(name)?)),
            Some(("fund", id)) => {
                id.parse().map(RuleScope::Fund).map_err(|_| Reason::UnknownScope.with(format!("{id:?} is not a fund id")))
            }
            _ => Err(Reason::UnknownScope.with(format!("{text:?} is not a rule scope"))),
        }
    }
}

impl fmt::Display for RuleScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleScope::Global => formatter.write_str("global"),
            RuleScope::Environment(name) => write!(formatter, "env:{name}"),
            RuleScope::FundType(name) => write!(formatter, "fund-type:{name}"),
            RuleScope::Fund(id) => write!(formatter, "fund:{id}"),
        }
    }
}

/// The layer that a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleOrigin {
    /// What the layer holds for.
    #[schemars(with = "String")]
    pub scope: RuleScope,
    /// Its version; 0 for what is built in.
    pub version: i64,
}

impl Serialize for RuleScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RuleScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|rejection: Rejection| de::Error::custom(rejection.detail))
    }
}

/// All layers that a service knows, with their versions.
#[derive(Clone, Debug, Default)]
pub struct RuleBook {
    environment: String,
    layers: BTreeMap<RuleScope, (i64, RuleLayer)>,
}

impl RuleBook {
    /// An empty book of a deployment: the built-in layers hold.
    pub fn new(environment: &str) -> RuleBook {
        RuleBook { environment: environment.to_owned(), layers: BTreeMap::new() }
    }

    /// The same layers, seen by another deployment.
    pub fn for_environment(&self, environment: &str) -> RuleBook {
        RuleBook { environment: environment.to_owned(), layers: self.layers.clone() }
    }

    /// Takes a layer in, if it is newer than the one known. Returns whether it was.
    pub fn put(&mut self, scope: RuleScope, version: i64, layer: RuleLayer) -> bool {
        let newer = self.layers.get(&scope).is_none_or(|(known, _)| version > *known);
        if newer {
            self.layers.insert(scope, (version, layer));
        }
        newer
    }

    /// The layers up to the given fund type and fund, the lowest first, with whose they are and their versions.
    fn stack(&self, fund_type: Option<&str>, fund_id: Option<Uuid>) -> Vec<(RuleOrigin, Cow<'_, RuleLayer>)> {
        let mut scopes = vec![RuleScope::Global, RuleScope::Environment(self.environment.clone())];
        scopes.extend(fund_type.map(|name| RuleScope::FundType(name.to_owned())));
        scopes.extend(fund_id.map(RuleScope::Fund));
        let mut stack = vec![(RuleOrigin { scope: RuleScope::Global, version: 0 }, Cow::Owned(built_in()))];
        for scope in scopes {
            if let RuleScope::Environment(name) = &scope {
                stack.push((RuleOrigin { scope: scope.clone(), version: 0 }, Cow::Owned(built_in_environment(name))));
            }
            if let Some((version, layer)) = self.layers.get(&scope) {
                stack.push((RuleOrigin { scope, version: *version }, Cow::Borrowed(layer)));
            }
        }
        stack
    }

    /// The merged layers up to the given fund type and fund.
    pub fn merged(&self, fund_type: Option<&str>, fund_id: Option<Uuid>) -> RuleLayer {
        self.stack(fund_type, fund_id).into_iter().fold(RuleLayer::default(), |merged, (_, layer)| merged.with(&layer))
    }

    /// From which layer each value of [`RuleBook::merged`] comes, by the name of the field.
    pub fn sources(&self, fund_type: Option<&str>, fund_id: Option<Uuid>) -> BTreeMap<String, RuleOrigin> {
        let mut sources = BTreeMap::new();
        for (source, layer) in self.stack(fund_type, fund_id) {
            let said = serde_json::to_value(&*layer).unwrap_or_default();
            let fields = said.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
            sources.extend(fields.map(|(field, _)| (field.clone(), source.clone())));
        }
        sources
    }

    /// The rules in force for a fund. Layers that contradict each other refuse everything.
    pub fn rules(&self, fund_type: &str, fund_id: Uuid) -> Result<Rules, Rejection> {
        self.merged(Some(fund_type), Some(fund_id)).complete()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_merged_field_by_field() {
        let fund = Uuid::from_u128(7);
        let mut book = RuleBook::new("production");
        let rules = book.rules("buyout", fund).unwrap();
        assert_eq!((rules.allocation_min, rules.allocation_max), (units(10_000), units(100_000_000)));
        assert_eq!(rules.tier(units(500_000)).map(|tier| tier.votes), Some(2));
        assert_eq!(rules.tier(units(499_999)), None);
        let layer = |grace_days| RuleLayer { grace_days: Some(grace_days), ..RuleLayer::default() };
        assert!(book.put("fund-type:buyout".parse().unwrap(), 1, layer(10)));
        assert_eq!(book.rules("buyout", fund).unwrap().grace_days, 10);
        assert_eq!(book.rules("venture", fund).unwrap().grace_days, 30);
        assert!(book.put(RuleScope::Fund(fund), 2, layer(5)));
        assert!(!book.put(RuleScope::Fund(fund), 1, layer(9)), "an older version is ignored");
        assert_eq!(book.rules("buyout", fund).unwrap().grace_days, 5);
        let sources = book.sources(Some("buyout"), Some(fund));
        let of = |field: &str| (sources[field].scope.to_string(), sources[field].version);
        assert_eq!(of("grace_days"), (RuleScope::Fund(fund).to_string(), 2));
        assert_eq!(of("allocation_min"), ("env:production".into(), 0));
        assert_eq!(of("reminder_days"), ("global".into(), 0));
        let fields = serde_json::to_value(book.rules("buyout", fund).unwrap()).unwrap();
        assert!(fields.as_object().unwrap().keys().all(|field| sources.contains_key(field)), "each value comes from somewhere");
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        for bad in [
            r#"{"allocation_min":"0"}"#,
            r#"{"allocations_per_deal_max":0}"#,
            r#"{"approval_tiers":[{"from_amount":"1","votes":0,"role":"committee"}]}"#,
            r#"{"approval_tiers":[{"from_amount":"1","votes":1,"role":"nobody"}]}"#,
            r#"{"reminder_days":[0]}"#,
        ] {
            assert_eq!(serde_json::from_str::<RuleLayer>(bad).unwrap().check().unwrap_err().reason, Reason::InvalidRules, "{bad}");
        }
        assert!(serde_json::from_str::<RuleLayer>(r#"{"allocation_mim":"5"}"#).is_err(), "a typing error is not ignored");
        let crossed = RuleLayer { allocation_min: Some(units(200_000_000)), ..RuleLayer::default() };
        assert_eq!(crossed.complete().unwrap_err().reason, Reason::InvalidRules);
    }

    #[test]
    fn scopes_read_back() {
        for scope in ["global", "env:staging", "fund-type:real-assets", "fund:00000000-0000-0000-0000-000000000007"] {
            assert_eq!(scope.parse::<RuleScope>().unwrap().to_string(), scope);
        }
        for bad in ["", "all", "env:", "fund:7", "fund-type:a b", "global:x"] {
            assert!(bad.parse::<RuleScope>().is_err(), "{bad}");
        }
    }
}
