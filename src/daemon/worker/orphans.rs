//! Children that are not ours by choice: processes that outlived their parents.
//!
//! They are reaped, and they tell whether something of a worker is left when its main process has ended. A list
//! of all children costs time for each of them, which at a thousand workers is more than all the rest of a start;
//! so it is asked for only where nothing else will do, and after the starts.

use std::io;

use crate::daemon::Daemon;
use crate::daemon::worker::monitor::GroupOrder;
use crate::os::process::{count_orphans, reap_hidden_orphans, reap_orphans};

impl Daemon {
    /// Reaps those that have ended. In the usual case the first one that has is a worker; its attendant will
    /// reap it in a moment, and what is behind it waits for that. One that stays hides them for long.
    pub(in crate::daemon) fn reap_orphans(&mut self) {
        match self.try_reap() {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "orphans reaped"),
            Err(error) => tracing::warn!(%error, "orphans not reaped"),
        }
    }

    fn try_reap(&mut self) -> io::Result<usize> {
        let table = &self.table;
        let known = |pid| table.has_pid(pid);
        let reaped = reap_orphans(&known)?;
        let stays = reaped.kept.is_some_and(|pid| table.lingers(pid));
        self.orphans_may_hide = reaped.kept.is_some() && !stays;
        Ok(reaped.count + if stays { reap_hidden_orphans(&known)? } else { 0 })
    }

    /// Workers were reaped that may have stood before ended orphans.
    pub(in crate::daemon) fn look_behind_the_reaped(&mut self) {
        if self.orphans_may_hide {
            self.reap_orphans();
        }
    }

    /// Has the attendants of workers that have ended end what is left of their groups.
    pub(in crate::daemon) fn end_groups(&mut self) {
        while let Some((worker, signal)) = self.waiting_ends.pop_front() {
            let something_left = self.has_strangers();
            let order = if something_left { GroupOrder::End(signal) } else { GroupOrder::NothingLeft };
            let Some(entry) = self.table.get_mut(worker) else { continue };
            entry.lingers = something_left;
            if let Some(end_group) = entry.end_group.take() {
                // An attendant that is gone has nothing left to end.
                let _ = end_group.send(order);
            }
            if something_left {
                self.look_behind_the_reaped();
            }
        }
    }

    /// Have we children that are no workers? Asked once a turn. A subreaper gets the children of a worker that
    /// has ended, whatever they did with their process groups; without any, nothing of the worker is left, and
    /// its group need not be searched for among all processes.
    fn has_strangers(&mut self) -> bool {
        if !self.is_subreaper {
            return true;
        }
        let (table, closer) = (&self.table, &self.closer);
        let known = |pid| table.has_pid(pid) || closer.has_pid(pid);
        *self.strangers.get_or_insert_with(|| count_orphans(&known).map_or(true, |count| count > 0))
    }
}
