//! A worker that counts how often it was started: the count is in a file without a name, which each leaves to the next.
//!
//! `handover run -n 1 --ready notify -- worker_stored`, then `handover restart`. Under systemd: `FileDescriptorStoreMax=1` in its unit.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;

use handover::worker::{Error, Worker};

fn main() -> Result<(), Error> {
    let worker = Worker::options().client("worker_stored").drain_on_signals(true).connect()?;
    let mut file = match worker.take_fds("starts").pop() {
        Some(fd) => File::from(fd),
        None => {
            let file = nameless()?;
            if !worker.store_fd("starts", file.as_fd())? {
                println!("nobody keeps it");
            }
            file
        }
    };
    let mut starts = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut starts)?;
    file.write_all(b".")?;
    println!("start {}", starts.len() + 1);
    worker.ready();
    worker.wait_for_drain();
    worker.close();
    Ok(())
}

fn nameless() -> std::io::Result<File> {
    let path = std::env::temp_dir().join(format!("worker_stored-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}
