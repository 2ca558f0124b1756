//! Our own log: `tracing` events to lines.
//!
//! It starts before the configuration is read, so that what is wrong there can be seen, and takes format and level
//! from it afterwards. Lines go to the [`Writer`], which never blocks. Time comes from the caller's clock.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use thiserror::Error;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use super::form::{Destination, Form};
use super::render::Record;
use super::writer::Writer;
use crate::config::model::{LogFormat, LogLevel};

/// A clock, as [`std::time::SystemTime::now`].
pub type Clock = fn() -> SystemTime;

/// The process already has a log.
#[derive(Debug, Error)]
#[error("the process already has a log")]
pub struct AlreadyStarted;

/// The log, to change it while it runs. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    destination: Destination,
    form: Arc<Mutex<Form>>,
    level: reload::Handle<Targets, Registry>,
}

impl Log {
    /// Starts the log of this process, in format `auto` and at level `info`.
    ///
    /// # Errors
    ///
    /// [`AlreadyStarted`]: a program that embeds handover may have set up its own.
    pub fn start(writer: Writer, destination: Destination, clock: Clock) -> Result<Self, AlreadyStarted> {
        let (subscriber, log) = Self::subscriber(writer, destination, clock);
        subscriber.try_init().map_err(|_| AlreadyStarted)?;
        Ok(log)
    }

    /// The subscriber alone, for a program (or test) that installs it itself.
    pub fn subscriber(
        writer: Writer,
        destination: Destination,
        clock: Clock,
    ) -> (impl Subscriber + Send + Sync, Self) {
        let (filter, level) = reload::Layer::new(targets(LogLevel::default()));
        let form = Arc::new(Mutex::new(Form::choose(LogFormat::default(), destination)));
        let log = Self { destination, form: Arc::clone(&form), level };
        writer.report_drops_with(|dropped| {
            tracing::warn!(dropped, "log lines dropped: nobody took them in time");
        });
        (tracing_subscriber::registry().with(filter).with(Lines { writer, form, clock }), log)
    }

    /// Takes format and level from the configuration; what is logged from now on follows them.
    pub fn configure(&self, format: LogFormat, level: LogLevel) {
        *self.form.lock().unwrap_or_else(PoisonError::into_inner) = Form::choose(format, self.destination);
        // An error means that the subscriber is gone, and with it the log.
        let _ = self.level.reload(targets(level));
    }

    /// The form in force, which output of workers shares.
    pub fn form(&self) -> Form {
        *self.form.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Our own events at the wanted level; what libraries say only from warnings upwards.
fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("handover", level)
}

/// Writes each event as a line.
struct Lines {
    writer: Writer,
    form: Arc<Mutex<Form>>,
    clock: Clock,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        let record = Record { level, message: fields.message, fields: fields.others };
        let form = *self.form.lock().unwrap_or_else(PoisonError::into_inner);
        self.writer.try_line(form.log_line((self.clock)(), event.metadata(), record));
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", value) => self.message = value.to_string(),
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, UNIX_EPOCH};

    use tracing::{debug, info, warn};

    use super::*;

    fn clock() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1)
    }

    /// What is written while `scene` plays.
    fn lines(scene: impl FnOnce(&Log)) -> String {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let writer = Writer::start(ours).unwrap();
        let (subscriber, log) = Log::subscriber(writer, Destination::default(), clock);
        tracing::subscriber::with_default(subscriber, || scene(&log));
        drop(log);
        io::read_to_string(theirs).unwrap()
    }

    #[test]
    fn an_event_becomes_an_object_with_flat_fields() {
        let written = lines(|_| {
            warn!(pool = "web", slot = 3, held_back = 2_u64, ready = true, reason = %"gone", "worker failed");
        });
        assert_eq!(
            written,
            concat!(
                r#"{"time":"1970-01-01T00:00:01.000000Z","level":"warn","message":"worker failed","pool":"web","#,
                r#""slot":3,"held_back":2,"ready":true,"reason":"gone"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn format_and_level_change_while_it_runs() {
        let written = lines(|log| {
            debug!("not yet");
            info!(target: "elsewhere", "a library's chatter");
            log.configure(LogFormat::Human, LogLevel::Debug);
            debug!("now");
            log.configure(LogFormat::Human, LogLevel::Error);
            warn!("no more");
        });
        assert_eq!(written, "1970-01-01T00:00:01.000000Z DEBUG now\n");
    }
}
