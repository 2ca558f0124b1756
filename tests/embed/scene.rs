//! What the tests begin with: a pool of scripted workers, and waiting for what happens.

use handover::control::document::Worker;
use handover::embed::event::{Event, What};
use handover::embed::{Builder, Events, Listener, Pool, Settings, Supervisor};

use crate::support::scratch::Address;
use crate::support::{PATIENCE, handover, scripted_worker};

/// A pool of so many scripted workers with these steps.
pub fn workers(number: u32, steps: &[&str]) -> Pool {
    let program = scripted_worker().display().to_string();
    let command = std::iter::once(program).chain(steps.iter().map(|step| (*step).to_owned()));
    Pool::new("web", command).workers(number).set("rollout.bake_time", "10ms").set("stop_timeout", "10s")
}

/// A pool of web servers on this address.
pub fn web(address: &Address, number: u32) -> Settings {
    Settings::new("embedded")
        .listener(Listener::new("http", address.to_string()))
        .pool(workers(number, &[]).listener("http"))
}

/// Through the `handover` program, since the `main` of a test program is not ours.
pub fn builder(settings: &Settings) -> Builder {
    Builder::from_settings(settings).helper(handover())
}

/// Starts it, and waits until its workers are ready.
pub async fn start(builder: Builder) -> Supervisor {
    let supervisor = soon("its start", builder.start()).await.unwrap();
    soon("its workers", supervisor.ready()).await.unwrap();
    supervisor
}

/// Waits, but not for ever.
#[track_caller]
pub fn soon<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let at = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{what} never came ({at})"),
        }
    }
}

/// Waits for an event.
pub async fn event(events: &mut Events, what: &str, is: impl Fn(&What) -> bool) -> Event {
    soon(what, async {
        loop {
            let event = events.next().await.expect("it goes on");
            if is(&event.what) {
                return event;
            }
        }
    })
    .await
}

/// The pids of the workers that serve.
pub async fn pids(supervisor: &Supervisor) -> Vec<u32> {
    let status = supervisor.status().await.unwrap();
    let slots = status.pools.iter().flat_map(|pool| &pool.slots);
    let serving = |worker: &&Worker| worker.ready.is_some() && worker.asked.is_none();
    slots.flat_map(|slot| &slot.workers).filter(serving).filter_map(|worker| worker.pid).collect()
}

/// Is there anything left in `/proc` of these processes?
pub fn assert_gone(pids: &[u32]) {
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is still there");
    }
}
