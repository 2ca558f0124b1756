//! What each line from handover means in its place.

use super::{Answer, End, Event, Outgoing, Question, Session};
use crate::wire::version::Versions;
use crate::wire::{
    Capability, ErrorCode, Fault, HandoverHello, Id, Line, Lines, Open, Owed, Payload, Received, Refused,
    Sender, ToHandover, ToWorker, limits,
};

impl<F> Session<F> {
    pub(super) fn hear(&mut self, received: Received<ToWorker, F>) -> Result<(), Fault> {
        let Received { line, fds } = received;
        match line {
            ToWorker::Hello(hello) => return self.greet(hello),
            ToWorker::Refused(refused) if refused.re.is_none() => {
                self.end(End::Refused(refused));
                return Ok(());
            }
            _ => {}
        }
        if self.hello.is_none() {
            let kind = line.kind().map_or_else(|| "(unknown)".to_owned(), |kind| kind.name.to_owned());
            return Err(Fault::BeforeHello { kind });
        }
        if let Some(id) = line.id() {
            self.owed.check(id)?;
        }
        self.sort(line, fds)
    }

    fn greet(&mut self, hello: HandoverHello) -> Result<(), Fault> {
        if self.hello.is_some() {
            return Err(Fault::SecondHello);
        }
        let oldest = hello.versions.oldest();
        if oldest > Versions::OURS.newest() {
            self.end(End::TooNew { oldest });
            return Ok(());
        }
        if Versions::OURS.agree(hello.version).is_none() {
            return Err(Fault::NoCommonVersion { theirs: hello.version, oldest: Versions::OURS.oldest() });
        }
        self.hello = Some(hello);
        self.events.push_back(Event::Hello);
        Ok(())
    }

    fn sort(&mut self, line: ToWorker, fds: Vec<F>) -> Result<(), Fault> {
        match line {
            ToWorker::Drain { reason, deadline_ms } => {
                if !std::mem::replace(&mut self.is_draining, true) {
                    self.events.push_back(Event::Drain { reason, deadline_ms });
                }
            }
            ToWorker::Ping { id } => {
                if self.owe(id)? {
                    self.events.push_back(Event::Ping(id));
                }
            }
            ToWorker::ListenerRemoved { name } => self.events.push_back(Event::ListenerRemoved(name)),
            ToWorker::Message { id, from, data, reply } => self.message_came(id, from, data, reply, fds)?,
            ToWorker::Grant { re, name, address, id } => {
                self.answer(&ToHandover::Ack { re: id }, None);
                self.answered(re, Question::Listen, Answer::Granted { name, address, fds });
            }
            ToWorker::Reply { re, id, from, data } => {
                if let Some(id) = id.filter(|_| !fds.is_empty()) {
                    self.answer(&ToHandover::Ack { re: id }, None);
                }
                self.answered(re, Question::Reply, Answer::Reply { from, data, fds });
            }
            ToWorker::Sent { re, receivers, refused } => {
                self.answered(re, Question::Sent, Answer::Sent { receivers, refused });
            }
            ToWorker::Ack { re } => {
                // Of a question with fds the copies are kept until its answer: refused, they are still the sender's.
                self.ledger.acknowledged(re);
            }
            ToWorker::Refused(refused) => {
                let open = refused.re.and_then(|re| self.ledger.close(re).map(|open| (re, open)));
                if let Some((re, open)) = open {
                    self.tell(re, &open, Answer::Refused(refused));
                }
            }
            ToWorker::Unknown(unknown) => {
                if let Some(id) = unknown.id {
                    self.refuse_now(id, ErrorCode::Unsupported, "lines of this type are not known here");
                }
            }
            ToWorker::Hello(_) => {}
        }
        Ok(())
    }

    /// A question came; whether there is room for it. If not, it is refused here.
    fn owe(&mut self, id: Id) -> Result<bool, Fault> {
        self.owed.check(id)?;
        if self.owed.len() >= limits::QUESTIONS_MAX {
            self.refuse_now(id, ErrorCode::QueueFull, "too many questions wait for their answers");
            return Ok(false);
        }
        self.owed.ask(id)?;
        Ok(true)
    }

    fn refuse_now(&mut self, re: Id, error: ErrorCode, reason: &str) {
        self.answer(&ToHandover::Refused(Refused { re: Some(re), error, reason: reason.to_owned() }), None);
    }

    fn message_came(
        &mut self,
        id: Option<Id>,
        from: Sender,
        data: Payload,
        reply: bool,
        fds: Vec<F>,
    ) -> Result<(), Fault> {
        if !self.takes_messages {
            let (error, reason) = if self.offered.has(Capability::Messages) {
                (ErrorCode::QueueFull, "this worker does not take its messages")
            } else {
                (ErrorCode::Unsupported, "this worker takes no messages")
            };
            if let Some(id) = id {
                self.refuse_now(id, error, reason);
            }
            return Ok(());
        }
        let reply = id.filter(|_| reply);
        if let Some(id) = reply
            && !self.owe(id)?
        {
            return Ok(());
        }
        if let Some(id) = id.filter(|_| !fds.is_empty()) {
            self.answer(&ToHandover::Ack { re: id }, None);
        }
        self.events.push_back(Event::Message { reply, from, data, fds });
        Ok(())
    }

    fn answered(&mut self, re: Id, as_what: Question, answer: Answer<F>) {
        let Some(open) = self.ledger.answered(re) else { return };
        let answer = if open.question == as_what {
            answer
        } else {
            let reason = "it was answered as another question".to_owned();
            Answer::Refused(Refused { re: Some(re), error: ErrorCode::Failed, reason })
        };
        self.tell(re, &open, answer);
    }

    /// Gives an answer to whoever waits for it.
    fn tell(&mut self, re: Id, open: &Open<Question, F>, answer: Answer<F>) {
        if !self.abandoned.remove(&re) && !matches!(open.question, Question::Replied(_)) {
            self.events.push_back(Event::Answer(re, answer));
        }
    }

    /// What is next to be written cannot be sent, because of its fds (the kernel passes none of `io_uring(7)`): it is taken out, and whoever waits for
    /// what becomes of it is told. Whether it has fds.
    pub fn give_up_next(&mut self, reason: &str) -> bool {
        let Some(id) = self.out.front().filter(|line| line.written == 0).and_then(|line| line.fds_of) else {
            return false;
        };
        let given_up = self.out.pop_front();
        self.pending -= given_up.map_or(0, |line| line.bytes.len());
        let Some(open) = self.ledger.close(id) else { return true };
        if let Question::Replied(re) = open.question {
            self.refuse_now(re, ErrorCode::Failed, reason);
        }
        let refused = Refused { re: Some(id), error: ErrorCode::Failed, reason: reason.to_owned() };
        self.tell(id, &open, Answer::Refused(refused));
        true
    }

    /// handover broke the rules: it is told, if the line can still be written, and the channel ends.
    pub(super) fn fail(&mut self, fault: Fault) {
        if !self.is_open {
            return;
        }
        let last = ToHandover::Refused(Refused::from(&fault));
        self.end(End::Fault(fault));
        if let Ok(bytes) = last.encode(0) {
            self.pending += bytes.len();
            self.out.push_back(Outgoing { bytes, written: 0, fds_of: None });
        }
    }

    /// Ends the channel. Of what waits to be written only the line that has begun is left.
    pub(super) fn end(&mut self, end: End) {
        if !std::mem::replace(&mut self.is_open, false) {
            return;
        }
        self.out.retain(|line| line.written > 0);
        self.pending = self.out.iter().map(|line| line.bytes.len() - line.written).sum();
        for (id, open) in self.ledger.close_all() {
            self.tell(id, &open, Answer::Lost);
        }
        self.owed = Owed::new();
        self.lines = Lines::new();
        self.events.push_back(Event::Closed(end));
    }
}
