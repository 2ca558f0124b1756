//! The names and numbers by which all layers speak of the same thing.
//!
//! Newtypes, so that a slot cannot be taken for a worker nor a pool for a listener.

use std::fmt;

#[cfg(feature = "supervisor")]
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "supervisor", derive(Serialize, Deserialize), serde(transparent))]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "supervisor", derive(Serialize, Deserialize), serde(transparent))]
        pub struct $name(String);

        impl $name {
            /// Takes a text that the configuration has checked.
            ///
            /// ```
            /// # #[cfg(feature = "worker")]
            /// assert_eq!(handover::worker::PoolName::new("web").as_str(), "web");
            /// ```
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

number! {
    /// One process in a slot. Counted up from 1 and never used again while the daemon's state lives.
    ///
    /// ```
    /// # #[cfg(feature = "worker")]
    /// assert_eq!(handover::worker::WorkerId(18).to_string(), "18");
    /// ```
    WorkerId(u64)
}
number! {
    /// A place `0..N` in a pool; it outlives the workers that fill it.
    SlotIndex(u32)
}
number! {
    /// One revision of configuration and program; the first is 1, a reload makes the next.
    Generation(u64)
}
number! {
    /// One request to the daemon (a command, a signal), answered exactly once.
    RequestId(u64)
}
name! {
    /// The name of a pool: `[pool.NAME]`.
    PoolName
}
name! {
    /// The name of a listener: `[listener.NAME]`, and the worker's `LISTEN_FDNAMES`.
    ListenerName
}
