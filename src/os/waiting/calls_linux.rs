//! The fds that a thread waits on in the system call that it is in: `/proc/PID/task/TID/syscall`, `proc_pid_syscall(5)`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The fds of one `poll` that are looked at.
const POLLED_MAX: u64 = 4096;
/// The highest fd of a `select` that is looked at, and one more.
const SELECTED_MAX: u64 = 65_536;
/// `POLLIN | POLLRDNORM`
const READABLE: u16 = 0x41;

/// Which fds a thread waits on, and in what way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// Not in a call that is known.
    No,
    /// To accept a connection.
    Accepting(i32),
    /// To receive.
    Receiving(i32),
    /// Until one of them can be read.
    Readable(Vec<i32>),
}

/// From the line that the kernel gives, and the process's memory where the fds stand there.
///
/// # Errors
/// The memory cannot be read.
pub(super) fn waits(line: &str, memory: impl Fn() -> io::Result<File>) -> io::Result<Waits> {
    let Some((number, arguments)) = parse(line) else { return Ok(Waits::No) };
    let fd = i32::try_from(arguments[0] & 0xffff_ffff).unwrap_or(-1);
    Ok(match number {
        libc::SYS_accept | libc::SYS_accept4 => Waits::Accepting(fd),
        libc::SYS_recvfrom | libc::SYS_recvmsg | libc::SYS_recvmmsg | libc::SYS_read | libc::SYS_readv => {
            Waits::Receiving(fd)
        }
        number if is_poll(number) => Waits::Readable(polled(arguments, memory)?),
        number if is_select(number) => Waits::Readable(selected(arguments, memory)?),
        _ => Waits::No,
    })
}

/// The call's number and its first arguments; `None` where the thread runs, or is in no call.
fn parse(line: &str) -> Option<(i64, [u64; 2])> {
    let mut words = line.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    Some((number, [argument()?, argument()?]))
}

fn is_poll(number: i64) -> bool {
    #[cfg(target_arch = "x86_64")]
    let is_old = number == libc::SYS_poll;
    #[cfg(not(target_arch = "x86_64"))]
    let is_old = false;
    is_old || number == libc::SYS_ppoll
}

fn is_select(number: i64) -> bool {
    #[cfg(target_arch = "x86_64")]
    let is_old = number == libc::SYS_select;
    #[cfg(not(target_arch = "x86_64"))]
    let is_old = false;
    is_old || number == libc::SYS_pselect6
}

/// `struct pollfd` has 8 bytes: the fd, what is wanted, what came.
fn polled([address, count]: [u64; 2], memory: impl Fn() -> io::Result<File>) -> io::Result<Vec<i32>> {
    let bytes = read(address, count.min(POLLED_MAX) * 8, memory)?;
    let entries =
        bytes.chunks_exact(8).filter(|entry| u16::from_ne_bytes([entry[4], entry[5]]) & READABLE != 0);
    Ok(entries.map(|entry| i32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]])).collect())
}

/// A bit for each fd, in words of the machine.
fn selected([count, address]: [u64; 2], memory: impl Fn() -> io::Result<File>) -> io::Result<Vec<i32>> {
    let bytes = read(address, count.min(SELECTED_MAX).div_ceil(64) * 8, memory)?;
    let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
    let fds = words.zip((0..).step_by(64)).flat_map(|(word, first)| {
        (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| first + bit)
    });
    Ok(fds.collect())
}

fn read(address: u64, length: u64, memory: impl Fn() -> io::Result<File>) -> io::Result<Vec<u8>> {
    if address == 0 || length == 0 {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    memory()?.read_exact_at(&mut bytes, address)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> io::Result<File> {
        panic!("not needed")
    }

    #[test]
    fn what_a_thread_waits_on_is_read_from_its_call() {
        let line =
            |number: i64, first: u64| format!("{number} {first:#x} 0x0 0x0 0x0 0x0 0x0 0x7ffe 0x7f00\n");
        let waits = |line: &str| waits(line, nothing).unwrap();
        assert_eq!(waits(&line(libc::SYS_accept4, 3)), Waits::Accepting(3));
        assert_eq!(waits(&line(libc::SYS_recvmsg, 7)), Waits::Receiving(7));
        assert_eq!(waits(&line(libc::SYS_futex, 3)), Waits::No);
        assert_eq!(waits("running\n"), Waits::No);
        assert_eq!(waits("-1 0x7ffe 0x7f00\n"), Waits::No, "in no call");
        assert_eq!(waits(""), Waits::No);
    }

    #[test]
    fn fds_that_stand_in_memory_are_read_from_there() {
        let own = || File::open("/proc/self/mem");
        let pollfds = [(5_i32, 0x1_i16), (6, 0x4), (-1, 0x1), (9, 0x41)].map(|(fd, events)| libc::pollfd {
            fd,
            events,
            revents: 0,
        });
        let line = format!("{} {:#x} 0x4 0x0 0x0 0x0 0x0 0x0 0x0", libc::SYS_ppoll, pollfds.as_ptr().addr());
        assert_eq!(waits(&line, own).unwrap(), Waits::Readable(vec![5, -1, 9]));
        let sets = [1_u64 << 3 | 1 << 63, 1 << 1];
        let line = format!("{} 0x42 {:#x} 0x0 0x0 0x0 0x0 0x0 0x0", libc::SYS_pselect6, sets.as_ptr().addr());
        assert_eq!(waits(&line, own).unwrap(), Waits::Readable(vec![3, 63, 65]));
        let wrong = format!("{} 0x10 0x4 0x0 0x0 0x0 0x0 0x0 0x0", libc::SYS_ppoll);
        assert!(waits(&wrong, own).is_err(), "no memory there");
    }
}
