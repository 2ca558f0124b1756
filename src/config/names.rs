//! Which names are good: of the daemon, of listeners, pools and environment variables.

use super::error::Wrong;

/// The daemon's name ends up in paths of sockets, and those are short.
const NAME_MAX: usize = 32;
const POOL_NAME_MAX: usize = 64;
/// `FDNAME_MAX` of systemd (`sd_listen_fds_with_names(3)`).
const LISTENER_NAME_MAX: usize = 255;
/// What [`check_name`], [`check_listener_name`], [`check_pool_name`] and [`check_variable`] take, as patterns.
pub(super) const NAME_PATTERN: &str = "^[a-z0-9_-][a-z0-9_.-]{0,31}$";
pub(super) const LISTENER_PATTERN: &str = "^[ -9;-~]{1,255}$";
pub(super) const POOL_PATTERN: &str = "^[a-z0-9_-]{1,64}$";
pub(super) const VARIABLE_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
/// Used where nothing of the text given can be kept.
const FALLBACK: &str = "handover";

/// Variables that handover sets itself, beside all that begin with [`OWN_PREFIX`].
const OWN_VARIABLES: &[&str] = &[
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
];
const OWN_PREFIX: &str = "HANDOVER_";

/// Checks the daemon's name.
pub(super) fn check_name(text: &str) -> Result<(), Wrong> {
    let good = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '.' | '-');
    let reason = if text.is_empty() {
        "is empty".to_owned()
    } else if text.len() > NAME_MAX {
        format!("{text:?} has {} characters, the limit is {NAME_MAX}", text.chars().count())
    } else if text.starts_with('.') {
        format!("{text:?} begins with a dot")
    } else if !text.chars().all(good) {
        format!("{text:?} has characters other than a-z, 0-9, `_`, `.` and `-`")
    } else {
        return Ok(());
    };
    Err(Wrong::new(reason).hint(format!("name = \"{}\" would do", fit_name(text))))
}

/// The good daemon name that is nearest to `text`; `handover` where nothing of it can be kept.
pub fn fit_name(text: &str) -> String {
    let fitted: String = text
        .to_lowercase()
        .chars()
        .map(|c| if matches!(c, 'a'..='z' | '0'..='9' | '_' | '.' | '-') { c } else { '-' })
        .skip_while(|c| matches!(c, '.' | '-'))
        .take(NAME_MAX)
        .collect();
    if fitted.is_empty() { FALLBACK.to_owned() } else { fitted }
}

/// Checks the name of a listener, which workers see in `LISTEN_FDNAMES`: ASCII, no control characters, no `:`.
pub(super) fn check_listener_name(text: &str) -> Result<(), Wrong> {
    let good = |byte: u8| (b' '..127).contains(&byte) && byte != b':';
    if text.is_empty() {
        Err(Wrong::new("a listener needs a name").hint("[listener.http]"))
    } else if text.len() > LISTENER_NAME_MAX {
        Err(Wrong::new(format!("the name is longer than {LISTENER_NAME_MAX} bytes")))
    } else if !text.bytes().all(good) {
        Err(Wrong::new("the name has characters that LISTEN_FDNAMES cannot carry")
            .hint("use ASCII without `:` and without control characters"))
    } else {
        Ok(())
    }
}

/// Checks the name of a pool.
pub(super) fn check_pool_name(text: &str) -> Result<(), Wrong> {
    let good = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-');
    if (1..=POOL_NAME_MAX).contains(&text.len()) && text.chars().all(good) {
        Ok(())
    } else {
        Err(Wrong::new("not a name for a pool")
            .hint(format!("1 to {POOL_NAME_MAX} of a-z, 0-9, `_` and `-`: [pool.web]")))
    }
}

/// Whether handover sets this variable for every worker itself, so that nobody else may.
pub fn is_reserved_variable(name: &str) -> bool {
    OWN_VARIABLES.contains(&name) || name.starts_with(OWN_PREFIX)
}

/// Checks the name of an environment variable: the names that POSIX shells can set, and not one of ours.
pub(super) fn check_variable(name: &str) -> Result<(), Wrong> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if is_reserved_variable(name) {
        return Err(Wrong::new("handover sets this variable itself").hint("leave it out"));
    }
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(good) {
        return Err(Wrong::new(format!("{name:?} is not a name for an environment variable"))
            .hint("letters, digits and `_`, not beginning with a digit"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        for name in ["myapp", "a", "my_app-2.0", &"x".repeat(32)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "My App", ".hidden", "ü", "a/b", &"x".repeat(33)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn whatever_is_fitted_is_a_good_name() {
        for text in ["", "..", "My App", ".hidden", "Ünïcode", "--x", &"ü".repeat(99)] {
            assert_eq!(check_name(&fit_name(text)), Ok(()), "{text}");
        }
        assert_eq!(fit_name("My App.py"), "my-app.py");
        assert_eq!(fit_name(""), "handover");
    }

    #[test]
    fn a_listener_name_can_travel_in_listen_fdnames() {
        assert_eq!(check_listener_name("my http"), Ok(()));
        for name in ["", "a:b", "a\nb", "ü", &"x".repeat(256)] {
            assert!(check_listener_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn our_own_variables_are_ours() {
        assert!(check_variable("HANDOVER_ANYTHING").is_err());
        assert!(check_variable("LISTEN_FDS").is_err());
        assert_eq!(check_variable("LISTEN_ADDRESS"), Ok(()));
        assert!(check_variable("2X").is_err());
        assert!(check_variable("A=B").is_err());
    }
}
