//! Just enough HTTP/1.1: GET without a body, keep-alive, and an honest end.
//!
//! Once we are asked to end, every answer says `Connection: close`; a connection that is idle then is closed;
//! one that was accepted and has not asked anything yet is given time to ask.
//!
//! `/` answers with who we are; `/slow/MS` does so after MS milliseconds; `/drip/N` sends N bytes, one every
//! millisecond; `/dump` gives all that this process was given.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use crate::identity;
use crate::signals;

/// How long an accepted connection may take to ask its first question.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// The connections in hand.
#[derive(Default)]
pub(crate) struct Server {
    open: Mutex<usize>,
    changed: Condvar,
    version: OnceLock<String>,
}

impl Server {
    /// Takes `version` as the text that tells one program from another.
    pub(crate) fn set_version(&self, version: &str) {
        let _ = self.version.set(version.to_owned());
    }

    /// Serves a connection on a thread of its own.
    pub(crate) fn serve(self: &Arc<Self>, connection: TcpStream) {
        *self.open.lock().expect("no thread panics") += 1;
        let server = Arc::clone(self);
        std::thread::spawn(move || {
            let _ = server.converse(connection);
            *server.open.lock().expect("no thread panics") -= 1;
            server.changed.notify_all();
        });
    }

    /// Returns once no connection is in hand.
    pub(crate) fn finish(&self) {
        let open = self.open.lock().expect("no thread panics");
        drop(self.changed.wait_while(open, |open| *open > 0));
    }

    fn converse(&self, mut connection: TcpStream) -> std::io::Result<()> {
        let mut pending = Vec::new();
        let mut answered = 0;
        connection.set_read_timeout(Some(FIRST_REQUEST))?;
        loop {
            if answered > 0 && pending.is_empty() {
                signals::wait(&[connection.as_raw_fd()], None);
                if signals::asked_to_end() && !is_readable(&connection) {
                    return Ok(());
                }
            }
            let Some(request) = read_request(&mut connection, &mut pending)? else { return Ok(()) };
            let close = self.answer(&mut connection, &request)?;
            answered += 1;
            if close {
                return Ok(());
            }
        }
    }

    /// Answers, and says whether the connection ends with that.
    fn answer(&self, connection: &mut TcpStream, request: &str) -> std::io::Result<bool> {
        let path = request.split(' ').nth(1).unwrap_or("/");
        let mut parts = path.trim_start_matches('/').split('/');
        let (what, number) = (parts.next(), parts.next().and_then(|n| n.parse().ok()).unwrap_or(0_u64));
        if what == Some("slow") {
            pause(Duration::from_millis(number));
        }
        let body = match what {
            Some("dump") => identity::dump(),
            Some("drip") => "x".repeat(usize::try_from(number).unwrap_or(0)),
            _ => {
                let version = self.version.get().map_or("-", String::as_str);
                format!("{} version={version}\n", identity::line())
            }
        };
        let close = signals::asked_to_end() || request.to_ascii_lowercase().contains("connection: close");
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {}\r\n\r\n",
            body.len(),
            if close { "close" } else { "keep-alive" }
        );
        if what == Some("drip") {
            connection.write_all(head.as_bytes())?;
            for byte in body.bytes() {
                connection.write_all(&[byte])?;
                pause(Duration::from_millis(1));
            }
        } else {
            connection.write_all((head + &body).as_bytes())?;
        }
        Ok(close)
    }
}

/// One request's head, or `None` where the client is done.
fn read_request(connection: &mut TcpStream, pending: &mut Vec<u8>) -> std::io::Result<Option<String>> {
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = pending.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = pending.drain(..end + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        match connection.read(&mut chunk)? {
            0 => return Ok(None),
            n => pending.extend_from_slice(&chunk[..n]),
        }
    }
}

fn is_readable(connection: &TcpStream) -> bool {
    let mut polled = libc::pollfd { fd: connection.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, and the pointer is to it.
    unsafe { libc::poll(&raw mut polled, 1, 0) > 0 }
}

/// Takes time over an answer.
fn pause(time: Duration) {
    std::thread::sleep(time);
}
