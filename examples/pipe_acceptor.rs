//! Accepts connections, and gives each to another process through a pipe: `pipe_acceptor ADDRESS SOCKET`.
//!
//! It listens at the TCP address, and at the path `SOCKET` for servers (`pipe_server SOCKET`), one after the other. When a server goes, what it had
//! not taken goes to the next one; meanwhile clients wait in the kernel's queue. No connection is lost, and none is served twice.

use std::collections::VecDeque;
use std::error::Error;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use handover::pipe::{Item, Sender};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pipe_acceptor ADDRESS SOCKET".into());
    };
    let clients = TcpListener::bind(address)?;
    // Whoever may connect here gets the connections: put it where only your servers can.
    let servers = UnixListener::bind(path)?;
    println!("{}", clients.local_addr()?);

    let mut waiting: VecDeque<Item<String>> = VecDeque::new();
    loop {
        let (socket, _) = servers.accept()?;
        let mut sender = Sender::new(socket);
        loop {
            if waiting.is_empty() {
                let (connection, peer) = clients.accept()?;
                waiting.push_back(Item::with_fd(peer.to_string(), connection));
            }
            // Settled: the server has it, and there is no copy here that would keep the connection open.
            if sender.send_all(&mut waiting).is_err() || sender.settle().is_err() {
                break;
            }
        }
        for (_, item) in sender.into_untaken().into_iter().rev() {
            waiting.push_front(item);
        }
    }
}
