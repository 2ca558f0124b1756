//! Serves connections that another process has accepted: `pipe_server SOCKET`, see `pipe_acceptor`.

use std::error::Error;
use std::io::Write;
use std::os::unix::net::UnixStream;

use handover::pipe::Receiver;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: pipe_server SOCKET")?;
    for item in Receiver::<String>::new(UnixStream::connect(path)?) {
        let Ok((peer, mut connection)) = item?.into_tcp_stream() else { continue };
        // A client may be gone by now; that is its own affair.
        let _ = writeln!(connection, "{peer} is served by process {}", std::process::id());
    }
    Ok(())
}
