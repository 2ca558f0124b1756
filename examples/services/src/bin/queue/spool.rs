//! The spool: a directory that several processes take jobs from, with nothing but renames and locks.
//!
//! `tmp` is for files that are being written, `new` for jobs, `claimed/OWNER` for the job that a worker has in hand, `done` for results, `failed` for
//! jobs that need a person. An owner holds a lock (`flock(2)`) on its directory, which the kernel takes away when it dies, however it dies; a pid
//! would not do, because it can be another's by then. All of it must be on one file system, and that a local one.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A job whose owner died so often is set aside: it may be what they died of.
const DEATHS_MAX: u32 = 5;

/// A job that is ours.
pub struct Job {
    /// Under which it was put into `new`.
    name: String,
    path: PathBuf,
}

impl Job {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is now.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The spool, with a directory for what we have in hand.
pub struct Spool {
    root: PathBuf,
    /// Our directory in `claimed`.
    ours: PathBuf,
    /// Its lock, for as long as we live.
    _lock: File,
    /// Names that were in `new` when we last looked, the first one last.
    seen: Vec<String>,
}

impl Spool {
    /// Opens it, and makes it where it is not there.
    pub fn open(root: &Path) -> io::Result<Self> {
        for part in ["tmp", "new", "claimed", "done", "failed"] {
            fs::create_dir_all(root.join(part))?;
        }
        for number in 0..u32::MAX {
            // The number is for spools that several containers share, each with such a pid.
            let name = format!("{}.{number}", std::process::id());
            let (draft, ours) = (root.join("tmp").join(&name), root.join("claimed").join(&name));
            if ours.exists() {
                continue;
            }
            match fs::create_dir(&draft) {
                // Of one that died here, or that does the same at this moment: the lock tells.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made?,
            }
            // Locked before it is where others look.
            let lock = File::open(&draft)?;
            match lock.try_lock() {
                Err(TryLockError::WouldBlock) => continue,
                locked => locked?,
            }
            fs::rename(&draft, &ours)?;
            return Ok(Self { root: root.to_owned(), ours, _lock: lock, seen: Vec::new() });
        }
        Err(io::Error::other("all names in claimed are taken"))
    }

    /// Takes the next job, in the order of names; `None` where there is none.
    pub fn claim(&mut self) -> io::Result<Option<Job>> {
        if self.seen.is_empty() {
            self.seen = names(&self.root.join("new"))?;
            self.seen.sort_unstable_by(|a, b| b.cmp(a));
        }
        while let Some(file) = self.seen.pop() {
            let path = self.ours.join(&file);
            match fs::rename(self.root.join("new").join(&file), &path) {
                Ok(()) => return Ok(Some(Job { name: split(&file).0.to_owned(), path })),
                // Another was quicker.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// It is done. The result is there, on the disk, before the job is gone.
    pub fn acknowledge(&self, job: Job, result: &str) -> io::Result<()> {
        let draft = self.root.join("tmp").join(format!("{}.{}", job.name, std::process::id()));
        let mut file = File::create(&draft)?;
        file.write_all(result.as_bytes())?;
        file.sync_all()?;
        fs::rename(draft, self.root.join("done").join(&job.name))?;
        File::open(self.root.join("done"))?.sync_all()?;
        fs::remove_file(job.path)
    }

    /// It cannot be done.
    pub fn fail(&self, job: Job) -> io::Result<()> {
        fs::rename(job.path, self.root.join("failed").join(job.name))
    }

    /// Puts back what dead workers had in hand; how many jobs that were.
    pub fn reclaim(&self) -> io::Result<usize> {
        let mut returned = 0;
        for owner in names(&self.root.join("claimed"))? {
            let directory = self.root.join("claimed").join(owner);
            if directory == self.ours {
                continue;
            }
            let lock = match File::open(&directory) {
                Ok(lock) => lock,
                // Another was quicker.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            match lock.try_lock() {
                Err(TryLockError::WouldBlock) => continue,
                locked => locked?,
            }
            // Another may have had it before us, and the name may be a living one's by now.
            let is_there = fs::metadata(&directory)
                .is_ok_and(|now| lock.metadata().is_ok_and(|of| of.ino() == now.ino()));
            if is_there {
                returned += self.put_back(&directory)?;
            }
        }
        Ok(returned)
    }

    /// What is in the directory of a dead worker, which is locked by us.
    fn put_back(&self, directory: &Path) -> io::Result<usize> {
        let files = names(directory)?;
        for file in &files {
            let (name, deaths) = split(file);
            let to = if deaths + 1 < DEATHS_MAX {
                self.root.join("new").join(format!("{name}~{}", deaths + 1))
            } else {
                self.root.join("failed").join(name)
            };
            fs::rename(directory.join(file), to)?;
        }
        fs::remove_dir(directory)?;
        Ok(files.len())
    }

    /// Takes our directory away, which is empty.
    pub fn close(self) -> io::Result<()> {
        fs::remove_dir(&self.ours)
    }
}

/// The name of a job and how many of its owners died: `report~2`.
fn split(file: &str) -> (&str, u32) {
    let parts = file.rsplit_once('~').and_then(|(name, deaths)| Some((name, deaths.parse().ok()?)));
    parts.unwrap_or((file, 0))
}

/// What is in a directory.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().into_string()));
    // One that is no text is not from here.
    names.filter_map(|name: io::Result<Result<String, _>>| name.map(Result::ok).transpose()).collect()
}
