//! The pictures in the manual are what a terminal shows: they are made here, and compared with what is there.
//!
//! `docs/captures/make` makes them anew. Numbers may differ, as everywhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::blocks::root;
use super::reader::{Reader, rough};
use super::skipped;
use super::support::screen::{Screen, text_of};

/// Rows and columns of the terminal.
const SIZE: (u16, u16) = (30, 120);

/// A service whose workers take a while to start and longer to end.
const SERVER: &str = r#"
import os, signal, socket, sys, time

time.sleep(0.6)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
    to.sendto(b"READY=1\nSTATUS=version 1, 3 clients", os.environ["NOTIFY_SOCKET"])
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(60), sys.exit(0)))
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
    assert_eq!(rough(&text_of(&picture)), rough(&text_of(&kept)), "{name}: docs/captures/make makes it anew");
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
    reader.start("handover run /srv/myapp/myapp.toml");
    compare("status.svg", &reader, &on_screen(&reader, "handover status").at_the_end());

    let rollout = on_screen(&reader, "handover reload");
    let is_halfway = |text: &str| text.contains("web 2") && text.contains("starting");
    compare("rollout.svg", &reader, &rollout.when("halfway", is_halfway));
    compare("done.svg", &reader, &rollout.at_the_end());

    reader.write("server.py", "import no_such_module\n");
    compare("rollback.svg", &reader, &on_screen(&reader, "handover reload").at_the_end());
    compare(
        "failed.svg",
        &reader,
        &on_screen(&reader, "handover status").when("a rollback", |text| text.contains("no_such_module")),
    );
    reader.kill();
}
