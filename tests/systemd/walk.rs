//! The pages that go from the package to a service, each carried out from top to bottom.
//!
//! A block ```` ```… file=PATH ```` is written there, below `/srv/myapp` where that begins with no `/`. Of a block ```` ```console systemd ````
//! each command is carried out and its output compared, word for word but for times; with `quiet` behind it, it only has to succeed.

use std::path::Path;
use std::time::Instant;

use crate::booted::{Machine, PACKAGES};
use crate::package::succeed;
use crate::support::deadline;

const PAGES: [&str; 2] = ["README.md", "docs/packages.md"];
/// What the pages call the directory of the program.
const DIRECTORY: &str = "/srv/myapp";

struct Block {
    words: String,
    text: String,
}

fn blocks(path: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a page");
    let parts: Vec<&str> = text.split("```").collect();
    assert_eq!(parts.len() % 2, 1, "a block of {path} has no end");
    let inside = parts.iter().skip(1).step_by(2);
    inside
        .map(|part| {
            let (words, text) = part.split_once('\n').expect("lines end");
            Block { words: words.to_owned(), text: text.to_owned() }
        })
        .collect()
}

/// Walks the pages, one after the other.
pub fn the_manual(machine: &Machine) {
    // As it is called when it has been downloaded.
    let package = crate::package::file_name();
    succeed(
        std::process::Command::new("cp")
            .arg(machine.path(&format!("{PACKAGES}/handover.deb")))
            .arg(machine.path(&format!("/root/{package}"))),
    );
    for page in PAGES {
        walk(machine, page);
    }
}

fn walk(machine: &Machine, page: &str) {
    let _cleared = Cleared(machine);
    let mut commands = 0;
    for block in blocks(page) {
        match block.words.split_whitespace().collect::<Vec<_>>()[..] {
            ["console", "systemd"] => commands += try_out(machine, &block.text, true),
            ["console", "systemd", "quiet"] => commands += try_out(machine, &block.text, false),
            [_, file] => {
                if let Some(path) = file.strip_prefix("file=") {
                    // An absolute path replaces the directory.
                    let path = Path::new(DIRECTORY).join(path);
                    machine.write(path.to_str().expect("the page is UTF-8"), &block.text);
                }
            }
            _ => {}
        }
    }
    assert!(commands > 5, "{page} has hardly any commands");
}

/// Takes back what the page has made, however far it came: its socket has the port of all addresses, which the cases need.
struct Cleared<'a>(&'a Machine);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- journal of myapp:\n{}---", self.0.journal("myapp.service"));
        }
        self.0.shell(&format!(
            "systemctl stop myapp.socket myapp.service; rm -r /etc/handover/myapp.toml {DIRECTORY}; systemctl daemon-reload
             journalctl --rotate; rm /{{run,var}}/log/journal/*/*@*"
        ));
    }
}

fn try_out(machine: &Machine, block: &str, compared: bool) -> usize {
    let steps: Vec<&str> = block.split("$ ").filter(|step| !step.is_empty()).collect();
    for step in &steps {
        let (command, wanted) = step.split_once('\n').expect("lines end");
        let line = format!("cd /root; exec 2>&1; {command}");
        let mut output = machine.run(&["bash", "-c", &line]);
        if compared {
            // A worker that was asked to end may answer once more; a reader would ask again.
            let deadline = deadline();
            while command.starts_with("curl ")
                && rough(&output.stdout) != rough(wanted)
                && Instant::now() < deadline
            {
                output = machine.run(&["bash", "-c", &line]);
            }
            let said = &output.stdout;
            assert_eq!(rough(said), rough(wanted), "\n$ {command}\n{said}");
        } else {
            output.assert_code(0);
        }
    }
    steps.len()
}

/// A text in which a time is as good as another, and a space as many.
fn rough(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().map(rough_word).collect::<Vec<_>>().join(" ")).collect()
}

fn rough_word(word: &str) -> &str {
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let is_time = unit.len() < word.len() && ["ms", "s"].contains(&unit.trim_end_matches([':', ',']));
    if is_time { "TIME" } else { word }
}
