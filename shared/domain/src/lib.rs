//! The pure core that all services share: money, pro rata, business dates, rules, refusals and
//! every message as a Rust type. No I/O, clock, randomness, async or float lives here; a function
//! of this crate cannot fail, it can only refuse.

pub mod calendar;
pub mod delivery;
pub mod ids;
pub mod interest;
pub mod message;
pub mod messages;
pub mod money;
pub mod predicate;
pub mod pro_rata;
pub mod reference;
pub mod registry;
pub mod rejection;
pub mod rules;
pub mod shape;

pub use message::{Actor, Aggregate, Command, Event, Page, Query, Scope};
pub use money::{Amount, Currency, Money};
pub use reference::CreditorReference;
pub use rejection::{Problem, Reason, Rejection};
