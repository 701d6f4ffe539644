use ::domain::Scope;
use ::domain::rules::ApprovalTier;

use super::*;

fn workflow(kind: SubjectKind) -> Workflow {
    let mut workflow = Workflow {
        id: Uuid::from_u128(1),
        version: 1,
        created_at: DateTime::UNIX_EPOCH,
        subject_kind: kind,
        subject_id: Uuid::from_u128(2),
        fund_id: Uuid::from_u128(3),
        requested_by: "mia".into(),
        steps: first_steps(kind, DateTime::UNIX_EPOCH),
        progress: 0,
        error: None,
        rules: Default::default(),
        status: WorkflowStatus::Running,
    };
    derive(&mut workflow);
    workflow
}

fn steps(workflow: &Workflow) -> Vec<(StepName, StepStatus)> {
    workflow.steps.iter().map(|step| (step.name, step.status)).collect()
}

/// An error at each step of each kind ends in the right unwound state.
#[test]
fn a_refusal_at_each_step_gives_back_what_was_held() {
    for kind in [SubjectKind::Allocation, SubjectKind::CapitalCall, SubjectKind::Refund] {
        for refused_at in 1..steps_of(kind).len() {
            let mut workflow = workflow(kind);
            for _ in 1..refused_at {
                finish_step(&mut workflow, StepStatus::Done, None, DateTime::UNIX_EPOCH);
            }
            refuse_step(&mut workflow, Reason::OverCapacity.with("why"), DateTime::UNIX_EPOCH);
            assert_eq!(workflow.status, WorkflowStatus::Running, "something is to be given back");
            let mut expected: Vec<(StepName, StepStatus)> = steps_of(kind)
                .iter()
                .enumerate()
                .map(|(position, name)| {
                    let status = match position {
                        _ if position < refused_at => StepStatus::Done,
                        _ if position == refused_at => StepStatus::Failed,
                        _ => StepStatus::Skipped,
                    };
                    (*name, status)
                })
                .collect();
            expected.push((StepName::GiveBack, StepStatus::Pending));
            assert_eq!(steps(&workflow), expected);
            // whether giving back is done or refused in turn, the workflow ends failed, with the first reason
            for end in [StepStatus::Done, StepStatus::Failed] {
                let mut ended = workflow.clone();
                match end {
                    StepStatus::Done => finish_step(&mut ended, StepStatus::Done, None, DateTime::UNIX_EPOCH),
                    _ => refuse_step(&mut ended, Reason::CallNotPending.with("too late"), DateTime::UNIX_EPOCH),
                }
                assert_eq!((ended.status, ended.progress), (WorkflowStatus::Failed, 100));
                assert_eq!(ended.error.as_ref().map(|problem| problem.code), Some(Reason::OverCapacity));
                assert!(next_step(&mut ended).is_none());
            }
        }
    }
}

#[test]
fn a_workflow_without_refusals_completes() {
    let mut workflow = workflow(SubjectKind::Allocation);
    assert_eq!((workflow.progress, workflow.status), (25, WorkflowStatus::Running));
    next_step(&mut workflow).unwrap().status = StepStatus::Waiting;
    derive(&mut workflow);
    assert_eq!(workflow.status, WorkflowStatus::Waiting);
    for _ in 0..3 {
        finish_step(&mut workflow, StepStatus::Done, None, DateTime::UNIX_EPOCH);
    }
    assert_eq!((workflow.progress, workflow.status), (100, WorkflowStatus::Completed));
}

fn actor(user: &str, role: &str) -> Actor {
    Actor { user: user.into(), roles: vec![role.into()], scope: Scope::All }
}

#[test]
fn votes() {
    let mut approval = Approval {
        id: Uuid::from_u128(1),
        version: 1,
        created_at: DateTime::UNIX_EPOCH,
        workflow_id: Uuid::from_u128(2),
        subject_kind: SubjectKind::Allocation,
        subject_id: Uuid::from_u128(3),
        fund_id: Uuid::from_u128(4),
        amount: "1000000.00".parse().unwrap(),
        currency: "USD".parse().unwrap(),
        content_hash: "h".into(),
        requested_by: "mia".into(),
        tier: ApprovalTier { from_amount: "1".parse().unwrap(), votes: 2, role: "committee".into() },
        votes: vec![],
        priority: Priority::Normal,
        authors: vec!["max".into()],
        voided: false,
        status: ApprovalStatus::Pending,
    };
    let cast = |approval: &mut Approval, actor: &Actor, decision| {
        let vote = vote(approval, actor, decision, None, DateTime::UNIX_EPOCH).map_err(|rejection| rejection.reason)?;
        approval.votes.push(vote);
        approval.status = approval_status(approval);
        Ok(approval.status)
    };
    let elsewhere = Actor { scope: Scope::Funds(vec![Uuid::from_u128(5)]), ..actor("eve", "committee") };
    for (voter, expected) in [
        (actor("mia", "committee"), Err(Reason::RequesterMayNotVote)),
        (actor("max", "committee"), Err(Reason::RequesterMayNotVote)),
        (actor("tom", "treasurer"), Err(Reason::RoleMayNotVote)),
        (elsewhere, Err(Reason::FundOutOfScope)),
        (actor("ann", "committee"), Ok(ApprovalStatus::Pending)),
        (actor("ann", "committee"), Err(Reason::AlreadyVoted)),
        (actor("bob", "committee"), Ok(ApprovalStatus::Approved)),
        (actor("cid", "committee"), Err(Reason::ApprovalDecided)),
    ] {
        assert_eq!(cast(&mut approval, &voter, VoteDecision::Approve), expected, "{}", voter.user);
    }
    approval.votes.clear();
    approval.status = ApprovalStatus::Pending;
    assert_eq!(cast(&mut approval, &actor("ann", "committee"), VoteDecision::Deny), Ok(ApprovalStatus::Denied));
}

#[test]
fn a_workflow_that_was_forgotten_ends_as_its_subject_was_decided() {
    for (decided, status) in [(Decided::Granted, WorkflowStatus::Completed), (Decided::Denied, WorkflowStatus::Failed)] {
        for kind in [SubjectKind::Allocation, SubjectKind::CapitalCall, SubjectKind::Refund] {
            let mut workflow = workflow(kind);
            end_forgotten(&mut workflow, decided, DateTime::UNIX_EPOCH);
            assert_eq!((workflow.status, workflow.progress), (status, 100), "{:?}", steps(&workflow));
            assert_eq!(workflow.error.is_some(), decided == Decided::Denied);
        }
    }
}

#[test]
fn what_is_changed_while_it_is_given_back_is_asked_again_and_not_issued_when_it_is_denied() {
    let tier = ApprovalTier { from_amount: "1".parse().unwrap(), votes: 1, role: "committee".into() };
    let mut workflow = workflow(SubjectKind::CapitalCall);
    refuse_step(&mut workflow, Reason::CallNotPending.with("changed"), DateTime::UNIX_EPOCH);
    ask_again(&mut workflow, Some(&tier), DateTime::UNIX_EPOCH);
    assert_eq!((workflow.status, workflow.error.is_none()), (WorkflowStatus::Waiting, true));
    assert!(workflow.steps.iter().all(|step| step.name != StepName::GiveBack));
    refuse_step(&mut workflow, Reason::ApprovalDenied.with("no"), DateTime::UNIX_EPOCH);
    let issue = workflow.steps.iter().find(|step| step.name == StepName::Issue).unwrap();
    assert_eq!(issue.status, StepStatus::Skipped);
    assert_eq!(next_step(&mut workflow).map(|step| step.name), Some(StepName::GiveBack));
    let mut withdrawn = self::workflow(SubjectKind::CapitalCall);
    assert!(withdraw(&mut withdrawn, "cancelled", DateTime::UNIX_EPOCH));
    assert_eq!((withdrawn.status, next_step(&mut withdrawn).is_none()), (WorkflowStatus::Failed, true));
    assert!(!withdraw(&mut withdrawn, "again", DateTime::UNIX_EPOCH));
}
