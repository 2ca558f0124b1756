//! A page of the manual, carried out on a fresh machine from top to bottom.
//!
//! A block ```` ```… file=/PATH ```` is written there. Of a block ```` ```console systemd ```` each command is carried out and its
//! output compared, in which numbers may differ; with `quiet` behind it, it only has to succeed.

use std::path::Path;

use crate::booted::{Machine, PACKAGES};
use crate::package::succeed;

const PAGE: &str = "docs/packages.md";

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

/// Walks the page.
pub fn the_manual(machine: &Machine) {
    // As it is called when it has been downloaded.
    let package = crate::package::file_name();
    succeed(
        std::process::Command::new("cp")
            .arg(machine.path(&format!("{PACKAGES}/handover.deb")))
            .arg(machine.path(&format!("/root/{package}"))),
    );
    let _cleared = Cleared(machine);
    let mut commands = 0;
    for block in blocks(PAGE) {
        match block.words.split_whitespace().collect::<Vec<_>>()[..] {
            ["console", "systemd"] => commands += try_out(machine, &block.text, true),
            ["console", "systemd", "quiet"] => commands += try_out(machine, &block.text, false),
            [_, file] if file.starts_with("file=/") => machine.write(&file["file=".len()..], &block.text),
            _ => {}
        }
    }
    assert!(commands > 5, "{PAGE} has hardly any commands");
}

/// Takes back what the page has made, however far it came: its socket has the port of all addresses, which the cases need.
struct Cleared<'a>(&'a Machine);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- journal of myapp:\n{}---", self.0.journal("myapp.service"));
        }
        self.0.shell("systemctl stop myapp.socket myapp.service; rm /etc/handover/myapp.toml /etc/systemd/system/myapp.s*");
    }
}

fn try_out(machine: &Machine, block: &str, compared: bool) -> usize {
    let steps: Vec<&str> = block.split("$ ").filter(|step| !step.is_empty()).collect();
    for step in &steps {
        let (command, wanted) = step.split_once('\n').expect("lines end");
        let line = format!("cd /root; exec 2>&1; {command}");
        let output = machine.run(&["bash", "-c", &line]);
        let said = &output.stdout;
        if compared {
            assert_eq!(rough(said), rough(wanted), "\n$ {command}\n{said}");
        } else {
            output.assert_code(0);
        }
    }
    steps.len()
}

/// A text in which a number is as good as another, and a space as many.
fn rough(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().map(rough_word).collect::<Vec<_>>().join(" ")).collect()
}

fn rough_word(word: &str) -> String {
    let mut rough = String::new();
    for character in word.chars() {
        match character.is_ascii_digit() {
            true if rough.ends_with('#') => {}
            true => rough.push('#'),
            false => rough.push(character),
        }
    }
    rough
}
