//! What the documentation says is tried: the README from top to bottom, the units of `packaging`, the configurations of
//! `docs/operations.md`; and what it names is there: files, tests, pages.
//!
//! In the README a block `… file=PATH` is written to that path, ```` ```sh daemon ```` is started, and each command of
//! a ```` ```console ```` is carried out and its output compared; numbers may differ. `/srv/myapp` stands for a scratch
//! directory and `127.0.0.1:8080` for an address of the test.

#![cfg(feature = "cli")]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a deadline needs the clock")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::child::OwnedChild;
use support::scratch::{Address, Scratch};
use support::{deadline, eventually, handover};

/// A fenced block: the words after the fence, and the lines in it.
struct Block {
    words: Vec<String>,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(words), None) => {
                let words = words.split_whitespace().map(str::to_owned).collect();
                open = Some(Block { words, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

/// All of `docs` and the README, as paths in the package.
fn pages() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("README.md")];
    for directory in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(directory)).expect("it is there");
        let paths = entries.map(|entry| Path::new(directory).join(entry.expect("an entry").file_name()));
        found.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    found
}

/// Says that something is skipped where a program is `absent`.
fn skipped(program: &str, absent: bool) -> bool {
    if absent {
        let all = std::env::var_os("HANDOVER_TEST_ALL").is_some_and(|all| all == "1");
        assert!(!all, "{program} is not installed");
        let _ = writeln!(std::io::stderr(), "skipped: {program} (not installed)");
    }
    absent
}

/// A reader who tries everything.
struct Reader {
    scratch: Scratch,
    address: String,
    daemon: Option<OwnedChild>,
}

impl Reader {
    fn new() -> Self {
        let Address::Tcp(address) = Address::tcp() else { panic!("tcp() gives a TCP address") };
        let scratch = Scratch::new();
        fs::create_dir(scratch.join("run")).expect("our directory");
        Self { scratch, address: address.to_string(), daemon: None }
    }

    /// A text of the page as it is here.
    fn here(&self, text: &str) -> String {
        let directory = self.scratch.path().display().to_string();
        text.replace("/srv/myapp", &directory).replace("127.0.0.1:8080", &self.address)
    }

    /// What was seen here, as the page would write it.
    fn there(&self, text: &str) -> String {
        let directory = self.scratch.path().display().to_string();
        text.replace(&directory, "/srv/myapp").replace(&self.address, "127.0.0.1:8080")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.scratch.join(path);
        fs::create_dir_all(path.parent().expect("a file in a directory")).expect("our directory");
        fs::write(path, self.here(text)).expect("our file");
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("bash");
        let mut path = handover().parent().expect("it lies in a directory").as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        shell.args(["-c", &format!("exec 2>&1; {}", self.here(command))]);
        shell.env("PATH", path);
        shell.env("RUNTIME_DIRECTORY", self.scratch.join("run")).env_remove("NOTIFY_SOCKET");
        shell.current_dir(self.scratch.path()).stdin(Stdio::null());
        shell
    }

    fn run(&self, command: &str) -> String {
        let output = self.shell(command).output().expect("bash is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a daemon, in place of the one before.
    fn start(&mut self, command: &str) {
        self.stop();
        let command = command.trim().replace("cargo run --release -- ", "handover ");
        let demo = if command.ends_with("demo") { " --listen 127.0.0.1:8080" } else { "" };
        let log = fs::File::create(self.scratch.join("log")).expect("our file");
        let mut shell = self.shell(&format!("exec {command}{demo}"));
        self.daemon = Some(OwnedChild::spawn(shell.stdout(log)));
        eventually(&format!("{command} is ready"), || {
            let status = self.run("handover status --json");
            status.contains("\"ready\":true,\"fine\":true").then_some(())
        });
    }

    fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        daemon.signal(libc::SIGTERM);
        let status = daemon.wait(deadline());
        assert!(status.is_some_and(|status| status.success()), "it ended badly: {status:?}");
    }

    /// Carries out each command of a block, and compares what it says.
    fn try_out(&self, block: &str) {
        for step in block.split("$ ").filter(|step| !step.is_empty()) {
            let (command, wanted) = step.split_once('\n').expect("lines end");
            let said = self.there(&self.run(command));
            assert_eq!(rough(&said), rough(wanted), "\n$ {command}\n{said}");
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log:\n{}", fs::read_to_string(self.scratch.join("log")).unwrap_or_default());
        }
    }
}

/// A text in which a number is as good as another, and a space as many.
fn rough(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().map(rough_word).collect::<Vec<_>>().join(" ")).collect()
}

fn rough_word(word: &str) -> String {
    let mut rough = String::new();
    for part in word.replace("127.0.0.1", "HOST").split_inclusive(|c: char| !c.is_ascii_digit() && c != '.') {
        let letters = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        if letters.len() < part.len() {
            rough.push('#');
        }
        rough.push_str(letters);
    }
    // Times have a unit that depends on their size.
    if rough == "#ms" { "#s".to_owned() } else { rough }
}

#[test]
fn the_readme_does_what_it_says() {
    if skipped("python3", !Path::new("/usr/bin/python3").exists())
        || skipped("curl", !Path::new("/usr/bin/curl").exists())
    {
        return;
    }
    let mut reader = Reader::new();
    let page = page("README.md");
    let blocks = blocks(&page);
    assert!(blocks.iter().filter(|block| block.words == ["console"]).count() > 4);
    for block in &blocks {
        let words: Vec<&str> = block.words.iter().map(String::as_str).collect();
        match words[..] {
            ["sh", "daemon"] => reader.start(&block.text),
            ["console"] => reader.try_out(&block.text),
            [_, file] if file.starts_with("file=") => reader.write(&file["file=".len()..], &block.text),
            _ => panic!("a block that nobody tries: {words:?}\n{}", block.text),
        }
    }
    reader.stop();
}

#[test]
fn the_configurations_in_the_manual_are_valid() {
    let scratch = Scratch::new();
    let page = page("docs/operations.md");
    let blocks = blocks(&page);
    let examples: Vec<&Block> = blocks.iter().filter(|block| block.words == ["toml"]).collect();
    assert!(examples.len() > 3);
    for example in examples {
        let file = scratch.write("example.toml", &example.text);
        let output = Command::new(handover()).arg("check").arg(file).output().expect("our binary");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{said}", example.text);
    }
}

#[test]
fn the_units_are_what_systemd_understands() {
    if skipped("systemd-analyze", !Path::new("/usr/bin/systemd-analyze").exists()) {
        return;
    }
    let scratch = Scratch::new();
    let mut verify = Command::new("/usr/bin/systemd-analyze");
    verify.arg("verify");
    for unit in ["myapp.socket", "myapp.service"] {
        let text = page(&format!("packaging/systemd/{unit}"));
        // The program has to be there.
        let text = text.replace("/usr/bin/handover", &handover().display().to_string());
        verify.arg(scratch.write(unit, text));
    }
    let output = verify.output().expect("it is there");
    // It ends with 0 on a setting that it does not know, and only says so.
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "");
}

#[test]
fn each_promise_names_tests_that_are_there() {
    let mut tests = BTreeSet::new();
    let mut open = vec![root().join("src"), root().join("tests")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("it is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                tests.extend(functions_marked_as_tests(&text));
            }
        }
    }
    let page = page("docs/promises.md");
    let mut named = 0;
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise")) {
        let cell = line.rsplit('|').nth(1).expect("a table").trim();
        assert!(cell.contains('`') || cell == "not yet", "a promise without a test: {line}");
        for test in cell.split('`').skip(1).step_by(2) {
            assert!(tests.contains(test), "there is no test {test}: {line}");
            named += 1;
        }
    }
    assert!(named > 20);
}

fn functions_marked_as_tests(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let marked = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
    let function = |line: &&str| line.trim_start_matches("async ").strip_prefix("fn ").map(str::to_owned);
    let next = marked.filter_map(|(at, _)| lines[at..].iter().find_map(function));
    next.filter_map(|rest| rest.split('(').next().map(str::to_owned)).collect()
}

#[test]
fn links_lead_somewhere() {
    for path in pages() {
        let text = page(&path.display().to_string());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let file = root().join(&path).parent().expect("a file").join(target);
            assert!(
                target.is_empty() || target.contains("://") || file.exists(),
                "{}: {link}",
                path.display()
            );
        }
    }
}

#[test]
fn every_decision_is_in_the_index_and_numbered() {
    let index = page("docs/decisions/README.md");
    let mut numbers = BTreeSet::new();
    for path in pages().iter().filter(|path| path.starts_with("docs/decisions")) {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        assert!(index.contains(&format!("({name})")), "{name} is not in the index");
        let number = &name[..4];
        assert!(numbers.insert(number.to_owned()), "{number} is there twice");
        let title = page(&path.display().to_string());
        assert!(title.starts_with(&format!("# {number}: ")), "{name} begins with another number");
    }
    assert_eq!(numbers.last().map(|last| last.parse()), Some(Ok(numbers.len())), "a number is missing");
}
