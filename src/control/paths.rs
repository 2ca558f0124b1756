//! Where the control socket is.
//!
//! Pure: the caller brings the variables and says who we are. Never the working directory, never `$HOME`: a socket
//! that turns up where nobody looks is a way in that nobody guards.

use std::path::{Path, PathBuf};

/// The name of the socket in its directory.
pub const SOCKET: &str = "control.sock";

/// What the place depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `$RUNTIME_DIRECTORY`, which systemd sets: absolute paths separated by colons.
    pub runtime_directory: Option<String>,
    /// `$XDG_RUNTIME_DIR`
    pub xdg_runtime_dir: Option<String>,
    /// `$TMPDIR`: on macOS each user's own.
    pub tmpdir: Option<String>,
    /// We are root.
    pub root: bool,
    /// We are on macOS.
    pub macos: bool,
}

impl Surroundings {
    /// Those of this process. `root`: its effective user is 0.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>, root: bool) -> Self {
        Self {
            runtime_directory: variable("RUNTIME_DIRECTORY"),
            xdg_runtime_dir: variable("XDG_RUNTIME_DIR"),
            tmpdir: variable("TMPDIR"),
            root,
            macos: cfg!(target_os = "macos"),
        }
    }

    /// The directory in which a daemon of this name keeps its socket and its lock; `None` where there is no such
    /// place, and the user must name one.
    pub fn directory(&self, name: &str) -> Option<PathBuf> {
        self.given().or_else(|| {
            let base = if self.root { Some(self.system()) } else { self.own() };
            base.map(|base| base.join(name))
        })
    }

    /// The sockets at which a client looks for a daemon of this name, the likeliest first.
    pub fn sockets_of(&self, name: &str) -> Vec<PathBuf> {
        let own = if self.root { None } else { self.own() };
        let bases = own.into_iter().chain([self.system()]);
        bases.map(|base| base.join(name).join(SOCKET)).collect()
    }

    /// The socket that the surroundings name outright: of a client that runs as part of the service, as
    /// `ExecReload=` does.
    pub fn given_socket(&self) -> Option<PathBuf> {
        self.given().map(|directory| directory.join(SOCKET))
    }

    /// The directories of which each sub-directory may be a running daemon's.
    pub fn bases(&self) -> Vec<PathBuf> {
        let own = if self.root { None } else { self.own() };
        own.into_iter().chain([self.system()]).collect()
    }

    fn given(&self) -> Option<PathBuf> {
        let first = self.runtime_directory.as_deref()?.split(':').next()?;
        absolute(first)
    }

    fn system(&self) -> PathBuf {
        PathBuf::from(if self.macos { "/var/run/handover" } else { "/run/handover" })
    }

    fn own(&self) -> Option<PathBuf> {
        let base = if self.macos { &self.tmpdir } else { &self.xdg_runtime_dir };
        base.as_deref().and_then(absolute).map(|base| base.join("handover"))
    }
}

/// A path that is not absolute counts as none (XDG Base Directory Specification).
fn absolute(path: &str) -> Option<PathBuf> {
    Path::new(path).is_absolute().then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Surroundings {
        Surroundings { xdg_runtime_dir: Some("/run/user/1000".into()), ..Surroundings::default() }
    }

    fn root() -> Surroundings {
        Surroundings { root: true, ..Surroundings::default() }
    }

    #[test]
    fn the_directory_is_the_service_managers_or_roots_or_the_users_or_none() {
        let under_systemd =
            Surroundings { runtime_directory: Some("/run/handover/a:/run/b".into()), ..root() };
        let directory = |surroundings: &Surroundings| surroundings.directory("a");
        assert_eq!(directory(&under_systemd), Some("/run/handover/a".into()));
        assert_eq!(directory(&root()), Some("/run/handover/a".into()));
        assert_eq!(directory(&user()), Some("/run/user/1000/handover/a".into()));
        assert_eq!(directory(&Surroundings::default()), None);
        let odd = Surroundings { xdg_runtime_dir: Some("tmp".into()), ..Surroundings::default() };
        assert_eq!(directory(&odd), None);
        let empty = Surroundings { runtime_directory: Some(String::new()), ..user() };
        assert_eq!(directory(&empty), directory(&user()));
    }

    #[test]
    fn macos_has_places_of_its_own() {
        let user = Surroundings { tmpdir: Some("/var/folders/x".into()), macos: true, ..user() };
        assert_eq!(user.directory("a"), Some("/var/folders/x/handover/a".into()));
        let root = Surroundings { macos: true, ..root() };
        assert_eq!(root.directory("a"), Some("/var/run/handover/a".into()));
    }

    #[test]
    fn a_client_looks_among_its_users_daemons_first_and_root_only_among_the_systems() {
        let paths: Vec<PathBuf> =
            vec!["/run/user/1000/handover/a/control.sock".into(), "/run/handover/a/control.sock".into()];
        assert_eq!(user().sockets_of("a"), paths);
        let root = Surroundings { root: true, ..user() };
        assert_eq!(root.sockets_of("a"), paths[1..]);
        assert_eq!(root.bases(), [PathBuf::from("/run/handover")]);
        assert_eq!(root.given_socket(), None);
    }
}
