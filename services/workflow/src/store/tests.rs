use ::domain::Currency;
use ::domain::ids;
use ::domain::messages::workflow::{
    Pause, RuleChangeStatus, RuleSet, RuleSetStatus, StepName, StepStatus, SubjectKind, Vote, VoteDecision,
};
use ::domain::rules::{ApprovalTier, RuleLayer, RuleScope};
use chassis::{Database, Errand, clock::Clock};
use chrono::TimeDelta;

use super::*;
use crate::steps::{LEASE, Steps};

async fn database() -> Database {
    let url = testkit::database::fresh("workflow").await;
    Database::connect("workflow", &url, "development", Clock::default()).await.unwrap().0
}

fn usd(amount: i128) -> ::domain::Amount {
    "USD".parse::<Currency>().unwrap().from_minor(amount)
}

fn instance_of(tx: &Tx, due: bool) -> Instance {
    let subject_id = tx.new_id();
    let mut workflow = Workflow {
        id: ids::workflow_id(subject_id),
        version: 1,
        created_at: tx.now(),
        subject_kind: SubjectKind::Allocation,
        subject_id,
        fund_id: tx.new_id(),
        requested_by: "mia".into(),
        steps: domain::first_steps(SubjectKind::Allocation, &RuleLayer::default().complete().unwrap(), tx.now()),
        progress: 0,
        error: None,
        rules: Default::default(),
        paused: None,
        stuck: false,
        expects: None,
        status: WorkflowStatus::Running,
    };
    domain::derive(&mut workflow);
    let subject = Subject { deal_id: Some(tx.new_id()), ..Subject::of("buyout", usd(5_000), "USD".parse().ok(), "h") };
    Instance { workflow, correlation_id: "c".into(), subject, due_at: due.then(|| tx.system_now()), subject_epoch: 1 }
}

#[tokio::test]
async fn of_changes_that_are_due_the_one_whose_time_came_first_is_first() {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let mut changes = Vec::new();
    for minutes_ago in [3, 2, 1] {
        let instance = instance_of(&tx, true);
        insert(&mut tx, std::slice::from_ref(&instance)).await.unwrap();
        let mut change = domain::first_draft(tx.new_id(), &RuleScope::Global, "ada", tx.now());
        change.active_from = Some(tx.now() - TimeDelta::minutes(minutes_ago));
        (change.workflow_id, change.status) = (Some(instance.workflow.id), RuleChangeStatus::Approved);
        save_rule_change(&mut tx, &change).await.unwrap();
        changes.push((change, instance));
    }
    let [(first, in_time), (second, _), (third, _)] = &mut changes[..] else { panic!("three were made") };
    for (change, is_second) in [(&*first, false), (&*second, true), (&*third, true)] {
        assert_eq!(is_another_first(&mut tx, change).await.unwrap(), is_second);
    }
    // one whose workflow stands still, or that is put in force, holds up no other
    in_time.workflow.paused = Some(Pause { by: "ada".into(), at: tx.now(), reason: "a strike".into() });
    domain::derive(&mut in_time.workflow);
    save(&mut tx, &[in_time]).await.unwrap();
    assert!(!is_another_first(&mut tx, second).await.unwrap() && is_another_first(&mut tx, third).await.unwrap());
    second.status = RuleChangeStatus::Active;
    save_rule_change(&mut tx, second).await.unwrap();
    assert!(!is_another_first(&mut tx, third).await.unwrap());
    // one whose workflow is at a question
    in_time.workflow.paused = None;
    let step = domain::next_step(&mut in_time.workflow).unwrap();
    (step.name, step.program) = (StepName::Ask, Some("counsel".into()));
    domain::derive(&mut in_time.workflow);
    save(&mut tx, &[in_time]).await.unwrap();
    assert!(!is_another_first(&mut tx, third).await.unwrap());
    // one whose time has come, and whose workflow has not heard of it yet
    let step = domain::next_step(&mut in_time.workflow).unwrap();
    (step.name, step.status, step.until) = (StepName::PutInForce, StepStatus::Waiting, first.active_from);
    domain::derive(&mut in_time.workflow);
    save(&mut tx, &[in_time]).await.unwrap();
    assert!(is_another_first(&mut tx, third).await.unwrap());
}

#[tokio::test]
async fn workflows_start_once_and_read_back_as_written() {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let mut instance = instance_of(&tx, false);
    let id = instance.workflow.id;
    assert_eq!(insert(&mut tx, std::slice::from_ref(&instance)).await.unwrap(), [id]);
    assert!(insert(&mut tx, std::slice::from_ref(&instance)).await.unwrap().is_empty());
    assert_eq!(find(&mut tx, id).await.unwrap(), Some(instance.workflow.clone()));
    domain::finish_step(&mut instance.workflow, StepStatus::Done, None, tx.now());
    instance.workflow.version = 2;
    save(&mut tx, &[&instance]).await.unwrap();
    let read = lock(&mut tx, &[id]).await.unwrap().remove(&id).unwrap();
    assert_eq!((read.workflow, read.subject, read.correlation_id), (instance.workflow.clone(), instance.subject.clone(), "c".into()));
    let far = (DateTime::<Utc>::from_timestamp(1 << 36, 0).unwrap(), Uuid::max());
    let all = ListWorkflows::default();
    let running = ListWorkflows { status: Some(WorkflowStatus::Running), stuck: Some(false), ..all.clone() };
    assert_eq!(list(&mut tx, None, &running, far, 5).await.unwrap().len(), 1);
    assert!(list(&mut tx, Some(&[]), &all, far, 5).await.unwrap().is_empty());
    for none in [
        ListWorkflows { before: Some(instance.workflow.created_at), ..all.clone() },
        ListWorkflows { stuck: Some(true), ..all.clone() },
        ListWorkflows { status: Some(WorkflowStatus::Paused), ..all },
    ] {
        assert!(list(&mut tx, None, &none, far, 5).await.unwrap().is_empty(), "{none:?}");
    }
}

#[tokio::test]
async fn two_runners_never_take_the_same_workflow() {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let instances: Vec<Instance> = (0..6).map(|number| instance_of(&tx, number < 4)).collect();
    insert(&mut tx, &instances).await.unwrap();
    tx.commit().await.unwrap();
    let (mut one, mut other) = (database.begin().await.unwrap(), database.begin().await.unwrap());
    let first = lock_due(&mut one, false, 3).await.unwrap();
    let second = lock_due(&mut other, false, 3).await.unwrap();
    assert_eq!((first.len(), second.len()), (3, 1), "the two that are not due stay");
    assert!(second.iter().all(|instance| first.iter().all(|taken| taken.workflow.id != instance.workflow.id)));
}

#[tokio::test]
async fn a_lease_ends_also_when_the_clock_is_set_back() {
    let url = testkit::database::fresh("workflow").await;
    let clock = Clock::default();
    let (database, _) = Database::connect("workflow", &url, "development", clock.clone()).await.unwrap();
    clock.set_offset(400 * 86_400);
    let mut tx = database.begin().await.unwrap();
    let mut instance = instance_of(&tx, true);
    domain::finish_step(&mut instance.workflow, StepStatus::Skipped, None, tx.now());
    insert(&mut tx, &[instance.clone()]).await.unwrap();
    assert_eq!(Steps { asks: false }.claim(&mut tx).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
    clock.set_offset(0);
    let mut tx = database.begin().await.unwrap();
    let leased = lock(&mut tx, &[instance.workflow.id]).await.unwrap().remove(&instance.workflow.id).unwrap();
    assert!(leased.due_at.unwrap() <= tx.system_now() + LEASE);
}

#[tokio::test]
async fn approvals_and_rules_read_back_as_written() {
    let database = database().await;
    let mut tx = database.begin().await.unwrap();
    let instance = instance_of(&tx, false);
    insert(&mut tx, std::slice::from_ref(&instance)).await.unwrap();
    let mut approval = Approval {
        id: tx.new_id(),
        version: 1,
        created_at: tx.now(),
        workflow_id: instance.workflow.id,
        subject_kind: SubjectKind::Allocation,
        subject_id: instance.workflow.subject_id,
        fund_id: instance.workflow.fund_id,
        amount: usd(5_000),
        currency: "USD".parse().unwrap(),
        content_hash: "h".into(),
        requested_by: "mia".into(),
        tier: ApprovalTier::of("1".parse().unwrap(), 1, "committee"),
        votes: vec![],
        priority: Priority::Normal,
        authors: vec!["max".into()],
        voided: false,
        asked_at: tx.now(),
        reminded: false,
        escalates_to: vec![ApprovalTier::of(usd(9_000), 3, "committee")],
        expired: false,
        deadline: None,
        status: ApprovalStatus::Pending,
    };
    insert_approvals(&mut tx, std::slice::from_ref(&approval)).await.unwrap();
    assert_eq!(
        list_approvals(&mut tx, None, Some(ApprovalStatus::Pending), None, (0, DateTime::UNIX_EPOCH, Uuid::nil()), 5).await.unwrap(),
        [approval.clone()]
    );
    approval.votes.push(Vote {
        user: "ann".into(),
        role: "committee".into(),
        decision: VoteDecision::Approve,
        comment: Some("fine".into()),
        at: tx.now(),
        on_behalf_of: Some("bob".into()),
        attachments: vec![],
    });
    approval.version = 2;
    domain::derive_approval(&mut approval);
    save_approvals(&mut tx, &[&approval]).await.unwrap();
    assert_eq!(find_approval(&mut tx, approval.id).await.unwrap(), Some(approval.clone()));
    assert_eq!(lock_approvals(&mut tx, &[approval.id]).await.unwrap()[&approval.id], approval);
    assert!(
        list_approvals(&mut tx, None, Some(ApprovalStatus::Pending), None, (0, DateTime::UNIX_EPOCH, Uuid::nil()), 5)
            .await
            .unwrap()
            .is_empty()
    );

    // the most urgent stands first, whenever it was asked for
    for (id, priority) in [(1, Priority::Normal), (2, Priority::Urgent), (3, Priority::High)] {
        let asked = Approval { id: Uuid::from_u128(id), priority, votes: vec![], status: ApprovalStatus::Pending, ..approval.clone() };
        insert_approvals(&mut tx, &[asked]).await.unwrap();
    }
    let listed = list_approvals(&mut tx, None, None, None, (0, DateTime::UNIX_EPOCH, Uuid::nil()), 5).await.unwrap();
    let priorities: Vec<Priority> = listed.iter().filter(|listed| listed.id != approval.id).map(|listed| listed.priority).collect();
    assert_eq!(priorities, [Priority::Urgent, Priority::High, Priority::Normal]);

    lock_rules(&mut tx).await.unwrap();
    for version in 1..=2 {
        let rules = RuleSet {
            id: ids::rule_set_id("global"),
            version,
            created_at: tx.now(),
            scope: "global".into(),
            rules: RuleLayer { grace_days: Some(version as u16), ..RuleLayer::default() },
            changed_by: "ada".into(),
            content_hash: "h".into(),
            rule_change_id: None,
            status: RuleSetStatus::Active,
        };
        insert_rule_set(&mut tx, &rules).await.unwrap();
    }
    let versions = rule_versions(&mut tx, "global", 5).await.unwrap();
    let seen: Vec<_> = versions.iter().map(|rules| (rules.version, rules.rules.grace_days, rules.status)).collect();
    let newest = newest_rules(&mut tx).await.unwrap();
    assert_eq!((newest.len(), newest[0].version), (1, 2));
    assert_eq!(seen, [(2, Some(2), RuleSetStatus::Active), (1, Some(1), RuleSetStatus::Superseded)]);
}
