//! A driver in virtual time for the session machine: it carries out wishes against a scripted venue, keeps the journal and
//! the records, and holds every written book against the venue's own truth. No socket, no clock.

use crate::line::{self, LineVenue};
use std::collections::BTreeMap;
use tickplant_core::clock::{Nanos, MILLISECOND, SECOND};
use tickplant_core::event::Decode;
use tickplant_core::record::*;
use tickplant_core::session::{journal, *};

/// What is to happen at a time.
pub enum Happening {
    Granted(Connection),
    Opened(Connection, u64),
    Frame(Connection, u64, Vec<u8>),
    Pong(Connection, u64, [u8; 8]),
    Closed { connection: Connection, life: u64, reason: Reason, retry_after: Option<Nanos> },
    Reply { request: u64, status: u16, retry_after: Option<Nanos>, body: Vec<u8> },
    Command(Command),
}

/// One journalled input.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Nanos,
    pub kind: u8,
    pub flags: u8,
    pub connection: Connection,
    pub payload: Vec<u8>,
}

pub struct Rig {
    pub session: Session,
    pub venue: LineVenue,
    pub now: Nanos,
    wake: Option<Nanos>,
    queue: BTreeMap<(Nanos, u64), Happening>,
    serial: u64,
    /// The life of each connection's socket; what belongs to an older one is lost with it. None: there is no socket.
    lives: Vec<Option<u64>>,
    pub journal: Vec<Entry>,
    pub lines: Vec<[u8; RECORD_BYTES]>,
    pub runs: Vec<Run>,
    pub sent: Vec<(Nanos, Connection, String)>,
    pub connects: Vec<Nanos>,
    pub fetched: Vec<(Nanos, String)>,
    pub closes: Vec<(Nanos, Reason)>,
    /// Attempts that fail with this reason before one succeeds.
    pub refuse_attempts: Vec<(Reason, Option<Nanos>)>,
    pub answer_pings: bool,
    /// What was asked for of budgets, what they are, and what the venue wanted held back.
    pub asked: Vec<(Nanos, Budget, u32)>,
    pub till: Till,
    pub held: Vec<(Budget, Nanos)>,
    /// The control thread grants no attempt.
    pub grant: bool,
}

/// The control thread's budgets: at most so much in any so long; without a rate everything at once.
#[derive(Default)]
pub struct Till {
    pub rate: Option<(u32, Nanos)>,
    pub taken: Vec<(Nanos, Budget, u32)>,
}

impl Till {
    fn take(&mut self, budget: Budget, now: Nanos, amount: u32) -> Nanos {
        let Some((most, window)) = self.rate else { return now };
        let mut at = self.taken.iter().filter(|turn| turn.1 == budget).map(|turn| turn.0).fold(now, Nanos::max);
        let within = |at: Nanos| {
            let recent = self.taken.iter().filter(|turn| turn.1 == budget && turn.0 + window > at);
            recent.map(|turn| turn.2).sum::<u32>()
        };
        while within(at) + amount > most {
            at += MILLISECOND;
        }
        self.taken.push((at, budget, amount));
        at
    }
}

pub const START: Nanos = 1_700_000_000 * SECOND;

impl Rig {
    pub fn new(plan: Plan, venue: LineVenue, seed: u64) -> Self {
        Self::with_decoder(Box::new(line::LineDecoder), plan, venue, seed)
    }

    pub fn with_decoder(decoder: Box<dyn Decode>, plan: Plan, venue: LineVenue, seed: u64) -> Self {
        let text = serde_json::to_vec(&plan).unwrap();
        let lives = vec![None; plan.routes.len()];
        let mut rig = Self {
            session: Session::new(decoder, plan, seed),
            venue,
            now: START,
            wake: None,
            queue: BTreeMap::new(),
            serial: 0,
            lives,
            journal: Vec::new(),
            lines: Vec::new(),
            runs: Vec::new(),
            sent: Vec::new(),
            connects: Vec::new(),
            fetched: Vec::new(),
            closes: Vec::new(),
            refuse_attempts: Vec::new(),
            answer_pings: true,
            asked: Vec::new(),
            till: Till::default(),
            held: Vec::new(),
            grant: true,
        };
        rig.input(Input::Start { plan: &text, seed });
        rig
    }

    /// Gives the machine one input now and carries out what it wishes.
    pub fn input(&mut self, input: Input<'_>) {
        let entry = journal::encode(&input);
        self.journal.push(Entry {
            at: self.now,
            kind: entry.kind,
            flags: entry.flags,
            connection: entry.connection,
            payload: entry.parts().concat(),
        });
        let mut out = Out::new(self.lines.len() as u64);
        self.session.step(self.now, input, &mut out);
        assert_eq!(out.lines.len(), out.runs.iter().map(|run| run.count as usize).sum::<usize>());
        self.lines.extend_from_slice(&out.lines);
        self.runs.extend_from_slice(&out.runs);
        for wish in out.wishes {
            self.carry_out(wish);
        }
    }

    pub fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
    }

    pub fn after(&mut self, delay: Nanos, happening: Happening) {
        self.serial += 1;
        self.queue.insert((self.now + delay, self.serial), happening);
    }

    fn carry_out(&mut self, wish: Wish) {
        match wish {
            Wish::Connect { connection } => {
                self.connects.push(self.now);
                if self.grant {
                    self.after(MILLISECOND, Happening::Granted(connection));
                }
            }
            Wish::Send { connection, text, redacted } => {
                let kept = redacted.unwrap_or_else(|| text.clone());
                self.sent.push((self.now, connection, text.clone()));
                self.input(Input::Sent { connection, text: kept.as_bytes() });
                let Some(life) = self.lives[connection as usize] else { return };
                for (delay, frame) in self.venue.on_text(connection, &text) {
                    self.after(delay, Happening::Frame(connection, life, frame));
                }
            }
            Wish::Ping { connection, payload } => {
                if let Some(life) = self.lives[connection as usize].filter(|_| self.answer_pings) {
                    self.after(3 * MILLISECOND, Happening::Pong(connection, life, payload));
                }
            }
            Wish::Fetch { request, url } => {
                self.fetched.push((self.now, url.clone()));
                let (delay, status, retry_after, body) = self.venue.on_fetch(&url);
                self.after(delay, Happening::Reply { request, status, retry_after, body });
            }
            Wish::Close { connection, reason } => {
                self.closes.push((self.now, reason));
                let life = self.serial;
                if self.lives[connection as usize].is_some() {
                    self.lives[connection as usize] = Some(life);
                    self.after(MILLISECOND, Happening::Closed { connection, life, reason, retry_after: None });
                }
            }
            Wish::WakeAt { at } => self.wake = Some(at),
            Wish::Ask { budget, connection, amount } => {
                self.asked.push((self.now, budget, amount));
                let at = self.till.take(budget, self.now, amount);
                let allowed = Command::Allowed { budget, connection, amount };
                self.after(at - self.now + MILLISECOND, Happening::Command(allowed));
            }
            Wish::Hold { budget, wait, .. } => self.held.push((budget, wait)),
            Wish::Token { connection } => {
                let token = self.venue.new_token();
                let detail = if token.is_none() { "no token today".to_owned() } else { String::new() };
                let command = Command::Token { connection, token, detail };
                self.after(5 * MILLISECOND, Happening::Command(command));
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Granted(connection) => {
                self.serial += 1;
                let life = self.serial;
                self.lives[connection as usize] = Some(life);
                self.command(Command::Granted { connection });
                if self.lives[connection as usize] != Some(life) {
                    return;
                }
                if self.refuse_attempts.is_empty() {
                    self.after(2 * MILLISECOND, Happening::Opened(connection, life));
                } else {
                    let (reason, retry_after) = self.refuse_attempts.remove(0);
                    self.after(2 * MILLISECOND, Happening::Closed { connection, life, reason, retry_after });
                }
            }
            Happening::Opened(connection, life) if self.lives[connection as usize] == Some(life) => {
                for (delay, frame) in self.venue.on_open(connection) {
                    self.after(delay, Happening::Frame(connection, life, frame));
                }
                self.input(Input::Opened { connection });
            }
            Happening::Frame(connection, life, payload) if self.lives[connection as usize] == Some(life) => {
                self.input(Input::Frame { connection, payload: &payload });
            }
            Happening::Pong(connection, life, payload) if self.lives[connection as usize] == Some(life) => {
                self.input(Input::Pong { connection, payload: &payload });
            }
            Happening::Closed { connection, life, reason, retry_after }
                if self.lives[connection as usize] == Some(life) =>
            {
                self.lives[connection as usize] = None;
                self.venue.on_closed(connection);
                self.input(Input::Closed { connection, reason, detail: b"scripted", retry_after });
            }
            Happening::Reply { request, status, retry_after, body } => {
                self.input(Input::HttpReply { request, status, retry_after, body: &body });
            }
            Happening::Command(command) => self.command(command),
            _ => {}
        }
    }

    /// The venue sends a frame now, if the connection has a socket.
    pub fn frame(&mut self, connection: Connection, frame: impl AsRef<[u8]>) {
        if self.lives[connection as usize].is_some() {
            self.input(Input::Frame { connection, payload: frame.as_ref() });
        }
    }

    /// The venue sends a frame now; it arrives after its latency, in order with its other ones.
    pub fn send(&mut self, connection: Connection, frame: String) {
        if let Some(life) = self.lives[connection as usize] {
            self.after(self.venue.latency, Happening::Frame(connection, life, frame.into_bytes()));
        }
    }

    /// The peer closes the connection now.
    pub fn cut(&mut self, connection: Connection, reason: Reason, retry_after: Option<Nanos>) {
        if let Some(life) = self.lives[connection as usize] {
            self.happen(Happening::Closed { connection, life, reason, retry_after });
        }
    }

    /// One thing happens: the earliest of the queue and the wished waking. False where nothing would before `until`.
    pub fn tick(&mut self, until: Nanos) -> bool {
        let queued = self.queue.keys().next().copied();
        let wake = self.wake.filter(|&wake| queued.is_none_or(|(at, _)| wake < at));
        match (wake, queued) {
            (Some(at), _) if at <= until => {
                self.now = self.now.max(at);
                self.wake = None;
                self.input(Input::Timer);
            }
            (None, Some(key)) if key.0 <= until => {
                self.now = self.now.max(key.0);
                let happening = self.queue.remove(&key).unwrap();
                self.happen(happening);
            }
            _ => return false,
        }
        true
    }

    /// Lets virtual time pass.
    pub fn run(&mut self, duration: Nanos) {
        let until = self.now + duration;
        let mut ticks = 0;
        while self.tick(until) {
            ticks += 1;
            assert!(ticks < 2_000_000, "the machine and its driver keep each other busy without end");
        }
        self.now = until;
    }

    /// Every record of one kind, in order.
    pub fn records<R: Record>(&self) -> Vec<R> {
        let mut found = Vec::new();
        let mut start = 0;
        for run in &self.runs {
            let end = start + run.count as usize;
            if run.kind == R::KIND as u16 {
                found.extend(self.lines[start..end].iter().map(|line| bytemuck::pod_read_unaligned::<R>(line)));
            }
            start = end;
        }
        found
    }

    /// The text of the blob at a record index.
    pub fn blob(&self, index: u64) -> Vec<u8> {
        let first = &self.lines[index as usize];
        let length = u64::from_le_bytes(first[..8].try_into().unwrap()) as usize;
        let bytes: Vec<u8> = self.lines[index as usize..].iter().flatten().copied().skip(8).take(length).collect();
        bytes
    }

    /// The moves of one subject: (previous, current, reason).
    pub fn moves(&self, subject: Subject) -> Vec<(u8, u8, Reason)> {
        let statuses = self.records::<Status>();
        let of = statuses.iter().filter(|status| status.subject == subject as u8);
        of.map(|status| (status.previous, status.current, Reason::from_number(status.reason).unwrap())).collect()
    }

    pub fn state(&self) -> ConnectionState {
        self.session.connections()[0].state
    }

    pub fn summary(&self, instrument_id: u32) -> InstrumentSummary {
        self.session.summary().into_iter().find(|line| line.instrument_id == instrument_id).unwrap()
    }

    /// Every move of a connection or a book begins where the one before ended and is an arrow of its table.
    fn assert_moves_are_arrows(&self) {
        let mut states: BTreeMap<(u8, u32), u8> = BTreeMap::new();
        for status in self.records::<Status>() {
            let known = match status.subject {
                subject if subject == Subject::Connection as u8 => {
                    let state = |number| ConnectionState::from_number(number).unwrap();
                    let arrow = (state(status.previous), state(status.current));
                    let from = states.insert((subject, status.connection), status.current).unwrap_or(0);
                    assert_eq!(from, status.previous, "connection");
                    arrows::CONNECTION_ARROWS.contains(&arrow)
                }
                subject if subject == Subject::Book as u8 => {
                    let state = |number| BookState::from_number(number).unwrap();
                    let arrow = (state(status.previous), state(status.current));
                    let from = states.insert((subject, status.instrument_id), status.current);
                    assert_eq!(from.unwrap_or(BookState::Closed as u8), status.previous, "book");
                    arrows::BOOK_ARROWS.contains(&arrow)
                }
                subject if subject == Subject::Subscription as u8 => {
                    let state = |number| SubscriptionState::from_number(number).unwrap();
                    arrows::SUBSCRIPTION_ARROWS.contains(&(state(status.previous), state(status.current)))
                }
                _ => true,
            };
            assert!(known || status.previous == status.current, "{status:?}");
        }
    }

    /// Derives the records again from the journal and compares every byte.
    pub fn assert_derived_again(&self, decoder: Box<dyn Decode>) {
        self.assert_moves_are_arrows();
        let mut entries = self.journal.iter();
        let start = entries.next().unwrap();
        let decoded = journal::decode(start.kind, start.flags, start.connection, &start.payload).unwrap();
        let Input::Start { plan, seed } = decoded else { panic!("the first input is not the start") };
        let mut session = Session::new(decoder, serde_json::from_slice(plan).unwrap(), seed);
        let mut out = Out::new(0);
        session.step(start.at, decoded, &mut out);
        for entry in entries {
            let input = journal::decode(entry.kind, entry.flags, entry.connection, &entry.payload).unwrap();
            // A run ends with its step here; in the rig too.
            let mut step = Out::new(out.next_index);
            session.step(entry.at, input, &mut step);
            out.lines.append(&mut step.lines);
            out.runs.append(&mut step.runs);
            out.next_index = step.next_index;
        }
        assert!(out.lines == self.lines, "records differ");
        assert!(out.runs == self.runs, "runs differ");
    }
}
