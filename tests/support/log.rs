//! The daemon's log as a stream of events to wait on.

use std::io::{BufRead, BufReader, Read};
use std::thread::JoinHandle;

use serde_json::Value;

use super::gathered::Gathered;

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// As it was written.
    pub text: String,
    json: Value,
}

impl Line {
    fn parse(text: String) -> Self {
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { text, json }
    }

    /// Whether it is a JSON object, as it should be.
    pub fn is_json(&self) -> bool {
        self.json.is_object()
    }

    /// A field, wherever it stands: at the top or under `fields`.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.json.get(name).or_else(|| self.json.get("fields")?.get(name))
    }

    /// A field as text; numbers as they are written.
    pub fn text(&self, name: &str) -> Option<String> {
        self.field(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// The message.
    pub fn message(&self) -> String {
        self.text("message").unwrap_or_default()
    }

    /// Whether it is a line that a worker wrote.
    pub fn is_worker_output(&self) -> bool {
        self.field("stream").is_some()
    }
}

/// All lines so far; a thread reads them, so the daemon never waits for the test.
pub struct Log {
    gathered: Gathered<Line>,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    /// Reads `stream` to its end.
    pub fn read(stream: impl Read + Send + 'static) -> Self {
        let gathered = Gathered::new();
        let writer = gathered.clone();
        let reader = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut bytes = Vec::new();
            while matches!(stream.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
                let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                bytes.clear();
                writer.push(Line::parse(text));
            }
            writer.end();
        });
        Self { gathered, reader: Some(reader) }
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.gathered.all()
    }

    /// How many lines there are: a place to [`wait_from`](Self::wait_from).
    pub fn len(&self) -> usize {
        self.gathered.len()
    }

    /// The first line, of all, for which `wanted` is true.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl FnMut(&Line) -> bool) -> Line {
        self.wait_from(0, what, wanted)
    }

    /// The first line from the `from`th on for which `wanted` is true.
    ///
    /// # Panics
    ///
    /// Where none comes in time, or the log ends before.
    #[track_caller]
    pub fn wait_from(&self, from: usize, what: &str, wanted: impl FnMut(&Line) -> bool) -> Line {
        let found = self.gathered.wait_from(from, wanted);
        found.unwrap_or_else(|| panic!("the log never said {what}; it is:\n{}", self.text()))
    }

    /// Waits until the writer is gone, and returns all lines.
    pub fn read_to_end(&self) -> Vec<Line> {
        self.gathered.wait_for_end();
        self.lines()
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        self.gathered.all().iter().map(|line| format!("{}\n", line.text)).collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // The reader ends with the stream's last writer; a writer that is left over must not hang the test.
        drop(self.reader.take());
    }
}
