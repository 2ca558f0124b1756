//! Serving the control socket, and serving it again when its file was lost.
//!
//! `rm -rf` of the runtime directory, or a cleaner of `/tmp`, takes the file away while the socket lives: nobody can
//! connect any more, and nothing tells us. So it is looked for, on the same occasions as listeners are.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::rc::Rc;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::control::Access;
use crate::control::server::{Traffic, serve};
use crate::daemon::Daemon;
use crate::daemon::clients::command::Wish;
use crate::os::peer;

/// The tasks that take control connections.
pub(in crate::daemon) struct Serving {
    access: Access,
    calls: mpsc::Sender<Wish>,
    traffic: Rc<Traffic>,
    now: JoinHandle<()>,
    /// The one before takes who had connected already; nobody can do so any more.
    before: Option<JoinHandle<()>>,
}

impl Serving {
    /// Begins.
    pub(in crate::daemon) fn start(
        listener: UnixListener,
        access: Access,
        calls: mpsc::Sender<Wish>,
        traffic: Rc<Traffic>,
    ) -> Self {
        let now = task(listener, access, &calls, &traffic);
        Self { access, calls, traffic, now, before: None }
    }

    /// Goes on with a new listener.
    fn go_on(&mut self, listener: UnixListener) {
        let new = task(listener, self.access, &self.calls, &self.traffic);
        let old = self.before.replace(std::mem::replace(&mut self.now, new));
        old.inspect(JoinHandle::abort);
    }

    /// Takes no connection any more.
    pub(in crate::daemon) fn end(&self) {
        self.now.abort();
        self.before.iter().for_each(JoinHandle::abort);
    }
}

fn task(
    listener: UnixListener,
    access: Access,
    calls: &mpsc::Sender<Wish>,
    traffic: &Rc<Traffic>,
) -> JoinHandle<()> {
    let groups = |socket: BorrowedFd<'_>| peer::peer(socket).map(|peer| peer.groups);
    tokio::task::spawn_local(serve(listener, access, groups, calls.clone(), traffic.clone()))
}

impl Daemon {
    /// Binds the control socket afresh if its file was lost.
    pub(in crate::daemon) fn look_for_control(&mut self) {
        if !self.runtime.has_lost_control() {
            return;
        }
        let rebound = self.runtime.rebind_control().map_err(|error| error.to_string());
        let result = rebound.and_then(|()| self.runtime.control_socket().map_err(|error| error.to_string()));
        let path = self.runtime.control_path().unwrap_or(Path::new("")).display();
        let now = self.now();
        match result {
            Ok(listener) => {
                if let (Some(serving), Some(listener)) = (&mut self.serving, listener) {
                    serving.go_on(listener);
                }
                if let Some(held_back) = self.limits.pass("control socket", now) {
                    tracing::warn!(%path, held_back, "control socket lost its file, bound afresh");
                }
            }
            Err(error) => {
                if let Some(held_back) = self.limits.pass("control socket", now) {
                    tracing::warn!(%path, error, held_back, "control socket lost its file: nobody can connect");
                }
            }
        }
    }
}
