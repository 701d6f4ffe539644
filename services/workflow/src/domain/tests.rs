use ::domain::messages::workflow::{
    Approval, ApprovalDeadline, ApprovalStatus, CastVote, Delegation, DelegationStatus, Pause, VoteDecision, WhenOverdue, WorkflowAction,
};
use ::domain::rules::{ApprovalGroup, ApprovalTier, RuleLayer};
use ::domain::{Actor, Scope};

use super::*;

pub fn workflow(kind: SubjectKind) -> Workflow {
    let mut workflow = Workflow {
        id: Uuid::from_u128(1),
        version: 1,
        created_at: DateTime::UNIX_EPOCH,
        subject_kind: kind,
        subject_id: Uuid::from_u128(2),
        fund_id: Uuid::from_u128(3),
        requested_by: "mia".into(),
        steps: first_steps(kind, &RuleLayer::default().complete().unwrap(), DateTime::UNIX_EPOCH),
        progress: 0,
        error: None,
        rules: Default::default(),
        paused: None,
        stuck: false,
        expects: None,
        status: WorkflowStatus::Running,
    };
    derive(&mut workflow);
    workflow
}

fn steps(workflow: &Workflow) -> Vec<(StepName, StepStatus)> {
    workflow.steps.iter().map(|step| (step.name, step.status)).collect()
}

#[test]
fn rules_wait_for_their_time_and_do_not_count_as_stuck_when_it_has_come() {
    let at = |days| DateTime::UNIX_EPOCH + TimeDelta::days(days);
    let mut workflow = workflow(SubjectKind::RuleChange);
    let mut subject = Subject { active_from: Some(at(30)), ..Subject::of("", Amount::ZERO, None, "h") };
    // voted on before it is simulated here: it is noted
    assert!(!note(&mut workflow, &mut subject, StepName::Approve, "approved by ann".into(), at(0)));
    begin_next(&mut workflow, &subject, at(0));
    assert!(note(&mut workflow, &mut subject, StepName::Simulate, "3 requests looked at".into(), at(1)));
    begin_next(&mut workflow, &subject, at(1));
    assert_eq!(steps(&workflow)[2..], [(StepName::Approve, StepStatus::Done), (StepName::PutInForce, StepStatus::Waiting)]);
    assert_eq!((waits_until(&workflow), stuck_from(&workflow, 24)), (Some(at(30)), None));
    go_on_after_waiting(&mut workflow, &subject, at(31));
    assert_eq!((workflow.status, waits_until(&workflow), stuck_from(&workflow, 24)), (WorkflowStatus::Running, None, Some(at(32))));
    begin_next(&mut workflow, &subject, at(31));
    assert_eq!(next_step(&mut workflow).map(|step| step.status), Some(StepStatus::Pending));
    finish_step(&mut workflow, StepStatus::Done, None, at(31));
    assert_eq!(workflow.status, WorkflowStatus::Completed);
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

fn approval(tier: ApprovalTier) -> Approval {
    Approval {
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
        tier,
        votes: vec![],
        priority: Priority::Normal,
        authors: vec!["max".into()],
        voided: false,
        asked_at: DateTime::UNIX_EPOCH,
        reminded: false,
        escalates_to: vec![],
        expired: false,
        deadline: None,
        status: ApprovalStatus::Pending,
    }
}

fn ballot(decision: VoteDecision) -> CastVote {
    CastVote { approval_id: Uuid::nil(), decision, comment: None, on_behalf_of: None, attachments: vec![] }
}

#[test]
fn votes() {
    let mut approval = approval(ApprovalTier::of("1".parse().unwrap(), 2, "committee"));
    let cast = |approval: &mut Approval, actor: &Actor, decision| {
        let vote = vote(approval, actor, &ballot(decision), &[], DateTime::UNIX_EPOCH).map_err(|rejection| rejection.reason)?;
        approval.votes.push(vote);
        derive_approval(approval);
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
    let tier = ApprovalTier::of("1".parse().unwrap(), 1, "committee");
    let mut workflow = workflow(SubjectKind::CapitalCall);
    refuse_step(&mut workflow, Reason::CallNotPending.with("changed"), DateTime::UNIX_EPOCH);
    let steps = self::workflow(SubjectKind::CapitalCall).steps;
    ask_again(&mut workflow, steps, &subject(Some(tier)), DateTime::UNIX_EPOCH);
    assert_eq!((workflow.status, workflow.error.is_none()), (WorkflowStatus::Waiting, true));
    assert!(workflow.steps.iter().all(|step| step.name != StepName::GiveBack));
    refuse_step(&mut workflow, Reason::ApprovalDenied.with("no"), DateTime::UNIX_EPOCH);
    let issue = workflow.steps.iter().find(|step| step.name == StepName::Issue).unwrap();
    assert_eq!(issue.status, StepStatus::Skipped);
    assert_eq!(next_step(&mut workflow).map(|step| step.name), Some(StepName::GiveBack));
    let mut withdrawn = self::workflow(SubjectKind::CapitalCall);
    assert!(withdraw(&mut withdrawn, Reason::Withdrawn.with("cancelled"), DateTime::UNIX_EPOCH));
    assert_eq!((withdrawn.status, next_step(&mut withdrawn).is_none()), (WorkflowStatus::Failed, true));
    assert!(!withdraw(&mut withdrawn, Reason::Withdrawn.with("again"), DateTime::UNIX_EPOCH));
}

fn subject(tier: Option<ApprovalTier>) -> Subject {
    Subject { tier, ..Subject::of("buyout", "5000000.00".parse().unwrap(), "USD".parse().ok(), "h") }
}

fn pause(reason: &str) -> Pause {
    Pause { by: "ada".into(), at: DateTime::UNIX_EPOCH, reason: reason.into() }
}

#[test]
fn what_somebody_has_a_workflow_do() {
    use WorkflowAction::{Cancel, Pause, Resume, Retry};
    let mut workflow = workflow(SubjectKind::Allocation);
    begin_next(&mut workflow, &subject(Some(ApprovalTier::of("1".parse().unwrap(), 1, "committee"))), DateTime::UNIX_EPOCH);
    let not_so = |workflow: &mut Workflow, action, from| {
        let before = workflow.clone();
        let refused = steer(workflow, action, from, pause("why")).unwrap_err();
        assert_eq!((refused.reason, *workflow == before), (Reason::WorkflowNotSteerable, true), "{action:?} {from:?}: {}", refused.detail);
    };
    not_so(&mut workflow, Resume, None);
    not_so(&mut workflow, Retry, None);
    not_so(&mut workflow, Retry, Some(1));
    not_so(&mut workflow, Retry, Some(9));
    not_so(&mut workflow, Pause, Some(1));
    assert_eq!(steer(&mut workflow, Pause, None, pause("a strike")), Ok(false));
    assert_eq!((workflow.status, is_running(&workflow)), (WorkflowStatus::Paused, false));
    assert!(workflow.expects.as_ref().unwrap().contains("a strike"));
    not_so(&mut workflow, Pause, None);
    finish_step(&mut workflow, StepStatus::Done, None, DateTime::UNIX_EPOCH);
    assert_eq!(workflow.status, WorkflowStatus::Paused, "votes count, and it stands still");
    assert_eq!(steer(&mut workflow, Resume, None, pause("")), Ok(false));
    assert_eq!(workflow.status, WorkflowStatus::Running);
    let cancelled = &mut workflow.clone();
    assert_eq!(steer(cancelled, Cancel, None, pause("not wanted")), Ok(true));
    assert_eq!(next_step(cancelled).map(|step| step.name), Some(StepName::GiveBack));
    not_so(cancelled, Cancel, None);
    let step = next_step(&mut workflow).unwrap();
    (step.status, step.attempts) = (StepStatus::Running, 7);
    not_so(&mut workflow, Cancel, None);
    assert_eq!(steer(&mut workflow, Retry, None, pause("it is there again")), Ok(false));
    assert_eq!(
        next_step(&mut workflow).map(|step| (step.name, step.status, step.attempts)),
        Some((StepName::Activate, StepStatus::Pending, 1))
    );
    not_so(&mut workflow, Cancel, None);
    for action in [Pause, Resume, Cancel, Retry] {
        assert!(check_steering(&workflow, &actor("ada", "admin"), action, "why").is_ok());
        let mine = check_steering(&workflow, &actor("mia", "analyst"), action, "why").map_err(|rejection| rejection.reason);
        assert_eq!(mine, if action == Cancel { Ok(()) } else { Err(Reason::Forbidden) });
        assert!(check_steering(&workflow, &actor("max", "analyst"), action, "why").is_err());
    }
}

#[test]
fn votes_for_somebody_else_are_nobodys_second_vote() {
    let at = |hours: i64| DateTime::UNIX_EPOCH + TimeDelta::hours(hours);
    let delegation = |by: &str, to: &str, roles: &[&str]| Delegation {
        id: Uuid::from_u128(9),
        version: 1,
        created_at: at(0),
        granted_by: by.into(),
        granted_to: to.into(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        funds: Some(vec![Uuid::from_u128(4)]),
        starts_at: at(1),
        ends_at: at(9),
        reason: "away".into(),
        revoked_at: None,
        status: DelegationStatus::Active,
    };
    let held = [
        delegation("ann", "tom", &["committee"]),
        delegation("bob", "tom", &["committee"]),
        delegation("mia", "tom", &["committee"]),
        delegation("ann", "mia", &["committee"]),
        delegation("kim", "tom", &["analyst"]),
        Delegation { funds: Some(vec![]), ..delegation("eve", "tom", &["committee"]) },
        Delegation { revoked_at: Some(at(2)), ..delegation("joe", "tom", &["committee"]) },
    ];
    let cast = |approval: &mut Approval, user: &str, role: &str, of: Option<&str>, hours| {
        let body = CastVote { on_behalf_of: of.map(str::to_owned), ..ballot(VoteDecision::Approve) };
        let vote = vote(approval, &actor(user, role), &body, &held, at(hours)).map_err(|rejection| rejection.reason)?;
        approval.votes.push(vote);
        derive_approval(approval);
        Ok(approval.status)
    };
    let approval = &mut approval(ApprovalTier::of("1".parse().unwrap(), 3, "committee"));
    for (user, role, of, hours, expected) in [
        ("tom", "treasurer", Some("ann"), 0, Err(Reason::NoDelegation)),
        ("tom", "treasurer", Some("ann"), 9, Err(Reason::NoDelegation)),
        ("tom", "treasurer", Some("eve"), 3, Err(Reason::NoDelegation)),
        ("tom", "treasurer", Some("joe"), 3, Err(Reason::NoDelegation)),
        ("cid", "committee", Some("ann"), 3, Err(Reason::NoDelegation)),
        ("tom", "treasurer", Some("mia"), 3, Err(Reason::RequesterMayNotVote)),
        ("mia", "committee", Some("ann"), 3, Err(Reason::RequesterMayNotVote)),
        ("tom", "treasurer", Some("kim"), 3, Err(Reason::RoleMayNotVote)),
        ("tom", "treasurer", Some("ann"), 3, Ok(ApprovalStatus::Pending)),
        ("ann", "committee", None, 3, Err(Reason::AlreadyVoted)),
        ("tom", "committee", None, 3, Err(Reason::AlreadyVoted)),
        ("tom", "treasurer", Some("bob"), 3, Err(Reason::AlreadyVoted)),
        ("bob", "committee", None, 3, Ok(ApprovalStatus::Pending)),
        ("tom", "treasurer", Some("bob"), 3, Err(Reason::AlreadyVoted)),
        ("cid", "committee", None, 3, Ok(ApprovalStatus::Approved)),
    ] {
        assert_eq!(cast(approval, user, role, of, hours), expected, "{user} for {of:?} at {hours}");
    }
}

#[test]
fn what_is_not_decided_is_reminded_of_escalated_and_expires_in_turn() {
    let at = |hours: i64| DateTime::UNIX_EPOCH + TimeDelta::hours(hours);
    let hours = |tier: ApprovalTier, remind, escalate, expire| ApprovalTier {
        remind_after_hours: remind,
        escalate_after_hours: escalate,
        expire_after_hours: expire,
        ..tier
    };
    let first = hours(ApprovalTier::of("1".parse().unwrap(), 1, "fund_manager"), Some(2), Some(4), Some(10));
    let weak = ApprovalTier::of("2".parse().unwrap(), 1, "committee");
    let second = hours(ApprovalTier::of("3".parse().unwrap(), 2, "committee"), Some(1), Some(3), Some(5));
    let mut asked = approval(first);
    asked.escalates_to = vec![second];
    derive_approval(&mut asked);
    assert_eq!(asked.deadline, Some(ApprovalDeadline { at: at(2), then: WhenOverdue::Remind }));
    let mut passed = vec![];
    for hour in 0..12 {
        while let Some(what) = pass_deadline(&mut asked, at(hour)) {
            passed.push((hour, what));
        }
    }
    use WhenOverdue::{Escalate, Expire, Remind};
    assert_eq!(passed, [(2, Remind), (4, Escalate), (5, Remind), (9, Expire)]);
    assert_eq!((asked.status, asked.deadline), (ApprovalStatus::Expired, None));
    // a tier whose votes are there already does not decide by itself
    let mut voted = approval(hours(ApprovalTier::of("1".parse().unwrap(), 2, "committee"), None, Some(4), Some(10)));
    voted.escalates_to = vec![weak];
    let ann = vote(&voted, &actor("ann", "committee"), &ballot(VoteDecision::Approve), &[], at(0)).unwrap();
    voted.votes.push(ann);
    derive_approval(&mut voted);
    assert_eq!(pass_deadline(&mut voted, at(4)), None);
    assert_eq!((voted.status, voted.tier.votes), (ApprovalStatus::Pending, 2));
    assert_eq!(pass_deadline(&mut voted, at(10)), Some(Expire));
}

/// What a vote must lead to, written a second time: the votes are gone through one by one, with what each group still lacks.
fn judged(tier: &ApprovalTier, votes: &[(usize, Vec<&str>, bool)]) -> (Vec<Option<Reason>>, ApprovalStatus) {
    let mut lacking: Vec<(String, u16)> = vec![(tier.role.clone(), tier.votes)];
    lacking.extend(tier.then.iter().map(|group| (group.role.clone(), group.votes)));
    let (mut said, mut seen, mut against, mut status) = (vec![], vec![], 0, ApprovalStatus::Pending);
    for (who, roles, approves) in votes {
        let groups: Vec<usize> = (0..lacking.len()).filter(|place| roles.contains(&lacking[*place].0.as_str())).collect();
        let first_open = lacking.iter().position(|(_, missing)| *missing > 0);
        let turn = groups.iter().copied().find(|place| lacking[*place].1 > 0 && (!tier.in_sequence || Some(*place) == first_open));
        let refused = match turn {
            _ if groups.is_empty() => Some(Reason::RoleMayNotVote),
            _ if status != ApprovalStatus::Pending => Some(Reason::ApprovalDecided),
            _ if seen.contains(who) => Some(Reason::AlreadyVoted),
            None => Some(Reason::NotYourTurn),
            Some(place) => {
                seen.push(*who);
                match approves {
                    true => lacking[place].1 -= 1,
                    false => against += 1,
                }
                None
            }
        };
        said.push(refused);
        if against >= tier.denials {
            status = ApprovalStatus::Denied;
        } else if lacking.iter().all(|(_, missing)| *missing == 0) {
            status = ApprovalStatus::Approved;
        }
    }
    (said, status)
}

proptest::proptest! {
    #[test]
    fn votes_count_as_the_tier_says(
        asked in proptest::collection::vec(1_u16..3, 1..4), in_sequence: bool, denials in 1_u16..3,
        cast in proptest::collection::vec((0_usize..9, 1_usize..8, 0_u8..5), 0..24),
    ) {
        const ROLES: [&str; 3] = ["committee", "fund_manager", "treasurer"];
        let mut tier = ApprovalTier::of("1".parse().unwrap(), asked[0], ROLES[0]);
        tier.then = asked.iter().zip(ROLES).skip(1).map(|(votes, role)| ApprovalGroup { votes: *votes, role: role.into() }).collect();
        (tier.in_sequence, tier.denials) = (in_sequence, denials);
        // a person has the same roles in each vote; one in five votes is against
        let mut roles_of = std::collections::HashMap::new();
        let votes: Vec<(usize, Vec<&str>, bool)> = cast
            .iter()
            .map(|(who, bits, side)| {
                let roles = roles_of.entry(*who).or_insert_with(|| (0..3).filter(|bit| bits & (1 << bit) != 0).map(|bit| ROLES[bit]).collect());
                (*who, Vec::clone(roles), *side > 0)
            })
            .collect();
        let mut approval = approval(tier.clone());
        let mut said = vec![];
        for (who, roles, approves) in &votes {
            let roles = roles.iter().map(|role| (*role).to_owned()).collect();
            let actor = Actor { user: format!("member {who}"), roles, scope: Scope::All };
            let decision = if *approves { VoteDecision::Approve } else { VoteDecision::Deny };
            match vote(&approval, &actor, &ballot(decision), &[], DateTime::UNIX_EPOCH) {
                Ok(vote) => {
                    approval.votes.push(vote);
                    derive_approval(&mut approval);
                    said.push(None);
                }
                Err(rejection) => said.push(Some(rejection.reason)),
            }
        }
        proptest::prop_assert_eq!((said, approval.status), judged(&tier, &votes));
    }
}
