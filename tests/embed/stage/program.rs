//! Programs with a supervisor inside, one a scenario: `embed_stage SCENARIO WORKER`. What they find out they print, line by
//! line; the test reads it. An error ends them with 1.

#![allow(unsafe_code, reason = "no safe way to ignore a signal")]
#![allow(clippy::disallowed_methods, reason = "a program of its own")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::error::Error;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use handover::control::document::Worker;
use handover::embed::event::What;
use handover::embed::{self, Builder, Events, Listener, Pool, Settings, Supervisor};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let scenario = std::env::args().nth(1).unwrap_or_default();
    // These two are programs that do not do what they should.
    if !["no-hook", "hook-forgotten"].contains(&scenario.as_str())
        && std::env::var_os("STAGE_WITHOUT_HOOK").is_none()
        && let Some(code) = embed::helper_main()
    {
        return code;
    }
    let worker = std::env::args().nth(2).unwrap_or_default();
    if scenario == "activated" {
        return activated(&worker);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        match scenario.as_str() {
            "no-hook" => start(&worker).await.map(drop),
            "hook-forgotten" => {
                builder(&worker).helper(std::env::current_exe()?).start().await.map(drop).map_err(Into::into)
            }
            "ignored" => ignored(&worker).await,
            "reaper" => reaper(&worker).await,
            "surroundings" => surroundings(&worker).await,
            "told" => told(&worker).await,
            "leaks" => leaks(&worker).await,
            "die" => die(&worker).await,
            // What a program does that was started as a helper, and does not know of it.
            _ => start(&worker).await.map(drop),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error {error}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

/// Takes over what a service manager has passed; without a runtime.
fn activated(worker: &str) -> ExitCode {
    let pool = Pool::new("web", [worker]).listener("http");
    let settings = Settings::new("stage").listener(Listener::given("http")).pool(pool);
    let supervisor = Builder::from_settings(&settings).inherit_sockets().unwrap().start_blocking().unwrap();
    embed::block_on(async {
        supervisor.ready().await.unwrap();
        let listeners = supervisor.status().await.unwrap().listeners;
        say(&format!("{} {}", listeners[0].name, listeners[0].origin));
        let again = Builder::from_settings(&settings).inherit_sockets();
        say(&format!("again {}", again.is_ok()));
        // Until the test has seen enough.
        let _ = std::io::stdin().read(&mut [0]);
        supervisor.stop().await.unwrap();
    });
    ExitCode::SUCCESS
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

fn builder(worker: &str) -> Builder {
    let pool = Pool::new("web", [worker, "ready"]).workers(2).set("restart.backoff", "10ms");
    Builder::from_settings(&Settings::new("stage").pool(pool))
}

async fn start(worker: &str) -> Result<Supervisor, Box<dyn Error>> {
    let supervisor = builder(worker).start().await?;
    supervisor.ready().await?;
    Ok(supervisor)
}

async fn pids(supervisor: &Supervisor) -> Result<Vec<u32>, Box<dyn Error>> {
    let status = supervisor.status().await?;
    let slots = status.pools.iter().flat_map(|pool| &pool.slots);
    let serving = |worker: &&Worker| worker.ready.is_some() && worker.asked.is_none();
    Ok(slots.flat_map(|slot| &slot.workers).filter(serving).filter_map(|worker| worker.pid).collect())
}

async fn event(events: &mut Events, is: impl Fn(&What) -> bool) -> Result<What, Box<dyn Error>> {
    while let Some(event) = events.next().await {
        if is(&event.what) {
            return Ok(event.what);
        }
    }
    Err("it ended".into())
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: two numbers.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// `SIGCHLD` is ignored: first from the beginning, then from some time on.
async fn ignored(worker: &str) -> Outcome {
    // SAFETY: neither ignoring nor the default runs any code.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    match builder(worker).start().await {
        Ok(_) => return Err("it started".into()),
        Err(error) => say(&format!("refused {}", error.to_string().replace('\n', " "))),
    }
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let supervisor = start(worker).await?;
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    lose_one(&supervisor).await
}

/// A thread that takes the exit status of every child, as some programs do.
async fn reaper(worker: &str) -> Outcome {
    std::thread::spawn(|| {
        loop {
            // Without a child there is nothing to wait for.
            if nix::sys::wait::waitpid(None, None).is_err() {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
    });
    // Each worker has a process in its group that is to end with it.
    let pool = Pool::new("web", [worker, "fork", "ready"]).workers(2).set("restart.backoff", "10ms");
    let supervisor = Builder::from_settings(&Settings::new("stage").pool(pool)).start().await?;
    supervisor.ready().await?;
    lose_one(&supervisor).await
}

/// Kills a worker: it is told that nobody knows how it ended, and there is another.
async fn lose_one(supervisor: &Supervisor) -> Outcome {
    let mut events = supervisor.events().await?;
    let reason = loop {
        let killed = pids(supervisor).await?[0];
        signal(killed, libc::SIGKILL);
        let is_end = |what: &What| matches!(what, What::WorkerStatusLost { .. } | What::WorkerEnded { .. });
        let end =
            event(&mut events, |what| is_end(what) && what.who().is_some_and(|who| who.pid == Some(killed)));
        // We may have been quicker than whoever else wants to know; then it is tried again.
        if let What::WorkerStatusLost { reason, .. } = end.await? {
            break reason;
        }
        event(&mut events, |what| matches!(what, What::WorkerReady { .. })).await?;
    };
    say(&format!("lost: {reason}"));
    event(&mut events, |what| matches!(what, What::WorkerReady { .. })).await?;
    supervisor.restart().await?;
    say(&format!("workers {}", pids(supervisor).await?.len()));
    supervisor.stop().await?;
    say("stopped");
    Ok(())
}

/// The lines of `/proc/self/status` that say what a program does with signals, and its umask.
fn of_the_process() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let names = ["SigBlk:", "SigIgn:", "SigCgt:", "Umask:", "NoNewPrivs:"];
    let lines: Vec<&str> =
        status.lines().filter(|line| names.iter().any(|name| line.starts_with(name))).collect();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    format!("{} {}", lines.join(" "), limits.lines().find(|line| line.contains("open files")).unwrap())
}

/// The program's signals and children stay its own.
async fn surroundings(worker: &str) -> Outcome {
    use tokio::signal::unix::{SignalKind, signal as handler};
    let mut hup = handler(SignalKind::hangup())?;
    let mut term = handler(SignalKind::terminate())?;
    let mut child = handler(SignalKind::child())?;
    let before = of_the_process();
    // One that programs inherit, as careless libraries have it.
    let file = std::fs::File::open("/proc/self/maps")?;
    // SAFETY: an fd that is open, and a number.
    let open = unsafe { libc::dup(file.as_raw_fd()) };
    let supervisor = start(worker).await?;
    // SAFETY: as above.
    say(&format!("inherited by programs {}", unsafe { libc::fcntl(open, libc::F_GETFD) } == 0));
    let fds = |pid: &u32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().collect::<Vec<_>>();
    let is_ours = |fd: &std::fs::DirEntry| std::fs::read_link(fd.path()).is_ok_and(|to| to.ends_with("maps"));
    let workers = pids(&supervisor).await?;
    say(&format!("by workers {}", workers.iter().flat_map(fds).any(|fd| is_ours(&fd))));
    say(&format!("unchanged {}", of_the_process() == before));
    for number in [libc::SIGHUP, libc::SIGTERM] {
        signal(std::process::id(), number);
    }
    hup.recv().await.ok_or("no SIGHUP")?;
    term.recv().await.ok_or("no SIGTERM")?;
    let status = tokio::process::Command::new("/bin/sh").args(["-c", "exit 7"]).status().await?;
    let own = std::process::Command::new("/bin/sh").args(["-c", "exit 8"]).status()?;
    say(&format!("children {:?} {:?}", status.code(), own.code()));
    child.recv().await.ok_or("no SIGCHLD")?;
    say(&format!("same workers {}", pids(&supervisor).await? == workers));
    supervisor.stop().await?;
    Ok(())
}

/// Has the service manager told how it is.
async fn told(worker: &str) -> Outcome {
    let supervisor = builder(worker).tell_service_manager().start().await?;
    supervisor.ready().await?;
    supervisor.stop().await?;
    Ok(())
}

fn count(directory: &str) -> usize {
    std::fs::read_dir(Path::new("/proc/self").join(directory)).unwrap().count()
}

/// Returns when the threads of a supervisor that has ended are gone: the one that writes lines ends by itself.
fn wait_for_threads() {
    let names = || {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        threads
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok())
            .collect::<Vec<_>>()
    };
    while names().iter().any(|name| ["handover", "output", "reading"].contains(&name.trim_end())) {
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Started and stopped again and again, it leaves nothing.
async fn leaks(worker: &str) -> Outcome {
    let mut counts = Vec::new();
    for _ in 0..50 {
        let supervisor = start(worker).await?;
        supervisor.stop().await?;
        wait_for_threads();
        counts.push((count("fd"), count("task")));
    }
    say(&format!("{:?} {:?}", counts[0], counts[49]));
    say(&format!("same {}", counts[0] == counts[49]));
    Ok(())
}

/// Says who its workers are, and waits to be killed.
async fn die(worker: &str) -> Outcome {
    // The program cannot remove it.
    let directory = std::env::var_os("STAGE_DIRECTORY").ok_or("no STAGE_DIRECTORY")?;
    let supervisor = builder(worker).runtime_directory(directory).start().await?;
    supervisor.ready().await?;
    let pids: Vec<String> = pids(&supervisor).await?.iter().map(ToString::to_string).collect();
    say(&pids.join(" "));
    let _ = std::io::stdin().read(&mut [0]);
    Err("nobody killed it".into())
}
