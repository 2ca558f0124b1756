//! The pictures in the manual are what a terminal shows: they are made here, and compared with what is there.
//!
//! `docs/captures/make` makes them anew. Numbers may differ, as everywhere.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::blocks::root;
use super::reader::Reader;
use super::skipped;
use super::support::screen::{Screen, text_of};

/// Rows and columns of the terminal.
const SIZE: (u16, u16) = (30, 120);

/// A service of which one new worker starts only when it may, and whose workers do not end when they are asked to.
const SERVER: &str = r#"
import os, signal, socket

signal.signal(signal.SIGTERM, signal.SIG_IGN)
if (os.environ["HANDOVER_GENERATION"], os.environ["HANDOVER_SLOT"]) == ("2", "2"):
    open("gate").close()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
    to.sendto(b"READY=1\nSTATUS=version 1, 3 clients", os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
"#;

const CONFIG: &str = r#"
[listener.http]
address = "tcp://127.0.0.1:8080"

[pool.web]
command = ["/usr/bin/python3", "server.py"]
directory = "/srv/myapp"
workers = 4
listeners = ["http"]
"#;

/// What is shown here is what is in the page, or becomes it.
fn compare(name: &str, reader: &Reader, picture: &str) {
    let path = root().join("docs/captures").join(name);
    let picture = reader.there_in_columns(picture);
    if std::env::var_os("HANDOVER_BLESS").is_some() {
        fs::write(&path, picture).expect("our directory");
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let (text, kept) = (text_of(&picture), text_of(&kept));
    assert!(sense(&text) == sense(&kept), "{name}: docs/captures/make makes it anew\n{text}---\n{kept}");
}

/// A text in which a number or time is as good as another, and so is where a line was broken because of it.
fn sense(text: &str) -> String {
    let number = regex_lite::Regex::new("[0-9][0-9.]*(ms|s)?").expect("a pattern");
    let joined: String = text.split_whitespace().collect();
    number.replace_all(&joined, "#").into_owned()
}

fn on_screen(reader: &Reader, command: &str) -> Screen {
    let mut shell: Command = reader.shell_for_terminal(command);
    shell.env_remove("COLUMNS").env_remove("LINES");
    Screen::run(shell, SIZE.0, SIZE.1)
}

#[test]
fn the_pictures_in_the_manual_are_what_a_terminal_shows() {
    if skipped("python3", !Path::new("/usr/bin/python3").exists()) {
        return;
    }
    let mut reader = Reader::new();
    reader.write("server.py", SERVER);
    reader.write("myapp.toml", CONFIG);
    let gate = reader.fifo("gate");
    reader.start("handover run /srv/myapp/myapp.toml");
    compare("status.svg", &reader, &on_screen(&reader, "handover status").at_the_end());

    let rollout = on_screen(&reader, "handover reload");
    let is_halfway =
        |text: &str| text.contains("the new worker of slot 2 to become ready") && text.contains("starting");
    compare("rollout.svg", &reader, &rollout.when("halfway", is_halfway));
    // As a reader as well, so that this waits for nobody; who waits for a writer has one now, until the end.
    let _gate = File::options().read(true).write(true).open(gate).expect("our FIFO");
    compare("done.svg", &reader, &rollout.at_the_end());

    reader.write("server.py", "import no_such_module\n");
    compare("rollback.svg", &reader, &on_screen(&reader, "handover reload").at_the_end());
    compare("failed.svg", &reader, &on_screen(&reader, "handover status").at_the_end());
    reader.kill();
}
