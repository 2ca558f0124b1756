//! Root's daemon in a directory that the service's user owns, who puts other things in the place of what it makes.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::support::eventually;
use crate::support::machine::{cannot_be_nobody, skipped, succeeds};
use crate::support::scratch::{Address, Scratch};
use crate::support::service::{Plan, quoted};

const NOBODY: u32 = 65534;
const STARTS: usize = 40;

/// What nobody may change: a private file of root's, and a private directory with a file in one of its own.
struct Vault {
    file: PathBuf,
    directory: PathBuf,
}

impl Vault {
    fn new(scratch: &Scratch) -> Self {
        let (file, directory) = (scratch.join("his/precious"), scratch.join("vault"));
        fs::create_dir_all(directory.join("notify")).expect("our directory");
        for path in [&file, &directory.join("notify/precious")] {
            fs::write(path, "precious").expect("our file");
            fs::set_permissions(path, Permissions::from_mode(0o600)).expect("our file");
        }
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).expect("our directory");
        Self { file, directory }
    }

    fn look(&self) -> Vec<(u32, u32, Option<String>)> {
        [&self.file, &self.directory, &self.directory.join("notify"), &self.directory.join("notify/precious")]
            .map(|path| {
                let found = fs::metadata(path).expect("it is still there");
                (found.uid(), found.mode(), fs::read_to_string(path).ok())
            })
            .into()
    }

    fn names(&self) -> Vec<std::ffi::OsString> {
        let mut names: Vec<_> = fs::read_dir(&self.directory)
            .expect("our directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    }
}

/// He does what the owner of a directory may do in it: gives each name that appears to a file of root's that lies there,
/// or to a link of his own. (A second name of a file needs `fs.protected_hardlinks = 0` where the user is not root.)
struct Rival {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<usize>>,
}

impl Rival {
    fn new(directory: &Path, vault: &Vault) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        // What is open for the shortest time has a thread that does nothing else.
        for names in [vec!["http"], vec!["control", "pid", "http.lock", "control.lock", "control.d"]] {
            let (stop, at) = (is_over.clone(), directory.to_owned());
            let (file, links_to) = (vault.file.clone(), vault.directory.clone());
            threads.push(std::thread::spawn(move || {
                let mut swapped = 0;
                while !stop.load(Ordering::Relaxed) {
                    swapped += names.iter().filter(|name| swap(&at, name, &file, &links_to, swapped)).count();
                }
                swapped
            }));
        }
        Self { is_over, threads }
    }

    fn end(&mut self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).map(|thread| thread.join().expect("no panic")).sum()
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.end();
    }
}

fn swap(directory: &Path, name: &str, file: &Path, links_to: &Path, swapped: usize) -> bool {
    let (path, draft) = (directory.join(name), directory.join(format!(".{name}")));
    let is_directory = name.ends_with(".d");
    if fs::symlink_metadata(&draft).is_err() {
        let _ = match is_directory {
            true => symlink(links_to, &draft).and_then(|()| lchown(&draft, Some(NOBODY), Some(NOBODY))),
            false => fs::hard_link(file, &draft),
        };
    }
    let Ok(found) = fs::symlink_metadata(&path) else { return false };
    // All but sockets are left alone now and then, or no start would get as far as these.
    let is_wanted = found.file_type().is_socket() || (found.uid() == 0 && swapped.is_multiple_of(4));
    if !is_wanted || (is_directory && fs::rename(&path, directory.join(format!(".away-{swapped}"))).is_err())
    {
        return false;
    }
    let is_swapped = fs::rename(&draft, &path).is_ok();
    std::thread::yield_now();
    let _ = fs::remove_file(&path);
    is_swapped
}

/// Starts and ends a daemon again and again, all of whose files lie in his directory.
fn contest(wrapper: &[&str]) {
    let plan = Plan::on(|scratch| {
        fs::create_dir(scratch.join("his")).expect("our directory");
        chown(scratch.join("his"), Some(NOBODY), Some(NOBODY)).expect("we are root");
        Address::unix(scratch, "his/http")
    });
    let his = plan.scratch.join("his");
    let vault = Vault::new(&plan.scratch);
    let plan = plan
        .set("listener.http", "socket_user", "\"nobody\"")
        .set("listener.http", "socket_mode", "\"0666\"")
        .top("pid_file", &quoted(&his.join("pid").display().to_string()))
        .pool("user", "\"nobody\"")
        .command(&["/bin/sleep", "1000"])
        .pool("ready", "\"exec\"");
    let (before, names) = (vault.look(), vault.names());
    let mut rival = Rival::new(&his, &vault);
    for start in 0..STARTS {
        let config = plan.write();
        let arguments = [config.as_os_str(), OsStr::new("--socket"), his.join("control").as_os_str()]
            .map(OsStr::to_owned);
        let setup =
            crate::support::daemon::Setup::new(&plan.scratch, arguments).under(wrapper.iter().copied());
        let mut daemon = setup.start();
        eventually("it is ready or has ended", || {
            let is_over = daemon.log.text().contains("\"message\":\"ready\"") || !daemon.is_running();
            is_over.then_some(())
        });
        if daemon.is_running() {
            daemon.signal(libc::SIGTERM);
        }
        daemon.wait();
        assert_eq!(vault.look(), before, "in start {start}:\n{}", daemon.log.text());
        assert_eq!(vault.names(), names, "in start {start}:\n{}", daemon.log.text());
    }
    assert!(rival.end() > STARTS, "hardly anything was put in its place");
}

#[test]
fn who_owns_the_directory_changes_nothing_that_is_roots() {
    if cannot_be_nobody() {
        return;
    }
    contest(&[]);
}

#[test]
fn nor_where_the_kernel_does_not_say_which_file_is_a_sockets() {
    let without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"];
    let tried: Vec<&str> = without.into_iter().chain(["true"]).collect();
    if cannot_be_nobody() || skipped("giving up a capability", !succeeds(&tried)) {
        return;
    }
    contest(&without);
}

/// Whoever owns a directory on the way to the socket's cannot lead root's daemon out of what is his.
#[test]
fn a_link_of_a_stranger_on_the_way_to_a_socket_is_not_followed() {
    if cannot_be_nobody() {
        return;
    }
    let plan = Plan::on(|scratch| {
        fs::create_dir(scratch.join("his")).expect("our directory");
        chown(scratch.join("his"), Some(NOBODY), Some(NOBODY)).expect("we are root");
        Address::unix(scratch, "his/run/http")
    });
    let (target, link) = (plan.scratch.join("of-root"), plan.scratch.join("his/run"));
    fs::create_dir(&target).expect("our directory");
    symlink(&target, &link).and_then(|()| lchown(&link, Some(NOBODY), None)).expect("we are root");
    let mut service = plan.begin();
    let (code, log) = service.ended();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("symbolic link") && log.contains("not followed"), "{log}");
    assert_eq!(fs::read_dir(&target).expect("our directory").count(), 0);
    assert!(Path::new(&target).is_dir());
}
