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
        self.given_to(name).or_else(|| self.usual(name))
    }

    /// Where a daemon of this name is at home that no service manager has given a directory.
    fn usual(&self, name: &str) -> Option<PathBuf> {
        let base = if self.root { Some(self.system()) } else { self.own() };
        base.map(|base| base.join(name))
    }

    /// The directory of `$RUNTIME_DIRECTORY` that is meant for a daemon of this name. A unit may have more of them, for its
    /// workers, and systemd sorts them: ours is the one that is called so, else the one that is called so for another
    /// name, else the first.
    pub fn given_to(&self, name: &str) -> Option<PathBuf> {
        let all = self.given();
        let called = all.iter().find(|path| path.ends_with(Path::new("handover").join(name)));
        called.or_else(|| all.iter().find(|path| is_a_daemons(path))).or(all.first()).cloned()
    }

    /// The sockets at which a client looks for a daemon of this name, the likeliest first: where the daemon would be in the
    /// same surroundings, but never in the directory of one with another name.
    pub fn sockets_of(&self, name: &str) -> Vec<PathBuf> {
        let given = self.given_to(name).filter(|path| !is_a_daemons(path) || path.ends_with(name));
        let own = if self.root { None } else { self.own() };
        let usual = own.into_iter().chain([self.system()]).map(|base| base.join(name));
        given.into_iter().chain(usual).map(|directory| directory.join(SOCKET)).collect()
    }

    /// The sockets that the surroundings name outright, the likeliest first: of a client that runs as part of the service.
    pub fn given_sockets(&self) -> Vec<PathBuf> {
        let (daemons, others): (Vec<PathBuf>, Vec<PathBuf>) =
            self.given().into_iter().partition(|path| is_a_daemons(path));
        daemons.into_iter().chain(others).map(|directory| directory.join(SOCKET)).collect()
    }

    /// The directories of which each sub-directory may be a running daemon's.
    pub fn bases(&self) -> Vec<PathBuf> {
        let own = if self.root { None } else { self.own() };
        own.into_iter().chain([self.system()]).collect()
    }

    fn given(&self) -> Vec<PathBuf> {
        self.runtime_directory.iter().flat_map(|list| list.split(':')).filter_map(absolute).collect()
    }

    fn system(&self) -> PathBuf {
        PathBuf::from(if self.macos { "/var/run/handover" } else { "/run/handover" })
    }

    fn own(&self) -> Option<PathBuf> {
        let base = if self.macos { &self.tmpdir } else { &self.xdg_runtime_dir };
        base.as_deref().and_then(absolute).map(|base| base.join("handover"))
    }
}

/// `handover/NAME` for some name, as in `RuntimeDirectory=`.
fn is_a_daemons(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with("handover"))
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
        assert!(root.given_sockets().is_empty());
    }

    fn given(list: &str) -> Surroundings {
        Surroundings { runtime_directory: Some(list.into()), ..root() }
    }

    #[test]
    fn of_several_directories_the_one_that_is_called_so_is_ours_wherever_it_stands() {
        let table = [
            ("/run/aaa:/run/handover/a:/run/zzz", "/run/handover/a"),
            ("/run/aaa:/run/handover/b", "/run/handover/b"),
            ("/run/handover/b:/run/handover/a", "/run/handover/a"),
            ("/run/aaa:/run/zzz", "/run/aaa"),
            ("/run/user/5/aaa:/run/user/5/handover/a", "/run/user/5/handover/a"),
            ("aaa:/run/handover-not/a:/run/bbb", "/run/handover-not/a"),
            (":", "/run/handover/a"),
        ];
        for (list, directory) in table {
            assert_eq!(given(list).directory("a"), Some(directory.into()), "{list}");
        }
    }

    #[test]
    fn a_client_of_the_service_looks_where_the_daemon_is_and_not_at_a_daemon_of_another_name() {
        let usual = "/run/handover/a/control.sock";
        let table = [
            ("/run/aaa:/run/handover/a", vec!["/run/handover/a/control.sock", usual]),
            ("/run/aaa:/run/zzz", vec!["/run/aaa/control.sock", usual]),
            ("/run/aaa:/run/handover/b", vec![usual]),
        ];
        for (list, sockets) in table {
            let sockets: Vec<PathBuf> = sockets.into_iter().map(PathBuf::from).collect();
            assert_eq!(given(list).sockets_of("a"), sockets, "{list}");
        }
        let sockets = given("/run/aaa:/run/handover/b").given_sockets();
        assert_eq!(sockets, ["/run/handover/b/control.sock", "/run/aaa/control.sock"].map(PathBuf::from));
    }
}
