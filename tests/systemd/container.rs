//! handover as PID 1 of a container that has no systemd: its socket comes through the container's manager, which says
//! `LISTEN_PID=1` and names nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::ability;
use crate::booted::in_cgroup;
use crate::roots;
use crate::support::child::{Handle, OwnedChild};
use crate::support::client;
use crate::support::daemon::Running;
use crate::support::load::Load;
use crate::support::scratch::{Address, Scratch};
use crate::support::{deadline, eventually, handover, proc, scripted_worker};

const CONFIGURATION: &str = "/opt/service/myapp.toml";

/// `systemd-socket-activate` opens the socket, `systemd-nspawn` passes it on and executes handover.
fn container(root: &Path, address: &str, service: &Scratch, cgroup: &Path) -> Command {
    let mut command = in_cgroup(cgroup);
    command.args(["systemd-socket-activate", "--listen", address]);
    command.args([
        "systemd-nspawn",
        "--quiet",
        "--volatile=overlay",
        "--register=no",
        "--keep-unit",
        "--console=pipe",
    ]);
    command.arg("--directory").arg(root);
    let directory = |path: &Path| path.parent().expect("it lies in a directory").display().to_string();
    command.arg(format!("--bind-ro={}:/opt/bin", directory(handover())));
    command.arg(format!("--bind-ro={}:/opt/programs", directory(&scripted_worker())));
    command.arg(format!("--bind-ro={}:/opt/service", service.path().display()));
    command.args(["--", "/opt/bin/handover", "run", CONFIGURATION]);
    command.env("UNIFIED_CGROUP_HIERARCHY", "1").stdin(Stdio::null());
    command
}

#[test]
fn as_pid_1_of_a_container_it_takes_the_socket_that_is_for_pid_1() {
    if ability::is_absent() {
        return;
    }
    let root = roots::debian("bookworm");
    let (service, address) = (Scratch::new(), Address::tcp());
    service.write("script", "serve\nready\n");
    let pool = "command = [\"/opt/programs/scripted_worker\"]\nlisteners = [\"http\"]\n\
                environment = { WORKER_SCRIPT = \"/opt/service/script\" }\n[pool.web.rollout]\nbake_time = \"20ms\"\n";
    service.write("myapp.toml", format!("[listener.http]\naddress = \"{address}\"\n\n[pool.web]\n{pool}"));
    let cgroup = ability::cgroup()
        .expect("looked for before")
        .join(format!("handover-container-{}", std::process::id()));
    fs::create_dir(&cgroup).expect("our cgroup");
    let log = fs::File::create(service.join("log")).expect("our file");
    let host = address.to_string().replace("tcp://", "");
    let mut outer = OwnedChild::spawn(
        container(&root, &host, &service, &cgroup).stderr(log.try_clone().expect("a free fd")).stdout(log),
    );
    let said = || fs::read_to_string(service.join("log")).unwrap_or_default();

    eventually("the first request is answered", || client::get(&address, "/").ok());
    let first = eventually("handover runs", || {
        let is_ours = |pid: &u32| {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("bin/handover"))
        };
        proc::children(outer.pid()).into_iter().find(is_ours)
    });
    assert_eq!(
        proc::field(first, "NSpid:")
            .and_then(|pids| pids.split_whitespace().last().map(str::to_owned))
            .as_deref(),
        Some("1")
    );
    let inside = |words: &[&str]| {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(first.to_string()).args(["--all", "/opt/bin/handover"]).args(words);
        Running::start(&mut command).finish()
    };
    let status = inside(&["status"]);
    assert!(status.stdout.contains("inherited"), "{status:#?}\n{}", said());

    let load = Load::open(&address, 200).start();
    inside(&["reload"]).assert_code(0);
    load.wait_for(50);
    load.stop().assert_nothing_lost();
    // As `podman stop` and `docker stop` do it.
    Handle::open(first).expect("it lives").signal(libc::SIGTERM);
    let status = outer.wait(deadline()).unwrap_or_else(|| panic!("the container did not end: {}", said()));
    assert!(status.success(), "{status}: {}", said());
    crate::booted::remove_cgroup(&cgroup);
}
