//! Events of the `tracing` crate as records of the channel: level, target and fields stay what they are.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::handle::Worker;
use crate::wire::limits::LOG_FIELDS_MAX;
use crate::wire::{Capability, Level, Payload};

/// Gives events to handover: from [`Worker::tracing_layer`].
///
/// ```no_run
/// use tracing_subscriber::prelude::*;
///
/// # fn f(worker: &handover::worker::Worker) {
/// let layer = worker.tracing_layer().map(|layer| {
///     layer.with_filter(tracing_subscriber::filter::LevelFilter::INFO)
/// });
/// tracing_subscriber::registry().with(layer).init();
/// # }
/// ```
#[derive(Debug)]
pub struct TracingLayer {
    worker: Worker,
}

impl Worker {
    /// A layer that gives events to handover, with the fields of their spans; `None` where handover takes no records, so that another layer can take its
    /// place. Events that cannot be sent (see [`log`](Self::log)) are left out.
    ///
    /// ```no_run
    /// use handover::worker::Worker;
    /// use tracing_subscriber::prelude::*;
    ///
    /// # fn main() -> Result<(), handover::worker::Error> {
    /// let worker = Worker::connect()?;
    /// tracing_subscriber::registry().with(worker.tracing_layer()).init();
    /// tracing::warn!(table = "users", ms = 1200, "slow query");
    /// # Ok(()) }
    /// ```
    pub fn tracing_layer(&self) -> Option<TracingLayer> {
        self.can(Capability::Log).then(|| TracingLayer { worker: self.clone() })
    }
}

/// Fields as they will be sent; of a span, kept with it.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    fields: Vec<(String, Payload)>,
}

impl Fields {
    /// The last of a name counts.
    fn set(&mut self, name: &str, value: Option<Payload>) {
        let Some(value) = value else { return };
        if let Some((_, known)) = self.fields.iter_mut().find(|(known, _)| known == name) {
            *known = value;
        } else if self.fields.len() < LOG_FIELDS_MAX {
            self.fields.push((name.to_owned(), value));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.set(field.name(), Payload::of(value).ok());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), Payload::of(&value).ok());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), Payload::of(&value).ok());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), Payload::of(&value).ok());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), Payload::of(&value).ok());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &value.to_string());
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for TracingLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            // Another layer of this kind may have put them there; `insert` panics then.
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut record = Fields::default();
        event.record(&mut record);
        // The event's own first, then those of the inner spans, then the outer: what is left out is the farthest.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                for (name, value) in &fields.fields {
                    if record.fields.iter().all(|(known, _)| known != name) {
                        record.set(name, Some(value.clone()));
                    }
                }
            }
        }
        let metadata = event.metadata();
        self.worker.log(level(*metadata.level()), metadata.target(), &record.message, record.fields);
    }
}

const fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}
