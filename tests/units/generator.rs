//! The generator, called as systemd calls it, in a directory that stands for the whole file system.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use super::{ANALYZE, golden, text, verify};
use crate::support::handover;
use crate::support::machine::{skipped, succeeds};
use crate::support::scratch::Scratch;

const GOOD: &str = "[listener.http]\naddress = \"tcp://127.0.0.1:8080\"\n\n[pool.web]\ncommand = [\"/bin/true\"]\n\
    listeners = [\"http\"]\n";

/// A root with a generator in it.
struct Root {
    scratch: Scratch,
}

impl Root {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = Self { scratch: Scratch::new() };
        let link = root.path("usr/lib/systemd/system-generators/handover-generator");
        symlink(handover(), link).expect("our directory");
        fs::create_dir_all(root.scratch.join("etc/handover")).expect("our directory");
        for (name, text) in files {
            root.put(&format!("etc/handover/{name}"), text);
        }
        root
    }

    /// A path in it, whose directory is there.
    fn path(&self, name: &str) -> PathBuf {
        let path = self.scratch.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("our directory");
        path
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("our file");
    }

    fn late(&self) -> PathBuf {
        self.scratch.join("run/systemd/generator.late")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.arg("20").arg(self.path("usr/lib/systemd/system-generators/handover-generator"));
        for directory in ["generator", "generator.early", "generator.late"] {
            let path = self.path(&format!("run/systemd/{directory}/x"));
            command.arg(path.parent().expect("a directory"));
        }
        command.arg("--root").arg(self.scratch.path()).env_remove("SYSTEMD_SCOPE");
        command
    }

    /// Runs it; gives what it said.
    fn run(&self) -> String {
        let Output { status, stdout, stderr } = self.command().output().expect("it starts");
        assert!(status.success() && stdout.is_empty(), "{status} {}", text(&stderr));
        text(&stderr)
    }

    /// What there is in the late directory, as paths with what they hold or lead to.
    fn made(&self) -> BTreeMap<String, String> {
        let mut made = BTreeMap::new();
        let mut open = vec![self.late()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(&directory).expect("our directory") {
                let path = entry.expect("an entry").path();
                let name = path.strip_prefix(self.late()).expect("in it").display().to_string();
                match fs::read_link(&path) {
                    Ok(to) => drop(made.insert(name, to.display().to_string())),
                    Err(_) if path.is_dir() => open.push(path),
                    Err(_) => drop(made.insert(name, fs::read_to_string(&path).expect("a unit"))),
                }
            }
        }
        made
    }

    fn names(&self) -> Vec<String> {
        self.made().into_keys().collect()
    }
}

#[test]
fn a_file_in_the_directory_is_a_service_that_starts_with_the_machine() {
    let queue = fs::read_to_string(golden("queue.toml")).expect("our file");
    let quiet = format!("{}\n[install]\nstart = \"none\"\n", GOOD.replace("8080", "8081"));
    let root = Root::new(&[("myapp.toml", GOOD), ("queue.toml", &queue), ("quiet.toml", &quiet)]);
    assert_eq!(root.run(), "");
    let made = root.made();
    let expected = [
        "multi-user.target.wants/queue.service",
        "myapp.service",
        "myapp.socket",
        "queue.service",
        "quiet.service",
        "quiet.socket",
        "sockets.target.wants/myapp.socket",
    ];
    assert_eq!(made.keys().collect::<Vec<_>>(), expected);
    assert_eq!(made["sockets.target.wants/myapp.socket"], "../myapp.socket");
    assert!(made["myapp.service"].starts_with("# Made by handover from /etc/handover/myapp.toml\n"));
    let starts = format!("\nExecStart={} run /etc/handover/myapp.toml\n", handover().display());
    assert!(made["myapp.service"].contains(&starts), "{}", made["myapp.service"]);
    // The same again, and over what is there.
    assert_eq!(root.run(), "");
    assert_eq!(root.made(), made);
    for directory in ["generator", "generator.early"] {
        let directory = root.scratch.join(&format!("run/systemd/{directory}"));
        assert_eq!(fs::read_dir(directory).expect("our directory").count(), 0);
    }
    if !skipped("systemd-analyze", !Path::new(ANALYZE).exists()) {
        verify(&root.late());
    }
}

#[test]
fn a_file_that_is_wrong_costs_its_own_units_only() {
    let renamed = format!("name = \"renamed\"\n{GOOD}");
    let root = Root::new(&[
        ("a.toml", GOOD),
        ("broken.toml", "[pool.web]\nworkers = \"many\"\n"),
        ("my app.toml", &renamed),
        ("a@b.toml", &renamed),
        ("latin.toml", ""),
        ("notes.txt", "no configuration"),
        (".hidden.toml", "no configuration"),
        ("z.toml", &GOOD.replace("8080", "8081")),
    ]);
    fs::write(root.path("etc/handover/latin.toml"), b"name = \"\xe4\"\n").expect("our file");
    fs::write(root.path("etc/handover/huge.toml"), vec![b'#'; 5 << 20]).expect("our file");
    fs::create_dir(root.path("etc/handover/directory.toml")).expect("our directory");
    symlink("/nowhere", root.path("etc/handover/dangling.toml")).expect("our directory");
    symlink("loop.toml", root.path("etc/handover/loop.toml")).expect("our directory");
    symlink("/dev/zero", root.path("etc/handover/zero.toml")).expect("our directory");
    assert!(succeeds(&["mkfifo", root.path("etc/handover/fifo.toml").to_str().expect("UTF-8")]));
    let said = root.run();
    assert_eq!(
        root.names(),
        [
            "a.service",
            "a.socket",
            "sockets.target.wants/a.socket",
            "sockets.target.wants/z.socket",
            "z.service",
            "z.socket"
        ]
    );
    for (file, why) in [
        ("broken.toml", "/etc/handover/broken.toml:2:11: pool.web.workers: "),
        ("my app.toml", "cannot name a unit of systemd"),
        ("a@b.toml", "makes a template"),
        ("latin.toml", "line 1: not UTF-8"),
        ("huge.toml", "longer than 4 MiB"),
        ("directory.toml", "a directory, not a file"),
        ("dangling.toml", "no such file"),
        ("loop.toml", "too many levels of symbolic links"),
        ("zero.toml", "a character device, not a file"),
        ("fifo.toml", "a FIFO, not a file"),
    ] {
        let told = said.contains(&format!("/etc/handover/{file}: no units are made: ")) && said.contains(why);
        assert!(told, "{file}: {said}");
    }
    assert!(!said.contains("hidden") && !said.contains("notes"), "{said}");
}

#[test]
fn a_name_that_is_taken_is_left_to_who_has_it() {
    for taken in [
        "usr/lib/systemd/system/nginx.service",
        "lib/systemd/system/nginx.socket",
        "etc/systemd/system/nginx.service",
        "run/systemd/generator/nginx.service",
        "run/systemd/generator.late/nginx.service",
        "etc/init.d/nginx",
    ] {
        let root = Root::new(&[("nginx.toml", GOOD), ("web.toml", &GOOD.replace("8080", "8081"))]);
        root.put(taken, "[Unit]\nDescription=somebody else's\n");
        let said = root.run();
        let unit = if taken.ends_with("socket") { "nginx.socket" } else { "nginx.service" };
        let why = format!(
            "handover: /etc/handover/nginx.toml: no units are made: {unit} is there already: /{taken}\n"
        );
        assert_eq!(said, why);
        let ours = |name: &&String| name.starts_with("nginx") || name.contains("/nginx");
        let left: Vec<String> = root.names().iter().filter(ours).cloned().collect();
        let late = taken.contains("generator.late").then(|| "nginx.service".to_owned());
        assert_eq!(left, Vec::from_iter(late), "{taken}");
        assert!(root.names().contains(&"web.service".to_owned()));
    }
}

#[test]
fn an_administrator_may_edit_and_mask_what_was_generated() {
    let root = Root::new(&[("myapp.toml", GOOD)]);
    root.run();
    let made = root.made();
    root.put("etc/systemd/system/myapp.service", &format!("{}\nNice=5\n", made["myapp.service"]));
    symlink("/dev/null", root.path("etc/systemd/system/myapp.socket")).expect("our directory");
    root.put("run/systemd/system/myapp.socket", "");
    root.put("etc/systemd/system/myapp.service.d/override.conf", "[Service]\nNice=5\n");
    assert_eq!(root.run(), "");
    assert_eq!(root.made(), made);
}

#[test]
fn two_files_have_not_one_unit_and_not_one_name() {
    let two = GOOD
        .replace("[pool", "[listener.admin]\naddress = \"unix:@admin\"\n[pool")
        .replace("\"http\"]", "\"http\", \"admin\"]");
    let root = Root::new(&[
        ("web.toml", &two),
        // It has the name that it bears, even while it is broken.
        ("web-admin.toml", "broken"),
        ("first.toml", &format!("name = \"same\"\n{GOOD}")),
        ("second.toml", &format!("name = \"same\"\n{GOOD}")),
    ]);
    let said = root.run();
    assert_eq!(root.names(), ["first.service", "first.socket", "sockets.target.wants/first.socket"]);
    assert!(
        said.contains(
            "web.toml: no units are made: web-admin.socket is a unit of /etc/handover/web-admin.toml"
        ),
        "{said}"
    );
    assert!(
        said.contains(
            "second.toml: no units are made: /etc/handover/first.toml has the same name = \"same\""
        ),
        "{said}"
    );
}

#[test]
fn under_systemd_the_journal_is_told_or_else_the_kernel() {
    let root = Root::new(&[("broken.toml", "x = 1\n")]);
    let socket = root.path("run/systemd/journal/socket");
    let journal = UnixDatagram::bind(&socket).expect("our directory");
    journal.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    let run = || {
        let output = root.command().env("SYSTEMD_SCOPE", "system").output().expect("it starts");
        assert!(output.status.success());
        text(&output.stderr)
    };
    assert_eq!(run(), "");
    let mut record = [0; 4096];
    let length = journal.recv(&mut record).expect("a record");
    let record = text(&record[..length]);
    assert!(record.starts_with("MESSAGE=/etc/handover/broken.toml: no units are made: "), "{record}");
    assert!(
        record.contains("\nPRIORITY=3\n") && record.contains("\nSYSLOG_IDENTIFIER=handover-generator\n"),
        "{record}"
    );
    // A journal that is gone, or that does not read, is not waited for.
    drop(journal);
    root.put("dev/kmsg", "");
    assert_eq!(run(), "");
    let kernel = fs::read_to_string(root.path("dev/kmsg")).expect("our file");
    assert!(kernel.starts_with("<27>handover-generator["), "{kernel}");
    fs::remove_file(root.path("dev/kmsg")).expect("our file");
    assert!(succeeds(&["mkfifo", root.path("dev/kmsg").to_str().expect("UTF-8")]));
    assert!(run().contains("broken.toml"), "where nobody else listens, the caller is told");
}

#[test]
fn a_journal_that_does_not_read_is_not_waited_for() {
    let faults: String = (0..30).map(|number| format!("x{number} = 1\n")).collect();
    let files: Vec<String> = (0..100).map(|number| format!("broken{number}.toml")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|name| (name.as_str(), faults.as_str())).collect();
    let root = Root::new(&files);
    let socket = root.path("run/systemd/journal/socket");
    let _journal = UnixDatagram::bind(&socket).expect("our directory");
    let output = root.command().env("SYSTEMD_SCOPE", "system").output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stderr).contains("more lines: `handover check` shows them"));
}

#[test]
fn there_is_nothing_to_do_for_users_in_an_initrd_and_without_a_directory() {
    let root = Root::new(&[("myapp.toml", GOOD)]);
    for (variable, value) in [("SYSTEMD_SCOPE", "user"), ("SYSTEMD_IN_INITRD", "1")] {
        let output = root.command().env(variable, value).output().expect("it starts");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert_eq!(root.names(), [""; 0]);
    }
    fs::remove_dir_all(root.path("etc/handover/x").parent().expect("a directory")).expect("our directory");
    assert_eq!(root.run(), "");
    assert_eq!(root.names(), [""; 0]);
}

#[test]
fn one_directory_stands_for_all_three() {
    let root = Root::new(&[("myapp.toml", GOOD)]);
    let mut command = Command::new(handover());
    fs::create_dir_all(root.late()).expect("our directory");
    command.arg("__systemd-generator").arg(root.late()).arg("--root").arg(root.scratch.path());
    for _ in 0..2 {
        let output = command.output().expect("it starts");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    assert_eq!(root.names().len(), 3);
}

#[test]
fn a_file_that_takes_too_long_is_given_up() {
    let faults: String = (0..200_000).map(|number| format!("x{number} = 1\n")).collect();
    let root = Root::new(&[("slow.toml", &faults), ("z.toml", GOOD)]);
    let said = root.run();
    assert!(said.contains("/etc/handover/slow.toml: no units are made: "), "{said}");
    assert_eq!(root.names(), ["sockets.target.wants/z.socket", "z.service", "z.socket"]);
}
