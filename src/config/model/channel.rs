//! What a pool's workers may say and ask for on their channel.

use serde::{Deserialize, Serialize};

use super::Address;

/// `channel`: what handover and a worker speak on their private socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// `"handover"`: lines of JSON, at `HANDOVER_CHANNEL`.
    Handover,
    /// `"node"`: what Node's `child_process` speaks, at `NODE_CHANNEL_FD`.
    Node {
        /// `stop_message`: the message that asks the program to end, before its signal does.
        stop_message: Option<String>,
    },
    /// `"none"`: there is no socket.
    None,
}

/// A pool's channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// `channel` and `stop_message`
    pub dialect: Dialect,
    /// `allow_listen`: what a worker may ask handover to listen on, beside the pool's listeners.
    pub allow_listen: Vec<Address>,
}
