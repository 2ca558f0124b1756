//! A configuration in code.
//!
//! It is written down as the file that says the same and read like any other: so code and files have the same keys, checks and
//! defaults, and what is wrong is told by key, all at once.

use std::fmt::Write;
use std::time::Duration;

use crate::config::render::{quote, quote_key};

/// A configuration in code. The keys are those of a file (`docs/configuration.md`).
///
/// ```
/// use std::time::Duration;
///
/// use handover::embed::{Listener, Pool, Settings};
///
/// let settings = Settings::new("myapp")
///     .listener(Listener::new("http", "tcp://127.0.0.1:8080").set("backlog", 1024))
///     .pool(
///         Pool::new("web", ["/usr/bin/myapp", "--serve"])
///             .workers(4)
///             .listener("http")
///             .set("ready", "notify")
///             .set("rollout.bake_time", Duration::from_secs(1)),
///     );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    name: String,
    keys: Keys,
    listeners: Vec<(String, Keys)>,
    pools: Vec<(String, Keys)>,
}

/// The value of a key.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::embed::Pool;
///
/// let pool = Pool::new("web", ["/usr/bin/myapp"])
///     .set("ready", "exec")                      // text
///     .set("nice", 5)                            // a number
///     .set("no_new_privileges", true)            // true or false
///     .set("supplementary_groups", ["video"]);   // several values
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
    /// True or false.
    Truth(bool),
    /// Several values.
    List(Vec<Value>),
}

type Keys = Vec<(String, Value)>;

fn set(keys: &mut Keys, key: &str, value: Value) {
    keys.retain(|(known, _)| known != key);
    keys.push((key.to_owned(), value));
}

impl Settings {
    /// Without listeners and pools. `name` is `name` of the configuration: at most 32 characters of `[a-z0-9_.-]`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), keys: Vec::new(), listeners: Vec::new(), pools: Vec::new() }
    }

    /// A key at the top, or in a section there: `set("pid_file", "/run/myapp.pid")`, `set("log.workers", "inherit")`. A second
    /// value for the same key takes the place of the first.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        set(&mut self.keys, key, value.into());
        self
    }

    /// One more listener.
    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push((listener.name, listener.keys));
        self
    }

    /// One more pool.
    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pools.push((pool.name, pool.keys));
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// As the file that says the same.
    ///
    /// ```
    /// # use handover::embed::{Pool, Settings};
    /// let text = Settings::new("myapp").pool(Pool::new("jobs", ["/usr/bin/jobs"])).to_toml();
    /// assert!(text.contains("[pool.jobs]"));
    /// ```
    pub fn to_toml(&self) -> String {
        let mut text = format!("name = {}\n", quote(&self.name));
        write_keys(&mut text, &self.keys);
        for (section, named) in [("listener", &self.listeners), ("pool", &self.pools)] {
            for (name, keys) in named {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "[{section}.{}]", quote_key(name));
                write_keys(&mut text, keys);
            }
        }
        text
    }
}

fn write_keys(text: &mut String, keys: &Keys) {
    for (key, value) in keys {
        let path: Vec<String> = key.split('.').map(quote_key).collect();
        let _ = write!(text, "{} = ", path.join("."));
        value.write(text);
        text.push('\n');
    }
}

impl Value {
    fn write(&self, text: &mut String) {
        match self {
            Self::Text(value) => text.push_str(&quote(value)),
            Self::Number(value) => text.push_str(&value.to_string()),
            Self::Truth(value) => text.push_str(&value.to_string()),
            Self::List(values) => {
                text.push('[');
                for (number, value) in values.iter().enumerate() {
                    text.push_str(if number == 0 { "" } else { ", " });
                    value.write(text);
                }
                text.push(']');
            }
        }
    }
}

/// A listener: `[listener.NAME]`.
///
/// ```
/// use handover::embed::Listener;
///
/// let bound = Listener::new("http", "tcp://0.0.0.0:8080").set("backlog", 4096);
/// let given = Listener::given("admin"); // its socket comes with Builder::socket
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    name: String,
    keys: Keys,
}

impl Listener {
    /// One that is bound to an address, such as `tcp://127.0.0.1:8080` or `unix:///run/myapp.sock`; or whose socket is given
    /// with [`Builder::socket`](super::Builder::socket) and has this address.
    pub fn new(name: impl Into<String>, address: impl Into<String>) -> Self {
        Self::given(name).set("address", address.into())
    }

    /// One whose socket is given under its name.
    pub fn given(name: impl Into<String>) -> Self {
        Self { name: name.into(), keys: Vec::new() }
    }

    /// One more key.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        set(&mut self.keys, key, value.into());
        self
    }
}

/// A pool: `[pool.NAME]`.
///
/// ```
/// use handover::embed::Pool;
///
/// let pool = Pool::new("web", ["/usr/bin/myapp"])
///     .workers(4)
///     .listener("http")
///     .variable("RUST_LOG", "info")
///     .set("stop_timeout", "10s");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    name: String,
    keys: Keys,
}

impl Pool {
    /// One that runs this command: the program, and its arguments. One worker, and `ready = "notify"`, unless something else is
    /// set.
    pub fn new<A: Into<String>>(name: impl Into<String>, command: impl IntoIterator<Item = A>) -> Self {
        let command: Vec<Value> = command.into_iter().map(|word| Value::Text(word.into())).collect();
        Self { name: name.into(), keys: Vec::new() }.set("command", Value::List(command))
    }

    /// So many workers, 1 to 10000.
    #[must_use]
    pub fn workers(self, workers: u32) -> Self {
        self.set("workers", workers)
    }

    /// One more listener: in the order in which the workers get their sockets.
    #[must_use]
    pub fn listener(mut self, name: impl Into<String>) -> Self {
        let name = Value::Text(name.into());
        match self.keys.iter_mut().find(|(key, _)| key == "listeners") {
            Some((_, Value::List(names))) => names.push(name),
            _ => set(&mut self.keys, "listeners", Value::List(vec![name])),
        }
        self
    }

    /// One more environment variable of its workers.
    #[must_use]
    pub fn variable(self, name: &str, value: impl Into<String>) -> Self {
        self.set(&format!("environment.{name}"), value.into())
    }

    /// One more key, of a section of the pool as well: `set("rollout.max_surge", 2)`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        set(&mut self.keys, key, value.into());
        self
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Truth(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Number(value.into())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Number(value.into())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(value)
    }
}

impl From<Duration> for Value {
    /// In milliseconds; what is shorter than one counts as one.
    fn from(value: Duration) -> Self {
        let least = u128::from(!value.is_zero());
        Self::Text(format!("{}ms", value.as_millis().max(least)))
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(values: [T; N]) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::{Source, ThisMachine};

    fn refused(settings: &Settings) -> String {
        let source = Source::Code { name: settings.name.clone(), text: settings.to_toml() };
        source.read(false).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn settings_are_the_file_that_says_the_same() {
        let settings = Settings::new("my-app")
            .set("log.level", "debug")
            .listener(Listener::new("http", "127.0.0.1:80").set("backlog", 7).set("backlog", 8))
            .pool(
                Pool::new("web \"1\"", ["/bin/app", "a b"])
                    .workers(3)
                    .listener("http")
                    .variable("A", "\"quoted\"")
                    .set("rollout.max_surge", 2)
                    .set("stop_timeout", Duration::from_millis(1500)),
            );
        let text = settings.to_toml();
        assert!(text.contains("backlog = 8") && !text.contains("backlog = 7"), "{text}");
        let fault = refused(&settings);
        assert!(fault.contains("web"), "only the pool's name is wrong: {fault}");
        let right = text.replace("pool.\"web \\\"1\\\"\"", "pool.web");
        let config =
            crate::config::parse("a", &right, "a", &ThisMachine).unwrap_or_else(|f| panic!("{f}\n{right}"));
        let pool = config.pools.values().next().unwrap();
        assert_eq!((pool.policy.workers, pool.listeners.len()), (3, 1));
        assert_eq!(pool.program.environment["A"], "\"quoted\"");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_by_key() {
        let settings = Settings::new("my-app").listener(Listener::new("http", "tcp://nowhere")).pool(
            Pool::new("web", ["/bin/app"])
                .listener("http")
                .set("worker", 3)
                .set("stop_timeout", "soon")
                .set("rollout.deadline", "1s"),
        );
        let fault = refused(&settings);
        for key in [
            "listener.http.address: ",
            "pool.web.worker: ",
            "pool.web.stop_timeout: ",
            "pool.web.rollout.deadline: ",
        ] {
            assert!(fault.contains(key), "{key}: {fault}");
        }
        assert!(fault.contains("hint: did you mean"), "{fault}");
    }
}
