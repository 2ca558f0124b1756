//! What the two sides of a start say to each other.
//!
//! Down goes a header (length of the order, number of fds), the fds, and the order as JSON; up comes one
//! line before the program is executed, and one more if that fails. Both sides are the same executable; where
//! the system cannot promise that (macOS starts it by its path), another version refuses the order.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::os::limits::Limit;
use crate::os::words;

/// The first argument that makes our executable the exec helper.
pub(super) const HELPER_ARGUMENT: &str = "__exec";
/// Set for a helper that is only asked whether it is one: a program that is none, and starts a supervisor instead, is to be
/// told so and not to start one more.
pub(super) const PROBE_VARIABLE: &str = "HANDOVER_PROBE";
/// What the helper says just before it executes the program.
pub(super) const EXECUTING: &str = "executing";
/// Fds in one message; the kernel allows 253, some systems less.
pub(super) const FDS_PER_MESSAGE: usize = 64;
/// The byte that carries the fds of one message.
pub(super) const FDS_BYTE: u8 = b'f';
/// Far above what `execve` takes; a length beyond it is nonsense.
pub(super) const ORDER_BYTES_MAX: u32 = 64 << 20;

/// A program and all its surroundings, apart from the fds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSpec {
    /// What is executed: a path, absolute or from `directory`; no search.
    #[serde(with = "text")]
    pub program: PathBuf,
    /// Its arguments, `argv[0]` included.
    #[serde(with = "text::list")]
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    #[serde(with = "text::pairs")]
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory, entered as its user.
    #[serde(with = "text")]
    pub directory: PathBuf,
    /// Set `LISTEN_PID` to its pid, and `LISTEN_PIDFDID` where the kernel gives one (Linux 6.9).
    pub listen_pid: bool,
    /// Set `WATCHDOG_PID` to its pid.
    pub watchdog_pid: bool,
    /// As whom it runs; `None`: as we do.
    pub identity: Option<Identity>,
    /// Its umask; `None`: ours.
    pub umask: Option<u32>,
    /// Its niceness, -20 to 19; `None`: ours.
    pub nice: Option<i32>,
    /// Limits that differ from ours.
    pub limits: Vec<Limit>,
    /// It can gain no privileges by executing anything (`PR_SET_NO_NEW_PRIVS`); the start fails on macOS.
    pub no_new_privileges: bool,
    /// The signal that it gets when the thread that started it ends; on macOS, that its process group gets when
    /// the process that started it ends.
    pub parent_death_signal: Option<i32>,
}

/// A user and its groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The user, and its name where the groups that the user database gives it are to be added to `groups`;
    /// `None`: only the groups are changed.
    pub user: Option<(u32, Option<String>)>,
    /// The primary group.
    pub group: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Which step of a start failed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFault {
    /// `helper`, `receive`, `fds`, `limits`, `nice`, `umask`, `groups`, `user`, `directory`, `privileges`,
    /// `parent` or `exec`.
    pub stage: String,
    /// What the system said.
    pub errno: Option<i32>,
    /// For a person, the subject and the errno's text included.
    pub reason: String,
}

impl StartFault {
    /// The fault of a step: `subject: what the system said`.
    pub(super) fn new(stage: &str, subject: impl fmt::Display, error: &io::Error) -> Self {
        let hint = match (stage, error.kind()) {
            ("user" | "groups", io::ErrorKind::PermissionDenied) => {
                "\nhint: only root can start workers as another user or group"
            }
            _ => "",
        };
        Self {
            stage: stage.into(),
            errno: error.raw_os_error(),
            reason: format!("{subject}: {}{hint}", words(error)),
        }
    }
}

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {}: {}", self.stage, self.reason)
    }
}

impl std::error::Error for StartFault {}

/// The version of both sides.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the helper is told.
#[derive(Serialize)]
pub(super) struct OrderOut<'a> {
    pub(super) version: &'static str,
    pub(super) spec: &'a StartSpec,
    pub(super) targets: Vec<i32>,
    pub(super) parent: u32,
}

/// The part of an order that every version can read.
#[derive(Deserialize)]
pub(super) struct OrderVersion {
    pub(super) version: String,
    /// Nothing is ordered: it is only asked who this is.
    #[serde(default)]
    pub(super) probe: bool,
    /// No program is to be executed: it becomes a closer.
    #[serde(default)]
    pub(super) closer: bool,
}

/// The order to become a closer.
#[derive(Serialize)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there are none"))]
pub(super) struct CloserOrder {
    pub(super) version: &'static str,
    pub(super) closer: bool,
}

/// The question whether this is a helper.
#[derive(Serialize)]
pub(super) struct Probe {
    pub(super) version: &'static str,
    pub(super) probe: bool,
}

/// The answer of one.
#[derive(Serialize, Deserialize)]
pub(super) struct ProbeAnswer {
    /// Its version.
    pub(super) helper: String,
}

/// The same, as the helper reads it.
#[derive(Deserialize)]
pub(super) struct Order {
    pub(super) spec: StartSpec,
    /// The numbers of the fds, in the order in which they come.
    pub(super) targets: Vec<i32>,
    /// Our pid: the helper's parent, as long as we live.
    pub(super) parent: u32,
}

/// Header of an order: two little-endian numbers.
pub(super) fn header(order_bytes: u32, fds: u32) -> [u8; 8] {
    let mut header = [0; 8];
    header[..4].copy_from_slice(&order_bytes.to_le_bytes());
    header[4..].copy_from_slice(&fds.to_le_bytes());
    header
}

/// The length of the order and the number of fds.
pub(super) fn parse_header(header: [u8; 8]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = header;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

/// The system's strings in JSON: text where they are UTF-8, else an array of bytes.
mod text {
    use super::{OsStr, OsStrExt, OsString, OsStringExt};
    use serde::de::{SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::fmt;

    struct Out<'a>(&'a OsStr);

    impl Serialize for Out<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0.to_str() {
                Some(text) => serializer.serialize_str(text),
                None => serializer.collect_seq(self.0.as_bytes()),
            }
        }
    }

    struct In(OsString);

    impl<'de> Deserialize<'de> for In {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Either;
            impl<'de> Visitor<'de> for Either {
                type Value = In;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a string or an array of bytes")
                }

                fn visit_str<E>(self, text: &str) -> Result<In, E> {
                    Ok(In(text.into()))
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<In, A::Error> {
                    let mut bytes = Vec::new();
                    while let Some(byte) = seq.next_element()? {
                        bytes.push(byte);
                    }
                    Ok(In(OsString::from_vec(bytes)))
                }
            }
            deserializer.deserialize_any(Either)
        }
    }

    pub(super) fn serialize<S: Serializer>(
        text: impl AsRef<OsStr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Out(text.as_ref()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: From<OsString>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        In::deserialize(from).map(|text| text.0.into())
    }

    pub(super) mod list {
        use super::{Deserialize, Deserializer, In, OsString, Out, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(
            list: &[OsString],
            to: S,
        ) -> Result<S::Ok, S::Error> {
            to.collect_seq(list.iter().map(|text| Out(text)))
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Vec<OsString>, D::Error> {
            Ok(Vec::<In>::deserialize(from)?.into_iter().map(|text| text.0).collect())
        }
    }

    pub(super) mod pairs {
        use super::{Deserialize, Deserializer, In, OsString, Out, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(
            pairs: &[(OsString, OsString)],
            to: S,
        ) -> Result<S::Ok, S::Error> {
            to.collect_seq(pairs.iter().map(|(name, value)| (Out(name), Out(value))))
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Vec<(OsString, OsString)>, D::Error> {
            let pairs = Vec::<(In, In)>::deserialize(from)?;
            Ok(pairs.into_iter().map(|(name, value)| (name.0, value.0)).collect())
        }
    }
}
