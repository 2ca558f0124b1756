//! Whether two sockets can be bound at the same time.
//!
//! The rules are the kernel's for sockets that listen without `SO_REUSEPORT`: `inet_csk_bind_conflict` and
//! `inet_rcv_saddr_equal` for TCP and UDP (seen to hold on Linux 6.18), and for Unix sockets the file, or
//! the abstract name together with the kind of socket (`unix_abstract_hash`).

use std::net::{IpAddr, SocketAddr};

use super::model::{Address, Listener, UnixName};

/// Whether one of the two could not be bound while the other is. A listener without address overlaps none
/// that is known, and port 0 is another port each time.
pub(super) fn overlap(a: &Listener, b: &Listener) -> bool {
    match (&a.address, &b.address) {
        (Some(Address::Tcp(x)), Some(Address::Tcp(y))) | (Some(Address::Udp(x)), Some(Address::Udp(y))) => {
            let apart = matches!((&a.options.device, &b.options.device), (Some(x), Some(y)) if x != y);
            x.port() != 0 && x.port() == y.port() && !apart && hosts_overlap((x, a), (y, b))
        }
        (Some(Address::Unix(_, UnixName::Path(x))), Some(Address::Unix(_, UnixName::Path(y)))) => x == y,
        (Some(x @ Address::Unix(..)), Some(y @ Address::Unix(..))) => x == y,
        _ => false,
    }
}

fn hosts_overlap((x, a): (&SocketAddr, &Listener), (y, b): (&SocketAddr, &Listener)) -> bool {
    match (x.ip(), y.ip()) {
        (IpAddr::V4(v4), IpAddr::V4(w4)) => v4 == w4 || v4.is_unspecified() || w4.is_unspecified(),
        (IpAddr::V6(v6), IpAddr::V6(w6)) => x == y || v6.is_unspecified() || w6.is_unspecified(),
        (IpAddr::V6(v6), IpAddr::V4(_)) => v6.is_unspecified() && takes_ipv4(a),
        (IpAddr::V4(_), IpAddr::V6(w6)) => w6.is_unspecified() && takes_ipv4(b),
    }
}

/// A socket on `[::]` takes IPv4 as well unless it is told not to (`net.ipv6.bindv6only`, by default 0).
fn takes_ipv4(listener: &Listener) -> bool {
    listener.options.v6only != Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::SocketOptions;

    fn listener(text: &str) -> Listener {
        let mut words = text.split(' ');
        let mut options = SocketOptions::default();
        let address = super::super::address::parse(words.next().unwrap()).unwrap();
        for word in words {
            match word {
                "v6only" => options.v6only = Some(true),
                device => options.device = Some(device.to_owned()),
            }
        }
        Listener { address: Some(address), options }
    }

    #[test]
    fn the_rules_are_those_of_bind() {
        for (a, b, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:81", false),
            ("10.0.0.1:80", "10.0.0.2:80", false),
            ("10.0.0.1:80", "10.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80 v6only", "0.0.0.0:80", false),
            ("[::]:80 v6only", "[::1]:80", true),
            ("[::1]:80", "0.0.0.0:80", false),
            ("[fe80::1%1]:80", "[fe80::1%2]:80", false),
            ("0.0.0.0:80 lo", "0.0.0.0:80 eth0", false),
            ("0.0.0.0:80 lo", "0.0.0.0:80", true),
            ("0.0.0.0:80 lo", "127.0.0.1:80 lo", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("tcp://0.0.0.0:53", "udp://0.0.0.0:53", false),
            ("udp://0.0.0.0:53", "udp://127.0.0.1:53", true),
            ("unix:///run/a", "unix-dgram:///run/a", true),
            ("unix:@a", "unix-dgram:@a", false),
            ("unix:@a", "unix:@a", true),
            ("unix:@/run/a", "unix:///run/a", false),
        ] {
            assert_eq!(overlap(&listener(a), &listener(b)), expected, "{a} and {b}");
            assert_eq!(overlap(&listener(b), &listener(a)), expected, "{b} and {a}");
        }
    }
}
