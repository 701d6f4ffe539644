//! What becomes of allocations whose deal changes, and how the deal system is asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rejection::{Reason, Rejection, check_text};

/// Longest time that the deal system is given for one answer: a month.
const ANSWER_HOURS_MAX: u16 = 720;
/// Most times that it is asked.
const ATTEMPTS_MAX: u16 = 20;
/// Most later stages.
const LATER_MAX: usize = 20;

/// What becomes of an allocation whose deal will not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenWithdrawn {
    /// What is not called for it is taken back.
    Cancel,
    /// What is called for it and nothing else is rescinded first, and cash that came for it is refundable.
    Rescind,
    /// Nothing but that people are told.
    Alert,
}

/// What becomes of the allocations of a deal that is withdrawn, rejected or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DealWithdrawn {
    /// Of those that are not decided yet: `cancel` or `alert`.
    pub pending: WhenWithdrawn,
    /// Of those in force.
    pub active: WhenWithdrawn,
}

impl DealWithdrawn {
    /// Where no layer says anything.
    pub(super) const ALERT: DealWithdrawn = DealWithdrawn { pending: WhenWithdrawn::Alert, active: WhenWithdrawn::Alert };

    pub(super) fn check(self) -> Result<(), Rejection> {
        match self.pending {
            WhenWithdrawn::Rescind => {
                Err(Reason::InvalidRules.with("deal_withdrawn.pending: nothing is called for what is pending, so nothing can be rescinded"))
            }
            WhenWithdrawn::Cancel | WhenWithdrawn::Alert => Ok(()),
        }
    }
}

/// How the deal system is asked to move a deal on after an allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageAsked {
    /// The stage.
    pub stage: String,
    /// Later stages: a deal that is in one of them has passed it.
    #[serde(default)]
    pub or_later: Vec<String>,
    /// Hours until it is asked again; with 0 it is asked once, and no answer is waited for.
    pub answer_within_hours: u16,
    /// Times that it is asked until people are told that it does not answer.
    pub attempts: u16,
}

impl StageAsked {
    pub(super) fn check(&self) -> Result<(), Rejection> {
        check_text("stage_request.stage", &self.stage, 60)?;
        if self.or_later.len() > LATER_MAX {
            return Err(Reason::InvalidRules.with(format!("stage_request.or_later has more than {LATER_MAX} stages")));
        }
        self.or_later.iter().try_for_each(|stage| check_text("stage_request.or_later", stage, 60))?;
        if self.answer_within_hours > ANSWER_HOURS_MAX || !(1..=ATTEMPTS_MAX).contains(&self.attempts) {
            return Err(Reason::InvalidRules
                .with(format!("stage_request: answer_within_hours is above {ANSWER_HOURS_MAX}, or attempts is not 1 to {ATTEMPTS_MAX}")));
        }
        Ok(())
    }
}

impl Default for StageAsked {
    fn default() -> StageAsked {
        StageAsked { stage: "committed".into(), or_later: vec![], answer_within_hours: 0, attempts: 1 }
    }
}
