//! The shell: the one place where everything meets.
//!
//! It has no opinion. One turn of the loop (`core/turn`): wait, turn what happened into events, give them to the
//! machine, carry out what the machine asks for (`core/execute`), turn the results into events. What it owns is
//! what the machine must not know, in rooms: docs/architecture.md says what each of them has.

mod boot;
mod channel;
mod clients;
mod core;
mod events;
mod fds;
mod reload;
mod sockets;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

pub(crate) use boot::embed_host::{
    Audience, Hosting, SpawnHook, TakeLine, host, inherited_sockets, text_of, wishes,
};
pub use boot::embed_host::{Extra, FromWorker, NotAnswered, Start as Spawning, TooLate};
pub(crate) use boot::location::Place;
pub use boot::run::{Options, RunError, run};
pub use boot::runtime_dir::RuntimeError;
pub(crate) use clients::command::{Question, Wish};
pub use reload::config_source::{Refused, Source, ThisMachine, read_text_in_time};

use self::core::execute::Start;
use boot::embed_host::Program;
use boot::runtime_dir::Runtime;
use channel::{Buffer, Deadlines, Grants, Outgoing, Unheard};
use clients::commands::{FailedRollout, Waiting};
use clients::control_socket::Serving;
use events::bus::Chronicle;
use events::service_manager::Manager;
use fds::closer::Closer;
use fds::quota::{Fd, Pot};
use reload::generation::Record;
use worker::monitor::{DatagramBuffer, Reports};
use worker::output_budget::Unwritten;
use worker::readiness::Watcher;
use worker::start::Surroundings;
use worker::stored::Store;
use worker::table::Table;

use crate::config::model::{Signal, WorkerOutput};
use crate::control::server::{Delivery, Traffic};
use crate::id::{Generation, ListenerName, RequestId, WorkerId};
use crate::listeners::Drift;
use crate::observe::{Limits, Log, Writer};
use crate::os::spawn::Helper;
use crate::supervisor::{CountedTime, Event, Supervisor};
use crate::time::Monotonic;

/// Everything that the shell owns.
struct Daemon {
    started: Monotonic,
    /// The clock, less the time in which nobody ran.
    time: CountedTime,
    machine: Supervisor,
    /// Events that the machine has not seen yet.
    inbox: VecDeque<Event>,
    /// Starts that the machine asked for and that are not made yet.
    waiting_starts: VecDeque<Start>,
    /// The machine said that it is over; the failure, if one ended it.
    ended: Option<Option<String>>,

    source: Source,
    /// How often the program that we are a part of has changed it.
    source_number: u64,
    generations: BTreeMap<Generation, Record>,
    committed: Generation,
    /// What is being read for the next one, and for plans.
    readings: reload::prepare::Readings,
    runtime: Runtime,
    /// `None`: nobody can connect.
    serving: Option<Serving>,
    program: Program,
    surroundings: Surroundings,
    helper: Helper,
    /// Who closes what may keep us waiting.
    closer: Closer,

    table: Table,
    /// Looks whether workers that cannot say so are ready.
    watcher: Watcher,
    /// Processes that outlive their parents become our children.
    is_subreaper: bool,
    /// There are such processes; `None`: not asked in this turn.
    strangers: Option<bool>,
    /// Ended ones may wait behind a worker that is about to be reaped.
    orphans_may_hide: bool,
    /// Workers that have ended, the rest of whose groups is to be ended with this signal.
    waiting_ends: VecDeque<(WorkerId, Signal)>,
    reports: Reports,
    datagram_buffer: DatagramBuffer,
    channel_buffer: Buffer,
    /// What workers have sent and we have in our hands, all together.
    in_hand: Rc<Pot>,
    /// Messages that workers have not taken, all together.
    outgoing: Rc<Outgoing>,
    /// Fds that workers put away, and what there is room for of them.
    stored: Store,
    put_away: Rc<Pot>,
    /// Fds that are closed when all that has come is dealt with (`BARRIER=1`).
    barriers: Vec<Fd>,
    /// There may be fewer slots than before.
    slots_may_be_gone: bool,
    /// What workers said and the machine need not know, until it knows what was said before.
    unheard: VecDeque<Unheard>,
    /// Questions of workers to each other.
    deadlines: Deadlines,
    /// Sockets that workers asked for by address.
    grants: Grants,
    /// Messages that did not reach a worker.
    messages_refused: u64,
    notifications_dropped: u64,
    drift_is_possible: bool,
    /// What workers have done to listeners.
    drifts: BTreeMap<ListenerName, Vec<Drift>>,

    last_request: u64,
    /// Clients that wait for the answer to a request.
    waiting: BTreeMap<RequestId, Waiting>,
    /// Answers that must have gone out before we end.
    deliveries: Vec<Delivery>,
    traffic: Rc<Traffic>,
    chronicle: Chronicle,
    failed_rollout: Option<FailedRollout>,

    manager: Manager,
    writer: Writer,
    unwritten: Unwritten,
    /// What the configuration says of the log is applied to it, where it is ours.
    log: Option<Log>,
    limits: Limits,
    output: WorkerOutput,
}
