//! Is it fine, and if not, why: one line from a status document.
//!
//! Pure. The same line is the first of `handover status` and, through `daemon.summary`, whatever a monitor shows. What a probe
//! asks (`handover status --check`) is answered here, too, from the same troubles: a service is not restarted for a deploy that
//! was rolled back, so what only a person need look at does not make it unhealthy.

use super::document::{Pool, Reading, Rollout, Slot, StatusDocument, WorkerState};

/// What a document comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Nothing needs attention.
    pub(super) fine: bool,
    /// What is configured serves.
    pub(super) healthy: bool,
    /// One line.
    pub(super) line: String,
}

/// Something that needs attention.
struct Trouble {
    text: String,
    /// Less serves than is configured, or may.
    of_service: bool,
}

/// See the module.
pub(super) fn summary(document: &StatusDocument) -> Summary {
    let troubles = troubles(document);
    let ready: u32 = document.pools.iter().map(|pool| pool.ready).sum();
    let wanted: u32 = document.pools.iter().map(|pool| pool.wanted).sum();
    let serving = format!("{ready} of {wanted} workers ready");
    let doing = match (document.daemon.phase.as_str(), &document.rollout) {
        ("running", None) => document.readings.iter().find(|reading| !reading.given_up).map(reading),
        ("running", Some(rollout)) => Some(rolling(rollout)),
        (phase, _) => {
            Some(waited_for(document).map_or_else(|| phase.to_owned(), |what| format!("{phase}, {what}")))
        }
    };
    let first = doing.map_or_else(|| serving.clone(), |doing| format!("{doing}; {serving}"));
    let (fine, idle) = (troubles.is_empty(), idle(document));
    let is_running = document.daemon.phase == "running";
    let healthy = is_running && idle.is_none() && !troubles.iter().any(|trouble| trouble.of_service);
    let line = match (fine, idle) {
        (false, _) => {
            let texts: Vec<_> = troubles.iter().map(|trouble| trouble.text.as_str()).collect();
            format!("needs attention: {}; {first}", texts.join("; "))
        }
        (true, _) if !is_running => {
            let waits = waited_for(document).map_or_else(String::new, |what| format!(", {what}"));
            format!("{}: {serving}{waits}", document.daemon.phase)
        }
        (true, Some(pool)) => format!("pool {pool} has no ready worker: {first}"),
        (true, None) => format!("fine: {first}"),
    };
    Summary { fine, healthy, line }
}

/// A pool of which nobody serves, which may be in the course of a rollout.
fn idle(document: &StatusDocument) -> Option<&str> {
    let idle = document.pools.iter().find(|pool| pool.wanted > 0 && pool.ready == 0);
    idle.map(|pool| pool.name.as_str())
}

/// What a worker that has been starting for long has not done yet.
fn waited_for(document: &StatusDocument) -> Option<String> {
    let slots = document.pools.iter().flat_map(|pool| pool.slots.iter().map(move |slot| (pool, slot)));
    let mut workers =
        slots.flat_map(|(pool, slot)| slot.workers.iter().map(move |worker| (pool, slot, worker)));
    workers.find_map(|(pool, slot, worker)| {
        let (what, seconds) = (worker.waiting_for.as_deref()?, worker.started.seconds_ago);
        let (pool, slot, worker) = (&pool.name, slot.slot, worker.worker);
        Some(format!("worker {worker} (pool {pool}, slot {slot}) waits for {seconds:.0} s for {what}"))
    })
}

fn reading(reading: &Reading) -> String {
    format!("{} for {:.0} s", reading.what, reading.seconds)
}

fn rolling(rollout: &Rollout) -> String {
    let verb = if rollout.rolling_back.is_some() { "rolling back from" } else { "rolling to" };
    let Rollout { generation, moved, slots, .. } = rollout;
    let mut text = format!("{verb} generation {generation}, {moved} of {slots} slots moved");
    if !rollout.waiting_for.is_empty() {
        text.push_str(&format!(", waiting for {}", rollout.waiting_for));
    }
    text
}

fn troubles(document: &StatusDocument) -> Vec<Trouble> {
    let of_service = |text| Trouble { text, of_service: true };
    // While it starts, rolls or stops, workers that are not ready are in its proper course.
    let settled = document.daemon.phase == "running" && document.rollout.is_none();
    let starts = document.daemon.phase == "starting";
    let trouble = |pool| {
        let missing = missing(pool).filter(|_| settled || (starts && has_failed(pool)));
        pool_trouble(pool).or(missing).or_else(|| behind(pool).filter(|_| settled))
    };
    let left = document.pools.iter().filter_map(not_killed);
    let mut troubles: Vec<_> = left.map(|text| Trouble { text, of_service: false }).collect();
    troubles.extend(document.pools.iter().filter_map(trouble).map(of_service));
    troubles.extend(for_people(document).map(|text| Trouble { text, of_service: false }));
    for listener in document.listeners.iter().filter(|listener| listener.harmed) {
        troubles.push(of_service(format!("listener {}: {}", listener.name, listener.drift.join(", "))));
    }
    troubles
}

/// What happened and hinders nobody: the old generation serves as before.
fn for_people(document: &StatusDocument) -> impl Iterator<Item = String> {
    let mut troubles = Vec::new();
    if let (Some(failed), None) = (&document.last_failed_rollout, &document.rollout) {
        let part = if failed.kept.is_empty() { "" } else { " in part" };
        troubles.push(format!(
            "the rollout to generation {} was rolled back{part}: {}",
            failed.generation, failed.failure.text
        ));
    }
    for stuck in document.readings.iter().filter(|reading| reading.given_up) {
        troubles.push(format!("{}, and does not end", reading(stuck)));
    }
    troubles.into_iter()
}

/// Workers that cannot be ended.
fn not_killed(pool: &Pool) -> Option<String> {
    let workers = pool.slots.iter().flat_map(|slot| &slot.workers);
    let left = workers.filter(|worker| worker.state == WorkerState::LetGo);
    let pids: Vec<String> = left.map(|worker| worker.pid.unwrap_or_default().to_string()).collect();
    let plural = if pids.len() == 1 { "" } else { "es" };
    (!pids.is_empty())
        .then(|| format!("pool {}: process{plural} {} cannot be ended", pool.name, pids.join(", ")))
}

/// What is wrong with a pool that runs: a start or a rollout in its proper course is no trouble.
fn pool_trouble(pool: &Pool) -> Option<String> {
    let looping: Vec<_> = pool.slots.iter().filter(|slot| slot.crash_loop).collect();
    if let Some(slot) = looping.first() {
        let slots: Vec<_> = looping.iter().map(|slot| slot.slot.to_string()).collect();
        let why = slot.last_failure.as_ref().map_or("", |last| last.failure.text.as_str());
        let plural = if slots.len() == 1 { "" } else { "s" };
        return Some(format!("crash loop in pool {}, slot{plural} {}: {why}", pool.name, slots.join(", ")));
    }
    let waiting =
        pool.slots.iter().find(|slot| slot.workers.is_empty() && slot.restart_in_seconds.is_some())?;
    let why =
        waiting.last_failure.as_ref().map_or_else(String::new, |last| format!(": {}", last.failure.text));
    Some(format!("pool {}, slot {} waits for its restart{why}", pool.name, waiting.slot))
}

/// Fewer workers are ready than wanted, and why.
fn missing(pool: &Pool) -> Option<String> {
    if pool.ready >= pool.wanted {
        return None;
    }
    let is_ready = |slot: &&Slot| slot.workers.iter().any(|worker| worker.state == WorkerState::Ready);
    let failed = pool.slots.iter().filter(|slot| !is_ready(slot)).find_map(|slot| slot.last_failure.as_ref());
    let why = failed.map_or("starting", |last| last.failure.text.as_str());
    Some(format!("pool {}: {} of {} workers ready: {why}", pool.name, pool.ready, pool.wanted))
}

/// A slot without a ready worker has had one that failed: it is not in the proper course of a start.
fn has_failed(pool: &Pool) -> bool {
    let is_ready = |slot: &Slot| slot.workers.iter().any(|worker| worker.state == WorkerState::Ready);
    pool.slots.iter().any(|slot| slot.last_failure.is_some() && !is_ready(slot))
}

/// Its workers may have a socket on which nobody comes any more.
fn behind(pool: &Pool) -> Option<String> {
    let listeners = pool.lost_listeners.join(", ");
    let text =
        || format!("pool {}: workers may have a socket of listener {listeners} that was ended", pool.name);
    (!pool.lost_listeners.is_empty()).then(text)
}

#[cfg(test)]
mod tests {
    use super::super::document::{Daemon, Failure, Listener, Moment, SlotFailure};
    use super::*;

    fn document() -> StatusDocument {
        let text = include_str!("../../docs/control.md");
        let example = text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        serde_json::from_str(example).unwrap()
    }

    #[test]
    fn the_line_of_the_documented_example_is_what_its_facts_give() {
        let document = document();
        let Daemon { fine, healthy, summary: line, .. } = document.daemon.clone();
        assert_eq!(summary(&document), Summary { fine, healthy, line });
    }

    #[test]
    fn a_daemon_without_trouble_is_fine_and_healthy_when_it_serves() {
        let mut document = document();
        document.last_failed_rollout = None;
        document.listeners.clear();
        document.pools.iter_mut().for_each(|pool| pool.slots.clear());
        document.rollout = None;
        let fine = |healthy, line: &str| Summary { fine: true, healthy, line: line.to_owned() };
        assert_eq!(summary(&document), fine(true, "fine: 2 of 2 workers ready"));
        document.daemon.phase = "stopping".into();
        assert_eq!(summary(&document), fine(false, "stopping: 2 of 2 workers ready"));
        document.daemon.phase = "starting".into();
        document.pools[0].ready = 0;
        assert_eq!(summary(&document), fine(false, "starting: 0 of 2 workers ready"));
    }

    #[test]
    fn a_rollout_is_healthy_while_somebody_serves() {
        let mut document = document();
        document.last_failed_rollout = None;
        document.listeners.clear();
        document.pools.iter_mut().for_each(|pool| pool.slots.clear());
        document.rollout = Some(some_rollout());
        document.pools[0].ready = 1;
        assert!(summary(&document).healthy, "{:?}", summary(&document));
        document.pools[0].ready = 0;
        let now = summary(&document);
        assert!(now.fine && !now.healthy);
        assert!(
            now.line.starts_with("pool web has no ready worker: rolling to generation 2"),
            "{}",
            now.line
        );
    }

    #[test]
    fn what_hinders_nobody_is_for_people_and_not_for_probes() {
        let mut document = document();
        document.rollout = None;
        document.listeners.clear();
        document.pools.iter_mut().for_each(|pool| pool.slots.clear());
        assert!(document.last_failed_rollout.is_some());
        let now = summary(&document);
        assert!(!now.fine && now.healthy, "a deploy that was rolled back changes nothing: {}", now.line);
    }

    #[test]
    fn each_trouble_is_named() {
        let mut document = document();
        document.rollout = None;
        document.last_failed_rollout = None;
        document.listeners = vec![Listener {
            name: "http".into(),
            drift: vec!["backlog 511".into()],
            harmed: true,
            ..Listener::default()
        }];
        let failure = Failure { text: "exited with status 1".into(), ..Failure::default() };
        let slot = |slot, crash_loop| Slot {
            slot,
            workers: Vec::new(),
            restarts: 5,
            restart_in_seconds: Some(30.0),
            crash_loop,
            kept: false,
            last_failure: Some(SlotFailure { at: Moment::default(), failure: failure.clone() }),
            stored_fds: Vec::new(),
            stored_fds_refused: 0,
        };
        document.pools[0].slots = vec![slot(0, true), slot(1, true)];
        let Summary { fine, healthy, line } = summary(&document);
        assert!(!fine && !healthy);
        assert!(line.starts_with(
            "needs attention: crash loop in pool web, slots 0, 1: exited with status 1; listener http: backlog 511; "
        ));
        document.pools[0].slots = vec![slot(1, false)];
        assert!(
            summary(&document).line.contains("pool web, slot 1 waits for its restart: exited with status 1")
        );
    }

    #[test]
    fn a_pool_without_enough_ready_workers_is_not_fine_unless_something_is_under_way() {
        let mut document = document();
        document.last_failed_rollout = None;
        document.listeners.clear();
        let rollout = document.rollout.take();
        document.pools[0].ready = 1;
        document.pools[0].slots[0].workers.clear();
        let why = "exited with status 1 before it was ready; 1 of 2 workers ready";
        let expected = format!("needs attention: pool web: 1 of 2 workers ready: {why}");
        assert_eq!(summary(&document), Summary { fine: false, healthy: false, line: expected });
        document.pools[0].slots[0].last_failure = None;
        let Summary { fine, line, .. } = summary(&document);
        assert!(!fine && line.contains("1 of 2 workers ready: starting;"), "{line}");
        document.daemon.phase = "stopping".into();
        assert!(summary(&document).fine);
        document.daemon.phase = "running".into();
        document.rollout = rollout.or_else(|| Some(some_rollout()));
        assert!(summary(&document).fine);
    }

    #[test]
    fn a_pool_with_a_dead_socket_is_not_fine_unless_it_is_being_rolled() {
        let mut document = document();
        document.last_failed_rollout = None;
        document.pools[0].lost_listeners = vec!["http".into()];
        let Summary { fine, line, .. } = summary(&document);
        assert!(
            !fine && line.contains("pool web: workers may have a socket of listener http that was ended")
        );
        document.rollout = Some(some_rollout());
        assert!(summary(&document).fine);
    }

    fn some_rollout() -> Rollout {
        Rollout {
            generation: 2,
            started: Moment::default(),
            moved: 0,
            slots: 2,
            rolling_back: None,
            waiting_for: String::new(),
            waiting_seconds: 0.0,
        }
    }
}
