//! What a worker says through its `NOTIFY_SOCKET`: a datagram to messages.
//!
//! Pure, and fed by programs that may be anything: every input has a decided answer and none panics. Where
//! `sd_notify(3)` leaves a choice, this does what systemd's own service manager does (`manager.c` and `service.c`
//! of systemd 257): unknown fields are ignored, of several states the last one counts, of several other fields the
//! first, a datagram with a NUL inside is refused whole, and `BARRIER=1` must stand alone.

use std::time::Duration;

use thiserror::Error;

/// The longest datagram that is read, in bytes. systemd itself reads 4 KiB; longer ones are refused, not cut.
pub const DATAGRAM_MAX: usize = 16 * 1024;

/// The longest status that is kept, in bytes; a longer one is cut at a character and ends in `…`.
pub const STATUS_MAX: usize = 1024;

/// The longest `FDNAME=`, as for systemd.
pub const FDNAME_MAX: usize = 255;

/// One thing that a worker said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// `STATUS=`: one printable line; empty to take back the last one.
    Status(String),
    /// `EXTEND_TIMEOUT_USEC=`: counted from now; never zero.
    ExtendTimeout(Duration),
    /// `READY=1`
    Ready,
    /// `RELOADING=1`: it re-reads its own configuration; no change for handover.
    Reloading,
    /// `STOPPING=1`
    Stopping,
    /// `WATCHDOG=1`
    Watchdog,
    /// `WATCHDOG=trigger`
    WatchdogTrigger,
    /// `MAINPID=`: ignored by handover, and logged once.
    MainPid(u32),
    /// `FDSTORE=1`: keep the fds that came with this datagram.
    FdStore {
        /// `FDNAME=`; `None` where it is missing or not a valid name.
        name: Option<String>,
        /// `FDPOLL=0` was not there: drop an fd whose other end is gone.
        poll: bool,
    },
    /// `FDSTOREREMOVE=1`: close what is kept under this name.
    FdStoreRemove {
        /// `FDNAME=`
        name: String,
    },
    /// `BARRIER=1`: close the one fd that came with it when everything before it is handled.
    Barrier,
}

/// A field that was there and could not be used; the others count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Not a number of microseconds above zero.
    #[error("EXTEND_TIMEOUT_USEC is not a number of microseconds")]
    ExtendTimeout,
    /// Neither `1` nor `trigger`.
    #[error("WATCHDOG is neither 1 nor trigger")]
    Watchdog,
    /// Not a process number.
    #[error("MAINPID is not a process number")]
    MainPid,
    /// Not 1 to 255 printable ASCII characters without a colon.
    #[error("FDNAME is not a valid name")]
    FdName,
    /// `FDSTOREREMOVE=1` without a valid `FDNAME=`.
    #[error("FDSTOREREMOVE without FDNAME")]
    RemoveWithoutName,
}

/// A datagram of which nothing counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Longer than [`DATAGRAM_MAX`].
    #[error("notification longer than 16 KiB")]
    TooLong,
    /// A NUL byte that is not the last byte.
    #[error("notification with a NUL byte inside")]
    Nul,
    /// `BARRIER=1` beside other fields.
    #[error("BARRIER=1 beside other fields")]
    BarrierNotAlone,
}

/// What a datagram says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notification {
    /// In the order in which they are to be handled: a status before the state that it belongs to.
    pub messages: Vec<Message>,
    /// Fields that could not be used.
    pub faults: Vec<Fault>,
}

/// Reads one datagram. Unknown fields and empty lines are ignored, so an empty datagram says nothing.
///
/// # Errors
///
/// [`Refused`]: nothing in it counts; fds that came with it are to be closed.
pub fn parse(datagram: &[u8]) -> Result<Notification, Refused> {
    if datagram.len() > DATAGRAM_MAX {
        return Err(Refused::TooLong);
    }
    let datagram = datagram.strip_suffix(b"\0").unwrap_or(datagram);
    if datagram.contains(&0) {
        return Err(Refused::Nul);
    }
    let fields: Vec<&[u8]> =
        datagram.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|field| !field.is_empty()).collect();
    if fields.contains(&b"BARRIER=1".as_slice()) {
        return match fields.len() {
            1 => Ok(Notification { messages: vec![Message::Barrier], faults: Vec::new() }),
            _ => Err(Refused::BarrierNotAlone),
        };
    }
    Ok(Fields(&fields).read())
}

struct Fields<'a>(&'a [&'a [u8]]);

impl Fields<'_> {
    fn read(&self) -> Notification {
        let mut said = Notification::default();
        said.messages.extend(self.first(b"STATUS=").map(|text| Message::Status(printable_line(text))));
        said.take(self.first(b"EXTEND_TIMEOUT_USEC=").map(extend_timeout));
        said.messages.extend(self.state());
        said.take(self.first(b"WATCHDOG=").map(watchdog));
        said.take(self.first(b"MAINPID=").map(main_pid));
        self.read_fd_store(&mut said);
        said
    }

    /// The value of the first field with this name.
    fn first(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.iter().find_map(|field| field.strip_prefix(name))
    }

    fn contains(&self, field: &[u8]) -> bool {
        self.0.contains(&field)
    }

    /// The last of the fields that tell a state.
    fn state(&self) -> Option<Message> {
        self.0.iter().rev().find_map(|field| match *field {
            b"READY=1" => Some(Message::Ready),
            b"RELOADING=1" => Some(Message::Reloading),
            b"STOPPING=1" => Some(Message::Stopping),
            _ => None,
        })
    }

    fn read_fd_store(&self, said: &mut Notification) {
        let (remove, store) = (self.contains(b"FDSTOREREMOVE=1"), self.contains(b"FDSTORE=1"));
        if !remove && !store {
            return;
        }
        let given = self.first(b"FDNAME=");
        let name = given.and_then(fd_name);
        if given.is_some() && name.is_none() {
            said.faults.push(Fault::FdName);
        }
        match name {
            Some(name) if remove => said.messages.push(Message::FdStoreRemove { name }),
            None if remove => said.faults.push(Fault::RemoveWithoutName),
            name => said.messages.push(Message::FdStore { name, poll: !self.contains(b"FDPOLL=0") }),
        }
    }
}

impl Notification {
    fn take(&mut self, read: Option<Result<Message, Fault>>) {
        match read {
            Some(Ok(message)) => self.messages.push(message),
            Some(Err(fault)) => self.faults.push(fault),
            None => {}
        }
    }
}

fn extend_timeout(value: &[u8]) -> Result<Message, Fault> {
    match number::<u64>(value) {
        // systemd ignores both: no time, and its way of writing "infinity".
        None | Some(0 | u64::MAX) => Err(Fault::ExtendTimeout),
        Some(usec) => Ok(Message::ExtendTimeout(Duration::from_micros(usec))),
    }
}

fn watchdog(value: &[u8]) -> Result<Message, Fault> {
    match value {
        b"1" => Ok(Message::Watchdog),
        b"trigger" => Ok(Message::WatchdogTrigger),
        _ => Err(Fault::Watchdog),
    }
}

fn main_pid(value: &[u8]) -> Result<Message, Fault> {
    match number::<u32>(value) {
        Some(pid) if (1..=i32::MAX.unsigned_abs()).contains(&pid) => Ok(Message::MainPid(pid)),
        _ => Err(Fault::MainPid),
    }
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(value).ok()?;
    // `FromStr` also takes a sign.
    if text.starts_with('+') { None } else { text.parse().ok() }
}

fn fd_name(value: &[u8]) -> Option<String> {
    let valid = (1..=FDNAME_MAX).contains(&value.len())
        && value.iter().all(|byte| (b' '..=b'~').contains(byte) && *byte != b':');
    if valid { String::from_utf8(value.to_vec()).ok() } else { None }
}

/// Text that can be shown on a terminal: invalid UTF-8 becomes U+FFFD, control characters become spaces.
pub fn printable_line(bytes: &[u8]) -> String {
    const MARK: char = '…';
    // Cut first: what is beyond the limit need not be looked at. Three bytes may be made of one (U+FFFD).
    let bytes = &bytes[..bytes.len().min(STATUS_MAX + 4)];
    let mut line = String::new();
    for c in String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + c.len_utf8() > STATUS_MAX - MARK.len_utf8() {
            line.push(MARK);
            break;
        }
        line.push(c);
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages(datagram: &str) -> Vec<Message> {
        parse(datagram.as_bytes()).unwrap().messages
    }

    #[test]
    fn a_plain_ready_is_understood_with_and_without_newline_or_nul() {
        for datagram in ["READY=1", "READY=1\n", "READY=1\0", "\n\nREADY=1\n\0", "READY=1\r\n"] {
            assert_eq!(messages(datagram), [Message::Ready], "{datagram:?}");
        }
    }

    #[test]
    fn a_status_comes_before_the_state_it_belongs_to() {
        assert_eq!(
            messages("READY=1\nSTATUS=Serving\nUNKNOWN=x\n"),
            [Message::Status("Serving".into()), Message::Ready]
        );
    }

    #[test]
    fn the_last_state_counts_and_the_first_of_other_fields() {
        assert_eq!(
            messages("RELOADING=1\nREADY=1\nSTATUS=a\nSTATUS=b"),
            [Message::Status("a".into()), Message::Ready]
        );
        assert_eq!(messages("READY=1\nSTOPPING=1"), [Message::Stopping]);
        assert_eq!(messages("READY=0\nready=1\nREADY=11"), []);
    }

    #[test]
    fn the_watchdog_is_fed_or_triggered() {
        assert_eq!(messages("WATCHDOG=1"), [Message::Watchdog]);
        assert_eq!(messages("WATCHDOG=trigger"), [Message::WatchdogTrigger]);
        assert_eq!(parse(b"WATCHDOG=yes").unwrap().faults, [Fault::Watchdog]);
    }

    #[test]
    fn a_time_must_be_a_number_that_systemd_would_take() {
        assert_eq!(messages("EXTEND_TIMEOUT_USEC=5000000"), [Message::ExtendTimeout(Duration::from_secs(5))]);
        for bad in ["", "0", "-1", "+1", "5s", "18446744073709551615", "18446744073709551616"] {
            let said = parse(format!("EXTEND_TIMEOUT_USEC={bad}\nREADY=1").as_bytes()).unwrap();
            assert_eq!(
                (said.messages, said.faults),
                (vec![Message::Ready], vec![Fault::ExtendTimeout]),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_barrier_must_stand_alone() {
        assert_eq!(messages("BARRIER=1\n"), [Message::Barrier]);
        assert_eq!(parse(b"READY=1\nBARRIER=1"), Err(Refused::BarrierNotAlone));
        assert_eq!(parse(b"BARRIER=1\nBARRIER=1"), Err(Refused::BarrierNotAlone));
    }

    #[test]
    fn fds_are_stored_and_removed_by_name() {
        let store = |name: Option<&str>, poll| Message::FdStore { name: name.map(Into::into), poll };
        assert_eq!(messages("FDSTORE=1\nFDNAME=a b"), [store(Some("a b"), true)]);
        assert_eq!(messages("FDSTORE=1\nFDPOLL=0"), [store(None, false)]);
        let said = parse(b"FDSTORE=1\nFDNAME=a:b").unwrap();
        assert_eq!((said.messages, said.faults), (vec![store(None, true)], vec![Fault::FdName]));
        let remove = Message::FdStoreRemove { name: "a".into() };
        assert_eq!(messages("FDSTORE=1\nFDSTOREREMOVE=1\nFDNAME=a"), [remove]);
        assert_eq!(parse(b"FDSTOREREMOVE=1").unwrap().faults, [Fault::RemoveWithoutName]);
        assert_eq!(messages("FDNAME=a"), []);
    }

    #[test]
    fn a_status_is_made_printable_and_bounded() {
        assert_eq!(
            parse(b"STATUS=a\xff\x1b[31mb").unwrap().messages,
            [Message::Status("a\u{fffd} [31mb".into())]
        );
        assert_eq!(messages("STATUS="), [Message::Status(String::new())]);
        let Message::Status(long) = messages(&format!("STATUS={}", "é".repeat(5000))).remove(0) else {
            panic!()
        };
        assert!(long.len() <= STATUS_MAX && long.ends_with('…'));
    }

    #[test]
    fn what_is_too_long_or_has_a_nul_inside_is_refused_whole() {
        let mut long = b"READY=1\nX=".to_vec();
        long.resize(DATAGRAM_MAX, b'x');
        assert_eq!(parse(&long).unwrap().messages, [Message::Ready]);
        long.push(b'x');
        assert_eq!(parse(&long), Err(Refused::TooLong));
        assert_eq!(parse(b"READY=1\0\0"), Err(Refused::Nul));
        assert_eq!(parse(b"RE\0ADY=1"), Err(Refused::Nul));
        assert_eq!(parse(b""), Ok(Notification::default()));
    }

    proptest! {
        #[test]
        fn no_bytes_can_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn fields_in_any_mixture_give_at_most_one_message_of_a_kind(
            fields in proptest::collection::vec(prop_oneof![
                "READY=[01]", "STOPPING=1", "RELOADING=1", "STATUS=\\PC{0,9}", "WATCHDOG=(1|trigger|x)",
                "EXTEND_TIMEOUT_USEC=[0-9]{0,25}", "MAINPID=-?[0-9]{0,12}", "FDSTORE=1", "FDSTOREREMOVE=1",
                "FDNAME=[a-z:]{0,3}", "FDPOLL=0", "BARRIER=1",
            ], 0..12)
        ) {
            if let Ok(said) = parse(fields.join("\n").as_bytes()) {
                prop_assert!(said.messages.len() <= 6);
                let states = said.messages.iter()
                    .filter(|m| matches!(m, Message::Ready | Message::Reloading | Message::Stopping)).count();
                prop_assert!(states <= 1);
            }
        }
    }
}
