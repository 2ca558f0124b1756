//! Messages: from worker to worker, to handover, and from handover to workers.
//!
//! Nothing is decided here and nothing waits: a message goes into the queues of its receivers, or is refused to its
//! sender. Who asked a question is remembered beside it, with the worker that was asked; if that ends, or takes too long, the
//! asker is told.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use super::heard::Speaker;
use super::link::{No, Question, SharedLink};
use crate::control::What;
use crate::daemon::Daemon;
use crate::daemon::boot::embed_host::NotAnswered;
use crate::daemon::core::projection::who;
use crate::daemon::fds::quota::Fd;
use crate::id::WorkerId;
use crate::time::Monotonic;
use crate::wire::limits::{REPLY_TIMEOUT_MS, REPLY_TIMEOUT_MS_MAX, SENT_REFUSED_MAX};
use crate::wire::{
    Capability, ErrorCode, Id, NotReached, Open, Payload, Refused, Sender, Target, ToHandover, ToWorker,
    Until,
};

/// Who waits for what becomes of a message.
#[derive(Debug)]
pub(in crate::daemon) struct Passed {
    asker: Asker,
    /// It wants the answer of the receiver, and no `sent`.
    reply: bool,
    /// Its place among the deadlines.
    deadline: Option<Deadline>,
}

/// Who asked.
#[derive(Debug)]
enum Asker {
    /// A worker, with this question of its own.
    Worker(WorkerId, Id),
    /// The program that we are a part of.
    Program(oneshot::Sender<Result<Payload, NotAnswered>>),
}

type Deadline = (Monotonic, u64);

/// The questions that wait for a worker's answer, by their deadline.
#[derive(Default)]
pub(in crate::daemon) struct Deadlines {
    next: u64,
    by_time: BTreeMap<Deadline, (WorkerId, Id)>,
}

impl Deadlines {
    fn at(&mut self, at: Monotonic) -> Deadline {
        self.next += 1;
        (at, self.next)
    }

    /// The first of them.
    pub(in crate::daemon) fn next(&self) -> Option<Monotonic> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    fn pop(&mut self, now: Monotonic) -> Option<(WorkerId, Id)> {
        let first = self.by_time.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

/// A message as its sender said it.
pub(super) struct Message {
    pub(super) id: Option<Id>,
    pub(super) to: Target,
    pub(super) data: Payload,
    pub(super) reply: bool,
    pub(super) timeout_ms: Option<u64>,
    pub(super) fds: Vec<Fd>,
}

impl Daemon {
    /// A worker sent a message.
    pub(super) fn pass(&mut self, from: &Speaker, message: Message) {
        match &message.to {
            Target::Handover => self.take_for_handover(from, message),
            _ if message.reply || !message.fds.is_empty() => self.pass_question(from, message),
            to => self.pass_on(from, message.id, to, &message.data),
        }
    }

    /// The program that we are a part of may take it, and answer; who reads events sees it in any case.
    fn take_for_handover(&mut self, from: &Speaker, message: Message) {
        if self.program.audience.is_some() {
            return self.give_to_program(from, message);
        }
        if message.reply {
            let no = No::new(ErrorCode::Unsupported, "handover answers no questions; another worker may");
            return self.refuse(from.worker, message.id, no);
        }
        self.tell_of_message(from, &message.data);
        self.say_sent(from.worker, message.id, 1, Vec::new());
    }

    pub(super) fn tell_of_message(&mut self, from: &Speaker, data: &Payload) {
        let who = who(from.worker, &from.place, &self.table);
        self.happened(What::WorkerMessage { who, data: Some(data.clone()) });
    }

    /// To any number of workers, without fds, and without an answer of theirs.
    fn pass_on(&mut self, from: &Speaker, id: Option<Id>, to: &Target, data: &Payload) {
        let receivers = self.receivers(to, Some(from.worker));
        let (receivers, refused) = self.put(&receivers, &from.as_sender(), data);
        if receivers == 0 && (to.is_one() || !refused.is_empty()) {
            let nobody = || No::new(ErrorCode::Gone, "there is no such worker, or it takes no messages");
            let no = refused.into_iter().next().map_or_else(nobody, |(_, no)| no);
            return self.refuse(from.worker, id, no);
        }
        let refused = refused
            .into_iter()
            .take(SENT_REFUSED_MAX)
            .map(|(worker, no)| NotReached { worker, error: no.error })
            .collect();
        self.say_sent(from.worker, id, receivers, refused);
    }

    /// To one worker, with fds, or with an answer wanted.
    fn pass_question(&mut self, from: &Speaker, message: Message) {
        let Message { id: Some(re), to, data, reply, timeout_ms, fds } = message else { return };
        let patience = reply.then(|| Duration::from_millis(timeout_ms.unwrap_or(REPLY_TIMEOUT_MS)));
        self.ask_worker(Asker::Worker(from.worker, re), from.as_sender(), &to, data, patience, fds);
    }

    /// The program that we are a part of asks a worker.
    pub(in crate::daemon) fn ask_for_program(&mut self, question: crate::daemon::Question) {
        let crate::daemon::Question { to, data, within, answer } = question;
        let within = within.min(Duration::from_millis(REPLY_TIMEOUT_MS_MAX));
        self.ask_worker(Asker::Program(answer), Sender::Handover, &to, data, Some(within), Vec::new());
    }

    /// Puts a question into the queue of the one worker that is meant, or what is only to be acknowledged: without `patience`.
    fn ask_worker(
        &mut self,
        asker: Asker,
        from: Sender,
        to: &Target,
        data: Payload,
        patience: Option<Duration>,
        fds: Vec<Fd>,
    ) {
        let Some(link) = self.receivers(to, None).into_iter().next() else {
            let no = No::new(ErrorCode::Gone, "there is no such worker, or it takes no messages");
            return self.refuse_asker(asker, no);
        };
        let reply = patience.is_some();
        let until = if reply { Until::Answer } else { Until::Ack };
        let late = patience.map(|patience| self.now() + patience);
        let deadline = late.map(|late| self.deadlines.at(late));
        let passed = Passed { asker, reply, deadline };
        let line = |id| ToWorker::Message { id: Some(id), from, data, reply };
        match link.ask(until, Question::Passed(passed), fds, line) {
            Ok(id) => {
                let waits = deadline.map(|deadline| (deadline, (link.worker, id)));
                self.deadlines.by_time.extend(waits);
            }
            Err((no, question)) => {
                self.messages_refused += 1;
                if let Question::Passed(passed) = question {
                    self.refuse_asker(passed.asker, no);
                }
            }
        }
    }

    /// A worker answered what another one asked, or has what it was sent.
    pub(super) fn pass_back(
        &mut self,
        from: &Speaker,
        open: Open<Question, Fd>,
        line: ToHandover,
        fds: Vec<Fd>,
    ) {
        // What was granted or replied has arrived, or is not wanted: our copies are closed here.
        let Question::Passed(Passed { asker, reply, .. }) = open.question else { return };
        match (line, asker) {
            (ToHandover::Reply { data, .. }, Asker::Worker(asker, re)) if reply => {
                self.pass_reply(from, asker, re, data, fds);
            }
            (ToHandover::Reply { data, .. }, Asker::Program(answer)) if reply => drop(answer.send(Ok(data))),
            (ToHandover::Ack { .. }, Asker::Worker(asker, re)) if !reply => {
                self.say_sent(asker, Some(re), 1, Vec::new());
            }
            (ToHandover::Refused(refused), asker) => {
                self.refuse_asker(asker, No { error: refused.error, reason: refused.reason });
            }
            (_, asker) => {
                let reason = format!("worker {} answered with something else", from.worker);
                self.refuse_asker(asker, No::new(ErrorCode::Failed, reason));
            }
        }
    }

    fn pass_reply(&mut self, from: &Speaker, asker: WorkerId, re: Id, data: Payload, fds: Vec<Fd>) {
        let Some(link) = self.link(asker) else { return };
        let sender = from.as_sender();
        let said = if fds.is_empty() {
            link.say(&ToWorker::Reply { re, id: None, from: sender, data }, fds)
        } else {
            let line = |id| ToWorker::Reply { re, id: Some(id), from: sender, data };
            link.ask(Until::Ack, Question::Replied, fds, line).map(drop).map_err(|(no, _)| no)
        };
        if let Err(no) = said {
            self.messages_refused += 1;
            self.refuse(asker, Some(re), no);
        }
    }

    /// A worker has no channel any more: whoever waits for it is told.
    pub(in crate::daemon) fn close_channel(&mut self, worker: WorkerId) {
        let Some(link) = self.link(worker) else { return };
        for open in link.close() {
            let reason = format!("worker {worker} ended, or lost its channel, before it answered");
            self.give_up(open, No::new(ErrorCode::Gone, reason));
        }
    }

    /// There will be no answer.
    fn give_up(&mut self, open: Open<Question, Fd>, why: No) {
        self.forget_deadline(&open.question);
        if let Question::Passed(Passed { asker, .. }) = open.question {
            self.refuse_asker(asker, why);
        }
    }

    /// A question to a worker is answered, as far as its deadline is concerned.
    pub(super) fn forget_deadline(&mut self, question: &Question) {
        if let Question::Passed(Passed { deadline: Some(deadline), .. }) = question {
            self.deadlines.by_time.remove(deadline);
        }
    }

    /// Tells those who have waited too long.
    pub(in crate::daemon) fn look_after_questions(&mut self) {
        let now = self.time.now();
        while let Some((receiver, id)) = self.deadlines.pop(now) {
            let Some(open) = self.link(receiver).and_then(|link| link.close_question(id)) else { continue };
            let reason = format!("worker {receiver} did not answer in time");
            self.give_up(open, No::new(ErrorCode::Timeout, reason));
        }
    }

    /// Something that a client sends to workers: how many get it, and who does not.
    pub(in crate::daemon) fn send_to_workers(
        &mut self,
        to: &Target,
        data: &Payload,
    ) -> (u64, Vec<(WorkerId, No)>) {
        let receivers = self.receivers(to, None);
        self.put(&receivers, &Sender::Handover, data)
    }

    /// Puts a message into these queues: into how many it went, and who has no room for it.
    fn put(&mut self, to: &[SharedLink], from: &Sender, data: &Payload) -> (u64, Vec<(WorkerId, No)>) {
        let mut refused = Vec::new();
        let mut receivers = 0;
        for link in to {
            let line = ToWorker::Message { id: None, from: from.clone(), data: data.clone(), reply: false };
            match link.say(&line, Vec::new()) {
                Ok(()) => receivers += 1,
                Err(no) => refused.push((link.worker, no)),
            }
        }
        self.messages_refused += refused.len() as u64;
        (receivers, refused)
    }

    /// The workers that a target names and that take messages, without the sender where it is for many.
    fn receivers(&self, to: &Target, from: Option<WorkerId>) -> Vec<SharedLink> {
        let takes = |worker: &WorkerId| {
            let link = self.table.get(*worker)?.link.as_ref()?;
            link.can(Capability::Messages).then(|| link.clone())
        };
        match to {
            Target::Handover => Vec::new(),
            Target::Worker(worker) => takes(worker).into_iter().collect(),
            Target::Slot(pool, slot) => {
                self.machine.serving(pool, *slot).and_then(|worker| takes(&worker)).into_iter().collect()
            }
            Target::Pool(pool) => {
                let all = self
                    .table
                    .iter()
                    .filter(|(worker, entry)| entry.place.pool == *pool && Some(*worker) != from);
                all.filter_map(|(worker, _)| takes(&worker)).collect()
            }
            Target::All => {
                let all = self.table.iter().filter(|(worker, _)| Some(*worker) != from);
                all.filter_map(|(worker, _)| takes(&worker)).collect()
            }
        }
    }

    pub(super) fn say_sent(&self, to: WorkerId, re: Option<Id>, receivers: u64, refused: Vec<NotReached>) {
        if let (Some(re), Some(link)) = (re, self.link(to)) {
            let _ = link.say(&ToWorker::Sent { re, receivers, refused }, Vec::new());
        }
    }

    fn refuse_asker(&self, asker: Asker, no: No) {
        match asker {
            Asker::Worker(worker, re) => self.refuse(worker, Some(re), no),
            // A program that does not wait any more is told nothing.
            Asker::Program(answer) => drop(answer.send(Err(no.into()))),
        }
    }

    /// The answer to a question that gets no better one.
    pub(super) fn refuse(&self, to: WorkerId, re: Option<Id>, no: No) {
        if let (Some(re), Some(link)) = (re, self.link(to)) {
            let refused = Refused { re: Some(re), error: no.error, reason: no.reason };
            let _ = link.say(&ToWorker::Refused(refused), Vec::new());
        }
    }

    pub(super) fn link(&self, worker: WorkerId) -> Option<SharedLink> {
        self.table.get(worker)?.link.clone()
    }
}
