//! Binding in a directory that somebody else may write in, who is quick.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::Held;
use crate::config::model::{Address, SocketOptions, UnixKind, UnixName, UserId};

const NOBODY: u32 = 65534;
const ROUNDS: usize = 400;

/// Puts another file in the place of each socket that appears at a path, as who owns the directory can where
/// `fs.protected_hardlinks` is 0. With that at 1, a file of root's in his own directory does as well.
struct Rival {
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Rival {
    fn against(path: &Path, victim: &Path) -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let (is_over, path, victim) = (stop.clone(), path.to_owned(), victim.to_owned());
        let thread = thread::spawn(move || {
            let draft = path.with_extension("draft");
            let mut swapped = 0;
            while !is_over.load(Ordering::Relaxed) {
                let _ = std::fs::hard_link(&victim, &draft);
                let is_socket =
                    std::fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket());
                if is_socket && std::fs::rename(&draft, &path).is_ok() {
                    swapped += 1;
                    thread::yield_now();
                    let _ = std::fs::remove_file(&path);
                }
            }
            swapped
        });
        Self { stop, thread: Some(thread) }
    }

    fn end(&mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.end();
    }
}

fn options() -> SocketOptions {
    let user = nix::unistd::geteuid().is_root().then(|| UserId::unknown(NOBODY));
    SocketOptions { mode: Some(0o666), user, ..SocketOptions::default() }
}

/// A private file, and what nobody may change of it.
fn victim(directory: &Path) -> (PathBuf, impl Fn() -> (u32, u32, String)) {
    let path = directory.join("precious");
    std::fs::write(&path, "precious").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let look = {
        let path = path.clone();
        move || {
            let found = std::fs::metadata(&path).unwrap();
            (found.uid(), found.mode() & 0o7777, std::fs::read_to_string(&path).unwrap())
        }
    };
    (path, look)
}

#[test]
fn what_is_put_in_a_sockets_place_while_it_is_made_is_left_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let (precious, look) = victim(scratch.path());
    let before = look();
    let path = scratch.path().join("socket");
    let address = Address::Unix(UnixKind::Stream, UnixName::Path(path.clone()));
    let mut rival = Rival::against(&path, &precious);
    for round in 0..ROUNDS {
        if let Ok(held) = Held::bind(&address, &options()) {
            let _ = held.apply(&SocketOptions { mode: Some(0o644), user: None, ..options() });
        }
        assert_eq!(look(), before, "in round {round}");
    }
    assert!(rival.end() > 0, "nothing was put in its place");
}
