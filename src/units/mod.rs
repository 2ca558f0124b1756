//! A configuration to what a service manager runs it by: for systemd a service, and a socket unit for each listener; for
//! launchd a property list ([`launchd`]).
//!
//! Pure: it resolves no user and no host and looks at no file, because a generator runs before most of the system is
//! there. What `systemd.unit(5)`, `systemd.socket(5)` and `systemd.service(5)` (252, Debian 12) can say is said here in
//! their words; what they cannot is left to handover, and noted. The texts are the same for `handover generate systemd`
//! and for the generator.

mod hold;
pub mod launchd;
mod name;
mod service;
mod socket;
mod value;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use name::NameError;

use crate::config::model::{Config, Start};
use crate::id::ListenerName;
use hold::Held;

/// The line with which each unit begins, before the path of the configuration: whoever would replace a unit knows by
/// it whether the unit is ours.
const MARK: &str = "# Made by handover from ";

/// Which file the text of a unit was made from; `None` where it was not made by us.
pub fn made_from(text: &str) -> Option<&Path> {
    text.lines().next()?.strip_prefix(MARK).map(Path::new)
}

/// What units are made from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Its listeners, in the order of the file.
    pub order: &'a [ListenerName],
    /// The file that it was read from; absolute.
    pub file: &'a Path,
    /// The `handover` program; absolute.
    pub program: &'a Path,
    /// For a user's own systemd, which has other targets and can give and take nothing that only root can.
    pub user: bool,
}

/// The units of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    /// The service first, then its sockets in the order of the file; without listeners only the service.
    pub units: Vec<Unit>,
    /// What is to be linked for the start of the machine (`[install]`).
    pub link: Option<Link>,
    /// What systemd cannot do of that which the configuration says, for a person; also a comment of the service unit.
    pub notes: Vec<String>,
}

/// A unit file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// `myapp.service`; a file name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A unit that is wanted by a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// `sockets.target`
    pub target: &'static str,
    /// `myapp.socket`
    pub unit: String,
}

/// Why there can be no units.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitsError {
    /// A name that no unit can have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A path that cannot stand in a unit.
    #[error("{path:?} cannot stand in a unit of systemd: {reason}")]
    Path {
        /// Which.
        path: String,
        /// Why not.
        reason: &'static str,
    },
}

/// Makes the units. The file's name without `.toml` names them: `NAME.service`, `NAME.socket` for the first listener of
/// the file that systemd can hold, `NAME-LISTENER.socket` for the others.
///
/// # Errors
/// [`UnitsError`]: a name, or a path, that systemd cannot have.
pub fn systemd(source: &Source<'_>) -> Result<Units, UnitsError> {
    let stem = name::of_file(source.file)?;
    let mut notes = Vec::new();
    let mut sockets: Vec<Held<'_>> = Vec::new();
    for (name, listener) in source.order.iter().filter_map(|name| source.config.listeners.get_key_value(name))
    {
        match hold::hold(name, listener, source.user) {
            Ok((address, unset)) => {
                let unit = name::of_socket(stem, name, sockets.is_empty())?;
                notes.extend(unset);
                let options = &listener.options;
                let owned = !source.user && hold::has_owner(address, options);
                sockets.push(Held { unit, name, address, options, owned });
            }
            Err(note) => notes.push(note),
        }
    }
    let link = link(source, stem, !sockets.is_empty());
    let service = service::text(source, stem, &sockets, link.as_ref(), &notes)?;
    let mut units = vec![Unit { name: format!("{stem}.service"), text: service }];
    for socket in &sockets {
        let text = socket::text(source, stem, socket, &sockets, link.as_ref())?;
        units.push(Unit { name: socket.unit.clone(), text });
    }
    Ok(Units { units, link, notes })
}

fn link(source: &Source<'_>, stem: &str, has_sockets: bool) -> Option<Link> {
    match (source.config.install.start, has_sockets) {
        (Start::Nothing, _) => None,
        (Start::Socket, true) => Some(Link { target: "sockets.target", unit: format!("{stem}.socket") }),
        (Start::Socket, false) | (Start::Service, _) => {
            let target = if source.user { "default.target" } else { "multi-user.target" };
            Some(Link { target, unit: format!("{stem}.service") })
        }
    }
}

/// The beginning of every unit.
fn head(source: &Source<'_>, description: &str) -> Result<String, UnitsError> {
    let file = value::path(source.file)?;
    let description = value::text(description);
    Ok(format!("{MARK}{file}\n\n[Unit]\nDescription={description}\nSourcePath={}\n", value::percent(file)))
}

/// The end of the unit that is linked for the start of the machine.
fn install(link: Option<&Link>, unit: &str) -> String {
    match link {
        Some(link) if link.unit == unit => format!("\n[Install]\nWantedBy={}\n", link.target),
        _ => String::new(),
    }
}
