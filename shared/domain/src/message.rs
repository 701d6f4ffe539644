//! What a message is: commands and queries are requests to one service; events carry the whole
//! state of an aggregate and a version.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::rejection::{Problem, Reason, Rejection};

/// A type that travels.
pub trait Wire: Serialize + DeserializeOwned + JsonSchema + Clone + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + JsonSchema + Clone + Send + Sync + 'static> Wire for T {}

/// The state of one aggregate, as its owner publishes it with each event.
pub trait Aggregate: Wire {
    /// What happened to it: an enum with one variant for each event.
    type Change: Wire;
    /// The subject token, for example `call_line`.
    const KIND: &'static str;
    /// The service that owns it; empty where any may, or somebody outside.
    const OWNER: &'static str;
    /// The stream that its events are kept in.
    const STREAM: &'static str = "EVENTS";
    /// The subjects of all its events.
    fn filter() -> String {
        format!("tranche.evt.{}.>", Self::KIND)
    }
    /// Refuses a state that its owner should not have published; the message is parked.
    fn check(&self) -> Result<(), Rejection> {
        Ok(())
    }
    /// Refuses a change that its state does not show; the message is parked.
    fn check_change(&self, _: &Self::Change) -> Result<(), Rejection> {
        Ok(())
    }
    /// Id of the aggregate.
    fn id(&self) -> Uuid;
    /// Version of the state, from 1, without gaps.
    fn version(&self) -> i64;
    /// The fund concerned, if it is one fund.
    fn fund_id(&self) -> Option<Uuid>;
    /// The name of a change: the subject token after the kind, in the past tense.
    fn change_name(change: &Self::Change) -> &'static str;
    /// The subject that an event travels on.
    fn subject(&self, change: &Self::Change) -> String {
        let fund = self.fund_id().map_or_else(|| "-".to_owned(), |id| id.to_string());
        format!("tranche.evt.{}.{}.{fund}", Self::KIND, Self::change_name(change))
    }
}

/// The body of an event.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Event<S, C> {
    /// The whole aggregate after the change.
    pub state: S,
    /// What happened.
    pub change: C,
}

/// A request that changes something; carries an idempotency key in its header.
pub trait Command: Wire {
    /// `tranche.cmd.<service>.<command>`.
    const SUBJECT: &'static str;
    /// The answer when it is accepted.
    type Reply: Wire;
    /// Whether it carries what may stand nowhere in the clear: what is wrong with its form is told without its values, and the hash by
    /// which a request is known again is keyed.
    const IS_SECRET: bool = false;
}

/// What is wrong with the form of a secret command, without its values: a field that is missing may be named, with where it belongs.
pub fn without_values(rejection: Rejection) -> Rejection {
    match rejection.reason {
        Reason::MalformedRequest if !rejection.detail.rsplit(": ").next().is_some_and(|what| what.starts_with("missing field")) => {
            rejection.reason.with("a field is unknown or has the wrong type; see the schema of the request")
        }
        _ => rejection,
    }
}

/// A command that is several commands of one kind. Each is accepted or refused by itself, one on top of the other.
pub trait Several: Command<Reply = Outcomes<Self::Accepted>> {
    /// One of them.
    type Part: Wire;
    /// The answer to one that is accepted.
    type Accepted: Wire;
    /// What they are called, for a refusal: `payments`.
    const PARTS: &'static str;
    /// Most of them in one request.
    const PARTS_MAX: usize;
    /// The commands that it consists of, in the order of the request.
    fn parts(&self) -> &[Self::Part];
    /// Refuses a request of none, or of too many.
    ///
    /// # Errors
    /// `malformed_request`, `request_too_large`.
    fn check_count(&self) -> Result<(), Rejection> {
        let reason = match self.parts().len() {
            0 => Reason::MalformedRequest,
            count if count > Self::PARTS_MAX => Reason::RequestTooLarge,
            _ => return Ok(()),
        };
        Err(reason.with(format!("the request has {} {}, expected 1 to {}", self.parts().len(), Self::PARTS, Self::PARTS_MAX)))
    }
}

/// What became of several commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcomes<T> {
    /// How many are accepted.
    pub accepted: usize,
    /// How many are refused.
    pub refused: usize,
    /// One outcome for each, in the order of the request.
    pub outcomes: Vec<Outcome<T>>,
}

/// What became of one of several commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome<T> {
    /// It is accepted.
    Accepted(T),
    /// It is not.
    Refused {
        /// Why, and what to do about it.
        problem: Problem,
    },
}

/// A request that changes nothing.
pub trait Query: Wire {
    /// `tranche.query.<service>.<query>`.
    const SUBJECT: &'static str;
    /// The answer.
    type Reply: Wire;
}

/// One page of a list, and where the next one starts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// Pass it as `cursor` to get the next page; none on the last page.
    pub next_cursor: Option<String>,
}

/// Most items of a page.
pub const PAGE_MAX: i64 = 500;

impl<T> Page<T> {
    /// Makes a page of at most `limit` items from up to `limit + 1` rows.
    pub fn cut(mut items: Vec<T>, limit: i64, cursor: impl Fn(&T) -> String) -> Page<T> {
        let limit = usize::try_from(limit).unwrap_or(1);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = more.then(|| items.last().map(&cursor)).flatten();
        Page { items, next_cursor }
    }
}

/// The funds that a person may see.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Scope {
    /// Every fund.
    #[default]
    All,
    /// These funds only.
    Funds(Vec<Uuid>),
}

impl Scope {
    /// The list for SQL: none means every fund.
    pub fn funds(&self) -> Option<&[Uuid]> {
        match self {
            Scope::All => None,
            Scope::Funds(funds) => Some(funds),
        }
    }
}

/// Who asks: a person behind the gateway, or a service.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Actor {
    /// The user's name, or `service:<name>`.
    pub user: String,
    /// The user's roles.
    pub roles: Vec<String>,
    /// The funds that the user may see.
    pub scope: Scope,
}

impl Actor {
    /// A service acting for itself.
    pub fn service(name: &str) -> Actor {
        Actor { user: format!("service:{name}"), roles: vec!["service".into()], scope: Scope::All }
    }

    /// Refuses when the fund is not among those that the actor may see.
    pub fn check_fund(&self, fund_id: Uuid) -> Result<(), Rejection> {
        match &self.scope {
            Scope::Funds(funds) if !funds.contains(&fund_id) => {
                Err(Reason::FundOutOfScope.with(format!("{} may not see fund {fund_id}", self.user)))
            }
            _ => Ok(()),
        }
    }
}
