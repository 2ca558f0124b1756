//! Addresses as texts, both ways.
//!
//! Host names are not resolved: what a name means can change between two starts, and a listener must be the
//! same one after a reload. `localhost` is the exception, because it never means anything else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use super::error::Wrong;
use super::model::{Address, UnixKind, UnixName};

/// The length of `sun_path` less its closing NUL (`unix(7)`; macOS: `sys/un.h`). An abstract name needs no
/// NUL at its end, but one at its beginning.
const UNIX_NAME_MAX: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// Every text that [`parse`] takes matches; few others do.
pub(super) const PATTERN: &str = r"^(?:(?:(?:tcp|udp)://)?(?:localhost|[0-9.]+|\[[0-9A-Fa-f:.%]+\]):[0-9]+$|unix(?:-dgram|-seqpacket)?:(?://)?[/@])";

const EXAMPLES: &str = "for example \"tcp://0.0.0.0:8080\" or \"unix:///run/myapp.sock\"";

/// Reads an address: `tcp://HOST:PORT`, `udp://HOST:PORT`, `HOST:PORT` (TCP), `unix:///PATH`, `unix:@NAME`,
/// and the same with `unix-dgram:` and `unix-seqpacket:`. A host is an IP address or `localhost`.
///
/// # Errors
/// What is wrong, with a hint in brackets where there is one.
pub fn parse_address(text: &str) -> Result<Address, String> {
    parse(text).map_err(|wrong| wrong.to_string())
}

pub(super) fn parse(text: &str) -> Result<Address, Wrong> {
    if text.contains('\0') {
        return Err(Wrong::new("an address has no NUL in it"));
    }
    if text.starts_with(['/', '@']) {
        let meant = if text.starts_with('/') { "unix://" } else { "unix:" };
        return Err(
            Wrong::new(format!("{text:?} has no scheme")).hint(format!("did you mean \"{meant}{text}\"?"))
        );
    }
    match scheme(text) {
        Some(("tcp", rest)) => host_and_port(rest).map(Address::Tcp),
        Some(("udp", rest)) => host_and_port(rest).map(Address::Udp),
        Some(("unix", rest)) => unix(UnixKind::Stream, rest),
        Some(("unix-dgram", rest)) => unix(UnixKind::Datagram, rest),
        Some(("unix-seqpacket", rest)) => unix(UnixKind::SeqPacket, rest),
        Some(("vsock", _)) => Err(Wrong::new("vsock:// is not supported yet")),
        Some((web @ ("http" | "https"), rest)) => {
            Err(Wrong::new(format!("{web}:// is what the program speaks, not where it listens"))
                .hint(format!("did you mean \"tcp://{rest}\"?")))
        }
        Some((other, _)) => Err(Wrong::new(format!("{other:?} is not a kind of address"))
            .hint("tcp, udp, unix, unix-dgram and unix-seqpacket are")),
        None => host_and_port(text).map(Address::Tcp),
    }
}

/// The scheme and what follows its `//`; `None` where there is none and `HOST:PORT` must be meant.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    match rest.strip_prefix("//") {
        Some(rest) => Some((scheme, rest)),
        None if scheme.starts_with("unix") => Some((scheme, rest)),
        None => None,
    }
}

fn host_and_port(text: &str) -> Result<SocketAddr, Wrong> {
    let no_port = || Wrong::new(format!("{text:?} has no port")).hint(EXAMPLES);
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(
            no_port().hint(format!("an IPv6 address stands in brackets before its port: \"[{text}]:8080\""))
        );
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Wrong::new(format!("{text:?} is a port without a host")).hint(hosts(text)));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
    let port = parse_port(port)?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return unmapped(address);
    }
    match host {
        "localhost" => Ok((Ipv4Addr::LOCALHOST, port).into()),
        "" => Err(Wrong::new("there is no host before the port").hint(hosts(port))),
        "*" => Err(Wrong::new("`*` is not an address")
            .hint(format!("\"0.0.0.0:{port}\" is all of IPv4, \"[::]:{port}\" all of IPv6 and IPv4"))),
        _ if host.parse::<IpAddr>().is_ok() || host.contains(':') => Err(Wrong::new(format!(
            "{host:?} is not an address"
        ))
        .hint(format!("an IPv6 address stands in brackets: \"[::1]:{port}\", with a number as its scope"))),
        _ => Err(Wrong::new(format!("{host:?} is not an IP address")).hint(format!(
            "names are not resolved: write one of this machine's addresses, or \"0.0.0.0:{port}\" for all"
        ))),
    }
}

/// What somebody who gives only a port may want.
fn hosts(port: impl fmt::Display) -> String {
    format!("\"127.0.0.1:{port}\" is this machine only, \"0.0.0.0:{port}\" all of IPv4, \"[::]:{port}\" all")
}

fn parse_port(text: &str) -> Result<u16, Wrong> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| {
        Wrong::new(format!("{text:?} is not a port")).hint("a number up to 65535; 0 lets the system choose")
    })
}

/// `::ffff:1.2.3.4` listens where 1.2.3.4 does, and one place has one name here.
fn unmapped(address: SocketAddr) -> Result<SocketAddr, Wrong> {
    match address.ip() {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Err(Wrong::new("this is an IPv4 address in IPv6 clothes")
                .hint(format!("write \"{v4}:{}\"", address.port()))),
            None => Ok(address),
        },
        IpAddr::V4(_) => Ok(address),
    }
}

fn unix(kind: UnixKind, rest: &str) -> Result<Address, Wrong> {
    if let Some(name) = rest.strip_prefix('@') {
        return abstract_name(name).map(|name| Address::Unix(kind, name));
    }
    let path = Path::new(rest);
    if !path.is_absolute() {
        return Err(Wrong::new(format!("{rest:?} is not an absolute path")).hint(format!(
            "three slashes: \"unix:///{}\"; or \"unix:@name\" without a file",
            rest.trim_start_matches("./")
        )));
    }
    if rest.ends_with('/') || path.components().any(|part| part == Component::ParentDir) {
        return Err(Wrong::new(format!("{rest:?} is not the plain path of a file"))
            .hint("without `..` and closing slash"));
    }
    let path: PathBuf = path.components().collect();
    match path.as_os_str().len() {
        length if length > UNIX_NAME_MAX => Err(Wrong::new(format!(
            "the path has {length} bytes, a Unix socket's name at most {UNIX_NAME_MAX}"
        ))
        .hint("a directory under /run is short")),
        _ => Ok(Address::Unix(kind, UnixName::Path(path))),
    }
}

fn abstract_name(name: &str) -> Result<UnixName, Wrong> {
    match name.len() {
        0 => Err(Wrong::new("an abstract socket needs a name").hint("for example \"unix:@myapp\"")),
        1..=UNIX_NAME_MAX => Ok(UnixName::Abstract(name.to_owned())),
        length => Err(Wrong::new(format!("the name has {length} bytes, the limit is {UNIX_NAME_MAX}"))),
    }
}

impl fmt::Display for Address {
    /// As it is written in a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Unix(kind, name) => {
                f.write_str(match kind {
                    UnixKind::Stream => "unix:",
                    UnixKind::Datagram => "unix-dgram:",
                    UnixKind::SeqPacket => "unix-seqpacket:",
                })?;
                match name {
                    UnixName::Path(path) => write!(f, "//{}", path.display()),
                    UnixName::Abstract(name) => write!(f, "@{name}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_can_be_read() {
        for text in [
            "tcp://0.0.0.0:8080",
            "tcp://[::]:80",
            "udp://[fe80::1%2]:53",
            "tcp://127.0.0.1:0",
            "unix:///run/my app.sock",
            "unix-dgram:///run/d",
            "unix-seqpacket:@abs/tract",
            "unix:@a",
        ] {
            assert_eq!(parse_address(text).unwrap().to_string(), text);
        }
        for (text, same) in [
            ("localhost:80", "tcp://127.0.0.1:80"),
            ("[::1]:80", "tcp://[::1]:80"),
            ("unix:/run//x/./y", "unix:///run/x/y"),
            ("tcp://localhost:1", "tcp://127.0.0.1:1"),
        ] {
            assert_eq!(parse_address(text).unwrap().to_string(), same);
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused_with_what_may_be_meant() {
        for (text, hint) in [
            ("", "for example"),
            ("8080", "127.0.0.1:8080"),
            (":8080", "0.0.0.0:8080"),
            ("*:80", "[::]:80"),
            ("::1:80", "brackets"),
            ("tcp://::1", "[::1]:8080"),
            ("[fe80::1%eth0]:80", "number as its scope"),
            ("example.org:80", "not resolved"),
            ("1.2.3.4:70000", "65535"),
            ("1.2.3.4:+80", "65535"),
            ("1.2.3.4:80/", "65535"),
            ("[::ffff:1.2.3.4]:80", "1.2.3.4:80"),
            ("http://1.2.3.4:80", "tcp://1.2.3.4:80"),
            ("ftp://1.2.3.4:80", "unix-dgram"),
            ("/run/x", "unix:///run/x"),
            ("@x", "unix:@x"),
            ("unix://run/x", "unix:///run/x"),
            ("unix:///run/../x", ".."),
            ("unix:///run/x/", "slash"),
            ("unix:@", "unix:@myapp"),
            ("unix:", "three slashes"),
        ] {
            let refused = parse_address(text).unwrap_err();
            assert!(refused.contains(hint), "{text}: {refused}");
        }
        assert!(parse_address("vsock://2:80").unwrap_err().contains("not supported yet"));
        assert!(parse_address("unix:///a\0b").is_err());
    }

    #[test]
    fn the_longest_name_fits() {
        let path = |length: usize| format!("unix:///{}", "x".repeat(length - 1));
        assert!(parse_address(&path(UNIX_NAME_MAX)).is_ok());
        assert!(parse_address(&path(UNIX_NAME_MAX + 1)).is_err());
    }
}
