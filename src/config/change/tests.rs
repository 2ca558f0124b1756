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
    compare(old, new).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn the_same_configuration_changes_nothing() {
    let config = config("", &[A, B]);
    let change = compare(&config, &config.clone()).unwrap();
    assert_eq!(sets(change.kept.keys()), ["a", "b"]);
    assert!(change.kept.iter().all(|(name, kept)| kept.was == *name && kept.options.is_empty()));
    assert_eq!(sets(&change.pools_unchanged), ["a", "b"]);
    assert_eq!(change.log, None);
    assert!(change.added.is_empty() && change.removed.is_empty() && change.pools_changed.is_empty());
}

#[test]
fn listeners_and_pools_come_and_go() {
    let change = compare(&config("", &[A]), &config("", &[B])).unwrap();
    assert_eq!((sets(&change.added), sets(&change.removed)), (vec!["b"], vec!["a"]));
    assert_eq!((sets(&change.pools_added), sets(&change.pools_removed)), (vec!["b"], vec!["a"]));
}

#[test]
fn a_renamed_listener_is_the_same_socket_and_its_pool_has_changed() {
    let pool = "[pool.p]\ncommand = ['/bin/x']\n";
    let old = config(&format!("{pool}listeners = ['x']\n[listener.x]\naddress = '127.0.0.1:9'"), &[A]);
    let new = config(&format!("{pool}listeners = ['y']\n[listener.y]\naddress = '127.0.0.1:9'"), &[A]);
    let change = compare(&old, &new).unwrap();
    assert_eq!(change.kept[&ListenerName::new("y")].was.as_str(), "x");
    assert!(change.added.is_empty() && change.removed.is_empty());
    assert_eq!((sets(&change.pools_changed), sets(&change.pools_unchanged)), (vec!["p"], vec!["a"]));
}

#[test]
fn two_listeners_that_swap_their_addresses_stay_bound_and_their_pools_have_changed() {
    let swapped = config("", &[("a", B.1), ("b", A.1)]);
    let change = compare(&config("", &[A, B]), &swapped).unwrap();
    assert_eq!(change.kept[&ListenerName::new("a")].was.as_str(), "b");
    assert_eq!(sets(&change.pools_changed), ["a", "b"]);
}

#[test]
fn a_pool_whose_listener_is_another_socket_has_changed() {
    let moved = config("", &[("a", "address = '127.0.0.1:8080'")]);
    let change = compare(&config("", &[A]), &moved).unwrap();
    assert_eq!((sets(&change.added), sets(&change.removed)), (vec!["a"], vec!["a"]));
    assert_eq!(sets(&change.pools_changed), ["a"]);
}

#[test]
fn what_can_be_set_on_a_held_socket_is_set_and_no_pool_changes() {
    let tcp = "address = '127.0.0.1:80'\nbacklog = 9\nkeepalive = true\nnodelay = true\nreceive_buffer = '1M'\n\
               send_buffer = '2M'\nmark = 7\ndefer_accept = 5\nfast_open = 6";
    let new = config("", &[("a", tcp)]);
    let change = compare(&config("", &[A]), &new).unwrap();
    let options = &change.kept[&ListenerName::new("a")].options;
    assert_eq!(options.len(), 8, "{options:?}");
    assert!(options.contains(&OptionChange::Backlog(Some(9))));
    assert!(options.contains(&OptionChange::ReceiveBuffer(1 << 20)));
    assert_eq!(sets(&change.pools_unchanged), ["a"]);
    let back = refused(&new, &config("", &[A]));
    assert_eq!(back.len(), 2, "{back:?}");
    assert!(back[0].starts_with("listener.a.receive_buffer: "));

    let unix = |keys: &str| config("", &[("a", &format!("address = 'unix:///run/a'\n{keys}"))]);
    let change = compare(&unix(""), &unix("socket_mode = '0600'\nsocket_user = 'myapp'")).unwrap();
    let options = &change.kept[&ListenerName::new("a")].options;
    assert!(matches!(options[..], [OptionChange::Owner(Some(_), None), OptionChange::Mode(Some(0o600))]));
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
fn inherited_listeners_go_by_their_name() {
    let inherited = config("", &[("a", "")]);
    assert_eq!(compare(&inherited, &inherited).unwrap().kept.len(), 1);
    assert_eq!(refused(&inherited, &config("", &[A])).len(), 1);
    assert_eq!(refused(&config("", &[A]), &inherited).len(), 1);
    assert_eq!(refused(&config("", &[A]), &config("", &[A, ("c", "")])).len(), 1);
    assert_eq!(sets(&compare(&config("", &[A, ("c", "")]), &config("", &[A])).unwrap().removed), ["c"]);
}

#[test]
fn sockets_on_a_port_of_the_systems_choice_go_by_their_name() {
    let free = |names: &[&'static str]| {
        let listeners: Vec<_> = names.iter().map(|name| (*name, "address = '127.0.0.1:0'")).collect();
        config("", &listeners)
    };
    let change = compare(&free(&["a", "b"]), &free(&["b", "c"])).unwrap();
    assert_eq!((sets(&change.added), sets(&change.removed)), (vec!["c"], vec!["a"]));
    assert_eq!(sets(change.kept.keys()), ["b"]);
}

#[test]
fn another_way_for_the_output_of_workers_changes_every_pool() {
    let change = compare(&config("", &[A]), &config("log.workers = 'inherit'", &[A])).unwrap();
    assert_eq!(sets(&change.pools_changed), ["a"]);
    assert!(change.log.is_some());
}
