//! The daemon's log as a stream of events to wait on.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use serde_json::Value;

use super::{deadline, left};

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

#[derive(Default)]
struct Shared {
    lines: Mutex<(Vec<Line>, bool)>,
    grown: Condvar,
}

/// All lines so far; a thread reads them, so the daemon never waits for the test.
pub struct Log {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    /// Reads `stream` to its end.
    pub fn read(stream: impl Read + Send + 'static) -> Self {
        let shared = Arc::<Shared>::default();
        let writer = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut bytes = Vec::new();
            while matches!(stream.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
                let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                bytes.clear();
                writer.lines.lock().expect("no reader panics").0.push(Line::parse(text));
                writer.grown.notify_all();
            }
            writer.lines.lock().expect("no reader panics").1 = true;
            writer.grown.notify_all();
        });
        Self { shared, reader: Some(reader) }
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lock().0.clone()
    }

    /// How many lines there are: a place to [`wait_from`](Self::wait_from).
    pub fn len(&self) -> usize {
        self.lock().0.len()
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
    pub fn wait_from(&self, from: usize, what: &str, mut wanted: impl FnMut(&Line) -> bool) -> Line {
        let deadline = deadline();
        let mut next = from;
        let mut guard = self.lock();
        loop {
            while let Some(line) = guard.0.get(next) {
                if wanted(line) {
                    return line.clone();
                }
                next += 1;
            }
            let (again, waited) = self
                .shared
                .grown
                .wait_timeout_while(guard, left(deadline), |(lines, ended)| lines.len() <= next && !*ended)
                .expect("no reader panics");
            guard = again;
            if guard.0.len() <= next && (guard.1 || waited.timed_out()) {
                drop(guard);
                panic!("the log never said {what}; it is:\n{}", self.text());
            }
        }
    }

    /// Waits until the writer is gone, and returns all lines.
    pub fn read_to_end(&self) -> Vec<Line> {
        let deadline = deadline();
        let guard = self.lock();
        drop(self.shared.grown.wait_timeout_while(guard, left(deadline), |(_, ended)| !*ended));
        self.lines()
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        self.lock().0.iter().map(|line| format!("{}\n", line.text)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<Line>, bool)> {
        self.shared.lines.lock().expect("no reader panics")
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // The reader ends with the stream's last writer; a writer that is left over must not hang the test.
        drop(self.reader.take());
    }
}
