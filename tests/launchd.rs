//! What handover tells launchd: the property list of a configuration, and the shipped one, which is made the same way.
//!
//! There is no `plutil` on Linux, so the lists are read here: every element closed, a dictionary of keys and values,
//! nothing that launchd does not know. `HANDOVER_BLESS=1 cargo test --test launchd` writes the shipped one anew.

#![cfg(feature = "supervisor")]

use std::collections::BTreeMap;
use std::path::Path;

use handover::config::parse;
use handover::daemon::ThisMachine;
use handover::listeners::property_list::{Job, Unlistable, property_list};

/// A value of a property list.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Dict(BTreeMap<String, Value>),
    Array(Vec<Value>),
    Text(String),
    Number(u64),
    Bool(bool),
}

/// Elements and texts in their order, comments and the head left out.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// What stands between two brackets next.
    fn tag(&mut self) -> &'a str {
        loop {
            let rest = self.0.trim_start();
            let end = if rest.starts_with("<!--") { "-->" } else { ">" };
            let (tag, rest) = rest.split_once(end).expect("an element that ends");
            let tag = tag.strip_prefix('<').expect("an element");
            self.0 = rest;
            match tag.strip_prefix("!--") {
                Some(comment) => assert!(!comment.contains("--"), "{comment}"),
                None => return tag,
            }
        }
    }

    fn text(&mut self, element: &str) -> String {
        let (text, rest) = self.0.split_once('<').expect("an element that ends");
        let close = format!("/{element}>");
        self.0 = rest.strip_prefix(&close).unwrap_or_else(|| panic!("{text}: not closed by <{close}"));
        assert!(!text.contains('>'));
        let plain = text.replace("&lt;", "<").replace("&gt;", ">");
        assert_eq!(plain.matches('&').count(), plain.matches("&amp;").count(), "{text}");
        plain.replace("&amp;", "&")
    }

    fn value(&mut self, tag: &str) -> Value {
        match tag {
            "true/" => Value::Bool(true),
            "false/" => Value::Bool(false),
            "string" => Value::Text(self.text("string")),
            "integer" => Value::Number(self.text("integer").parse().expect("a number")),
            "array" => {
                let mut values = Vec::new();
                loop {
                    match self.tag() {
                        "/array" => return Value::Array(values),
                        tag => values.push(self.value(tag)),
                    }
                }
            }
            "dict" => {
                let mut values = BTreeMap::new();
                loop {
                    match self.tag() {
                        "/dict" => return Value::Dict(values),
                        "key" => {
                            let key = self.text("key");
                            let tag = self.tag();
                            let value = self.value(tag);
                            assert!(values.insert(key, value).is_none(), "a key stands twice");
                        }
                        other => panic!("{other} where a key should be"),
                    }
                }
            }
            other => panic!("no element of a property list: {other}"),
        }
    }
}

fn read(text: &str) -> BTreeMap<String, Value> {
    let mut reader = Reader(text);
    assert_eq!(reader.tag(), "?xml version=\"1.0\" encoding=\"UTF-8\"?");
    assert!(reader.tag().starts_with("!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\""));
    assert_eq!(reader.tag(), "plist version=\"1.0\"");
    let tag = reader.tag();
    let Value::Dict(all) = reader.value(tag) else { panic!("no dictionary") };
    assert_eq!((reader.tag(), reader.0), ("/plist", "\n"));
    all
}

fn job() -> Job<'static> {
    Job {
        label: "org.example.myapp",
        program: Path::new("/usr/local/bin/handover"),
        file: Path::new("/usr/local/etc/handover/myapp.toml"),
        log: Path::new("/var/log/myapp.log"),
    }
}

fn list_of(text: &str) -> Result<String, Vec<Unlistable>> {
    let config = parse("myapp.toml", text, "myapp", &ThisMachine).unwrap_or_else(|faults| panic!("{faults}"));
    property_list(&config, &job())
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn inet(node: &str, family: &str, port: &str, kind: &str) -> Value {
    let entries =
        [("SockNodeName", node), ("SockFamily", family), ("SockServiceName", port), ("SockType", kind)];
    Value::Dict(entries.into_iter().map(|(key, value)| (key.to_owned(), text(value))).collect())
}

fn sockets(list: &str) -> BTreeMap<String, Value> {
    match read(list).remove("Sockets") {
        Some(Value::Dict(sockets)) => sockets,
        other => panic!("{other:?}"),
    }
}

const SHIPPED: &str = r#"
[listener.http]
address = "tcp://[::]:8080"

[pool.web]
command = ["/usr/local/bin/myapp", "--serve"]
listeners = ["http"]
stop_timeout = "30s"
"#;

#[test]
fn the_shipped_property_list_is_what_is_generated() {
    let list = list_of(SHIPPED).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/launchd/org.example.myapp.plist");
    if std::env::var_os("HANDOVER_BLESS").is_some() {
        std::fs::write(&path, &list).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), list);
    let all = read(&list);
    let keys: Vec<&str> = all.keys().map(String::as_str).collect();
    let known = [
        "ExitTimeOut",
        "KeepAlive",
        "Label",
        "ProcessType",
        "ProgramArguments",
        "RunAtLoad",
        "Sockets",
        "StandardErrorPath",
        "ThrottleInterval",
    ];
    assert_eq!(keys, known);
    assert_eq!(all["Label"], text("org.example.myapp"));
    let words = ["/usr/local/bin/handover", "run", "/usr/local/etc/handover/myapp.toml"];
    assert_eq!(all["ProgramArguments"], Value::Array(words.map(text).to_vec()));
    assert_eq!(all["ExitTimeOut"], Value::Number(35));
    assert_eq!(all["RunAtLoad"], Value::Bool(true));
    assert_eq!(all["KeepAlive"], Value::Dict([("SuccessfulExit".to_owned(), Value::Bool(false))].into()));
}

#[test]
fn each_listener_becomes_the_sockets_that_it_means() {
    let list = list_of(
        r#"
[listener.both]
address = "tcp://[::]:80"
[listener.six]
address = "tcp://[::]:81"
v6only = true
nodelay = true
backlog = 7
[listener."a < b & -- c"]
address = "udp://127.0.0.1:53"
[listener.file]
address = "unix:///var/run/a&b.sock"
socket_mode = "0660"
socket_user = "root"
socket_group = "0"
[pool.web]
command = ["/bin/x"]
listeners = ["both", "six", "a < b & -- c", "file"]
stop_timeout = "infinity"
"#,
    );
    let list = list.unwrap();
    let sockets = sockets(&list);
    let both = [inet("0.0.0.0", "IPv4", "80", "stream"), inet("::", "IPv6", "80", "stream")];
    assert_eq!(sockets["both"], Value::Array(both.to_vec()));
    assert_eq!(sockets["six"], inet("::", "IPv6", "81", "stream"));
    assert_eq!(sockets["a < b & -- c"], inet("127.0.0.1", "IPv4", "53", "dgram"));
    let file = [
        ("SockPathName", text("/var/run/a&b.sock")),
        ("SockType", text("stream")),
        ("SockPathMode", Value::Number(0o660)),
        ("SockPathOwner", Value::Number(0)),
        ("SockPathGroup", Value::Number(0)),
    ];
    assert_eq!(sockets["file"], Value::Dict(file.map(|(key, value)| (key.to_owned(), value)).into()));
    assert!(list.contains("nothing for these keys of six: backlog, nodelay"), "{list}");
    assert_eq!(read(&list)["ExitTimeOut"], Value::Number(0));
}

#[test]
fn what_launchd_cannot_do_is_said_at_once() {
    let refused = list_of(
        r#"
[listener.a]
[listener.b]
address = "tcp://127.0.0.1:0"
[listener.c]
address = "unix:///run/\u0001"
[pool.web]
command = ["/bin/x"]
listeners = ["a", "b", "c"]
"#,
    );
    let texts: Vec<String> = refused.unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "listener a: it has no address, and launchd needs one to make its socket",
            "listener b: launchd cannot let the system choose the port",
            "\"/run/\\u{1}\" cannot be written in a property list"
        ]
    );
}
