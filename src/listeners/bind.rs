//! Binding a listener ourselves.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, SockAddr, Socket, Type};

use super::error::BindError;
use super::unix_file::{self, Access, UnixFile};
use crate::config::model::{Address, SocketOptions, UnixKind, UnixName};
use crate::os::socket;

/// The accept queue where the configuration names none: as long as the kernel allows (it caps it at
/// `net.core.somaxconn`).
pub(super) const DEFAULT_BACKLOG: u32 = i32::MAX as u32;

/// A socket that we bound.
pub(super) struct Bound {
    pub(super) socket: Socket,
    pub(super) file: Option<UnixFile>,
}

/// Binds and, where the kind does so, listens.
pub(super) fn bind(address: &Address, options: &SocketOptions) -> Result<Bound, BindError> {
    bind_over(address, options, None)
}

/// Tries whether an address can be bound, and leaves nothing behind. `false`: it was not tried.
///
/// An address of the network or of the abstract namespace is bound for a moment and never listened at: who
/// connects meanwhile is refused as before (`ECONNREFUSED`). A path is only looked at: a file that is made is
/// seen by others, and whether a socket that is there is still in use only a connection would tell.
///
/// # Errors
/// [`BindError`], as the bind would have it.
pub fn is_free(address: &Address, options: &SocketOptions) -> Result<bool, BindError> {
    match address {
        Address::Unix(_, UnixName::Path(path)) => unix_file::look(path).map(|()| false),
        Address::Unix(kind, name) => unix(*kind, name, options, None).map(|_| true),
        Address::Tcp(at) => inet(*at, Type::STREAM, options).map(|_| true).map_err(|e| fault(address, e)),
        Address::Udp(at) => inet(*at, Type::DGRAM, options).map(|_| true).map_err(|e| fault(address, e)),
    }
}

fn fault(address: &Address, error: io::Error) -> BindError {
    match error.kind() {
        io::ErrorKind::AddrInUse => in_use(address),
        _ => BindError::of(address, error),
    }
}

/// [`bind`] in place of a file that we made earlier for the same address.
pub(super) fn bind_over(
    address: &Address,
    options: &SocketOptions,
    old: Option<UnixFile>,
) -> Result<Bound, BindError> {
    let fault = |error: io::Error| fault(address, error);
    let (socket, file) = match address {
        Address::Tcp(at) => (inet(*at, Type::STREAM, options).map_err(fault)?, None),
        Address::Udp(at) => (inet(*at, Type::DGRAM, options).map_err(fault)?, None),
        Address::Unix(kind, name) => unix(*kind, name, options, old)?,
    };
    if listens(address) {
        socket::listen(&socket, options.backlog.unwrap_or(DEFAULT_BACKLOG)).map_err(fault)?;
    }
    // Linux takes this before and after; macOS from a socket that listens only (tcp_ctloutput in XNU's
    // bsd/netinet/tcp_usrreq.c).
    if let (Address::Tcp(_), Some(queue)) = (address, options.fast_open) {
        socket::set_fast_open(&socket, queue).map_err(fault)?;
    }
    if let Some(nonblocking) = options.nonblocking {
        socket.set_nonblocking(nonblocking).map_err(fault)?;
    }
    Ok(Bound { socket, file })
}

/// Says who has an address that we cannot have, where that can be found out.
fn in_use(address: &Address) -> BindError {
    let holder = match address {
        Address::Tcp(at) => socket::holder(*at, socket::Kind::Stream),
        Address::Udp(at) => socket::holder(*at, socket::Kind::Datagram),
        Address::Unix(..) => None,
    };
    let what = match holder {
        Some(holder) => format!("address already in use by {} (pid {})", holder.name, holder.pid),
        None if cfg!(target_os = "macos") => {
            "address already in use\nhint: `sudo lsof -nP -i` shows by whom".to_owned()
        }
        None => "address already in use\nhint: `ss -lptn` shows by whom".to_owned(),
    };
    BindError::Failed { subject: address.to_string(), what }
}

/// Does a socket at this address accept connections?
fn listens(address: &Address) -> bool {
    !matches!(address, Address::Udp(_) | Address::Unix(UnixKind::Datagram, _))
}

fn inet(at: SocketAddr, kind: Type, options: &SocketOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), kind, None)?;
    if kind == Type::STREAM {
        // A port whose last connections are still in TIME_WAIT is free (socket(7)). Never SO_REUSEPORT:
        // it would hide that somebody else listens.
        socket.set_reuse_address(true)?;
    }
    before_bind(&socket, at, options)?;
    socket.bind(&SockAddr::from(at))?;
    set_buffers(&socket, options)?;
    if kind == Type::STREAM {
        set_stream_options(&socket, options)?;
    }
    Ok(socket)
}

fn before_bind(socket: &Socket, at: SocketAddr, options: &SocketOptions) -> io::Result<()> {
    if let (SocketAddr::V6(_), Some(v6only)) = (at, options.v6only) {
        socket.set_only_v6(v6only)?;
    }
    if options.free_bind {
        socket::set_free_bind(socket, at)?;
    }
    if let Some(device) = &options.device {
        socket::set_device(&socket.into(), Domain::for_address(at), Some(device))?;
    }
    if let Some(mark) = options.mark {
        socket::set_mark(&socket.into(), mark)?;
    }
    Ok(())
}

/// Options that the kernel takes at any time (`socket(7)`).
fn set_buffers(socket: &Socket, options: &SocketOptions) -> io::Result<()> {
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes as usize)?;
    }
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes as usize)?;
    }
    Ok(())
}

/// Options of a TCP listener that the kernel takes at any time; connections that are accepted from then on
/// have them (`tcp(7)`).
fn set_stream_options(socket: &Socket, options: &SocketOptions) -> io::Result<()> {
    if let Some(on) = options.keepalive {
        socket.set_keepalive(on)?;
    }
    if let Some(on) = options.nodelay {
        socket.set_tcp_nodelay(on)?;
    }
    if options.defer_accept.is_some() {
        socket::set_defer_accept(socket, options.defer_accept)?;
    }
    Ok(())
}

fn unix(
    kind: UnixKind,
    name: &UnixName,
    options: &SocketOptions,
    old: Option<UnixFile>,
) -> Result<(Socket, Option<UnixFile>), BindError> {
    let kind = match kind {
        UnixKind::Stream => Type::STREAM,
        UnixKind::Datagram => Type::DGRAM,
        UnixKind::SeqPacket => Type::SEQPACKET,
    };
    let subject = match name {
        UnixName::Path(path) => path.display().to_string(),
        UnixName::Abstract(name) => format!("@{name}"),
    };
    let fault = |error: io::Error| BindError::of(&subject, error);
    let socket = Socket::new(Domain::UNIX, kind, None).map_err(fault)?;
    set_buffers(&socket, options).map_err(fault)?;
    let file = match (name, old) {
        (UnixName::Path(_), Some(old)) => Some(old.rebind(&socket, access(options))?),
        (UnixName::Path(path), None) => Some(UnixFile::bind(&socket, path, access(options))?),
        (UnixName::Abstract(name), _) => {
            let address = SockAddr::unix(format!("\0{name}")).map_err(fault)?;
            socket.bind(&address).map_err(fault)?;
            None
        }
    };
    Ok((socket, file))
}

fn access(options: &SocketOptions) -> Access {
    Access {
        mode: options.mode,
        uid: options.user.as_ref().map(|user| user.uid),
        gid: options.group.as_ref().map(|group| group.gid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_open_is_set_on_what_listens_and_on_nothing_else() {
        let of = |address: &str, fast_open| {
            let address = crate::config::parse_address(address).unwrap();
            let options = SocketOptions { fast_open, ..SocketOptions::default() };
            bind(&address, &options).map(|bound| bound.socket).map_err(|error| error.to_string())
        };
        let most = if cfg!(target_os = "macos") { 1 } else { 16 };
        assert_eq!(socket::fast_open(of("tcp://127.0.0.1:0", Some(16)).unwrap()).unwrap(), most);
        of("udp://127.0.0.1:0", Some(16)).unwrap();
    }
}
