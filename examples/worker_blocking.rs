//! A server with a thread for each connection, the same under handover, under systemd and by hand:
//!
//! `handover run -l http=127.0.0.1:8080 -n 4 --ready notify -- worker_blocking`, `systemd-socket-activate -l 8080 worker_blocking`, or
//! `worker_blocking 127.0.0.1:8080`.
//!
//! It answers every line with its pid and that line, and closes a connection that is idle when it is time to finish.

use std::io::{self, BufRead, BufReader, Write};

use handover::worker::{Connection, Error, Guard, Worker};

fn main() -> Result<(), Error> {
    let worker = Worker::options().client("worker_blocking").drain_on_signals(true).connect()?;
    worker.feed_watchdog()?;
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let http = worker.listener("http").or_bind(&address)?;
    let tracker = worker.tracker();
    for socket in http.sockets() {
        let copy = std::net::TcpListener::from(socket.try_clone()?);
        // Of a Unix socket this is no address, and not of interest.
        let address =
            copy.local_addr().map_or_else(|_| "a Unix socket".to_owned(), |address| address.to_string());
        println!("{} {address}", if http.is_own() { "bound" } else { "passed" });
    }
    worker.ready();
    for connection in http.incoming()? {
        let (connection, guard) = (connection?, tracker.enter());
        std::thread::spawn(move || {
            // A client that went away is its own affair.
            let _ = serve(connection, &guard);
        });
    }
    drop(http);
    match tracker.finish(None) {
        0 => println!("finished"),
        left => println!("{left} connections are cut"),
    }
    worker.close();
    Ok(())
}

fn serve(connection: Connection, guard: &Guard) -> io::Result<()> {
    let mut writer = connection.try_clone()?;
    let mut reader = BufReader::new(connection);
    loop {
        let mut line = String::new();
        // The next line may never come: until then the connection is idle.
        let idle = reader.get_ref().try_clone()?;
        if guard.idle(&idle, |_| reader.read_line(&mut line))? == 0 {
            return Ok(());
        }
        let last = if guard.is_draining() { " (last)" } else { "" };
        writeln!(writer, "{} {}{last}", std::process::id(), line.trim_end())?;
        if guard.is_draining() {
            return Ok(());
        }
    }
}
