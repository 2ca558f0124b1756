//! Where a daemon is at home when a service manager has made directories for it, and for its workers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::given::Dump;
use crate::support::daemon::{Output, Running, command};
use crate::support::service::{Plan, Service};

/// A client that is a part of the service, as `ExecReload=` is.
fn client(service: &Service, list: &str, words: &[&str]) -> Output {
    assert!(service.plan.scratch.join("run/handover/test/control.sock").exists());
    Running::start(command(words).env("RUNTIME_DIRECTORY", list)).finish()
}

/// The directories of a unit, as systemd names them: sorted, with colons between them.
fn list(directories: &[&Path]) -> String {
    directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
}

#[test]
fn a_link_of_the_service_manager_is_followed_and_what_it_leads_to_is_looked_at() {
    let plan = Plan::new();
    let (private, link) = (plan.scratch.join("private"), plan.scratch.join("handover-test"));
    fs::create_dir(&private).expect("our directory");
    symlink(&private, &link).expect("our link");
    let setup = plan.setup().env("RUNTIME_DIRECTORY", &link);
    let service = plan.start_with(setup);
    assert!(private.join("control.sock").exists());
    let mut reload = command(["reload", "--name", "test"]);
    Running::start(reload.env("RUNTIME_DIRECTORY", &link)).finish().assert_code(handover::exit::DONE);
    assert_eq!(Dump::of(&service).variable("RUNTIME_DIRECTORY"), None);
    drop(service);

    let plan = Plan::new();
    let (file, link) = (plan.scratch.write("file", ""), plan.scratch.join("handover-test"));
    symlink(&file, &link).expect("our link");
    let setup = plan.setup().env("RUNTIME_DIRECTORY", &link);
    let mut service = plan.begin_with(setup);
    let (code, log) = service.ended();
    assert!(code == Some(1) && log.contains("not a directory"), "{log}");
}

#[test]
fn of_several_directories_one_is_ours_and_workers_get_the_others() {
    let plan = Plan::new();
    let [first, ours, last] = ["aaa", "run/handover/test", "zzz"].map(|name| plan.scratch.join(name));
    for directory in [&first, &ours, &last] {
        fs::create_dir_all(directory).expect("our directory");
    }
    let all = list(&[&first, &ours, &last]);
    let setup = plan.setup().env("RUNTIME_DIRECTORY", &all);
    let service = plan.start_with(setup);
    assert_eq!(fs::read_dir(&first).expect("our directory").count(), 0);
    assert_eq!(Dump::of(&service).variable("RUNTIME_DIRECTORY"), Some(list(&[&first, &last]).as_str()));
    let config = service.plan.scratch.join("c.toml").display().to_string();
    for words in [&["--name", "test"][..], &["--config", &config], &[]] {
        let words = [&["reload", "--wait"], words].concat();
        client(&service, &all, &words).assert_code(handover::exit::DONE);
    }
    client(&service, &all, &["status", "--name", "other"]).assert_code(handover::exit::NO_DAEMON);
    service.stop();
}
