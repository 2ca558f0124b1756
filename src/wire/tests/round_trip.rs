//! Every type is written and read back as it was.

use std::fmt::Debug;

use proptest::prelude::*;

use super::payload;
use crate::id::{Generation, PoolName, SlotIndex, WorkerId};
use crate::wire::limits::{FDS_MAX, NUMBER_MAX};
use crate::wire::version::{NEWEST, Versions};
use crate::wire::{
    Capabilities, Capability, Carries, ErrorCode, HandoverHello, Id, Level, Line, NotReached, Payload,
    Record, Refused, Sender, Target, ToHandover, ToWorker, Unsendable, Wanted, WorkerHello,
};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..1000_u64, 0..=NUMBER_MAX]
}

fn an_id() -> impl Strategy<Value = Id> {
    number().prop_map(|number| Id::new(number).expect("in range"))
}

fn maybe_id() -> impl Strategy<Value = Option<Id>> {
    proptest::option::of(an_id())
}

fn pool() -> impl Strategy<Value = PoolName> {
    any::<String>().prop_map(PoolName::new)
}

fn data() -> impl Strategy<Value = Payload> {
    let json = prop_oneof![
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        any::<f64>().prop_filter_map("JSON has no infinity", |n| n.is_finite().then(|| n.to_string())),
        Just("null".to_owned()),
        Just(r#"{"b":[1,{"a":"\u0000"}],"b":2}"#.to_owned()),
    ];
    json.prop_map(|json| payload(&json))
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    proptest::sample::subsequence(Capability::ALL.to_vec(), 0..=Capability::ALL.len())
        .prop_map(|list| list.into_iter().collect())
}

fn error() -> impl Strategy<Value = ErrorCode> {
    prop_oneof![
        proptest::sample::select(ErrorCode::KNOWN.to_vec()),
        any::<String>().prop_map(ErrorCode::from)
    ]
}

fn refused() -> impl Strategy<Value = Refused> {
    (maybe_id(), error(), ".{0,50}").prop_map(|(re, error, reason)| Refused { re, error, reason })
}

fn sender() -> impl Strategy<Value = Sender> {
    let worker = (pool(), any::<u32>(), number()).prop_map(|(pool, slot, worker)| Sender::Worker {
        pool,
        slot: SlotIndex(slot),
        worker: WorkerId(worker),
    });
    prop_oneof![Just(Sender::Handover), worker]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Handover),
        Just(Target::All),
        number().prop_map(|worker| Target::Worker(WorkerId(worker))),
        pool().prop_map(Target::Pool),
        (pool(), any::<u32>()).prop_map(|(pool, slot)| Target::Slot(pool, SlotIndex(slot))),
    ]
}

fn handover_hello() -> impl Strategy<Value = ToWorker> {
    (number(), number(), capabilities(), any::<String>(), pool(), any::<u32>(), number(), number()).prop_map(
        |(newest, oldest, capabilities, name, pool, slot, generation, worker)| {
            // Of a version that is not spoken here, nothing else is read.
            let newest = newest.max(NEWEST);
            let versions = Versions::new(oldest.min(NEWEST), newest).expect("in order");
            ToWorker::Hello(HandoverHello {
                version: newest,
                versions,
                capabilities,
                name,
                pool,
                slot: SlotIndex(slot),
                generation: Generation(generation),
                worker: WorkerId(worker),
            })
        },
    )
}

fn to_worker() -> impl Strategy<Value = ToWorker> {
    let not_reached =
        (number(), error()).prop_map(|(worker, error)| NotReached { worker: WorkerId(worker), error });
    prop_oneof![
        handover_hello(),
        (".{0,50}", proptest::option::of(number()))
            .prop_map(|(reason, deadline_ms)| ToWorker::Drain { reason, deadline_ms }),
        an_id().prop_map(|id| ToWorker::Ping { id }),
        (an_id(), any::<String>(), any::<String>(), an_id())
            .prop_map(|(re, name, address, id)| ToWorker::Grant { re, name, address, id }),
        any::<String>().prop_map(|name| ToWorker::ListenerRemoved { name }),
        (maybe_id(), sender(), data(), any::<bool>()).prop_map(|(id, from, data, reply)| ToWorker::Message {
            id,
            from,
            data,
            reply: reply && id.is_some()
        }),
        (an_id(), maybe_id(), sender(), data()).prop_map(|(re, id, from, data)| ToWorker::Reply {
            re,
            id,
            from,
            data
        }),
        (an_id(), number(), proptest::collection::vec(not_reached, 0..5))
            .prop_map(|(re, receivers, refused)| ToWorker::Sent { re, receivers, refused }),
        an_id().prop_map(|re| ToWorker::Ack { re }),
        refused().prop_map(ToWorker::Refused),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let fields = proptest::collection::btree_map(any::<String>(), data(), 0..5);
    (proptest::sample::select(Level::ALL), any::<String>(), proptest::option::of(".{0,50}"), fields).prop_map(
        |(level, message, target, fields)| Record {
            level,
            message,
            target,
            fields: fields.into_iter().collect(),
        },
    )
}

fn to_handover() -> impl Strategy<Value = ToHandover> {
    prop_oneof![
        (number(), capabilities(), ".{0,30}").prop_map(|(version, capabilities, client)| {
            ToHandover::Hello(WorkerHello { version, capabilities, client })
        }),
        Just(ToHandover::Ready),
        Just(ToHandover::Heartbeat),
        Just(ToHandover::Stopping),
        ".{0,50}".prop_map(|text| ToHandover::Status { text }),
        number().prop_map(|ms| ToHandover::ExtendTimeout { ms }),
        proptest::option::of(".{0,50}").prop_map(|reason| ToHandover::Replace { reason }),
        an_id().prop_map(|re| ToHandover::Pong { re }),
        (an_id(), any::<String>()).prop_map(|(id, name)| ToHandover::Listen { id, what: Wanted::Name(name) }),
        (an_id(), any::<String>())
            .prop_map(|(id, address)| ToHandover::Listen { id, what: Wanted::Address(address) }),
        (maybe_id(), target(), data(), any::<bool>(), proptest::option::of(0..=3_600_000_u64)).prop_map(
            |(id, to, data, reply, timeout_ms)| {
                let reply = reply && id.is_some() && to.is_one();
                ToHandover::Message { id, to, data, reply, timeout_ms }
            }
        ),
        (an_id(), maybe_id(), data()).prop_map(|(re, id, data)| ToHandover::Reply { re, id, data }),
        record().prop_map(ToHandover::Log),
        an_id().prop_map(|re| ToHandover::Ack { re }),
        refused().prop_map(ToHandover::Refused),
    ]
}

fn round<L: Line + PartialEq + Debug>(line: &L, fds: usize) -> Result<(), TestCaseError> {
    let carries = line.kind().expect("it can be said").carries;
    let fds = match carries {
        Carries::Nothing => 0,
        Carries::MayFds if line.id().is_none() => 0,
        Carries::MayFds => fds,
        Carries::Fds => fds.max(1),
    };
    let bytes = line.encode(fds).map_err(|refused| TestCaseError::fail(refused.to_string()))?;
    let (end, text) = bytes.split_last().expect("a line");
    prop_assert_eq!(*end, b'\n');
    prop_assert!(!text.contains(&b'\n'));
    let (read, said) = L::decode(text).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
    prop_assert_eq!(&read, line);
    prop_assert_eq!(said, fds);
    Ok(())
}

proptest! {
    #[test]
    fn what_handover_says_is_read_as_it_was_said(line in to_worker(), fds in 0..=FDS_MAX) {
        round(&line, fds)?;
    }

    #[test]
    fn what_a_worker_says_is_read_as_it_was_said(line in to_handover(), fds in 0..=FDS_MAX) {
        round(&line, fds)?;
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = ToHandover::decode(&bytes);
        let _ = ToWorker::decode(&bytes);
    }
}

#[test]
fn fds_are_refused_where_they_do_not_belong() {
    let id = super::id;
    let grant = ToWorker::Grant { re: id(1), name: String::new(), address: String::new(), id: id(1) };
    assert_eq!(grant.encode(0), Err(Unsendable::FdsMissing { kind: "grant" }));
    assert_eq!(grant.encode(65), Err(Unsendable::FdsTooMany { fds: 65 }));
    assert_eq!(ToHandover::Ready.encode(1), Err(Unsendable::FdsNotCarried { kind: "ready" }));
    let reply = ToHandover::Reply { re: id(1), id: None, data: payload("1") };
    assert_eq!(reply.encode(1), Err(Unsendable::FdsWithoutId));
    let message = ToHandover::Message {
        id: None,
        to: Target::Handover,
        data: payload("1"),
        reply: true,
        timeout_ms: None,
    };
    assert_eq!(message.encode(0), Err(Unsendable::ReplyWithoutId));
}

#[test]
fn a_broadcast_that_reached_nobody_still_fits_a_line() {
    let refused =
        (0..5000).map(|n| NotReached { worker: WorkerId(NUMBER_MAX - n), error: ErrorCode::Unsupported });
    let sent = ToWorker::Sent { re: super::id(1), receivers: 0, refused: refused.collect() };
    let bytes = sent.encode(0).expect("it fits");
    let (read, _) = ToWorker::decode(bytes.trim_ascii_end()).expect("right");
    assert!(matches!(read, ToWorker::Sent { refused, .. } if refused.len() == 1000));
}
