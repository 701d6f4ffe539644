//! The handlers: workflows start when a request appears, votes decide approvals.

use std::collections::{HashMap, HashSet};

use ::domain::message::Outcomes;
use ::domain::messages::allocation_status::{Allocation, AllocationDecision, Fund};
use ::domain::messages::capital_calls::{Amendment, CallDecision, CapitalCall, Purpose, PurposeKind, Refund, RefundDecision};
use ::domain::messages::workflow::{
    Approval, ApprovalChange, ApprovalStatus, CastVote, CastVotes, GetApproval, GetWorkflow, ListApprovals, ListWorkflows, StepName,
    StepStatus, SubjectKind, Vote, VoteCounted, Workflow, WorkflowChange, WorkflowStatus,
};
use ::domain::rules::{ApprovalTier, RuleLayer, Rules, RulesUsed, WhenWithdrawn};
use ::domain::{Amount, Currency, Page, Reason, Rejection, ids};
use chassis::row::sorted_ids;
use chassis::{Answer, Answers, Batch, Context, Fault, Follow, Handle, Seen, Show, Tx, cursor};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::{Decided, Subject, TakeBack};
use crate::store::{Heard, Instance};
use crate::{WorkflowService, domain, store};

mod bank_details;
mod changes;
mod deals;
mod delegations;
mod rule_changes;
mod rules;
mod steering;

pub use deals::request_stages;
pub use steering::{Deadlines, step_on};

/// A request as its workflow sees it.
struct Request {
    kind: SubjectKind,
    workflow_id: Uuid,
    subject_id: Uuid,
    fund_id: Uuid,
    requested_by: String,
    created_at: DateTime<Utc>,
    subject: Subject,
    /// The epoch of the owner.
    epoch: i32,
    /// What the owner has decided already: then its workflow has ended, and is only made where it was forgotten.
    decided: Option<Decided>,
}

impl Follow<Allocation> for WorkflowService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Allocation>]) -> Result<(), Fault> {
        let seen: Vec<_> = batch.iter().map(|seen| (seen.state.id, seen.epoch, seen.state.version)).collect();
        let news = store::hear(tx, Heard::Allocations, &seen).await?;
        let news = || batch.iter().filter(|seen| news.contains(&seen.state.id));
        let requests = news().map(|seen| {
            let state = &seen.state;
            let mut content =
                format!("{}/{}/{}/{}/{}", state.deal_id, state.fund_id, state.amount, state.currency.code(), state.security_type);
            if let Some(details) = &state.details {
                content = format!("{content}/{details}");
            }
            let request = Request {
                kind: SubjectKind::Allocation,
                workflow_id: ids::workflow_id(state.id),
                subject_id: state.id,
                fund_id: state.fund_id,
                requested_by: state.requested_by.clone(),
                created_at: state.created_at,
                subject: Subject {
                    deal_id: Some(state.deal_id),
                    security_type: state.security_type.clone(),
                    details: state.details.clone(),
                    concentration: state.concentration.clone(),
                    ..Subject::of(&state.fund_type, state.amount, Some(state.currency), &hash(content.as_bytes()))
                },
                epoch: seen.epoch,
                decided: match state.decision {
                    AllocationDecision::PendingApproval => None,
                    AllocationDecision::Active => Some(Decided::Granted),
                    AllocationDecision::Denied | AllocationDecision::Cancelled => Some(Decided::Denied),
                },
            };
            (&seen.context, request)
        });
        let withdrawals = news().filter_map(|seen| Some((&seen.context, withdrawal_of(seen)?)));
        start(tx, requests.chain(withdrawals).collect()).await?;
        let cancelled = news().filter(|seen| seen.state.decision == AllocationDecision::Cancelled);
        let cancelled = cancelled.map(|seen| (seen.state.id, &seen.context)).collect();
        changes::withdraw(tx, SubjectKind::Allocation, &cancelled).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget(tx, Heard::Allocations, ids).await
    }
}

impl Follow<Fund> for WorkflowService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Fund>]) -> Result<(), Fault> {
        store::keep_funds(tx, batch).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget_funds(tx, ids).await
    }
}

impl Follow<CapitalCall> for WorkflowService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<CapitalCall>]) -> Result<(), Fault> {
        let seen: Vec<_> = batch.iter().map(|seen| (seen.state.id, seen.epoch, seen.state.version)).collect();
        let news = store::hear(tx, Heard::Calls, &seen).await?;
        let news: Vec<&Seen<CapitalCall>> = batch.iter().filter(|seen| news.contains(&seen.state.id)).collect();
        let requests = news.iter().flat_map(|seen| requests_of(seen).into_iter().map(|request| (&seen.context, request)));
        start(tx, requests.collect()).await?;
        changes::follow(tx, &news).await
    }
    async fn forget(&self, tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
        store::forget(tx, Heard::Calls, ids).await
    }
}

impl Follow<Refund> for WorkflowService {
    async fn follow(&self, tx: &mut Tx, batch: &[Seen<Refund>]) -> Result<(), Fault> {
        let requests = batch.iter().map(|seen| {
            let state = &seen.state;
            let request = Request {
                kind: SubjectKind::Refund,
                workflow_id: state.workflow_id,
                subject_id: state.id,
                fund_id: state.fund_id,
                requested_by: state.requested_by.clone(),
                created_at: state.created_at,
                subject: Subject::of(&state.fund_type, state.amount, Some(state.currency), &state.content_hash),
                epoch: seen.epoch,
                decided: match state.decision {
                    RefundDecision::PendingApproval => None,
                    RefundDecision::Approved => Some(Decided::Granted),
                    RefundDecision::Cancelled => Some(Decided::Denied),
                },
            };
            (&seen.context, request)
        });
        start(tx, requests.collect()).await?;
        let cancelled = batch.iter().filter(|seen| seen.state.decision == RefundDecision::Cancelled);
        changes::withdraw(tx, SubjectKind::Refund, &cancelled.map(|seen| (seen.state.id, &seen.context)).collect()).await
    }
}

/// What is to be done about an allocation that is taken back. Where people decide first, there is nothing.
fn withdrawal_of(seen: &Seen<Allocation>) -> Option<Request> {
    let state = &seen.state;
    let withdrawal = state.withdrawal.as_ref().filter(|withdrawal| withdrawal.then != WhenWithdrawn::Alert)?;
    let rescind = withdrawal.then == WhenWithdrawn::Rescind;
    let content = format!("{}/{}/{}/{rescind}", state.id, state.amount, state.currency.code());
    Some(Request {
        kind: SubjectKind::Withdrawal,
        workflow_id: withdrawal.workflow_id,
        subject_id: state.id,
        fund_id: state.fund_id,
        requested_by: withdrawal.by.clone(),
        created_at: withdrawal.at,
        subject: Subject {
            deal_id: Some(state.deal_id),
            take_back: Some(TakeBack { version: state.version, rescind, reason: withdrawal.reason.clone() }),
            ..Subject::of(&state.fund_type, state.amount, Some(state.currency), &hash(content.as_bytes()))
        },
        epoch: seen.epoch,
        decided: None,
    })
}

/// What is called before a return is netted: that is what is approved.
fn gross(purposes: &[Purpose]) -> Amount {
    purposes.iter().filter(|purpose| purpose.kind != PurposeKind::RecallableReturn).map(|purpose| purpose.amount).sum()
}

/// What a call asks for: itself, and an amendment.
fn requests_of(seen: &Seen<CapitalCall>) -> Vec<Request> {
    let call = &seen.state;
    let request = |workflow_id, content_hash: &str, purposes: &[Purpose], priority, amendment, decided| Request {
        kind: SubjectKind::CapitalCall,
        workflow_id,
        subject_id: call.id,
        fund_id: call.fund_id,
        requested_by: call.requested_by.clone(),
        created_at: call.created_at,
        subject: Subject {
            priority,
            amendment,
            authors: call.authors.clone(),
            notice_days: call.notice_days.filter(|_| amendment.is_none()),
            ..Subject::of(&call.fund_type, gross(purposes), Some(call.currency), content_hash)
        },
        epoch: seen.epoch,
        decided,
    };
    let of_call = |decided| request(call.workflow_id, &call.content_hash, &call.purposes, call.priority, None, decided);
    let mut requests = match call.decision {
        CallDecision::Draft => vec![],
        // one that was cancelled as a draft never asked for anything
        CallDecision::Cancelled if call.submitted_at.is_none() => vec![],
        CallDecision::PendingApproval => vec![of_call(None)],
        CallDecision::Issued | CallDecision::Rescinded => vec![of_call(Some(Decided::Granted))],
        CallDecision::Cancelled => vec![of_call(Some(Decided::Denied))],
    };
    if let Some(Amendment { number, content, requested_by, requested_at, workflow_id, .. }) = &call.amending {
        let amendment = request(*workflow_id, &content.content_hash, &content.purposes, content.priority, Some(*number), None);
        requests.push(Request { requested_by: requested_by.clone(), created_at: *requested_at, ..amendment });
    }
    requests
}

fn hash(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// The rules in force for a fund, and which they are.
type InForce = (Result<Rules, Rejection>, RulesUsed);

/// Starts a workflow for each request that has none yet.
async fn start(tx: &mut Tx, requests: Vec<(&Context, Request)>) -> Result<(), Fault> {
    if requests.is_empty() {
        return Ok(());
    }
    let mut instances = Vec::with_capacity(requests.len());
    let book = tx.rules();
    let mut known: HashMap<(&str, Uuid), InForce> = HashMap::new();
    for (context, request) in &requests {
        let (fund_type, fund_id) = (request.subject.fund_type.as_str(), request.fund_id);
        let of_fund = || (book.rules(fund_type, fund_id), book.used(fund_type, fund_id));
        let in_force = known.entry((fund_type, fund_id)).or_insert_with(of_fund);
        instances.push(match request.decided {
            Some(decided) => forgotten(tx, context, request, decided)?,
            None => first_state(tx, context, request, in_force)?,
        });
    }
    begin(tx, &requests.iter().map(|(context, _)| *context).collect::<Vec<_>>(), &instances).await?;
    decide_again(tx, &requests).await
}

/// Stores workflows that are not there yet, and asks for the votes that they need.
async fn begin(tx: &mut Tx, contexts: &[&Context], instances: &[Instance]) -> Result<(), Fault> {
    let added = store::insert(tx, instances).await?;
    let mut approvals = Vec::new();
    for (instance, context) in instances.iter().zip(contexts) {
        if !added.contains(&instance.workflow.id) {
            continue;
        }
        publish(tx, context, &instance.workflow, WorkflowChange::Started)?;
        if domain::waits_for_votes(&instance.workflow) {
            approvals.extend(request_votes(tx, context, instance, ids::derived("approval", instance.workflow.id))?);
        }
    }
    store::insert_approvals(tx, &approvals).await
}

/// Publishes a workflow that has moved on, or has ended by it.
pub fn publish(tx: &mut Tx, context: &Context, workflow: &Workflow, otherwise: WorkflowChange) -> Result<(), Fault> {
    let change = match workflow.status {
        WorkflowStatus::Completed => WorkflowChange::Completed,
        WorkflowStatus::Failed => WorkflowChange::Failed,
        WorkflowStatus::Running | WorkflowStatus::Waiting | WorkflowStatus::Paused => otherwise,
    };
    tx.emit(context, workflow, change)
}

/// Asks for the votes that a workflow has come to wait for.
pub fn request_votes(tx: &mut Tx, context: &Context, instance: &Instance, id: Uuid) -> Result<Option<Approval>, Fault> {
    let (Some(tier), Some(currency)) = (instance.subject.tier.clone(), instance.subject.currency) else { return Ok(None) };
    let approval = Approval { id, ..approval(tx, instance, tier, currency) };
    tx.emit(context, &approval, ApprovalChange::Requested)?;
    Ok(Some(approval))
}

/// When the runner shall act on a workflow: at once, where there is something to do for it. Who is told that something is given up may
/// still be at the question; that has its time first.
pub fn due_at(tx: &Tx, instance: &Instance) -> Option<DateTime<Utc>> {
    let until = tx.system_now() + domain::time_of_question(&instance.workflow, &instance.subject);
    domain::is_running(&instance.workflow).then_some(until)
}

/// Has subjects decided again that are pending in a newer epoch of their owner although their workflow has ended: the owner's
/// database was set back, and has forgotten the decision.
async fn decide_again(tx: &mut Tx, requests: &[(&Context, Request)]) -> Result<(), Fault> {
    // whoever was never set back is in its first epoch
    let met = requests.iter().filter(|(_, request)| request.epoch > 1).map(|(_, request)| (request.workflow_id, request.epoch));
    let met: Vec<(Uuid, i32)> = met.collect();
    if met.is_empty() {
        return Ok(());
    }
    let mut reopened = Vec::new();
    for mut instance in store::meet_epochs(tx, &met).await? {
        let of_subject = |(_, request): &&(&Context, Request)| request.workflow_id == instance.workflow.id;
        let Some((context, _)) = requests.iter().filter(of_subject).find(|(_, request)| request.decided.is_none()) else { continue };
        if domain::reopen(&mut instance.workflow) {
            instance.workflow.version += 1;
            instance.due_at = due_at(tx, &instance);
            publish(tx, context, &instance.workflow, WorkflowChange::Advanced)?;
            reopened.push(instance);
        }
    }
    store::save(tx, &reopened.iter().collect::<Vec<_>>()).await
}

fn workflow_of(tx: &Tx, request: &Request, rules: &Rules) -> Workflow {
    Workflow {
        id: request.workflow_id,
        version: 1,
        created_at: tx.now(),
        subject_kind: request.kind,
        subject_id: request.subject_id,
        fund_id: request.fund_id,
        requested_by: request.requested_by.clone(),
        steps: domain::first_steps(request.kind, rules, request.created_at),
        progress: 0,
        error: None,
        rules: RulesUsed::default(),
        paused: None,
        stuck: false,
        expects: None,
        status: WorkflowStatus::Running,
    }
}

/// The steps of a workflow that does nothing, or whose rules contradict each other.
fn first_rules() -> Result<Rules, Fault> {
    RuleLayer::default().complete().map_err(|rejection| Fault::Fatal(format!("the rules that are built in: {rejection}")))
}

/// The end of a workflow that ran in a time which this service's database has forgotten.
fn forgotten(tx: &Tx, context: &Context, request: &Request, decided: Decided) -> Result<Instance, Fault> {
    let mut workflow = workflow_of(tx, request, &first_rules()?);
    domain::end_forgotten(&mut workflow, decided, tx.now());
    Ok(Instance {
        workflow,
        correlation_id: context.correlation_id.clone(),
        subject: request.subject.clone(),
        due_at: None,
        subject_epoch: request.epoch,
    })
}

fn first_state(tx: &Tx, context: &Context, request: &Request, (rules, used): &InForce) -> Result<Instance, Fault> {
    let now = tx.now();
    let mut subject = request.subject.clone();
    let workflow = match rules {
        Ok(rules) => {
            subject.keep_to(request.kind, rules);
            let mut workflow = Workflow { rules: used.clone(), ..workflow_of(tx, request, rules) };
            domain::begin_next(&mut workflow, &subject, now);
            workflow
        }
        Err(rejection) => {
            let mut workflow = Workflow { rules: used.clone(), ..workflow_of(tx, request, &first_rules()?) };
            domain::refuse_step(&mut workflow, rejection.clone(), now);
            workflow
        }
    };
    let correlation_id = context.correlation_id.clone();
    let mut instance = Instance { workflow, correlation_id, subject, due_at: None, subject_epoch: request.epoch };
    instance.due_at = due_at(tx, &instance);
    Ok(instance)
}

fn approval(tx: &Tx, instance: &Instance, tier: ApprovalTier, currency: Currency) -> Approval {
    let Instance { workflow, subject, .. } = instance;
    let mut approval = Approval {
        id: ids::derived("approval", workflow.id),
        version: 1,
        created_at: tx.now(),
        workflow_id: workflow.id,
        subject_kind: workflow.subject_kind,
        subject_id: workflow.subject_id,
        fund_id: workflow.fund_id,
        amount: subject.amount,
        currency,
        content_hash: subject.content_hash.clone(),
        requested_by: workflow.requested_by.clone(),
        tier,
        votes: vec![],
        priority: subject.priority,
        authors: subject.authors.clone(),
        voided: false,
        asked_at: tx.now(),
        reminded: false,
        escalates_to: subject.tiers_above.clone(),
        expired: false,
        deadline: None,
        status: ApprovalStatus::Pending,
    };
    domain::derive_approval(&mut approval);
    approval
}

impl Handle<CastVote> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<CastVote>) -> Result<Answers<Approval>, Fault> {
        let votes: Vec<(&Context, &CastVote)> = batch.iter().map(|sent| (&sent.context, &sent.body)).collect();
        vote_all(tx, &votes).await
    }
}

impl Handle<CastVotes> for WorkflowService {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<CastVotes>) -> Result<Answers<Outcomes<VoteCounted>>, Fault> {
        let voted = vote_all(tx, &batch.parts()).await?;
        let counted = |approval: Approval| VoteCounted { approval_id: approval.id, status: approval.status };
        batch.answers_of_parts(tx, voted.into_iter().map(|voted| voted.map(counted)).collect())
    }
}

/// Takes votes one on top of the other, and moves workflows on whose approvals are decided by them.
async fn vote_all(tx: &mut Tx, votes: &[(&Context, &CastVote)]) -> Result<Answers<Approval>, Fault> {
    // workflows first: whoever changes what they ask for locks them before it voids the votes
    let ids = sorted_ids(votes.iter().map(|(_, vote)| vote.approval_id));
    let workflow_ids = store::workflows_of_approvals(tx, &ids).await?;
    let mut workflows = store::lock(tx, &workflow_ids).await?;
    let mut approvals = store::lock_approvals(tx, &ids).await?;
    let for_others = votes.iter().filter_map(|(context, vote)| Some((vote.on_behalf_of.as_deref()?, context.actor.user.as_str())));
    let delegations = store::delegations_between(tx, &for_others.collect::<Vec<_>>()).await?;
    let mut answers = Answers::with_capacity(votes.len());
    for (context, body) in votes {
        let Some(approval) = approvals.get_mut(&body.approval_id) else {
            answers.push(Err(Reason::UnknownApproval.with(format!("approval {}", body.approval_id))));
            continue;
        };
        let vote = domain::vote(approval, &context.actor, body, &delegations, tx.now());
        answers.push(vote.map(|vote| {
            approval.votes.push(vote);
            approval.version += 1;
            domain::derive_approval(approval);
            approval.clone()
        }));
        if let (Some(Ok(approval)), Some(instance)) = (answers.last(), workflows.get_mut(&approval.workflow_id)) {
            publish_vote(tx, context, approval, instance)?;
        }
    }
    // from the map, not from the answers: two votes of a batch may be on one approval
    let voted: HashSet<Uuid> = answers.iter().flatten().map(|approval| approval.id).collect();
    let voted: Vec<&Approval> = approvals.values().filter(|approval| voted.contains(&approval.id)).collect();
    store::save_approvals(tx, &voted).await?;
    let decided: HashSet<Uuid> =
        approvals.values().filter(|approval| approval.status != ApprovalStatus::Pending).map(|approval| approval.workflow_id).collect();
    store::save(tx, &workflows.values().filter(|instance| decided.contains(&instance.workflow.id)).collect::<Vec<_>>()).await?;
    Ok(answers)
}

/// Publishes a vote, and moves the workflow on when the approval is decided by it.
fn publish_vote(tx: &mut Tx, context: &Context, approval: &Approval, instance: &mut Instance) -> Result<(), Fault> {
    let now = tx.now();
    let change = match approval.status {
        ApprovalStatus::Pending => ApprovalChange::Voted,
        ApprovalStatus::Approved => ApprovalChange::Granted,
        ApprovalStatus::Denied => ApprovalChange::Denied,
        ApprovalStatus::Voided => ApprovalChange::Voided,
        ApprovalStatus::Expired => ApprovalChange::Expired,
    };
    tx.emit(context, approval, change)?;
    let waits = domain::next_step(&mut instance.workflow).is_some_and(|step| step.name == StepName::Approve);
    if approval.status == ApprovalStatus::Pending || !waits {
        return Ok(());
    }
    let voter = |vote: &Vote| vote.on_behalf_of.as_ref().map_or_else(|| vote.user.clone(), |member| format!("{} for {member}", vote.user));
    let voters: Vec<String> = approval.votes.iter().map(voter).collect();
    if approval.status == ApprovalStatus::Approved {
        domain::finish_step(&mut instance.workflow, StepStatus::Done, Some(format!("approved by {}", voters.join(", "))), now);
        domain::begin_next(&mut instance.workflow, &instance.subject, now);
    } else {
        let denied = Reason::ApprovalDenied.with(format!("denied by {}", context.actor.user));
        domain::refuse_step(&mut instance.workflow, denied, now);
    }
    instance.workflow.version += 1;
    instance.due_at = due_at(tx, instance);
    publish(tx, context, &instance.workflow, WorkflowChange::Advanced)
}

impl Show<GetWorkflow> for WorkflowService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetWorkflow) -> Answer<Workflow> {
        let found = store::find(tx, query.workflow_id).await?;
        let workflow = found.ok_or_else(|| Reason::UnknownWorkflow.with(format!("workflow {}", query.workflow_id)))?;
        context.actor.check_fund(workflow.fund_id)?;
        Ok(workflow)
    }
}

impl Show<ListWorkflows> for WorkflowService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListWorkflows) -> Answer<Page<Workflow>> {
        let limit = cursor::limit(query.limit)?;
        let before = cursor::read::<(DateTime<Utc>, Uuid)>(query.cursor.as_deref())?
            .unwrap_or((DateTime::<Utc>::from_timestamp(1 << 36, 0).unwrap_or_default(), Uuid::max()));
        let workflows = store::list(tx, context.actor.scope.funds(), &query, before, limit + 1).await?;
        Ok(Page::cut(workflows, limit, |last| cursor::write(&(last.created_at, last.id))))
    }
}

impl Show<GetApproval> for WorkflowService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: GetApproval) -> Answer<Approval> {
        let found = store::find_approval(tx, query.approval_id).await?;
        let approval = found.ok_or_else(|| Reason::UnknownApproval.with(format!("approval {}", query.approval_id)))?;
        context.actor.check_fund(approval.fund_id)?;
        Ok(approval)
    }
}

impl Show<ListApprovals> for WorkflowService {
    async fn show(&self, tx: &mut Tx, context: &Context, query: ListApprovals) -> Answer<Page<Approval>> {
        let limit = cursor::limit(query.limit)?;
        let first = (0, DateTime::UNIX_EPOCH, Uuid::nil());
        let after = cursor::read::<(i16, DateTime<Utc>, Uuid)>(query.cursor.as_deref())?.unwrap_or(first);
        let approvals = store::list_approvals(tx, context.actor.scope.funds(), query.status, query.subject_id, after, limit + 1).await?;
        Ok(Page::cut(approvals, limit, |last| cursor::write(&store::place(last))))
    }
}
