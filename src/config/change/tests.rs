//! What a reload does and refuses, one sentence each.

use super::*;
use crate::config::facts::Fake;

/// Listeners as the inside of their sections, each used by a pool of its own name.
fn config(top: &str, listeners: &[(&str, &str)]) -> Config {
    let mut text = format!("{top}\n");
    for (name, keys) in listeners {
        text += &format!(
            "[listener.{name}]\n{keys}\n[pool.{name}]\ncommand = ['/bin/x']\nlisteners = ['{name}']\n"
        );
    }
    super::super::parse("a.toml", &text, "a", &Fake).unwrap_or_else(|faults| panic!("{faults}"))
}

fn sets<'a, T: 'a + AsRefStr>(names: impl IntoIterator<Item = &'a T>) -> Vec<&'a str> {
    names.into_iter().map(AsRefStr::text).collect()
}

trait AsRefStr {
    fn text(&self) -> &str;
}

impl AsRefStr for ListenerName {
    fn text(&self) -> &str {
        self.as_str()
    }
}

impl AsRefStr for PoolName {
    fn text(&self) -> &str {
        self.as_str()
    }
}

const A: (&str, &str) = ("a", "address = '127.0.0.1:80'");
const B: (&str, &str) = ("b", "address = '127.0.0.1:81'");

fn refused(old: &Config, new: &Config) -> Vec<String> {
    compare(old, new).refusals.iter().map(ToString::to_string).collect()
}

/// Changes of keys as text; a secret one has no values.
fn said(changes: &[KeyChange]) -> Vec<String> {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let said = |change: &KeyChange| match change.secret {
        true => {
            assert_eq!((&change.old, &change.new), (&None, &None));
            format!("{}: changed", change.key)
        }
        false => format!("{}: {} -> {}", change.key, value(&change.old), value(&change.new)),
    };
    changes.iter().map(said).collect()
}

#[test]
fn the_same_configuration_changes_nothing() {
    let config = config("", &[A, B]);
    let change = compare(&config, &config.clone());
    assert_eq!(sets(change.kept.keys()), ["a", "b"]);
    assert!(change.kept.iter().all(|(name, kept)| kept.was == *name && kept.options.is_empty()));
    assert_eq!(sets(&change.pools_unchanged), ["a", "b"]);
    assert_eq!((change.log, change.at_next_start), (vec![], vec![]));
    assert!(change.added.is_empty() && change.removed.is_empty() && change.pools_changed.is_empty());
}

#[test]
fn listeners_and_pools_come_and_go() {
    let change = compare(&config("", &[A]), &config("", &[B]));
    assert_eq!((sets(&change.added), sets(&change.removed)), (vec!["b"], vec!["a"]));
    assert_eq!((sets(&change.pools_added), sets(&change.pools_removed)), (vec!["b"], vec!["a"]));
}

#[test]
fn a_renamed_listener_is_the_same_socket_and_its_pool_has_changed() {
    let pool = "[pool.p]\ncommand = ['/bin/x']\n";
    let old = config(&format!("{pool}listeners = ['x']\n[listener.x]\naddress = '127.0.0.1:9'"), &[A]);
    let new = config(&format!("{pool}listeners = ['y']\n[listener.y]\naddress = '127.0.0.1:9'"), &[A]);
    let change = compare(&old, &new);
    assert_eq!(change.kept[&ListenerName::new("y")].was.as_str(), "x");
    assert!(change.added.is_empty() && change.removed.is_empty());
    assert_eq!((sets(change.pools_changed.keys()), sets(&change.pools_unchanged)), (vec!["p"], vec!["a"]));
}

#[test]
fn two_listeners_that_swap_their_addresses_stay_bound_and_their_pools_have_changed() {
    let swapped = config("", &[("a", B.1), ("b", A.1)]);
    let change = compare(&config("", &[A, B]), &swapped);
    assert_eq!(change.kept[&ListenerName::new("a")].was.as_str(), "b");
    assert_eq!(sets(change.pools_changed.keys()), ["a", "b"]);
}

#[test]
fn a_pool_whose_listener_is_another_socket_has_changed() {
    let moved = config("", &[("a", "address = '127.0.0.1:8080'")]);
    let change = compare(&config("", &[A]), &moved);
    assert_eq!((sets(&change.added), sets(&change.removed)), (vec!["a"], vec!["a"]));
    assert_eq!(sets(change.pools_changed.keys()), ["a"]);
}

#[test]
fn what_can_be_set_on_a_held_socket_is_set_and_no_pool_changes() {
    let tcp = "address = '127.0.0.1:80'\nbacklog = 9\nkeepalive = true\nnodelay = true\nreceive_buffer = '1M'\n\
               send_buffer = '2M'\nmark = 7\ndefer_accept = 5\nfast_open = 6";
    let new = config("", &[("a", tcp)]);
    let change = compare(&config("", &[A]), &new);
    let options = &change.kept[&ListenerName::new("a")].options;
    assert_eq!(options.len(), 8, "{options:?}");
    assert!(options.contains(&OptionChange::Backlog(Some(9))));
    assert!(options.contains(&OptionChange::ReceiveBuffer(1 << 20)));
    assert_eq!(sets(&change.pools_unchanged), ["a"]);
    let back = refused(&new, &config("", &[A]));
    assert_eq!(back.len(), 2, "{back:?}");
    assert!(back[0].starts_with("listener.a.receive_buffer: "));

    let unix = |keys: &str| config("", &[("a", &format!("address = 'unix:///run/a'\n{keys}"))]);
    let change = compare(&unix(""), &unix("socket_mode = '0600'\nsocket_user = 'myapp'"));
    let options = &change.kept[&ListenerName::new("a")].options;
    assert!(matches!(options[..], [OptionChange::Owner(Some(_), None), OptionChange::Mode(Some(0o600))]));
}

#[test]
fn a_changed_pool_says_which_keys_and_how_but_no_secret() {
    let pool = |keys: &str| {
        let text = format!("[pool.web]\ncommand = ['/bin/x']\n{keys}\n");
        super::super::parse("a.toml", &text, "a", &Fake).unwrap_or_else(|faults| panic!("{faults}"))
    };
    let old = pool("workers = 2\nenvironment = { A = 'same', B = 's3cret', C = 's3cret' }");
    let new = pool(
        "workers = 4\nwatchdog = '5s'\nenvironment = { A = 'same', B = 'other s3cret', D_D = 's3cret' }\n\
         rollout.bake_time = '1min'\nuser = 'myapp'",
    );
    let change = compare(&old, &new);
    let web = &change.pools_changed[&PoolName::new("web")];
    assert_eq!(
        said(web),
        [
            r#"rollout.bake_time: "2s" -> "1min""#,
            r#"user: none -> "myapp""#,
            r#"watchdog: none -> "5s""#,
            "workers: 2 -> 4",
            "environment.B: changed",
            "environment.C: changed",
            "environment.D_D: changed",
        ]
    );
    assert!(!format!("{web:?}").contains("s3cret"));
}

#[test]
fn a_user_that_is_another_one_now_changes_the_pool() {
    let old = {
        let text = "[pool.web]\ncommand = ['/bin/x']\nuser = 'myapp'";
        super::super::parse("a.toml", text, "a", &Fake).unwrap_or_else(|faults| panic!("{faults}"))
    };
    let web = PoolName::new("web");
    let mut new = old.clone();
    let user = new.pools.get_mut(&web).unwrap().program.user.as_mut().unwrap();
    user.home = "/elsewhere".into();
    let change = compare(&old, &new);
    assert_eq!(
        said(&change.pools_changed[&web]),
        ["user (home, shell or group in the user database): changed"]
    );
    new.pools.get_mut(&web).unwrap().program.user.as_mut().unwrap().uid = 991;
    let change = compare(&old, &new);
    let said = said(&change.pools_changed[&web]);
    assert_eq!(said, ["user: uid 990 in the user database -> uid 991 in the user database"]);
}

#[test]
fn what_needs_a_restart_is_said_beside_all_that_changes() {
    let old = config("unused_sockets = 'error'", &[A, B]);
    let new = config(
        "name = 'other'\nunused_sockets = 'close'",
        &[("a", "address = '127.0.0.1:82'\nbacklog = 5"), B],
    );
    let change = compare(&old, &new);
    assert_eq!(change.refusals.len(), 1);
    assert_eq!(sets(change.pools_changed.keys()), ["a"]);
    assert_eq!(
        said(&change.pools_changed[&PoolName::new("a")]),
        [r#"listener.a.address: "tcp://127.0.0.1:80" -> "tcp://127.0.0.1:82""#]
    );
    assert_eq!(said(&change.at_next_start), [r#"unused_sockets: "error" -> "close""#]);
    let change = compare(&config("", &[A]), &config("", &[("a", "address = '127.0.0.1:80'\nbacklog = 5")]));
    assert_eq!(said(&change.kept[&ListenerName::new("a")].keys), ["backlog: none -> 5"]);
}

#[test]
fn what_is_fixed_at_the_start_needs_a_restart() {
    let top = "name = 'b'\npid_file = '/run/a.pid'\ncontrol_group = 'www-data'\nunused_sockets = 'close'";
    let refusals = refused(&config("", &[A]), &config(top, &[A]));
    assert_eq!(refusals.len(), 3, "{refusals:?}");
    assert_eq!(refusals[0], "name: the runtime directory has this name: needs a restart");
}

#[test]
fn what_is_fixed_at_bind_needs_a_restart() {
    let plain = ("a", "address = '[::1]:80'");
    let set = ("a", "address = '[::1]:80'\nv6only = true\nfree_bind = true\nnonblocking = true");
    let refusals = refused(&config("", &[plain]), &config("", &[set]));
    assert_eq!(refusals.len(), 3, "{refusals:?}");
    let bound = ("a", "address = '127.0.0.1:80'\ndevice = 'lo'");
    assert_eq!(refused(&config("", &[A]), &config("", &[bound])).len(), 1);
}

#[test]
fn an_address_that_overlaps_a_held_one_needs_a_restart() {
    for (old, new) in [
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("127.0.0.1:80", "0.0.0.0:80"),
        ("0.0.0.0:80", "[::]:80"),
        ("unix:///run/a", "unix-dgram:///run/a"),
    ] {
        let listener = |address: &str| config("", &[("a", &format!("address = '{address}'"))]);
        let refusals = refused(&listener(old), &listener(new));
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert!(refusals[0].contains("overlaps"), "{refusals:?}");
    }
}

#[test]
fn a_refusal_knows_its_listener_however_that_is_written() {
    let on = |address: &str| {
        let pool = "[pool.p]\ncommand = ['/bin/x']\nlisteners = ['a.b']";
        config(&format!("{pool}\n[listener.'a.b']\naddress = '{address}:80'"), &[])
    };
    let refusals = compare(&on("0.0.0.0"), &on("127.0.0.1")).refusals;
    assert_eq!(refusals[0].listener, Some(ListenerName::new("a.b")));
    assert!(refusals[0].to_string().starts_with("listener.\"a.b\".address: it overlaps"), "{}", refusals[0]);
}

#[test]
fn inherited_listeners_go_by_their_name() {
    let inherited = config("", &[("a", "")]);
    assert_eq!(compare(&inherited, &inherited).kept.len(), 1);
    assert_eq!(refused(&inherited, &config("", &[A])).len(), 1);
    assert_eq!(refused(&config("", &[A]), &inherited).len(), 1);
    assert_eq!(refused(&config("", &[A]), &config("", &[A, ("c", "")])).len(), 1);
    assert_eq!(sets(&compare(&config("", &[A, ("c", "")]), &config("", &[A])).removed), ["c"]);
}

#[test]
fn sockets_on_a_port_of_the_systems_choice_go_by_their_name() {
    let free = |names: &[&'static str]| {
        let listeners: Vec<_> = names.iter().map(|name| (*name, "address = '127.0.0.1:0'")).collect();
        config("", &listeners)
    };
    let change = compare(&free(&["a", "b"]), &free(&["b", "c"]));
    assert_eq!((sets(&change.added), sets(&change.removed)), (vec!["c"], vec!["a"]));
    assert_eq!(sets(change.kept.keys()), ["b"]);
}

#[test]
fn another_way_for_the_output_of_workers_changes_every_pool() {
    let change = compare(&config("", &[A]), &config("log.workers = 'inherit'", &[A]));
    assert_eq!(sets(change.pools_changed.keys()), ["a"]);
    let workers = said(&change.log);
    assert_eq!(workers, [r#"workers: "capture" -> "inherit""#]);
    assert_eq!(said(&change.pools_changed[&PoolName::new("a")]), [r#"log.workers: "capture" -> "inherit""#]);
}
