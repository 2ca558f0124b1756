//! A configuration as TOML: every key with its value, in one form only.
//!
//! What is printed can be read again and gives an equal configuration. Keys without a value (there is no
//! `backlog` to print where the system's default is wanted) are left out.

mod pool;

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use super::model::{
    Config, Install, Log, LogFormat, LogLevel, Pool, SocketOptions, Start, UnusedSockets, WorkerOutput,
};
use super::units::{format_duration, format_size};
use crate::time::Timeout;
use crate::visible::is_hidden;

/// The canonical text of a configuration; what `handover check --print` prints.
pub fn canonical(config: &Config) -> String {
    let mut out = Out::default();
    out.key("name", quote(&config.name));
    out.maybe("pid_file", config.pid_file.as_ref().map(|path| quote(&path.to_string_lossy())));
    out.key("unused_sockets", unused_sockets(config.unused_sockets));
    out.maybe("control_group", config.control_group.as_deref().map(quote));
    for (name, listener) in &config.listeners {
        out.section(&format!("listener.{}", quote_key(name.as_str())));
        out.maybe("address", listener.address.as_ref().map(|address| quote(&address.to_string())));
        out.key("mode", r#""shared""#);
        options(&mut out, &listener.options);
    }
    for (name, pool) in &config.pools {
        pool::pool(&mut out, &format!("pool.{}", quote_key(name.as_str())), pool);
    }
    out.section("log");
    log(&mut out, &config.log);
    out.section("install");
    install(&mut out, config.install);
    out.text()
}

/// Every key of a pool with its value, those of its sub-sections as `rollout.bake_time`.
pub(super) fn pool_keys(pool: &Pool) -> BTreeMap<String, String> {
    let mut out = Out::default();
    pool::pool(&mut out, "", pool);
    out.keys()
}

/// The keys of a listener that are options of its socket.
pub(super) fn option_keys(options: &SocketOptions) -> BTreeMap<String, String> {
    let mut out = Out::default();
    self::options(&mut out, options);
    out.keys()
}

/// The keys of `[log]`.
pub(super) fn log_keys(log: &Log) -> BTreeMap<String, String> {
    let mut out = Out::default();
    self::log(&mut out, log);
    out.keys()
}

fn options(out: &mut Out, options: &SocketOptions) {
    out.maybe("backlog", options.backlog);
    out.maybe("v6only", options.v6only);
    out.maybe("free_bind", options.free_bind.then_some(true));
    out.maybe("defer_accept", options.defer_accept.map(duration));
    out.maybe("fast_open", options.fast_open);
    out.maybe("keepalive", options.keepalive);
    out.maybe("nodelay", options.nodelay);
    out.maybe("receive_buffer", options.receive_buffer.map(size));
    out.maybe("send_buffer", options.send_buffer.map(size));
    out.maybe("nonblocking", options.nonblocking);
    out.maybe("socket_user", options.user.as_ref().map(|user| quote(&user.name)));
    out.maybe("socket_group", options.group.as_ref().map(|group| quote(&group.name)));
    out.maybe("socket_mode", options.mode.map(mode));
    out.maybe("device", options.device.as_deref().map(quote));
    out.maybe("mark", options.mark);
}

/// The value of `unused_sockets`.
pub(super) fn unused_sockets(unused: UnusedSockets) -> &'static str {
    match unused {
        UnusedSockets::Error => r#""error""#,
        UnusedSockets::Close => r#""close""#,
    }
}

fn install(out: &mut Out, install: Install) {
    out.key(
        "start",
        match install.start {
            Start::Socket => r#""socket""#,
            Start::Service => r#""service""#,
            Start::Nothing => r#""none""#,
        },
    );
}

fn log(out: &mut Out, log: &Log) {
    out.key(
        "format",
        match log.format {
            LogFormat::Auto => r#""auto""#,
            LogFormat::Human => r#""human""#,
            LogFormat::Json => r#""json""#,
            LogFormat::Journal => r#""journal""#,
        },
    );
    out.key(
        "level",
        match log.level {
            LogLevel::Error => r#""error""#,
            LogLevel::Warn => r#""warn""#,
            LogLevel::Info => r#""info""#,
            LogLevel::Debug => r#""debug""#,
            LogLevel::Trace => r#""trace""#,
        },
    );
    out.key(
        "workers",
        match log.workers {
            WorkerOutput::Capture => r#""capture""#,
            WorkerOutput::Inherit => r#""inherit""#,
        },
    );
}

/// What was said so far: for each section, in order, its path and its keys. The first one is the top.
struct Out(Vec<(String, Vec<(String, String)>)>);

impl Default for Out {
    fn default() -> Self {
        Self(vec![(String::new(), Vec::new())])
    }
}

impl Out {
    fn text(self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for (path, keys) in self.0 {
            if !path.is_empty() {
                let _ = writeln!(text, "\n[{path}]");
            }
            for (name, value) in keys {
                let _ = writeln!(text, "{name} = {value}");
            }
        }
        text
    }

    /// Everything by its path from the top.
    fn keys(self) -> BTreeMap<String, String> {
        let of_section = |(path, keys): (String, Vec<(String, String)>)| {
            keys.into_iter().map(move |(name, value)| {
                (format!("{path}.{name}").trim_start_matches('.').to_owned(), value)
            })
        };
        self.0.into_iter().flat_map(of_section).collect()
    }

    fn section(&mut self, path: &str) {
        self.0.push((path.to_owned(), Vec::new()));
    }

    fn key(&mut self, name: &str, value: impl Display) {
        if let Some((_, keys)) = self.0.last_mut() {
            keys.push((name.to_owned(), value.to_string()));
        }
    }

    fn maybe(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.key(name, value);
        }
    }

    fn list(&mut self, name: &str, values: impl IntoIterator<Item = String>) {
        self.key(name, format!("[{}]", values.into_iter().collect::<Vec<_>>().join(", ")));
    }

    fn table(&mut self, name: &str, pairs: impl IntoIterator<Item = (String, String)>) {
        let pairs: Vec<String> =
            pairs.into_iter().map(|(key, value)| format!("{} = {value}", quote_key(&key))).collect();
        self.key(
            name,
            if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) },
        );
    }
}

fn duration(duration: std::time::Duration) -> String {
    quote(&format_duration(duration))
}

fn timeout(timeout: Timeout) -> String {
    timeout.duration().map_or_else(|| quote("infinity"), duration)
}

fn size(bytes: u32) -> String {
    quote(&format_size(bytes.into()))
}

fn mode(mode: u32) -> String {
    format!("\"{mode:04o}\"")
}

/// Text as a TOML basic string.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if is_hidden(c) && u32::from(c) > 0xffff => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
            c if is_hidden(c) => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Text as a TOML key, quoted only where it must be.
pub(crate) fn quote_key(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !text.is_empty() && text.chars().all(bare) { text.to_owned() } else { quote(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_text_survives_its_quotes(text: String, key: String) {
            let line = format!("{} = {}", quote_key(&key), quote(&text));
            let table = toml::de::DeTable::parse(&line).unwrap().into_inner();
            let (read_key, read_text) = table.iter().next().unwrap();
            proptest::prop_assert_eq!(read_key.get_ref().as_ref(), key.as_str());
            proptest::prop_assert_eq!(read_text.get_ref().as_str(), Some(text.as_str()));
        }
    }
}
