//! What people of the firm should look at, as functions of states and nothing else.

use ::domain::messages::allocation_status::Allocation;
use ::domain::messages::notifications::{Alert, AlertKind};
use ::domain::messages::workflow::{Approval, ApprovalStatus, StepName, StepStatus, SubjectKind, Workflow, WorkflowStatus};
use ::domain::rules::WhenWithdrawn;
use ::domain::{Reason, ids};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Who looks after workflows.
const KEEPERS: [&str; 1] = ["admin"];
/// Who votes on changes of rules.
const VOTERS_ON_RULES: [&str; 2] = ["admin", "committee"];
/// Who decides about allocations and deals.
const MANAGERS: [&str; 1] = ["fund_manager"];

/// What people should be told of a thing, and what they need not be told any more if they have not been.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What they should be told.
    pub alerts: Vec<Alert>,
    /// Whether the thing needs nobody any more.
    pub is_over: bool,
}

fn alert(kind: AlertKind, name: &str, (subject_id, fund_id): (Uuid, Uuid), roles: &[&str], text: String, link: String) -> Alert {
    Alert {
        id: ids::derived(&format!("alert {} {name}", kind.token()), subject_id),
        kind,
        at: DateTime::<Utc>::UNIX_EPOCH,
        fund_id,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        subject_id,
        text,
        link,
        more: 0,
    }
}

/// Votes that are asked for, that are missing, or that came too late: once each for every tier.
pub fn of_approval(approval: &Approval) -> Told {
    let mut told = Told::default();
    let tier = approval.tier.from_amount.to_string();
    let of = (approval.id, approval.fund_id);
    let roles: Vec<&str> = approval.open_roles().collect();
    let asked = format!(
        "{} of {} {} by {}",
        chassis::row::name(&approval.subject_kind).replace('_', " "),
        approval.amount,
        approval.currency.code(),
        approval.requested_by
    );
    let page = format!("/approvals/{}", approval.id);
    let mut tell = |kind, roles: &[&str], text| told.alerts.push(alert(kind, &tier, of, roles, text, page.clone()));
    match approval.status {
        ApprovalStatus::Pending => {
            let escalated = approval.asked_at > approval.created_at;
            let kind = if escalated { AlertKind::ApprovalEscalated } else { AlertKind::ApprovalRequested };
            tell(kind, &roles, format!("{asked} needs votes of {}", roles.join(", ")));
            if approval.reminded {
                tell(AlertKind::ApprovalReminder, &roles, format!("{asked} still needs votes of {}", roles.join(", ")));
            }
        }
        ApprovalStatus::Expired => {
            told.is_over = true;
            tell(AlertKind::ApprovalExpired, &MANAGERS, format!("{asked} was not decided in its time"));
        }
        ApprovalStatus::Approved | ApprovalStatus::Denied | ApprovalStatus::Voided => told.is_over = true,
    }
    told
}

/// A workflow that is stuck or paused, or that the deal system has left alone; a change of rules that needs votes, or could not be put in
/// force.
pub fn of_workflow(workflow: &Workflow) -> Told {
    let mut told = Told::default();
    let of = (workflow.id, workflow.fund_id);
    let link = format!("/workflows/{}", workflow.id);
    let step = workflow.steps.iter().position(|step| step.status.is_open());
    let since = step.and_then(|at| workflow.steps[at].started_at).map(|at| at.to_rfc3339()).unwrap_or_default();
    let named = format!("step {} {since}", step.unwrap_or_default());
    let what = chassis::row::name(&workflow.subject_kind).replace('_', " ");
    let why = workflow.error.as_ref().map_or_else(String::new, |problem| format!(": {}", problem.detail));
    if workflow.stuck {
        let text = format!("the workflow of a {what} is stuck, it expects {}{why}", workflow.expects.as_deref().unwrap_or("nothing"));
        told.alerts.push(alert(AlertKind::WorkflowStuck, &named, of, &KEEPERS, text, link.clone()));
    }
    if let Some(pause) = &workflow.paused {
        let text = format!("the workflow of a {what} is paused by {}: {}", pause.by, pause.reason);
        told.alerts.push(alert(AlertKind::WorkflowPaused, &format!("{named} {}", pause.at), of, &KEEPERS, text, link.clone()));
    }
    let of_rules = workflow.subject_kind == SubjectKind::RuleChange;
    let page_of_rules = || format!("/rule-changes/{}", workflow.subject_id);
    let waits_for_votes = |at: usize| (workflow.steps[at].name, workflow.steps[at].status) == (StepName::Approve, StepStatus::Waiting);
    if of_rules && workflow.paused.is_none() && step.is_some_and(waits_for_votes) {
        let text = format!("a {what} by {} needs votes of others", workflow.requested_by);
        told.alerts.push(alert(AlertKind::ApprovalRequested, &named, of, &VOTERS_ON_RULES, text, page_of_rules()));
    }
    // what it was told of before is over, where there is nothing to tell now
    told.is_over = told.alerts.is_empty();
    let was_left_alone = |code| matches!(code, Reason::StageRequestUnanswered | Reason::StageRequestRefused);
    if workflow.status == WorkflowStatus::Completed && workflow.error.as_ref().is_some_and(|problem| was_left_alone(problem.code)) {
        told.alerts.push(alert(AlertKind::DealSystem, "stage", of, &MANAGERS, format!("an allocation is in force{why}"), link));
    }
    let was_stopped = workflow.error.as_ref().is_some_and(|problem| problem.code == Reason::RuleChangeNotReady);
    if of_rules && workflow.status == WorkflowStatus::Failed && was_stopped {
        let text = format!("a {what} by {} was approved and is not in force{why}", workflow.requested_by);
        told.alerts.push(alert(AlertKind::RuleChangeStopped, "stopped", of, &KEEPERS, text, page_of_rules()));
    }
    told
}

/// An allocation whose deal will not happen, where people decide.
pub fn of_allocation(allocation: &Allocation) -> Told {
    let waits = |then: WhenWithdrawn| then == WhenWithdrawn::Alert && allocation.decision.holds_capacity();
    match &allocation.withdrawal {
        Some(withdrawal) if waits(withdrawal.then) => {
            let name = withdrawal.workflow_id.to_string();
            let text = format!(
                "{}: the allocation of {} {} is {}, {} are called",
                withdrawal.reason,
                allocation.amount,
                allocation.currency.code(),
                allocation.status,
                allocation.called
            );
            let of = (allocation.id, allocation.fund_id);
            let link = format!("/workflows/{}", allocation.workflow_id);
            Told { alerts: vec![alert(AlertKind::DealWithdrawn, &name, of, &MANAGERS, text, link)], is_over: false }
        }
        _ => Told { alerts: vec![], is_over: true },
    }
}

/// What is told now of the alerts of one kind and fund that wait, the oldest first, when `room` more may be told in this hour; the last
/// of them tells of the others. None where there is no room.
pub fn told_now(mut waiting: Vec<Alert>, room: Option<usize>) -> Vec<Alert> {
    let Some(room) = room.filter(|room| *room < waiting.len()) else { return waiting };
    let others = u32::try_from(waiting.len() - room).unwrap_or(u32::MAX);
    waiting.truncate(room);
    if let Some(last) = waiting.last_mut() {
        last.more = others;
    }
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_the_limit_is_told_with_the_last_one() {
        let waiting = |count: u128| -> Vec<Alert> {
            (0..count)
                .map(|n| alert(AlertKind::WorkflowStuck, "1", (Uuid::from_u128(n), Uuid::nil()), &KEEPERS, String::new(), String::new()))
                .collect()
        };
        let told = |count, room| told_now(waiting(count), room).iter().map(|alert| alert.more).collect::<Vec<_>>();
        assert_eq!(told(3, None), [0, 0, 0]);
        assert_eq!(told(3, Some(3)), [0, 0, 0]);
        assert_eq!(told(5, Some(3)), [0, 0, 2]);
        assert_eq!(told(5, Some(1)), [4]);
        assert_eq!(told(5, Some(0)), [0; 0], "they wait");
    }
}
