//! Ids that are derived, so that the same thing gets the same id wherever and how often it is made.

use uuid::Uuid;

/// Namespace of all derived ids of Tranche (a fixed random UUID).
pub const NAMESPACE: Uuid = Uuid::from_u128(0x7c1a_5a0e_5d0b_4c64_9a3c_2f6f_0d1e_8b77);

/// The id of an event: UUIDv5 of aggregate id, epoch and version, so that a repeated event is
/// recognised for ever.
pub fn event_id(aggregate_id: Uuid, epoch: i32, version: i64) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{aggregate_id}/{epoch}/{version}").as_bytes())
}

/// The id of the workflow that carries a subject (an allocation or a capital call) through.
pub fn workflow_id(subject_id: Uuid) -> Uuid {
    derived("workflow", subject_id)
}

/// An id of `kind` that belongs to `parent`.
pub fn derived(kind: &str, parent: Uuid) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{kind}/{parent}").as_bytes())
}

/// The id of the rule set of a scope.
pub fn rule_set_id(scope: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("rules/{scope}").as_bytes())
}
