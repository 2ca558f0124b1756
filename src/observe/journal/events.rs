//! Our own events, written and sent by `tracing-journald` on the writer's thread.
//!
//! The layer of that crate belongs into a subscriber, and would then send where an event happens: on the loop, which a
//! stalled journal would stop. So the event is taken down there ([`render::Record`]), and put together again here, for
//! a subscriber that consists of nothing but this layer and is nobody's default.

use std::io;

use tracing::field::Field;
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber, Value, span};
use tracing_journald::{Layer, Priority, PriorityMappings};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::registry::{Data, LookupSpan};

use super::fields::PREFIX;
use crate::observe::render::{self, summary};

/// More values than any event of ours has.
const VALUES_MAX: usize = 32;

/// See the module.
pub(super) struct Events {
    name: String,
    /// Made with the first event: that needs a journal, and may block.
    layer: Option<Layered<Layer, NoSpans>>,
}

impl Events {
    /// Of the daemon of this name.
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), layer: None }
    }

    /// Sends an event, if the journal is still there: who needs to know looks right before.
    ///
    /// # Errors
    /// There is no journal, and there was none yet.
    pub(super) fn send(
        &mut self,
        metadata: &'static Metadata<'static>,
        record: &render::Record,
    ) -> io::Result<()> {
        if self.layer.is_none() {
            self.layer = Some(NoSpans.with(layer(&self.name)?));
        }
        if let Some(layer) = &self.layer {
            replay(layer, metadata, record);
        }
        Ok(())
    }
}

fn layer(name: &str) -> io::Result<Layer> {
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    Ok(Layer::new()?
        .with_field_prefix(Some(PREFIX.to_owned()))
        .with_syslog_identifier(name.to_owned())
        .with_custom_fields([("HANDOVER_NAME", name)])
        .with_priority_mappings(priorities))
}

/// Gives a subscriber the event again. Its message has the values in it, for those who read without fields; a
/// value called `name` is left out: it is the daemon's, which each record has.
fn replay(to: &impl Subscriber, metadata: &'static Metadata<'static>, record: &render::Record) {
    let message = ("message", summary(record));
    let others = record.fields.iter().filter(|(name, _)| *name != "name").map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (*name, text)
    });
    let texts: Vec<(Field, String)> = std::iter::once(message)
        .chain(others)
        .filter_map(|(name, text)| Some((metadata.fields().field(name)?, text)))
        .collect();
    debug_assert!(texts.len() <= VALUES_MAX, "{}", metadata.name());
    let Some((first, _)) = texts.first() else { return };
    let values: [(&Field, Option<&dyn Value>); VALUES_MAX] =
        std::array::from_fn(|index| match texts.get(index) {
            Some((field, text)) => (field, Some(text as &dyn Value)),
            None => (first, None),
        });
    to.event(&Event::new(metadata, &metadata.fields().value_set(&values)));
}

/// A subscriber that has no spans and does nothing: what the layer needs to stand on. The registry of
/// `tracing-subscriber` would cost a table for spans that are never there.
struct NoSpans;

impl Subscriber for NoSpans {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl<'a> LookupSpan<'a> for NoSpans {
    type Data = Data<'a>;

    fn span_data(&'a self, _: &Id) -> Option<Self::Data> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::UNIX_EPOCH;

    use tracing::{Level, warn};

    use super::*;
    use crate::config::model::{LogFormat, LogLevel};
    use crate::observe::{Destination, Log, Writer};

    /// An event of the place in the code that this closure is.
    fn metadata() -> &'static Metadata<'static> {
        use std::sync::Mutex;

        use tracing_subscriber::layer::Context;

        static SEEN: Mutex<Option<&'static Metadata<'static>>> = Mutex::new(None);
        struct Catch;
        impl<S: Subscriber> tracing_subscriber::Layer<S> for Catch {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                *SEEN.lock().unwrap() = Some(event.metadata());
            }
        }
        tracing::subscriber::with_default(NoSpans.with(Catch), || {
            warn!(name = "x", pool = "x", slot = 0, reason = "x", "worker failed");
        });
        SEEN.lock().unwrap().unwrap()
    }

    #[test]
    fn an_event_put_together_again_is_the_same() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let writer = Writer::start(ours).unwrap();
        let (subscriber, log) = Log::subscriber(writer, Destination::default(), || UNIX_EPOCH);
        log.configure(LogFormat::Json, LogLevel::Info);
        let fields = vec![("name", "myapp".into()), ("slot", 3.into()), ("reason", "a\nb".into())];
        let record = render::Record { level: Level::WARN, message: "worker failed".into(), fields };
        replay(&subscriber, metadata(), &record);
        drop((subscriber, log));
        let written: serde_json::Value = serde_json::from_str(&io::read_to_string(theirs).unwrap()).unwrap();
        assert_eq!(written["message"], r#"worker failed name=myapp slot=3 reason="a\nb""#);
        assert_eq!((&written["slot"], &written["reason"]), (&"3".into(), &"a\nb".into()));
        assert_eq!((&written["name"], &written["level"]), (&serde_json::Value::Null, &"warn".into()));
    }
}
