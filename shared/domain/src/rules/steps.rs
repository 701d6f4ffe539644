//! The steps of workflows as data, and the programs of others that are asked in them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::messages::workflow::{StepName, SubjectKind};
use crate::rejection::{Reason, Rejection};
use crate::shape::Shape;

/// Most steps of a workflow; it stays a small event.
const STEPS_MAX: usize = 20;
/// Longest time that a workflow waits in one step: a quarter of a year.
const WAIT_HOURS_MAX: u16 = 2_200;
/// Most programs that rules register.
const PROGRAMS_MAX: usize = 50;
/// Longest name of a program: it is a token of a subject.
const PROGRAM_NAME_MAX: usize = 60;
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
    /// Times that it is asked until it counts as absent; the pauses grow from a fifth of a second to half a minute.
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
    for (place, StepDefinition { step, program, hours }) in steps.iter().enumerate() {
        let is_repeatable = matches!(step, StepName::Ask | StepName::Wait);
        let fits = match step {
            StepName::Validate | StepName::Approve | StepName::Ask | StepName::Wait => true,
            StepName::RequestStage => kind == SubjectKind::Allocation && place > decides,
            step => *step == decisive,
        };
        if !fits {
            return refuse(format!("{} is no step of such a workflow, or stands in the wrong place", step.as_str()));
        }
        if steps[..place]
            .iter()
            .any(|before| before.step == *step && (!is_repeatable || *step == StepName::Ask && before.program == *program))
        {
            return refuse(format!("the step {} stands there twice", program.as_deref().unwrap_or(step.as_str())));
        }
        if program.is_some() != (*step == StepName::Ask) || hours.is_some() != (*step == StepName::Wait) {
            return refuse("a program belongs to ask, and hours to wait".into());
        }
        if hours.is_some_and(|hours| !(1..=WAIT_HOURS_MAX).contains(&hours)) {
            return refuse(format!("wait is for 1 to {WAIT_HOURS_MAX} hours"));
        }
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
        let fits = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'));
        if name.is_empty() || name.len() > PROGRAM_NAME_MAX || !fits {
            return refuse(format!("{name:?} is not 1 to {PROGRAM_NAME_MAX} small letters, digits, - and _"));
        }
        if !(1..=TIMEOUT_SECONDS_MAX).contains(&program.timeout_seconds) {
            return refuse(format!("{name}: timeout_seconds is not 1 to {TIMEOUT_SECONDS_MAX}"));
        }
        if !(1..=ATTEMPTS_MAX).contains(&program.attempts) {
            return refuse(format!("{name}: attempts is not 1 to {ATTEMPTS_MAX}"));
        }
        if let Some(shape) = &program.answer {
            shape.check(&format!("programs: {name}: answer"))?;
        }
    }
    Ok(())
}

/// Refuses steps that ask a program which is not registered, or one after the decision that could refuse it.
pub(super) fn check_asked(
    field: &str,
    kind: SubjectKind,
    steps: &[StepDefinition],
    programs: &BTreeMap<String, StepProgram>,
) -> Result<(), Rejection> {
    let refuse = |why: String| Err(Reason::InvalidRules.with(format!("{field}: {why}")));
    let mut is_decided = false;
    for step in steps {
        is_decided |= step.step == decisive(kind);
        let Some(name) = &step.program else { continue };
        match programs.get(name) {
            None => return refuse(format!("the program {name} is not registered in programs")),
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
