//! A deal system as firms have them: deals come in, move through their stages, and most of them come to nothing. It says some things twice
//! and some too late, moves a deal on when it is asked to, now and then only when it is asked again, and sometimes refuses.
//!
//! What it knows it reads from what it has published, so that it goes on where it stopped. Same seed, same deals.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer};
use domain::messages::deals::{DEAL_SCHEMA_VERSION, Deal, DealChange, STAGE_REPLIES_MAX, StageReply, StageRequest, StageRequestChange};
use domain::{Amount, Currency, Event, ids};
use fastrand::Rng;
use futures::StreamExt;
use uuid::Uuid;

/// The stages of a deal that goes well; the last but one is where our requests move it.
const STAGES: [&str; 6] = ["sourced", "screening", "due_diligence", "term_sheet", "committed", "closed"];
/// The stage up to which a deal moves by itself.
const BY_ITSELF: &str = "term_sheet";
/// How a deal ends that comes to nothing.
const ENDS: [&str; 3] = ["withdrawn", "rejected", "lost"];
const SECTORS: [&str; 6] = ["software", "healthcare", "industrials", "infrastructure", "consumer", "financial services"];
const COMPANIES: [&str; 8] = ["Alder", "Birch", "Cedar", "Elm", "Hazel", "Juniper", "Rowan", "Willow"];
const KINDS: [&str; 6] = ["Robotics", "Diagnostics", "Grid", "Logistics", "Foods", "Payments"];
const REFUSALS: [&str; 3] = ["the term sheet is not signed", "the seller has asked for more time", "the deal is on hold"];
/// Longest wait for what is in the stream already.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// How it behaves, in per cent of the times that it could.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Deals in all.
    pub deals: usize,
    /// A deal comes to nothing, at each step.
    pub ends: u8,
    /// An event is said twice.
    pub repeats: u8,
    /// An event is said after the next one of its deal.
    pub late: u8,
    /// A request is not answered.
    pub silent: u8,
    /// A request is refused.
    pub refuses: u8,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits { deals: 20, ends: 6, repeats: 10, late: 10, silent: 20, refuses: 10 }
    }
}

/// A deal system at work.
#[derive(Debug)]
pub struct DealSystem {
    jetstream: jetstream::Context,
    requests: consumer::PullConsumer,
    random: Rng,
    seed: u64,
    habits: Habits,
    deals: BTreeMap<Uuid, Deal>,
    held_back: Vec<Event<Deal, DealChange>>,
}

type Said = Vec<String>;

fn said(error: impl std::fmt::Display) -> String {
    format!("deal system: {error}")
}

impl DealSystem {
    /// A deal system that knows the deals which it has published.
    ///
    /// # Errors
    /// Why the broker does not let it.
    pub async fn start(client: async_nats::Client, seed: u64, habits: Habits) -> Result<DealSystem, String> {
        let jetstream = jetstream::new(client);
        let stream = jetstream.get_stream("DEALS").await.map_err(said)?;
        let of = |name: &str, filter: &str| consumer::pull::Config {
            durable_name: Some(name.to_owned()),
            filter_subject: filter.to_owned(),
            ..Default::default()
        };
        let requests = stream.create_consumer(of("deals", "deals.cmd.stage-change")).await.map_err(said)?;
        let deals = published(&stream).await?;
        Ok(DealSystem { jetstream, requests, random: Rng::with_seed(seed), seed, habits, deals, held_back: vec![] })
    }

    /// The deals as they are.
    pub fn deals(&self) -> impl Iterator<Item = &Deal> {
        self.deals.values()
    }

    /// Whether every deal of its own has come to an end, or to where it waits for a request.
    pub fn is_at_rest(&self) -> bool {
        let own: Vec<&Deal> = (0..self.habits.deals).filter_map(|number| self.deals.get(&self.id(number))).collect();
        let rests = |deal: &&Deal| deal.is_off() || STAGES.iter().position(|stage| *stage == deal.stage) >= place(BY_ITSELF);
        own.len() == self.habits.deals && own.iter().all(rests)
    }

    fn id(&self, number: usize) -> Uuid {
        ids::derived(&format!("deal {number}"), Uuid::from_u128(self.seed.into()))
    }

    fn happens(&mut self, percent: u8) -> bool {
        self.random.u8(0..100) < percent
    }

    /// Lets something happen: a new deal, a deal that moves, and answers to what was asked. Returns what happened, a line each.
    ///
    /// # Errors
    /// Why the broker does not take it.
    pub async fn step(&mut self) -> Result<Said, String> {
        let mut said = vec![];
        if let Some(number) = (0..self.habits.deals).find(|number| !self.deals.contains_key(&self.id(*number))) {
            let deal = self.new_deal(number)?;
            said.push(self.say(deal, DealChange::Registered).await?);
        }
        let moving: Vec<Uuid> = (0..self.habits.deals).map(|number| self.id(number)).filter(|id| self.moves_by_itself(*id)).collect();
        if let Some(id) = (!moving.is_empty()).then(|| moving[self.random.usize(0..moving.len())]) {
            let mut deal = self.deals[&id].clone();
            let ends = self.happens(self.habits.ends);
            deal.stage = match next(&deal.stage) {
                _ if ends => ENDS[self.random.usize(0..ENDS.len())].to_owned(),
                next => next.to_owned(),
            };
            let change = if ends { DealChange::Withdrawn } else { DealChange::StageChanged };
            said.push(self.say(deal, change).await?);
        }
        said.extend(self.answer().await?);
        Ok(said)
    }

    fn moves_by_itself(&self, id: Uuid) -> bool {
        self.deals.get(&id).is_some_and(|deal| {
            let at = STAGES.iter().position(|stage| *stage == deal.stage);
            at.is_some() && (at < place(BY_ITSELF) || at == place("committed"))
        })
    }

    fn new_deal(&mut self, number: usize) -> Result<Deal, String> {
        let company = format!("{} {}", COMPANIES[self.random.usize(0..COMPANIES.len())], KINDS[self.random.usize(0..KINDS.len())]);
        let currency: Currency = if self.happens(70) { "USD" } else { "EUR" }.parse().map_err(said)?;
        // from one to some three hundred millions, small ones more often
        let millions = 1_i128 << self.random.u8(0..9);
        let size: Amount = currency.from_minor(millions * 100_000_000 + i128::from(self.random.u32(0..50_000_000)) * 100);
        Ok(Deal {
            id: self.id(number),
            version: 0,
            schema_version: DEAL_SCHEMA_VERSION,
            name: format!("Project {company}"),
            stage: STAGES[0].into(),
            company: Some(company),
            sector: Some(SECTORS[self.random.usize(0..SECTORS.len())].into()),
            currency: Some(currency),
            size: Some(size),
            stage_replies: vec![],
            created_at: None,
        })
    }

    /// Answers what was asked.
    async fn answer(&mut self) -> Result<Said, String> {
        let mut lines = vec![];
        let mut asked = self.requests.fetch().max_messages(100).messages().await.map_err(said)?;
        while let Some(message) = asked.next().await {
            let message = message.map_err(said)?;
            let request: Event<StageRequest, StageRequestChange> = serde_json::from_slice(&message.payload).map_err(said)?;
            if let Some(line) = self.reply(&request.state).await? {
                lines.push(line);
            }
            message.ack().await.map_err(said)?;
        }
        Ok(lines)
    }

    async fn reply(&mut self, request: &StageRequest) -> Result<Option<String>, String> {
        let Some(mut deal) = self.deals.get(&request.deal_id).cloned() else { return Ok(None) };
        // whoever asks again is answered
        if request.attempt == 1 && self.happens(self.habits.silent) {
            return Ok(Some(format!("{}: request for {} is left unanswered", deal.name, request.stage)));
        }
        let reason =
            (deal.is_off() || self.happens(self.habits.refuses)).then(|| REFUSALS[self.random.usize(0..REFUSALS.len())].to_owned());
        if reason.is_none() {
            deal.stage.clone_from(&request.stage);
        }
        deal.stage_replies.push(StageReply { request_id: request.id, accepted: reason.is_none(), reason });
        let spare = deal.stage_replies.len().saturating_sub(STAGE_REPLIES_MAX);
        deal.stage_replies.drain(..spare);
        self.say(deal, DealChange::StageReplied).await.map(Some)
    }

    /// Publishes the next version of a deal: once, twice, or after the next one.
    async fn say(&mut self, mut deal: Deal, change: DealChange) -> Result<String, String> {
        deal.version += 1;
        let line = format!("{}: version {}, {}", deal.name, deal.version, deal.stage);
        self.deals.insert(deal.id, deal.clone());
        let event = Event { state: deal, change };
        let (of_deal, of_others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held_back).into_iter().partition(|held: &Event<Deal, DealChange>| held.state.id == event.state.id);
        self.held_back = of_others;
        // what was held back comes after what overtakes it
        if of_deal.is_empty() && self.happens(self.habits.late) {
            self.held_back.push(event);
            return Ok(format!("{line} (said later)"));
        }
        self.publish(&event).await?;
        for late in of_deal {
            self.publish(&late).await?;
        }
        if self.happens(self.habits.repeats) {
            self.publish(&event).await?;
            return Ok(format!("{line} (said twice)"));
        }
        Ok(line)
    }

    /// Publishes an event as CloudEvents in binary mode, and waits until the broker has it.
    async fn publish(&self, event: &Event<Deal, DealChange>) -> Result<(), String> {
        let deal = &event.state;
        let subject = domain::Aggregate::subject(deal, &event.change);
        let mut headers = HeaderMap::new();
        headers.insert("ce-specversion", "1.0");
        headers.insert("ce-id", ids::event_id(deal.id, 1, deal.version).to_string());
        headers.insert("ce-source", "/deal-system");
        headers.insert("ce-type", subject.as_str());
        headers.insert("ce-subject", deal.id.to_string());
        headers.insert("ce-actor", "deal-system");
        let body = serde_json::to_vec(event).map_err(said)?;
        let published = self.jetstream.publish_with_headers(subject, headers, body.into()).await.map_err(said)?;
        published.await.map(drop).map_err(said)
    }

    /// Says what was held back, so that nothing is missing.
    ///
    /// # Errors
    /// Why the broker does not take it.
    pub async fn finish(&mut self) -> Result<(), String> {
        for event in std::mem::take(&mut self.held_back) {
            self.publish(&event).await?;
        }
        Ok(())
    }
}

fn place(of: &str) -> Option<usize> {
    STAGES.iter().position(|stage| *stage == of)
}

fn next(stage: &str) -> &'static str {
    place(stage).and_then(|at| STAGES.get(at + 1)).copied().unwrap_or(STAGES[STAGES.len() - 1])
}

/// The newest state of each deal in the stream.
async fn published(stream: &jetstream::stream::Stream) -> Result<BTreeMap<Uuid, Deal>, String> {
    let config =
        consumer::pull::Config { filter_subject: "deals.evt.>".into(), ack_policy: consumer::AckPolicy::None, ..Default::default() };
    let mut reader = stream.create_consumer(config).await.map_err(said)?;
    let mut left = reader.info().await.map_err(said)?.num_pending;
    let mut messages = reader.messages().await.map_err(said)?;
    let mut deals: BTreeMap<Uuid, Deal> = BTreeMap::new();
    while left > 0 {
        let next = tokio::time::timeout(READ_WITHIN, messages.next()).await.map_err(said)?;
        let message = next.ok_or_else(|| said("the stream has ended"))?.map_err(said)?;
        left -= 1;
        // what cannot be read is somebody else's
        let Ok(event) = serde_json::from_slice::<Event<Deal, DealChange>>(&message.payload) else { continue };
        if deals.get(&event.state.id).is_none_or(|known| known.version < event.state.version) {
            deals.insert(event.state.id, event.state);
        }
    }
    Ok(deals)
}
