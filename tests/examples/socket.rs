//! A client of the chat: a WebSocket (RFC 6455) of text, small enough to be seen through.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::support::PATIENCE;

/// What came.
#[derive(Debug)]
pub enum Frame {
    /// A text, as JSON.
    Told(Value),
    /// The server closes, with this code.
    Closes(u16),
    /// The connection ended.
    Ended,
}

/// A connection.
pub struct Socket {
    stream: BufReader<TcpStream>,
}

impl Socket {
    /// Connects, and is accepted as a WebSocket.
    #[track_caller]
    pub fn open(host: &str, path: &str) -> Self {
        let (status, stream) = Self::handshake(host, path, "");
        assert!(status.contains(" 101 "), "{status}");
        Self { stream }
    }

    /// Asks for a WebSocket with further lines of a head, and gives the first line of the answer.
    #[track_caller]
    pub fn handshake(host: &str, path: &str, lines: &str) -> (String, BufReader<TcpStream>) {
        let mut stream = BufReader::new(TcpStream::connect(host).expect("it listens, always"));
        stream.get_ref().set_read_timeout(Some(PATIENCE)).expect("not zero");
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        );
        stream.get_mut().write_all(head.as_bytes()).expect("it reads");
        let mut status = String::new();
        stream.read_line(&mut status).expect("an answer");
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(stream.read_line(&mut line).expect("an answer") > 0, "{status}");
        }
        (status, stream)
    }

    /// A second handle, to say something from another thread.
    pub fn speaker(&self) -> TcpStream {
        self.stream.get_ref().try_clone().expect("an fd")
    }

    /// The next thing that is told; pings are answered.
    pub fn next(&mut self) -> Frame {
        loop {
            let Ok((kind, payload)) = self.frame() else { return Frame::Ended };
            match kind {
                1 => return Frame::Told(serde_json::from_slice(&payload).expect("JSON")),
                8 => return Frame::Closes(payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code))),
                9 => send(self.stream.get_ref(), 10, &payload),
                _ => {}
            }
        }
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                self.stream.read_exact(&mut long)?;
                usize::from(u16::from_be_bytes(long))
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        Ok((head[0] & 0x0f, payload))
    }
}

/// Says a text of at most 125 bytes.
pub fn say(stream: &TcpStream, text: &str) {
    send(stream, 1, text.as_bytes());
}

/// Sends a frame; a client's are masked, with zeroes here.
fn send(mut stream: &TcpStream, kind: u8, payload: &[u8]) {
    let length = u8::try_from(payload.len()).expect("it is short");
    let frame = [&[0x80 | kind, 0x80 | length, 0, 0, 0, 0], payload].concat();
    // Where the server has gone, that is seen in reading.
    let _ = stream.write_all(&frame);
}
