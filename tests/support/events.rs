//! The daemon's events to wait on: a client of `GET /v1/events`.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;

use handover::control::{Event, What};

use super::gathered::Gathered;

/// All events since it was opened; a thread reads them, so the daemon never waits for the test.
pub struct Events {
    gathered: Gathered<Event>,
    stream: UnixStream,
}

impl Events {
    /// Asks the daemon at `socket`, and waits until the stream has begun: no event after that is missed.
    ///
    /// # Panics
    ///
    /// Where it does not begin.
    #[track_caller]
    pub fn open(socket: &Path) -> Self {
        let mut stream = UnixStream::connect(socket).expect("the daemon listens");
        stream.write_all(b"GET /v1/events HTTP/1.0\r\n\r\n").expect("the daemon reads");
        let gathered = Gathered::new();
        let (writer, reader) = (gathered.clone(), stream.try_clone().expect("our socket"));
        // One thread only takes the lines, so that a slow test is no slow reader.
        let (taken, lines) = mpsc::channel();
        std::thread::spawn(move || {
            // HTTP/1.0: the body is what follows the head, up to the end of the connection.
            let lines = BufReader::new(reader).lines().map_while(Result::ok);
            lines.skip_while(|line| !line.is_empty()).skip(1).try_for_each(|line| taken.send(line))
        });
        std::thread::spawn(move || {
            for line in lines {
                let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                writer.push(event);
            }
            writer.end();
        });
        let events = Self { gathered, stream };
        events.wait_for("hello", |event| matches!(event.what, What::Hello { .. }));
        events
    }

    /// All events so far, without the `hello`.
    pub fn seen(&self) -> Vec<Event> {
        self.gathered.all().split_off(1)
    }

    /// How many there are so far: a place to [`wait_from`](Self::wait_from).
    pub fn len(&self) -> usize {
        self.gathered.len()
    }

    /// The number of the last event before the stream began.
    pub fn begin(&self) -> u64 {
        self.gathered.all()[0].number
    }

    /// The first event, of all, for which `wanted` is true.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl FnMut(&Event) -> bool) -> Event {
        self.wait_from(0, what, wanted)
    }

    /// The first event from the `from`th on for which `wanted` is true.
    ///
    /// # Panics
    ///
    /// Where none comes in time, or the stream ends before.
    #[track_caller]
    pub fn wait_from(&self, from: usize, what: &str, wanted: impl FnMut(&Event) -> bool) -> Event {
        let found = self.gathered.wait_from(from, wanted);
        found.unwrap_or_else(|| panic!("there was no event of {what}; there were:\n{}", self.text()))
    }

    /// Waits until the stream ends, and returns all events, without the `hello`.
    #[track_caller]
    pub fn read_to_end(&self) -> Vec<Event> {
        assert!(self.gathered.wait_for_end(), "the stream does not end; there were:\n{}", self.text());
        self.seen()
    }

    /// Goes away, and waits until nothing of this is left here; the daemon hears of it with its next turn.
    ///
    /// # Panics
    ///
    /// Where it does not notice.
    #[track_caller]
    pub fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        self.read_to_end();
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        self.gathered.all().iter().map(|event| format!("{} {}\n", event.number, event.message)).collect()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // The thread reads the end then.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
