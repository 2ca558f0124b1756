//! What the configuration asks for and the system has not: a fault now, instead of a failed start later.

use crate::config::error::Wrong;
use crate::config::facts::Platform;
use crate::config::model::{Address, UnixKind, UnixName};
use crate::config::schema::{ListenerKeys, PoolKeys};
use crate::config::walk::Log;

/// The keys of a listener.
pub(super) fn listener(keys: &ListenerKeys, platform: Platform, log: &mut Log) {
    if platform == Platform::Linux {
        return;
    }
    if let Some(address) = keys.address.value() {
        match &address.value {
            Address::Unix(UnixKind::SeqPacket, _) => log.value(
                &address.at,
                Wrong::new("macOS has no unix-seqpacket sockets")
                    .hint("use \"unix:///…\" or \"unix-dgram:///…\""),
            ),
            Address::Unix(_, UnixName::Abstract(_)) => log.value(
                &address.at,
                Wrong::new("only Linux has abstract sockets").hint("use a path: \"unix:///…\""),
            ),
            _ => {}
        }
    }
    let set = [
        (keys.free_bind.value.then_some(&keys.free_bind.at), "IP_FREEBIND"),
        (keys.defer_accept.value().map(|wait| &wait.at), "TCP_DEFER_ACCEPT"),
        (keys.mark.value().map(|mark| &mark.at), "SO_MARK"),
    ];
    for (at, option) in set {
        if let Some(at) = at {
            log.key(at, Wrong::new(format!("macOS has no {option}")).hint("leave the key out"));
        }
    }
}

/// The keys of a pool.
pub(super) fn pool(keys: &PoolKeys, platform: Platform, log: &mut Log) {
    if platform == Platform::MacOs && keys.no_new_privileges.value {
        let wrong = Wrong::new("macOS has nothing that keeps a program from gaining privileges");
        log.key(&keys.no_new_privileges.at, wrong.hint("leave the key out"));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::facts::{Facts, Fake, Platform};
    use crate::config::model::{GroupId, UserId};
    use crate::config::parse;

    struct Machine(Platform);

    impl Facts for Machine {
        fn cores(&self) -> u32 {
            Fake.cores()
        }

        fn user(&self, name_or_uid: &str) -> Option<UserId> {
            Fake.user(name_or_uid)
        }

        fn group(&self, name_or_gid: &str) -> Option<GroupId> {
            Fake.group(name_or_gid)
        }

        fn platform(&self) -> Platform {
            self.0
        }
    }

    const TEXT: &str = r#"
[listener.a]
address = "unix-seqpacket:///run/a"
[listener.b]
address = "unix:@b"
[listener.c]
address = "tcp://127.0.0.1:80"
free_bind = true
defer_accept = "5s"
mark = 1
device = "en0"
fast_open = 5
[pool.web]
command = ["/bin/x"]
listeners = ["a", "b", "c"]
no_new_privileges = true
"#;

    #[test]
    fn what_macos_has_not_is_a_fault_there_and_nowhere_else() {
        let faults = parse("a.toml", TEXT, "a", &Machine(Platform::MacOs)).unwrap_err();
        let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "listener.a.address",
                "listener.b.address",
                "listener.c.free_bind",
                "listener.c.defer_accept",
                "listener.c.mark",
                "pool.web.no_new_privileges"
            ],
            "{faults}"
        );
        parse("a.toml", TEXT, "a", &Machine(Platform::Linux)).unwrap();
    }
}
