//! Who may ask for what.
//!
//! Pure. The level is decided once, when a connection is accepted, from what the kernel says of the peer
//! (`SO_PEERCRED`, and `SO_PEERGROUPS` since Linux 4.13), and holds for all that comes over the connection.
//!
//! Root and the user that the daemon runs as may do everything. The members of `control_group` may look: that group is
//! for monitoring, which needs no power over the service, and whoever has reason to change the service can become
//! its user. The socket's mode keeps everybody else out before they get here.

use super::protocol::Level;

/// What the kernel says of the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user when it connected.
    pub uid: u32,
    /// Its groups when it connected, the primary one among them.
    pub groups: Vec<u32>,
}

/// Whom the daemon serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The user that the daemon runs as.
    pub owner: u32,
    /// `control_group`
    pub group: Option<u32>,
}

impl Access {
    /// What the peer may do; `None`: nothing.
    pub fn level(self, peer: &Peer) -> Option<Level> {
        if peer.uid == 0 || peer.uid == self.owner {
            Some(Level::Admin)
        } else if self.group.is_some_and(|group| peer.groups.contains(&group)) {
            Some(Level::Read)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_owner_may_do_everything_the_group_may_look_and_nobody_else_may_anything() {
        let access = Access { owner: 33, group: Some(50) };
        let level = |uid, groups: &[u32]| access.level(&Peer { uid, groups: groups.to_vec() });
        assert_eq!(level(0, &[0]), Some(Level::Admin));
        assert_eq!(level(33, &[33]), Some(Level::Admin));
        assert_eq!(level(1000, &[1000, 50]), Some(Level::Read));
        assert_eq!(level(1000, &[1000, 33, 0]), None);
        let closed = Access { owner: 33, group: None };
        assert_eq!(closed.level(&Peer { uid: 1000, groups: vec![0, 33, 50] }), None);
    }
}
