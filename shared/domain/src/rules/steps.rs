//! The steps of workflows as data, and the programs of others that are asked in them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::messages::workflow::{StepName, SubjectKind};
use crate::predicate::Predicate;
use crate::rejection::{Reason, Rejection};
use crate::shape::Shape;

/// Most steps of a workflow; it stays a small event.
const STEPS_MAX: usize = 20;
/// Longest time that a workflow waits in one step: a quarter of a year.
const WAIT_HOURS_MAX: u16 = 2_200;
/// Most programs that rules register.
const PROGRAMS_MAX: usize = 50;
/// Most conditions that rules have.
const PREDICATES_MAX: usize = 50;
/// Longest name of a program or a condition: the one is a token of a subject.
const NAME_MAX: usize = 60;
/// Most bytes of what a program is told besides the request, written as JSON: each workflow keeps it.
const PARAMETERS_BYTES_MAX: usize = 4_096;
/// Longest time that one answer of a program is waited for: shorter than the time for which a step is kept from other replicas.
const TIMEOUT_SECONDS_MAX: u16 = 10;
/// Most times that a program is asked: with the pauses in between, some hours.
const ATTEMPTS_MAX: u16 = 500;

/// One step of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepDefinition {
    /// What is done.
    pub step: StepName,
    /// Of `ask`: which of the registered programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Of `check`: which of the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
    /// Of `wait`: for so many hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<u16>,
}

/// A program of somebody else that serves a step: a NATS responder on `tranche.step.<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepProgram {
    /// Seconds that one answer is waited for.
    pub timeout_seconds: u16,
    /// Times that it is asked until it counts as absent, and told until it counts as unable to hear; the pauses grow from a fifth of a second
    /// to half a minute.
    pub attempts: u16,
    /// What is done when it is absent.
    pub when_absent: WhenAbsent,
    /// Whether its refusal is only noted. A program that is asked after the decision can only be of that kind.
    #[serde(default)]
    pub advisory: bool,
    /// Whether it is told, on `tranche.step.<name>.undo`, when what it was asked about is given up; also when it has refused it, or when its
    /// answer did not come.
    #[serde(default)]
    pub undo: bool,
    /// JSON Schema of the `data` of its answers; none: it gives no data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Shape>,
    /// What it is told besides the request: a limit, a list of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
}

/// What is done about a program that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenAbsent {
    /// The request is refused, and what was held is given back.
    Refuse,
    /// The workflow is paused until somebody has it go on.
    Hold,
    /// The step is left out.
    GoOn,
}

/// The name of the step that decides about the subject of a kind of workflow.
pub fn decisive(kind: SubjectKind) -> StepName {
    match kind {
        SubjectKind::Allocation => StepName::Activate,
        SubjectKind::CapitalCall => StepName::Issue,
        SubjectKind::Refund => StepName::Release,
        SubjectKind::Withdrawal => StepName::TakeBack,
        SubjectKind::BankDetails => StepName::PutInUse,
        SubjectKind::RuleChange => StepName::PutInForce,
    }
}

/// Refuses steps that do not lead to a decision about a subject, or that could not be unwound.
pub(super) fn check(field: &str, kind: SubjectKind, steps: &[StepDefinition]) -> Result<(), Rejection> {
    let refuse = |why: String| Err(Reason::InvalidRules.with(format!("{field}: {why}")));
    if steps.len() > STEPS_MAX {
        return refuse(format!("more than {STEPS_MAX} steps"));
    }
    let decisive = decisive(kind);
    let place = |name: StepName| steps.iter().position(|step| step.step == name);
    if place(StepName::Validate) != Some(0) {
        return refuse("the first step is validate".into());
    }
    let (Some(approve), Some(decides)) = (place(StepName::Approve), place(decisive)) else {
        return refuse(format!("the steps approve and {} are missing, or one of them is", decisive.as_str()));
    };
    if approve > decides {
        return refuse(format!("approve stands after {}", decisive.as_str()));
    }
    if kind == SubjectKind::BankDetails && place(StepName::Confirm).is_none() {
        return refuse("the step confirm is missing: nobody uses what no second person has confirmed".into());
    }
    if kind == SubjectKind::RuleChange && place(StepName::Simulate).is_none_or(|simulate| simulate > approve) {
        return refuse("the step simulate is missing, or stands after approve: who votes sees what would have changed".into());
    }
    let waits: u32 = steps.iter().filter_map(|step| step.hours).map(u32::from).sum();
    if kind == SubjectKind::RuleChange && waits > u32::from(WAIT_HOURS_MAX) {
        return refuse(format!(
            "they wait for {waits} hours, and so would the change that mends them; at most {WAIT_HOURS_MAX} are allowed"
        ));
    }
    if kind == SubjectKind::Withdrawal && place(StepName::Reduce) != Some(decides + 1) {
        return refuse("reduce does not follow take_back".into());
    }
    for (place, StepDefinition { step, program, predicate, hours }) in steps.iter().enumerate() {
        let is_repeatable = matches!(step, StepName::Ask | StepName::Check | StepName::Wait);
        let fits = match step {
            StepName::Validate | StepName::Approve | StepName::Ask | StepName::Wait => true,
            // a condition that never holds would keep everybody from mending it
            StepName::Check => kind != SubjectKind::RuleChange && place < decides,
            StepName::RequestStage => kind == SubjectKind::Allocation && place > decides,
            StepName::Confirm => kind == SubjectKind::BankDetails && place < decides,
            StepName::Simulate => kind == SubjectKind::RuleChange,
            StepName::Reduce => kind == SubjectKind::Withdrawal && place == decides + 1,
            step => *step == decisive,
        };
        if !fits {
            return refuse(format!("{} is no step of such a workflow, or stands in the wrong place", step.as_str()));
        }
        let is_it = |before: &&StepDefinition| before.step == *step && before.program == *program && before.predicate == *predicate;
        if *step != StepName::Wait && steps[..place].iter().any(|before| if is_repeatable { is_it(&before) } else { before.step == *step })
        {
            let name = program.as_deref().or(predicate.as_deref()).unwrap_or(step.as_str());
            return refuse(format!("the step {name} stands there twice"));
        }
        let belongs = [(program.is_some(), StepName::Ask), (predicate.is_some(), StepName::Check), (hours.is_some(), StepName::Wait)];
        if belongs.into_iter().any(|(is_given, of)| is_given != (*step == of)) {
            return refuse("a program belongs to ask, a predicate to check, and hours to wait".into());
        }
        if hours.is_some_and(|hours| !(1..=WAIT_HOURS_MAX).contains(&hours)) {
            return refuse(format!("wait is for 1 to {WAIT_HOURS_MAX} hours"));
        }
    }
    Ok(())
}

fn check_name(field: &str, name: &str) -> Result<(), Rejection> {
    let fits = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'));
    match fits && (1..=NAME_MAX).contains(&name.len()) {
        true => Ok(()),
        false => Err(Reason::InvalidRules.with(format!("{field}: {name:?} is not 1 to {NAME_MAX} small letters, digits, - and _"))),
    }
}

/// Refuses conditions that cannot be looked at.
pub(super) fn check_predicates(predicates: &BTreeMap<String, Predicate>) -> Result<(), Rejection> {
    if predicates.len() > PREDICATES_MAX {
        return Err(Reason::InvalidRules.with(format!("predicates: more than {PREDICATES_MAX}")));
    }
    for (name, predicate) in predicates {
        check_name("predicates", name)?;
        predicate.check(&format!("predicates: {name}"))?;
    }
    Ok(())
}

/// Refuses programs that cannot be asked.
pub(super) fn check_programs(programs: &BTreeMap<String, StepProgram>) -> Result<(), Rejection> {
    let refuse = |why: String| Err(Reason::InvalidRules.with(format!("programs: {why}")));
    if programs.len() > PROGRAMS_MAX {
        return refuse(format!("more than {PROGRAMS_MAX}"));
    }
    for (name, program) in programs {
        check_name("programs", name)?;
        if !(1..=TIMEOUT_SECONDS_MAX).contains(&program.timeout_seconds) {
            return refuse(format!("{name}: timeout_seconds is not 1 to {TIMEOUT_SECONDS_MAX}"));
        }
        if !(1..=ATTEMPTS_MAX).contains(&program.attempts) {
            return refuse(format!("{name}: attempts is not 1 to {ATTEMPTS_MAX}"));
        }
        if program.parameters.as_ref().is_some_and(|parameters| parameters.to_string().len() > PARAMETERS_BYTES_MAX) {
            return refuse(format!("{name}: parameters have more than {PARAMETERS_BYTES_MAX} bytes"));
        }
        if let Some(shape) = &program.answer {
            shape.check(&format!("programs: {name}: answer"))?;
        }
    }
    Ok(())
}

/// Refuses steps that ask a program or look at a condition which the rules do not have, or a program after the decision that could refuse it.
pub(super) fn check_asked(
    field: &str,
    kind: SubjectKind,
    steps: &[StepDefinition],
    programs: &BTreeMap<String, StepProgram>,
    predicates: &BTreeMap<String, Predicate>,
) -> Result<(), Rejection> {
    let refuse = |why: String| Err(Reason::InvalidRules.with(format!("{field}: {why}")));
    let mut is_decided = false;
    for step in steps {
        if let Some(name) = step.predicate.as_ref().filter(|name| !predicates.contains_key(*name)) {
            return refuse(format!("the condition {name} is not among the predicates"));
        }
        is_decided |= step.step == decisive(kind);
        let Some(name) = &step.program else { continue };
        match programs.get(name) {
            None => return refuse(format!("the program {name} is not registered in programs")),
            Some(StepProgram { answer: Some(_), advisory: false, .. }) if kind == SubjectKind::RuleChange => {
                return refuse(format!("{name} has a schema for its answers: one that nothing fits would keep everybody from mending it"));
            }
            Some(program) if is_decided && !(program.advisory && program.when_absent == WhenAbsent::GoOn && !program.undo) => {
                return refuse(format!(
                    "{name} is asked after {}, where nothing can be unwound: that needs advisory, when_absent go_on and no undo",
                    decisive(kind).as_str()
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
