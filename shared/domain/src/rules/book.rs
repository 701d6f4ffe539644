//! The layers of rules that a service knows, and how they are merged.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{RuleLayer, Rules, Transition, built_in, built_in_environment, environments, steps};
use crate::messages::workflow::SubjectKind;
use crate::rejection::{Reason, Rejection};

/// Most contradictions that are named; who mends the first ones sees the rest.
const CONTRADICTIONS_MAX: usize = 20;

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

/// The rules that a decision used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RulesUsed {
    /// SHA-256 of the effective rules, as JSON with its fields in the order of the schema; empty where it is not known any more.
    pub content_hash: String,
    /// The layers that they were merged from, the lowest first; version 0 is what `deploy/rules` says.
    pub layers: Vec<RuleOrigin>,
}

/// All layers that a service knows, with their versions.
#[derive(Clone, Debug, Default)]
pub struct RuleBook {
    environment: String,
    layers: BTreeMap<RuleScope, (i64, RuleLayer)>,
    /// The types of the funds, where rules are decided about and they are known.
    types: BTreeMap<Uuid, String>,
}

impl RuleBook {
    /// An empty book of a deployment: the built-in layers hold.
    pub fn new(environment: &str) -> RuleBook {
        RuleBook { environment: environment.to_owned(), ..RuleBook::default() }
    }

    /// The same layers, seen by another deployment.
    pub fn for_environment(&self, environment: &str) -> RuleBook {
        RuleBook { environment: environment.to_owned(), ..self.clone() }
    }

    /// The same deployment without any layer but the built-in ones.
    pub fn without_layers(&self) -> RuleBook {
        RuleBook { layers: BTreeMap::new(), ..self.clone() }
    }

    /// Puts a layer in the place of the one known.
    pub fn put(&mut self, scope: RuleScope, version: i64, layer: RuleLayer) {
        self.layers.insert(scope, (version, layer));
    }

    /// Takes a layer out: nothing was ever put for its scope.
    pub fn remove(&mut self, scope: &RuleScope) {
        self.layers.remove(scope);
    }

    /// What has a layer that was put.
    pub fn scopes(&self) -> impl Iterator<Item = &RuleScope> {
        self.layers.keys()
    }

    /// The version of a scope's layer that is in force; 0 for what `deploy/rules` says.
    pub fn version(&self, scope: &RuleScope) -> i64 {
        self.layers.get(scope).map_or(0, |(version, _)| *version)
    }

    /// The funds that have a layer of their own.
    fn funds(&self) -> impl Iterator<Item = Uuid> {
        self.layers.keys().filter_map(|scope| if let RuleScope::Fund(id) = scope { Some(*id) } else { None })
    }

    /// Takes in of which types funds are; one that is not known may be of any.
    pub fn take_types(&mut self, types: BTreeMap<Uuid, String>) {
        self.types.extend(types);
    }

    /// The types of funds that have a layer of their own.
    fn fund_types(&self) -> impl Iterator<Item = &str> {
        self.layers.keys().filter_map(|scope| if let RuleScope::FundType(name) = scope { Some(name.as_str()) } else { None })
    }

    /// The rules of the firm, whatever the fund: those by which its rules are changed.
    ///
    /// # Errors
    /// `invalid_rules` where layers contradict each other.
    pub fn of_firm(&self) -> Result<Rules, Rejection> {
        let rules = self.merged(None, None).complete()?;
        let Rules { rule_change_steps, programs, predicates, .. } = &rules;
        steps::check_asked("rule_change_steps", SubjectKind::RuleChange, rule_change_steps, programs, predicates)?;
        Ok(rules)
    }

    /// How many people, besides those who wrote it, must approve a change of a scope's layer. Of a fund's whose type is not known,
    /// as many as the strictest type asks for: a layer does not lower what those below it ask for. An environment does: it says what the
    /// firm asks for in it.
    pub fn votes_for(&self, scope: &RuleScope) -> u16 {
        let votes = |fund_type, fund_id| self.merged(fund_type, fund_id).rule_votes.unwrap_or_default();
        let of_scope = match scope {
            RuleScope::Global | RuleScope::Environment(_) => 0,
            RuleScope::FundType(name) => votes(Some(name), None),
            RuleScope::Fund(id) => {
                let its = self.types.get(id).map(String::as_str);
                let of_types =
                    self.fund_types().filter(|name| its.is_none_or(|its| its == *name)).map(|name| votes(Some(name), None)).max();
                votes(its, Some(*id)).max(of_types.unwrap_or_default())
            }
        };
        of_scope.max(votes(None, None))
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

    /// Refuses what the rules of a fund have closed.
    ///
    /// # Errors
    /// `transition_closed`, and `invalid_rules` where layers contradict each other.
    pub fn check_open(&self, fund_type: &str, fund_id: Uuid, transition: Transition) -> Result<(), Rejection> {
        self.rules(fund_type, fund_id)?.check_open(transition).map_err(|rejection| self.named(fund_type, fund_id, rejection))
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

    /// Which rules are in force for a fund, for the record of a decision.
    pub fn used(&self, fund_type: &str, fund_id: Uuid) -> RulesUsed {
        let mut merged = RuleLayer::default();
        let mut layers = Vec::new();
        for (origin, layer) in self.stack(Some(fund_type), Some(fund_id)) {
            merged = merged.with(&layer);
            // a layer that was put stands over the file of its scope
            if origin.version > 0 || *layer != RuleLayer::default() {
                layers.push(origin);
            }
        }
        let text = serde_json::to_string(&merged).unwrap_or_default();
        RulesUsed { content_hash: hex::encode(Sha256::digest(text)), layers }
    }

    /// A refusal with the rules that it rests on, where it rests on rules: who is refused, and the record of it, can tell which they were.
    pub fn named(&self, fund_type: &str, fund_id: Uuid, rejection: Rejection) -> Rejection {
        if !rejection.reason.is_by_rules() {
            return rejection;
        }
        let RulesUsed { content_hash, layers } = self.used(fund_type, fund_id);
        let layers: Vec<String> = layers.iter().map(|origin| format!("{} {}", origin.scope, origin.version)).collect();
        rejection.reason.with(format!("{}; by the rules {content_hash} of {}", rejection.detail, layers.join(", ")))
    }

    /// What would contradict itself if a scope had this layer: in the scope itself, and in those that stand above or below it; at most
    /// [`CONTRADICTIONS_MAX`]. A fund whose type is not known is looked at with each type.
    pub fn contradictions(&self, scope: &RuleScope, layer: &RuleLayer) -> Vec<String> {
        let mut book = match scope {
            RuleScope::Environment(name) => self.for_environment(name),
            _ => self.clone(),
        };
        book.put(scope.clone(), book.version(scope) + 1, layer.clone());
        let all_types = || std::iter::once(None).chain(book.fund_types().map(Some));
        let types: Vec<Option<&str>> = match scope {
            RuleScope::FundType(name) => vec![Some(name.as_str())],
            _ => all_types().collect(),
        };
        let funds: Vec<Option<Uuid>> = match scope {
            RuleScope::Fund(id) => vec![Some(*id)],
            _ => std::iter::once(None).chain(book.funds().map(Some)).collect(),
        };
        let mut contradictions: Vec<String> = layer.check().err().map(|rejection| rejection.detail).into_iter().collect();
        if layer.rule_change_steps.is_some() && matches!(scope, RuleScope::FundType(_) | RuleScope::Fund(_)) {
            contradictions.push("rule_change_steps: they hold for rules of all scopes: put them in global or an environment".into());
        }
        if let RuleScope::Environment(name) = scope
            && name != &self.environment
            && !environments().any(|known| known == name)
        {
            let known: Vec<&str> = environments().collect();
            contradictions.push(format!(
                "env:{name} would hold nowhere: this is {}, and others are {}",
                self.environment,
                known.join(", ")
            ));
        }
        let its = |fund_id: Option<Uuid>| book.types.get(&fund_id?).map(String::as_str);
        let combined = funds.iter().flat_map(|fund_id| types.iter().map(move |fund_type| (*fund_type, *fund_id)));
        let is_so = |fund_type: Option<&str>, fund_id| match its(fund_id) {
            Some(its) => fund_type == Some(its).filter(|its| book.fund_types().any(|name| name == *its)),
            None => true,
        };
        let combined = combined.filter(|(fund_type, fund_id)| is_so(*fund_type, *fund_id));
        for (fund_type, fund_id) in combined {
            let rules = match (fund_type, fund_id) {
                (None, None) => book.of_firm(),
                _ => book.merged(fund_type, fund_id).complete(),
            };
            if let Err(rejection) = rules {
                let of_fund = fund_id.map(|id| format!(" for fund {id}")).unwrap_or_default();
                let of_type = fund_type.map(|name| format!(" of type {name}")).unwrap_or_default();
                contradictions.push(format!("{}{of_fund}{of_type}", rejection.detail));
            }
            if contradictions.len() >= CONTRADICTIONS_MAX {
                break;
            }
        }
        contradictions
    }

    /// The rules in force for a fund. Layers that contradict each other refuse everything.
    pub fn rules(&self, fund_type: &str, fund_id: Uuid) -> Result<Rules, Rejection> {
        self.merged(Some(fund_type), Some(fund_id)).complete()
    }
}
