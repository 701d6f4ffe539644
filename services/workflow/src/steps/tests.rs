use std::collections::BTreeMap;

use ::domain::predicate::Predicate;
use ::domain::rules::{ApprovalTier, RuleLayer, Rules, StepDefinition};

use super::*;

#[test]
fn a_subject_that_its_owner_has_forgotten_ends_the_workflow_and_one_that_is_not_there_yet_does_not() {
    let unknown = |reason: Reason| Ok(Err(reason.with("why")));
    let of = |step, reason| outcome(SubjectKind::CapitalCall, step, 1, unknown(reason));
    assert!(matches!(of(StepName::Issue, Reason::UnknownCapitalCall), Outcome::Refused(_)));
    assert!(matches!(of(StepName::GiveBack, Reason::UnknownCapitalCall), Outcome::Done(_)));
    assert!(matches!(of(StepName::Issue, Reason::UnknownAllocation), Outcome::Unanswered(_)), "a copy may be behind");
    let later = |reason| outcome(SubjectKind::CapitalCall, StepName::Issue, COPY_ATTEMPTS, unknown(reason));
    assert!(matches!(later(Reason::UnknownAllocation), Outcome::Refused(_)), "but not for so long");
    assert!(matches!(later(Reason::ServiceUnavailable), Outcome::Unanswered(_)));
}

/// A fault that strikes a step once, or for as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// None.
    None,
    /// The step is done, and its answer is lost.
    AnswerLost,
    /// It is refused.
    Refused,
    /// It is refused, and no program hears that it is given up.
    RefusedAndDeaf,
    /// Whoever does it never answers.
    Absent,
    /// It answers what it must not.
    Lies,
}

/// What the services and programs have done for a workflow.
#[derive(Debug)]
struct World {
    /// Whether something is held for the request.
    holds: bool,
    /// Whether it is decided.
    is_decided: bool,
    /// The programs that are to be told when it is given up, and were asked and not told, in the order of their first questions.
    asked: Vec<String>,
}

impl World {
    /// What comes of a step. Whatever is asked for twice is done once.
    fn outcome(&mut self, step: StepName, program: Option<&str>, undo: bool, fault: Fault) -> Outcome {
        if let (StepName::Ask, Some(program), true) = (step, program, undo)
            && !self.asked.iter().any(|asked| asked == program)
        {
            self.asked.push(program.to_owned());
        }
        let refused = || Outcome::Refused(Reason::OverCapacity.with("refused"));
        match (step, fault) {
            (StepName::Undo, Fault::None | Fault::AnswerLost) => {
                assert_eq!(self.asked.last().map(String::as_str), program, "the last one is given up first");
                self.asked.retain(|asked| Some(asked.as_str()) != program);
            }
            (StepName::GiveBack, Fault::None | Fault::AnswerLost) => {
                assert!(!self.is_decided, "what is decided is not given back");
                self.holds = false;
            }
            (
                StepName::Activate | StepName::Issue | StepName::Release | StepName::TakeBack | StepName::PutInUse | StepName::PutInForce,
                Fault::None | Fault::AnswerLost,
            ) => self.is_decided = true,
            _ => {}
        }
        match (fault, step) {
            (Fault::None, StepName::Ask) => {
                Outcome::Agreed(StepAnswer { decision: StepDecision::Agreed, note: None, data: Some(serde_json::json!({"score": 1})) })
            }
            (Fault::None, _) => Outcome::Done("done".into()),
            (Fault::AnswerLost | Fault::Absent, _) => Outcome::Unanswered("nobody answered".into()),
            (Fault::Refused | Fault::RefusedAndDeaf, _) => refused(),
            (Fault::Lies, _) => Outcome::Invalid("it lies".into()),
        }
    }
}

/// Runs a workflow to its end, or to where it is paused, with a fault at one of its steps.
fn run(kind: SubjectKind, rules: &Rules, faulty: usize, fault: Fault) -> (Instance, World) {
    let now = DateTime::UNIX_EPOCH;
    let amount = "5000000.00".parse().unwrap();
    let mut subject = domain::Subject::of("buyout", amount, "USD".parse().ok(), "h");
    subject.keep_to(kind, rules);
    let mut workflow = Workflow {
        id: Uuid::from_u128(1),
        version: 1,
        created_at: now,
        subject_kind: kind,
        subject_id: Uuid::from_u128(2),
        fund_id: Uuid::from_u128(3),
        requested_by: "mia".into(),
        steps: domain::first_steps(kind, rules, now),
        progress: 0,
        error: None,
        rules: Default::default(),
        paused: None,
        stuck: false,
        expects: None,
        status: ::domain::messages::workflow::WorkflowStatus::Running,
    };
    domain::begin_next(&mut workflow, &subject, now);
    let mut instance = Instance { workflow, correlation_id: "c".into(), subject, due_at: None, subject_epoch: 1 };
    let mut world = World { holds: true, is_decided: false, asked: vec![] };
    let mut lost = 0;
    for _ in 0..2_000 {
        let place = instance
            .workflow
            .steps
            .iter()
            .position(|step| matches!(step.status, StepStatus::Pending | StepStatus::Running | StepStatus::Waiting));
        let (Some(place), None) = (place, &instance.workflow.paused) else { return (instance, world) };
        let step: &mut Step = &mut instance.workflow.steps[place];
        let (name, program, undo) = (step.name, step.program.clone(), step.undo);
        let fault = match fault {
            Fault::RefusedAndDeaf if name == StepName::Undo => Fault::Absent,
            _ if place != faulty => Fault::None,
            Fault::RefusedAndDeaf => Fault::Refused,
            Fault::AnswerLost if lost > 0 => Fault::None,
            Fault::AnswerLost => {
                lost += 1;
                Fault::AnswerLost
            }
            // services answer what they must; one that never answers is asked for ever, which is no end
            Fault::Absent | Fault::Lies if name != StepName::Ask => Fault::None,
            fault => fault,
        };
        match name {
            // what people do to a change of rules, its owner has done already
            StepName::Approve if fault == Fault::Refused && kind == SubjectKind::RuleChange => {
                assert!(domain::withdraw(&mut instance.workflow, Reason::ApprovalDenied.with("denied"), now));
                world.holds = false;
            }
            StepName::Approve if fault == Fault::Refused => {
                domain::refuse_step(&mut instance.workflow, Reason::ApprovalDenied.with("denied"), now);
            }
            StepName::Approve | StepName::Simulate if kind == SubjectKind::RuleChange => {
                assert!(domain::note(&mut instance.workflow, &mut instance.subject, name, "done".into(), now));
            }
            StepName::Confirm => assert!(domain::note(&mut instance.workflow, &mut instance.subject, name, "done".into(), now)),
            StepName::Approve | StepName::Wait => domain::finish_step(&mut instance.workflow, StepStatus::Done, None, now),
            _ => {
                (step.status, step.attempts) = (StepStatus::Running, step.attempts + 1);
                let outcome = world.outcome(name, program.as_deref(), undo, fault);
                conclude(&mut instance, name, outcome, now);
            }
        }
        domain::begin_next(&mut instance.workflow, &instance.subject, now);
    }
    panic!("it does not end: {:?}", instance.workflow);
}

/// What must be true of a workflow that has ended, or is paused, and of the world.
fn check_end(instance: &Instance, world: &World, fault: Fault, holds: bool) {
    use ::domain::messages::workflow::WorkflowStatus;
    let workflow = &instance.workflow;
    match workflow.status {
        WorkflowStatus::Completed => {
            assert!(world.holds && world.is_decided && holds, "{workflow:?}");
            assert!(workflow.steps.iter().all(|step| !step.name.is_compensation()));
            assert!(workflow.error.is_none(), "{workflow:?}");
        }
        // its owner's database was set back: what was rescinded stays so
        WorkflowStatus::Failed if workflow.steps.iter().any(|step| step.name == StepName::Reduce && step.status == StepStatus::Failed) => {
            assert!(world.is_decided && world.holds && workflow.error.is_some(), "{workflow:?}");
            assert!(workflow.steps.iter().all(|step| !step.name.is_compensation()));
        }
        WorkflowStatus::Failed => {
            let done = |step: &&Step| step.name == StepName::GiveBack && matches!(step.status, StepStatus::Done | StepStatus::Skipped);
            let gave_back = workflow.steps.iter().any(|step| done(&step));
            assert!(!world.holds && !world.is_decided && gave_back, "{workflow:?} {world:?}");
            assert!(world.asked.is_empty() || fault == Fault::RefusedAndDeaf, "who agreed was told: {world:?} {workflow:?}");
            assert!(workflow.error.is_some() && (!holds || fault != Fault::None && fault != Fault::AnswerLost), "{workflow:?}");
        }
        WorkflowStatus::Paused => {
            assert!(world.holds && !world.is_decided, "{workflow:?}");
            assert!(matches!(fault, Fault::Absent | Fault::Lies), "{workflow:?}");
            assert_eq!(workflow.error.as_ref().map(|problem| problem.code), Some(Reason::WorkflowPaused));
        }
        other => panic!("{other:?}"),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]

    /// Each step of each definition that the rules allow, struck by each fault, ends in the right state: decided and held, or given back
    /// with all who had agreed told, the last first.
    #[test]
    fn an_error_at_each_step_of_each_definition_ends_right(
        kind in proptest::sample::select(vec![SubjectKind::Allocation, SubjectKind::CapitalCall, SubjectKind::Refund, SubjectKind::Withdrawal, SubjectKind::BankDetails, SubjectKind::RuleChange]),
        before in proptest::collection::vec((0_usize..4, 2_u16..5, 0_usize..3, proptest::bool::ANY, proptest::bool::ANY), 0..5),
        approve_at in 0_usize..6, simulate_at in 0_usize..6, after in 0_usize..3, needs_votes: bool,
    ) {
        let mut layer = RuleLayer::default();
        let (mut steps, mut programs, mut predicates) = (vec![], BTreeMap::new(), BTreeMap::new());
        let step = |step, program: Option<&str>, hours| StepDefinition {
            step,
            program: program.map(str::to_owned),
            predicate: None,
            hours,
        };
        for (place, (what, attempts, absent, advisory, undo)) in before.into_iter().enumerate() {
            // a change of rules has no conditions
            if what == 1 && !undo && kind != SubjectKind::RuleChange {
                let name = format!("condition-{place}");
                let expression = if attempts < 4 { "amount > 0" } else { "amount < 0" };
                predicates.insert(name.clone(), Predicate { expression: expression.into(), message: "why".into() });
                steps.push(StepDefinition { step: StepName::Check, program: None, predicate: Some(name), hours: None });
                continue;
            }
            if what == 0 {
                steps.push(step(StepName::Wait, None, Some(attempts)));
                continue;
            }
            let name = format!("program-{place}");
            let when_absent = [WhenAbsent::Refuse, WhenAbsent::Hold, WhenAbsent::GoOn][absent];
            let program = StepProgram { timeout_seconds: 1, attempts, when_absent, advisory, undo, answer: None, parameters: None };
            steps.push(step(StepName::Ask, Some(&name), None));
            programs.insert(name, program);
        }
        steps.insert(approve_at.min(steps.len()), step(StepName::Approve, None, None));
        if kind == SubjectKind::BankDetails {
            steps.insert(approve_at.min(steps.len()), step(StepName::Confirm, None, None));
        }
        if kind == SubjectKind::RuleChange {
            let approve = steps.iter().position(|step| step.step == StepName::Approve).unwrap();
            steps.insert(simulate_at.min(approve), step(StepName::Simulate, None, None));
        }
        steps.insert(0, step(StepName::Validate, None, None));
        steps.push(step(::domain::rules::decisive(kind), None, None));
        if kind == SubjectKind::Withdrawal {
            steps.push(step(StepName::Reduce, None, None));
        }
        for place in 0..after {
            let name = format!("later-{place}");
            let program =
                StepProgram { timeout_seconds: 1, attempts: 2, when_absent: WhenAbsent::GoOn, advisory: true, undo: false, answer: None, parameters: None };
            steps.push(step(StepName::Ask, Some(&name), None));
            programs.insert(name, program);
        }
        let count = steps.len();
        let holds = predicates.values().all(|predicate: &Predicate| predicate.expression == "amount > 0");
        layer.programs = Some(programs);
        layer.predicates = Some(predicates);
        let tier = ApprovalTier { kinds: vec![kind], ..ApprovalTier::of("1".parse().unwrap(), 1, "committee") };
        layer.approval_tiers = Some(if needs_votes && kind != SubjectKind::RuleChange { vec![tier] } else { vec![] });
        layer.refund_tiers.clone_from(&layer.approval_tiers);
        match kind {
            SubjectKind::Allocation => layer.allocation_steps = Some(steps),
            SubjectKind::CapitalCall => layer.capital_call_steps = Some(steps),
            SubjectKind::Refund => layer.refund_steps = Some(steps),
            SubjectKind::Withdrawal => layer.withdrawal_steps = Some(steps),
            SubjectKind::BankDetails => layer.bank_details_steps = Some(steps),
            SubjectKind::RuleChange => layer.rule_change_steps = Some(steps),
        }
        proptest::prop_assert_eq!(layer.check(), Ok(()));
        let rules = layer.complete().unwrap();
        for faulty in 0..count {
            for fault in [Fault::None, Fault::AnswerLost, Fault::Refused, Fault::RefusedAndDeaf, Fault::Absent, Fault::Lies] {
                let (instance, world) = run(kind, &rules, faulty, fault);
                check_end(&instance, &world, fault, holds);
            }
        }
    }
}

#[test]
fn what_is_tried_again_stays_stuck_and_who_answered_wrongly_once_is_not_passed_over() {
    let ask = StepDefinition { step: StepName::Ask, program: Some("kyc".into()), predicate: None, hours: None };
    let step = |step| StepDefinition { step, program: None, predicate: None, hours: None };
    let program = StepProgram {
        timeout_seconds: 1,
        attempts: 3,
        when_absent: WhenAbsent::GoOn,
        advisory: false,
        undo: false,
        answer: None,
        parameters: None,
    };
    let rules = RuleLayer {
        allocation_steps: Some(vec![step(StepName::Validate), ask, step(StepName::Approve), step(StepName::Activate)]),
        programs: Some(BTreeMap::from([("kyc".to_owned(), program)])),
        ..RuleLayer::default()
    };
    let (mut instance, _) = run(SubjectKind::Allocation, &rules.complete().unwrap(), 1, Fault::None);
    for (wrong_first, ended) in [(false, StepStatus::Skipped), (true, StepStatus::Failed)] {
        let again = &mut instance.workflow.steps[1];
        (again.status, again.attempts, again.answered_wrongly) = (StepStatus::Running, 1, false);
        instance.workflow.steps[3].status = StepStatus::Pending;
        instance.workflow.stuck = true;
        let nobody = || Outcome::Unanswered("nobody answered".into());
        let first = if wrong_first { Outcome::Invalid("no json".into()) } else { nobody() };
        conclude(&mut instance, StepName::Ask, first, DateTime::UNIX_EPOCH);
        assert!(instance.workflow.stuck, "the step has not ended");
        instance.workflow.steps[1].attempts = 3;
        conclude(&mut instance, StepName::Ask, nobody(), DateTime::UNIX_EPOCH);
        assert_eq!((instance.workflow.steps[1].status, instance.workflow.stuck), (ended, false));
    }
}
