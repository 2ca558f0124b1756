//! Which inherited socket serves which listener, and which listeners are to be bound.
//!
//! Pure. By name first; what bears a name that no listener has (`*.socket`, `unknown`) is matched by its
//! address. Every socket that was given and every listener that is wanted is accounted for, and all that is
//! wrong is said at once: a socket that nobody takes over would let clients connect and hang.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::model::{Address, Listener, UnusedSockets};
use crate::id::ListenerName;

/// An inherited socket, as far as the plan is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The name that it was given under.
    pub name: String,
    /// What it is and where; `None` where no listener could be that.
    pub address: Option<Address>,
    /// It takes no IPv4 connections.
    pub v6only: bool,
    /// It accepts connections, or is of a kind that does not.
    pub listening: bool,
}

impl Offer {
    /// Its name, and what it is: `web.socket (tcp://127.0.0.1:80)`.
    pub fn describe(&self) -> String {
        format!("{} ({})", self.name, shown(&self.address))
    }
}

/// Where a listener's sockets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// From these offers, by their position.
    Adopt(Vec<usize>),
    /// It is bound.
    Bind,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// For each listener.
    pub choices: BTreeMap<ListenerName, Choice>,
    /// Offers to close, by their position (`unused_sockets = "close"`).
    pub unused: Vec<usize>,
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A listener has no address, and no socket of its name was given.
    #[error("listener {0}: it has no address, and no socket of this name was inherited")]
    Missing(ListenerName),
    /// A socket bears a listener's name, and is something else.
    #[error("listener {listener}: the socket that was inherited under this name is {is}, not {wanted}")]
    Other {
        /// The listener.
        listener: ListenerName,
        /// What the socket is.
        is: String,
        /// What it should be.
        wanted: String,
    },
    /// A socket does not listen.
    #[error("listener {0}: the socket that was inherited under this name does not listen")]
    NotListening(ListenerName),
    /// A socket that no listener takes over.
    #[error(
        "inherited socket {name:?} ({is}): no listener takes it over, so its clients would hang; \
         add a listener, or set unused_sockets = \"close\""
    )]
    Unused {
        /// The name that it was given under.
        name: String,
        /// What it is.
        is: String,
    },
}

/// Makes the plan.
///
/// # Errors
/// Everything that does not fit, at once.
pub fn plan(
    wanted: &BTreeMap<ListenerName, Listener>,
    offers: &[Offer],
    unused: UnusedSockets,
) -> Result<Plan, Vec<Misfit>> {
    let mut misfits = Vec::new();
    let mut taken = BTreeSet::new();
    let mut plan = Plan::default();
    for (name, listener) in wanted {
        let mut found = by_name(name, offers);
        let serves = |position: &usize| is_wanted_by(listener, &offers[*position]);
        let has_ipv6 = found.iter().any(serves);
        for position in &found {
            let offer = &offers[*position];
            let is_other_half = has_ipv6 && is_ipv4_half(listener, offer);
            misfits.extend(misfit(name, listener, offer, is_other_half));
        }
        if found.is_empty() {
            found.extend(by_address(listener, wanted, offers, &taken));
        }
        taken.extend(found.iter().copied());
        let choice = match (found.is_empty(), &listener.address) {
            (false, _) => Choice::Adopt(found),
            (true, Some(_)) => Choice::Bind,
            (true, None) => {
                misfits.push(Misfit::Missing(name.clone()));
                continue;
            }
        };
        plan.choices.insert(name.clone(), choice);
    }
    plan.unused = (0..offers.len()).filter(|position| !taken.contains(position)).collect();
    if unused == UnusedSockets::Error {
        let leftover = plan.unused.iter().map(|position| &offers[*position]);
        misfits.extend(
            leftover.map(|offer| Misfit::Unused { name: offer.name.clone(), is: shown(&offer.address) }),
        );
    }
    if misfits.is_empty() { Ok(plan) } else { Err(misfits) }
}

fn by_name(name: &ListenerName, offers: &[Offer]) -> Vec<usize> {
    (0..offers.len()).filter(|position| offers[*position].name == name.as_str()).collect()
}

/// An offer whose name is nobody's, and whose address is this listener's.
fn by_address(
    listener: &Listener,
    wanted: &BTreeMap<ListenerName, Listener>,
    offers: &[Offer],
    taken: &BTreeSet<usize>,
) -> Option<usize> {
    let address = listener.address.as_ref()?;
    (0..offers.len()).find(|position| {
        let offer = &offers[*position];
        let nobodys = !wanted.keys().any(|name| name.as_str() == offer.name);
        nobodys && offer.listening && !taken.contains(position) && is_at(offer, address)
    })
}

fn misfit(name: &ListenerName, listener: &Listener, offer: &Offer, is_other_half: bool) -> Option<Misfit> {
    if !offer.listening {
        return Some(Misfit::NotListening(name.clone()));
    }
    let fits = is_wanted_by(listener, offer) || is_other_half;
    (!fits).then(|| Misfit::Other {
        listener: name.clone(),
        is: shown(&offer.address),
        wanted: shown(&listener.address),
    })
}

fn is_wanted_by(listener: &Listener, offer: &Offer) -> bool {
    match &listener.address {
        Some(address) => is_at(offer, address),
        None => offer.address.is_some(),
    }
}

/// Is this the IPv4 part of a listener that takes both? Two sockets instead of one for both is what launchd
/// makes: its IPv6 sockets take IPv6 only.
fn is_ipv4_half(listener: &Listener, offer: &Offer) -> bool {
    let (is, wanted) = match (&offer.address, &listener.address) {
        (Some(Address::Tcp(is)), Some(Address::Tcp(wanted)))
        | (Some(Address::Udp(is)), Some(Address::Udp(wanted))) => (is, wanted),
        _ => return false,
    };
    let takes_both =
        wanted.is_ipv6() && wanted.ip().is_unspecified() && listener.options.v6only != Some(true);
    let same_port = wanted.port() == 0 || is.port() == wanted.port();
    takes_both && is.is_ipv4() && is.ip().is_unspecified() && same_port
}

/// Is an inherited socket at this address? Port 0 is any port, and a dual-stack `[::]` serves `0.0.0.0`:
/// that is what `ListenStream=PORT` makes.
fn is_at(offer: &Offer, wanted: &Address) -> bool {
    let Some(address) = &offer.address else { return false };
    match (address, wanted) {
        (Address::Tcp(is), Address::Tcp(wanted)) | (Address::Udp(is), Address::Udp(wanted)) => {
            let dual = is.ip().is_ipv6() && is.ip().is_unspecified() && !offer.v6only;
            let same_ip = is.ip() == wanted.ip() || (dual && wanted.ip().is_unspecified());
            same_ip && (wanted.port() == 0 || is.port() == wanted.port())
        }
        _ => address == wanted,
    }
}

fn shown(address: &Option<Address>) -> String {
    address.as_ref().map_or_else(|| "of an unknown kind".to_owned(), Address::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::SocketOptions;

    fn tcp(address: &str) -> Address {
        Address::Tcp(address.parse().unwrap())
    }

    fn wanted(listeners: &[(&str, Option<Address>)]) -> BTreeMap<ListenerName, Listener> {
        let own = |(name, address): &(&str, Option<Address>)| {
            let listener = Listener { address: address.clone(), options: SocketOptions::default() };
            (ListenerName::new(*name), listener)
        };
        listeners.iter().map(own).collect()
    }

    fn offer(name: &str, address: Address) -> Offer {
        Offer { name: name.to_owned(), address: Some(address), v6only: false, listening: true }
    }

    fn choices(plan: &Plan) -> Vec<(&str, Choice)> {
        plan.choices.iter().map(|(name, choice)| (name.as_str(), choice.clone())).collect()
    }

    #[test]
    fn names_come_before_addresses_and_the_rest_is_bound() {
        let wanted = wanted(&[("a", None), ("b", Some(tcp("127.0.0.1:2"))), ("c", Some(tcp("127.0.0.1:3")))]);
        let offers = [
            offer("unknown", tcp("127.0.0.1:2")),
            offer("a", tcp("127.0.0.1:1")),
            offer("a", tcp("[::1]:1")),
        ];
        let plan = plan(&wanted, &offers, UnusedSockets::Error).unwrap();
        let expected =
            vec![("a", Choice::Adopt(vec![1, 2])), ("b", Choice::Adopt(vec![0])), ("c", Choice::Bind)];
        assert_eq!(choices(&plan), expected);
    }

    #[test]
    fn a_dual_stack_socket_serves_the_wildcard_of_ipv4() {
        let wanted = wanted(&[("http", Some(tcp("0.0.0.0:80")))]);
        let dual = offer("myapp.socket", tcp("[::]:80"));
        assert!(plan(&wanted, std::slice::from_ref(&dual), UnusedSockets::Error).is_ok());
        let only = Offer { v6only: true, ..dual };
        assert!(plan(&wanted, &[only], UnusedSockets::Error).is_err());
    }

    #[test]
    fn two_sockets_of_a_name_may_share_what_one_for_both_families_would_take() {
        let both =
            [offer("http", tcp("0.0.0.0:80")), Offer { v6only: true, ..offer("http", tcp("[::]:80")) }];
        let mut wanted = wanted(&[("http", Some(tcp("[::]:80")))]);
        let plan_of = |wanted: &_, offers: &[Offer]| plan(wanted, offers, UnusedSockets::Error);
        let done = plan_of(&wanted, &both).unwrap();
        assert_eq!(choices(&done), vec![("http", Choice::Adopt(vec![0, 1]))]);
        assert!(plan_of(&wanted, &both[..1]).is_err(), "nobody would take IPv6");
        for listener in wanted.values_mut() {
            listener.options.v6only = Some(true);
        }
        assert!(plan_of(&wanted, &both).is_err(), "IPv4 is not wanted");
    }

    #[test]
    fn all_misfits_are_said_at_once() {
        let wanted = wanted(&[("a", Some(tcp("127.0.0.1:1"))), ("b", None), ("c", None)]);
        let deaf = Offer { listening: false, ..offer("c", tcp("127.0.0.1:3")) };
        let offers = [offer("a", tcp("127.0.0.1:9")), offer("x", tcp("127.0.0.1:8")), deaf];
        let misfits = plan(&wanted, &offers, UnusedSockets::Error).unwrap_err();
        let texts: Vec<String> = misfits.iter().map(Misfit::to_string).collect();
        assert_eq!(texts.len(), 4, "{texts:#?}");
        assert!(texts[0].contains("is tcp://127.0.0.1:9, not tcp://127.0.0.1:1"));
        assert!(texts[1].starts_with("listener b: it has no address"));
        assert!(texts[2].ends_with("does not listen"));
        assert!(texts[3].starts_with("inherited socket \"x\" (tcp://127.0.0.1:8)"));
    }

    #[test]
    fn an_unused_socket_can_be_closed_instead() {
        let offers = [offer("x", tcp("127.0.0.1:8"))];
        let plan = plan(&BTreeMap::new(), &offers, UnusedSockets::Close).unwrap();
        assert_eq!(plan.unused, [0]);
    }
}
