//! A simulation of payments on their way to a reader, with the decisions of the core, the relay and the reader as they are in the
//! services, and a broker, clients and processes that fail by chance: thousands of seeds, each the same every time.

use std::collections::{BTreeMap, BTreeSet};

use ::domain::delivery::{StreamMark, is_news, is_there};
use ::domain::ids::event_id;

use super::*;

/// Seeds that are tried.
const SEEDS: u64 = 3_000;
/// Steps of each before everything heals.
const STEPS: usize = 120;
/// Owners that publish to one stream.
const OWNERS: usize = 2;
/// Lines of each that are paid.
const LINES: u128 = 3;
/// Of so many times something goes wrong once.
const LUCK: usize = 6;

/// Chance from a seed: SplitMix64 (Steele, Lea, Flood 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }

    fn goes_wrong(&mut self) -> bool {
        self.below(LUCK) == 0
    }
}

/// What the owner's database keeps.
#[derive(Default)]
struct Owner {
    lines: BTreeMap<u128, CallLine>,
    /// By key: what was answered.
    answers: BTreeMap<usize, Cash>,
    payments: Vec<Cash>,
    log: Vec<CallLine>,
    outbox: BTreeSet<usize>,
    known: Option<StreamMark>,
    /// The line whose event was acknowledged last, and the sequence.
    last: Option<(Uuid, i64)>,
    /// Whether the stream was compared on this connection.
    compared: bool,
}

impl Owner {
    /// One transaction; the same key gives the same answer and does nothing.
    fn record(&mut self, key: usize, line: u128, cents: i128) -> Cash {
        if let Some(answer) = self.answers.get(&key) {
            return *answer;
        }
        let line = self.lines.get_mut(&line).unwrap();
        let payment = pay(line, usd(cents), None, usd(0)).unwrap();
        settle(line, payment, date("2026-03-01"));
        self.answers.insert(key, payment);
        self.payments.push(payment);
        self.outbox.insert(self.log.len());
        self.log.push(line.clone());
        payment
    }
}

#[derive(Clone, Default)]
struct Broker {
    made: usize,
    last_seq: i64,
    messages: BTreeMap<i64, CallLine>,
}

impl Broker {
    fn mark(&self) -> StreamMark {
        let first_seq = self.messages.keys().next().copied().unwrap_or(self.last_seq + 1);
        StreamMark { created: self.made.to_string(), first_seq, last_seq: self.last_seq, messages: self.messages.len() as i64 }
    }

    fn keep(&mut self, event: CallLine) {
        self.last_seq += 1;
        self.messages.insert(self.last_seq, event);
    }

    /// Each line has a subject.
    fn last_of(&self, line: Uuid) -> Option<i64> {
        self.messages.iter().rev().find(|(_, event)| event.id == line).map(|(seq, _)| *seq)
    }
}

/// What the reader's database keeps, and where its consumer stands.
#[derive(Default)]
struct Reader {
    copies: BTreeMap<Uuid, (i32, i64, Amount)>,
    total: Amount,
    acknowledged: BTreeSet<i64>,
}

impl Reader {
    /// One transaction: the newest of each line, where it is news; the total by the differences.
    fn follow(&mut self, batch: &[CallLine]) {
        let mut newest: BTreeMap<Uuid, &CallLine> = BTreeMap::new();
        for line in batch {
            if is_news(newest.get(&line.id).map(|known| (1, known.version)), (1, line.version)) {
                newest.insert(line.id, line);
            }
        }
        for line in newest.into_values() {
            let known = self.copies.get(&line.id).copied();
            if is_news(known.map(|(epoch, version, _)| (epoch, version)), (1, line.version)) {
                self.total += line.paid - known.map_or(usd(0), |(_, _, paid)| paid);
                self.copies.insert(line.id, (1, line.version, line.paid));
            }
        }
    }
}

struct World {
    chance: Chance,
    owners: Vec<Owner>,
    broker: Broker,
    older: Broker,
    reader: Reader,
    /// Requests by key that a client has no answer to.
    open: BTreeMap<usize, (usize, u128, i128)>,
    heard: BTreeMap<usize, Cash>,
    keys: usize,
    /// How often the broker lost its store or its newest messages.
    lost: usize,
    /// How often it lost one message without a sign.
    lost_silently: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let owner = |number: usize| {
            let lines = (1..=LINES).map(|id| (id, CallLine { id: Uuid::from_u128((number as u128) * 1_000 + id), ..line(2_000) }));
            Owner { lines: lines.collect(), ..Owner::default() }
        };
        let owners = (0..OWNERS).map(owner).collect();
        let (broker, reader) = (Broker::default(), Reader { total: usd(0), ..Reader::default() });
        let (open, heard) = (BTreeMap::new(), BTreeMap::new());
        World { chance: Chance(seed), owners, older: broker.clone(), broker, reader, open, heard, keys: 0, lost: 0, lost_silently: 0 }
    }

    fn step(&mut self) {
        let owner = self.chance.below(OWNERS);
        match self.chance.below(12) {
            0..4 => self.ask(),
            4..6 => self.publish(owner),
            6..9 => self.read(),
            9 => self.check(owner),
            10 => self.older = self.broker.clone(),
            _ => self.fail(),
        }
    }

    /// A new request, or an old one again; the process may die before the commit, or before the answer.
    fn ask(&mut self) {
        let again = self.chance.below(3) == 0;
        let key = match self.open.keys().nth(self.chance.below(self.open.len().max(1))) {
            Some(open) if again => *open,
            _ => {
                self.keys += 1;
                let line = 1 + self.chance.below(usize::try_from(LINES).unwrap()) as u128;
                let cents = 1 + self.chance.below(400) as i128;
                let owner = self.chance.below(OWNERS);
                self.open.insert(self.keys, (owner, line, cents));
                self.keys
            }
        };
        if self.chance.goes_wrong() {
            return;
        }
        let (owner, line, cents) = self.open[&key];
        let answer = self.owners[owner].record(key, line, cents);
        if !self.chance.goes_wrong() {
            self.open.remove(&key);
            assert_eq!(*self.heard.entry(key).or_insert(answer), answer, "a key has one answer");
        }
    }

    /// The relay publishes what waits, in any order, after it has compared the stream on this connection; it may die before it forgets
    /// that.
    fn publish(&mut self, owner: usize) {
        if !self.owners[owner].compared {
            self.check(owner);
        }
        let mut waiting: Vec<usize> = self.owners[owner].outbox.iter().copied().collect();
        while !waiting.is_empty() {
            let position = waiting.swap_remove(self.chance.below(waiting.len()));
            let event = self.owners[owner].log[position].clone();
            let line = event.id;
            self.broker.keep(event);
            if self.chance.goes_wrong() {
                return;
            }
            let owner = &mut self.owners[owner];
            owner.outbox.remove(&position);
            if let Some(known) = owner.known.as_mut().filter(|known| known.last_seq < self.broker.last_seq) {
                known.last_seq = self.broker.last_seq;
                owner.last = Some((line, self.broker.last_seq));
            }
        }
    }

    /// The reader takes some of what it has not acknowledged, in any order and some of it twice; it may die before its commit or
    /// before it acknowledges.
    fn read(&mut self) {
        let waiting: Vec<i64> = self.broker.messages.keys().filter(|seq| !self.reader.acknowledged.contains(seq)).copied().collect();
        if waiting.is_empty() {
            return;
        }
        let taken: Vec<i64> = (0..=self.chance.below(8)).map(|_| waiting[self.chance.below(waiting.len())]).collect();
        let batch: Vec<CallLine> = taken.iter().map(|seq| self.broker.messages[seq].clone()).collect();
        if self.chance.goes_wrong() {
            return;
        }
        self.reader.follow(&batch);
        if !self.chance.goes_wrong() {
            self.reader.acknowledged.extend(taken);
        }
    }

    /// The relay compares the stream with what it knows of it.
    fn check(&mut self, owner: usize) {
        let (stands, broker, owner) = (self.broker.mark(), &self.broker, &mut self.owners[owner]);
        let acknowledged = owner.known.as_ref().map_or(0, |known| known.last_seq);
        let has_last = owner.last.is_none_or(|(line, _)| is_there(acknowledged, broker.last_of(line)));
        owner.compared = true;
        match &mut owner.known {
            Some(known) if known.holds(&stands) && has_last => known.messages = stands.messages,
            known => {
                *known = Some(stands);
                owner.last = None;
                owner.outbox = (0..owner.log.len()).collect();
            }
        }
    }

    /// The broker loses its store, its newest messages, all messages, or one without a sign. Consumers go with it, or stand past its end and
    /// are made anew.
    fn fail(&mut self) {
        match self.chance.below(4) {
            0 => self.broker = Broker { made: 1 + self.lost, ..Broker::default() },
            1 => self.broker = self.older.clone(),
            // connections and consumers stay as they are
            2 => {
                self.broker.messages.clear();
                self.lost += 1;
                return;
            }
            _ => {
                let all: Vec<i64> = self.broker.messages.keys().copied().collect();
                if let Some(seq) = all.get(self.chance.below(all.len().max(1))) {
                    self.broker.messages.remove(seq);
                    self.lost_silently += 1;
                }
                return;
            }
        }
        self.lost += 1;
        self.reader.acknowledged.clear();
        for owner in &mut self.owners {
            owner.compared = false;
        }
    }

    /// Nothing fails any more: clients ask until they are answered, the relay looks and publishes, the reader reads and compares.
    fn heal(&mut self) {
        for (key, (owner, line, cents)) in std::mem::take(&mut self.open) {
            let answer = self.owners[owner].record(key, line, cents);
            assert_eq!(*self.heard.entry(key).or_insert(answer), answer, "a key has one answer");
        }
        for owner in 0..OWNERS {
            self.check(owner);
            let owner = &mut self.owners[owner];
            for position in std::mem::take(&mut owner.outbox) {
                self.broker.keep(owner.log[position].clone());
            }
        }
        let waiting: Vec<CallLine> = self.broker.messages.values().cloned().collect();
        self.reader.follow(&waiting);
        if self.lost_silently == 0 {
            self.check_reader();
        }
        // what was lost without a sign: the owner sends the newest state of each line that is behind
        let behind: Vec<CallLine> = self
            .lines()
            .filter(|line| {
                line.version > 1
                    && is_news(self.reader.copies.get(&line.id).map(|(epoch, version, _)| (*epoch, *version)), (1, line.version))
            })
            .cloned()
            .collect();
        self.reader.follow(&behind);
    }

    fn lines(&self) -> impl Iterator<Item = &CallLine> {
        self.owners.iter().flat_map(|owner| owner.lines.values())
    }

    fn check_reader(&self) {
        let paid: Amount = self.lines().map(|line| line.paid).sum::<Amount>() + usd(0);
        assert_eq!(self.reader.total, paid, "the reader's total");
        for line in self.lines().filter(|line| line.version > 1) {
            assert_eq!(self.reader.copies.get(&line.id), Some(&(1, line.version, line.paid)), "the reader's copy");
        }
    }

    fn check_all(&self) {
        let payments = || self.owners.iter().flat_map(|owner| &owner.payments);
        let applied: Amount = payments().map(|payment| payment.applied).sum::<Amount>() + usd(0);
        let paid: Amount = self.lines().map(|line| line.paid).sum::<Amount>() + usd(0);
        assert_eq!(applied, paid, "paid is what was applied");
        assert_eq!(payments().count(), self.keys, "each key is one payment");
        assert_eq!(self.heard.len(), self.keys, "each key is answered");
        self.check_reader();
        let log = || self.owners.iter().flat_map(|owner| &owner.log);
        let ids: BTreeSet<Uuid> = log().map(|line| event_id(line.id, 1, line.version)).collect();
        assert_eq!(ids.len(), log().count(), "each version is one event");
        if self.lost_silently == 0 {
            let there: BTreeSet<(Uuid, i64)> = self.broker.messages.values().map(|line| (line.id, line.version)).collect();
            assert!(log().all(|line| there.contains(&(line.id, line.version))), "every event is in the stream");
        }
    }
}

#[test]
fn nothing_is_lost_or_doubled_whatever_fails() {
    let (mut failures, mut repaired_by_the_relay, mut payments) = (0, 0, 0);
    for seed in 0..SEEDS {
        let done = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step();
            }
            world.heal();
            world.check_all();
            (world.lost, world.lost_silently, world.keys)
        });
        let (lost, lost_silently, keys) = done.unwrap_or_else(|_| panic!("seed {seed}"));
        failures += lost + lost_silently;
        repaired_by_the_relay += usize::from(lost > 0 && lost_silently == 0);
        payments += keys;
    }
    // it would prove nothing if nothing had happened
    assert!(failures > 10_000 && repaired_by_the_relay > 100 && payments > 50_000, "{failures}, {repaired_by_the_relay}, {payments}");
}
