//! Users' own systemds: they have other targets, and can do nothing that only root can.

use super::{Case, case};
use crate::booted::Machine;
use crate::site::Site;
use crate::support::eventually;

pub const CASES: &[Case] = &[
    case("it serves under a user's own systemd", shipped),
    case("it serves under a user's own systemd with the units that are made for that", generated),
];

/// Somebody with a systemd of their own.
struct User<'a> {
    machine: &'a Machine,
    name: &'static str,
    uid: String,
}

impl<'a> User<'a> {
    fn new(machine: &'a Machine, name: &'static str) -> Self {
        machine.succeed(&["useradd", "--create-home", "--shell", "/bin/bash", name]);
        let uid = machine.succeed(&["id", "-u", name]);
        machine.succeed(&["systemctl", "start", &format!("user@{uid}.service")]);
        let user = Self { machine, name, uid };
        eventually("the user's systemd is up", || {
            let state = user.say("systemctl --user is-system-running --wait");
            ["running", "degraded"].contains(&state.trim()).then_some(())
        });
        user
    }

    /// Writes a file below `~/.config`.
    fn write(&self, path: &str, text: &str) {
        let directory = format!("/home/{}/.config", self.name);
        self.machine.write(&format!("{directory}/{path}"), text);
        self.machine.succeed(&["chown", "--recursive", &format!("{}:", self.name), &directory]);
    }

    /// What a command of this user says.
    fn say(&self, line: &str) -> String {
        let Self { name, uid, machine } = self;
        machine.shell(&format!(
            "cd /home/{name} && runuser -u {name} -- env HOME=/home/{name} XDG_RUNTIME_DIR=/run/user/{uid} {line}"
        ))
    }

    /// `systemctl --user WORDS`, which succeeds and says nothing.
    #[track_caller]
    fn systemctl(&self, words: &str) {
        assert_eq!(self.say(&format!("systemctl --user {words} && echo done")), "done\n");
    }

    /// A whole life of a service whose units are there.
    fn try_out(&self, site: &Site<'_>) {
        let name = &site.name;
        let units = format!("/home/{}/.config/systemd/user", self.name);
        let verify = format!("systemd-analyze --user verify {units}/{name}.service {units}/{name}.socket");
        assert_eq!(self.say(&verify), "");
        self.systemctl("daemon-reload");
        self.systemctl(&format!("start {name}.socket"));
        site.get().expect("the first connection starts it");
        // All workers are ready: what starts still is not reloaded.
        self.systemctl(&format!("start {name}"));
        let load = site.load();
        self.systemctl(&format!("reload {name}"));
        load.wait_for(50);
        load.stop().assert_nothing_lost();
        site.serves_generation(2);
        let status = self.say(&format!("systemctl --user status {name}"));
        assert!(status.contains("Status: \"2 of 2 workers ready, generation 2\""), "{status}");
        site.script("exit=3\n");
        let refused = self.say(&format!("systemctl --user reload {name} || echo refused"));
        assert!(refused.contains("refused"), "{refused}");
        let status = self.say(&format!("handover status --name {name}"));
        assert!(status.contains("inherited"), "the user's client finds the user's daemon: {status}");
        self.systemctl(&format!("is-active --quiet {name}"));
        self.systemctl(&format!("stop {name}.socket {name}.service"));
        self.machine.succeed(&["systemctl", "stop", &format!("user@{}.service", self.uid)]);
    }
}

/// A site of which only the configuration and the script count.
fn site<'a>(machine: &'a Machine, name: &str) -> (Site<'a>, String) {
    let site = Site::new(machine, name);
    site.put();
    let configuration = std::fs::read_to_string(machine.path(&format!("/etc/handover/{name}.toml")));
    (site, configuration.expect("just written"))
}

fn shipped(machine: &Machine) {
    let (user, (site, configuration)) = (User::new(machine, "somebody"), site(machine, "homely"));
    // The pair of the manual; only paths differ. `%E` is ~/.config there.
    let service =
        site.unit("myapp.service").replace("/etc/handover", "%E/handover").replace("multi-user", "default");
    // With a second directory, which systemd puts first.
    let service = service.replace("RuntimeDirectory=", "RuntimeDirectory=aaa ");
    user.write("systemd/user/homely.service", &service.replace("network.target ", ""));
    user.write("systemd/user/homely.socket", &site.unit("myapp.socket"));
    user.write("handover/homely.toml", &configuration);
    user.try_out(&site);
}

fn generated(machine: &Machine) {
    let (user, (site, configuration)) = (User::new(machine, "anybody"), site(machine, "homemade"));
    user.write("handover/homemade.toml", &configuration);
    user.write("systemd/user/README", "");
    let generate =
        "handover generate systemd --user .config/handover/homemade.toml --directory .config/systemd/user";
    let said = user.say(generate);
    assert_eq!(said, ".config/systemd/user/homemade.service\n.config/systemd/user/homemade.socket\n");
    // At the user's first login, or at boot where they may linger.
    assert!(user.say("systemctl --user enable homemade.socket").contains("sockets.target.wants"));
    user.try_out(&site);
}
