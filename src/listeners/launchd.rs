//! Sockets that launchd passes: `launch_activate_socket(3)`, asked once for each listener, by its name.
//!
//! A process learns from nobody which names its property list has in `Sockets`; it can only ask for one. So a
//! listener that is to come from launchd bears the name of its entry there, and an entry that no listener names
//! stays with launchd. Whether launchd started us at all is told by the same call.

use std::io;
use std::os::fd::OwnedFd;

use super::inherited::Inherited;
use crate::id::ListenerName;
use crate::os::socket::{Family, Kind, facts};
use crate::os::words;

/// A socket of launchd cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LaunchdError {
    /// `EALREADY`
    #[error(
        "listener {0}: launchd has given its sockets to this process before\n\
         hint: it gives them once to each process: restart the job"
    )]
    Taken(ListenerName),
    /// The entry has no socket.
    #[error(
        "listener {0}: launchd knows the name, and has no socket for it\n\
         hint: it could not make one when the job was loaded, most likely because the address was in use; \
         load the job again"
    )]
    NoSocket(ListenerName),
    /// It is not for us.
    #[error("listener {0}: launchd has something else than a stream or datagram socket under this name")]
    Unusable(ListenerName),
    /// Anything else.
    #[error("listener {0}: launchd: {what}", what = words(.1))]
    Failed(ListenerName, #[source] io::Error),
}

/// Takes the sockets of these listeners, as far as launchd has them: none where it did not start this process, none
/// for a name that its property list has not. `activate` is [`activate`](crate::os::launchd::activate).
///
/// # Errors
/// Each [`LaunchdError`], at once; what was taken is closed then.
pub fn take<'a>(
    listeners: impl IntoIterator<Item = &'a ListenerName>,
    activate: &dyn Fn(&str) -> io::Result<Vec<OwnedFd>>,
) -> Result<Vec<Inherited>, Vec<LaunchdError>> {
    let (mut taken, mut faults) = (Vec::new(), Vec::new());
    for name in listeners {
        let sockets = match activate(name.as_str()) {
            Ok(sockets) => sockets,
            Err(error) => match error.raw_os_error() {
                // Not started by launchd, so the others need not be asked for.
                Some(libc::ESRCH) => break,
                Some(libc::ENOENT) => continue,
                Some(libc::EALREADY) => {
                    faults.push(LaunchdError::Taken(name.clone()));
                    continue;
                }
                _ => {
                    faults.push(LaunchdError::Failed(name.clone(), error));
                    continue;
                }
            },
        };
        if sockets.is_empty() {
            faults.push(LaunchdError::NoSocket(name.clone()));
        }
        for socket in sockets {
            match inherited(name, socket) {
                Ok(inherited) => taken.push(inherited),
                Err(fault) => faults.push(fault),
            }
        }
    }
    if faults.is_empty() { Ok(taken) } else { Err(faults) }
}

fn inherited(name: &ListenerName, socket: OwnedFd) -> Result<Inherited, LaunchdError> {
    let facts = facts(&socket).map_err(|_| LaunchdError::Unusable(name.clone()))?;
    if facts.family == Family::Other || !matches!(facts.kind, Kind::Stream | Kind::Datagram) {
        return Err(LaunchdError::Unusable(name.clone()));
    }
    Ok(Inherited::new(name.as_str().to_owned(), socket, facts))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::model::{Listener, SocketOptions, UnusedSockets};
    use crate::listeners::Held;
    use crate::listeners::plan::{Choice, Misfit, Offer, plan};
    use crate::os::launchd::stand_in;

    fn names(names: &[&str]) -> Vec<ListenerName> {
        names.iter().map(|name| ListenerName::new(*name)).collect()
    }

    fn faults(listeners: &[&str]) -> Vec<String> {
        let refused = take(&names(listeners), &stand_in::activate).unwrap_err();
        refused.iter().map(ToString::to_string).collect()
    }

    fn without_address() -> Listener {
        Listener { address: None, options: SocketOptions::default() }
    }

    #[test]
    fn what_launchd_has_goes_the_way_of_all_inherited_sockets() {
        let listeners = names(&["dns", "elsewhere", "http"]);
        let inherited = take(&listeners, &stand_in::activate).unwrap();
        let offers: Vec<Offer> = inherited.iter().map(|inherited| inherited.offer.clone()).collect();
        assert!(offers.iter().all(|offer| offer.listening && offer.address.is_some()), "{offers:?}");

        let mut wanted: BTreeMap<_, _> =
            listeners.iter().map(|name| (name.clone(), without_address())).collect();
        let misfits = plan(&wanted, &offers, UnusedSockets::Error).unwrap_err();
        assert_eq!(misfits, [Misfit::Missing(listeners[1].clone())], "an unknown name is no error here");
        wanted.remove(&listeners[1]);
        let plan = plan(&wanted, &offers, UnusedSockets::Error).unwrap();
        assert_eq!(plan.choices[&listeners[0]], Choice::Adopt(vec![0]));
        assert_eq!(plan.choices[&listeners[2]], Choice::Adopt(vec![1, 2]), "IPv4 and IPv6");
        let held = Held::adopt(&without_address(), inherited.into_iter().skip(1).collect()).unwrap();
        assert_eq!(held.sockets().count(), 2);
    }

    #[test]
    fn who_was_not_started_by_launchd_asks_once() {
        let asked = RefCell::new(Vec::new());
        let nobody = |name: &str| {
            asked.borrow_mut().push(name.to_owned());
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        };
        assert!(take(&names(&["a", "b"]), &nobody).unwrap().is_empty());
        assert_eq!(asked.into_inner(), ["a"]);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let texts = faults(&["taken", "empty", "http", "broken", "file"]);
        assert_eq!(texts.len(), 4, "{texts:#?}");
        assert!(texts[0].starts_with("listener taken: launchd has given"), "{texts:#?}");
        assert!(texts[1].starts_with("listener empty: launchd knows the name, and has no socket"));
        assert_eq!(texts[2], "listener broken: launchd: cannot allocate memory");
        assert!(texts[3].starts_with("listener file: launchd has something else"));
    }

    #[test]
    fn where_one_listener_cannot_be_had_nothing_is_kept_of_the_others() {
        for (after, fault) in [("broken", "cannot allocate memory"), ("empty", "no socket"), ("file", "else")]
        {
            let before = stand_in::open_of_given();
            let texts = faults(&["http", after, "http"]);
            assert!(texts.len() == 1 && texts[0].contains(fault), "{texts:#?}");
            let (open, given) = stand_in::open_of_given();
            assert_eq!((open, given - before.1), (0, 4), "{after}");
        }
    }

    #[test]
    fn what_is_taken_goes_to_no_child() {
        for inherited in take(&names(&["dns", "http", "stream"]), &stand_in::activate).unwrap() {
            assert!(stand_in::is_close_on_exec(&inherited.socket), "{}", inherited.offer.describe());
        }
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused_by_the_plan() {
        let listeners = names(&["stream"]);
        let inherited = take(&listeners, &stand_in::activate).unwrap();
        let offers = [inherited[0].offer.clone()];
        let wanted = BTreeMap::from([(listeners[0].clone(), without_address())]);
        let misfits = plan(&wanted, &offers, UnusedSockets::Error).unwrap_err();
        assert_eq!(misfits, [Misfit::NotListening(listeners[0].clone())]);
    }
}
