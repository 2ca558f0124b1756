//! What `handover status --json` says, as tests ask for it.

use serde_json::Value;

/// A worker as status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its number.
    pub worker: u64,
    /// Its slot.
    pub slot: u32,
    /// Its generation.
    pub generation: u64,
    /// `starting`, `ready`, `draining`, …
    pub state: String,
    /// Its pid.
    pub pid: u32,
}

/// The whole answer.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Status {
    /// The workers of `pool`, by slot and age.
    pub fn workers(&self, pool: &str) -> Vec<Worker> {
        let Some(slots) = self.pool(pool).and_then(|pool| pool.get("slots")) else { return Vec::new() };
        each(slots).flat_map(|(slot, value)| workers_of(&slot, value)).collect()
    }

    /// The workers of `pool` that are ready.
    pub fn ready(&self, pool: &str) -> Vec<Worker> {
        self.workers(pool).into_iter().filter(|worker| worker.state == "ready").collect()
    }

    /// Whether each slot has a ready worker, and no other.
    pub fn is_settled(&self) -> bool {
        self.0.get("pools").into_iter().flat_map(each).all(|(name, pool)| {
            let ready = Value::from(self.ready(&name).len());
            pool["wanted"] == ready && self.workers(&name).len() == self.ready(&name).len()
        })
    }

    /// A pool.
    pub fn pool(&self, name: &str) -> Option<&Value> {
        named(self.0.get("pools")?, name)
    }

    /// A listener.
    pub fn listener(&self, name: &str) -> Option<&Value> {
        named(self.0.get("listeners")?, name)
    }

    /// One of the daemon's counters.
    pub fn counter(&self, name: &str) -> u64 {
        self.0["counters"][name].as_u64().unwrap_or(0)
    }

    /// Whether `text` stands anywhere in it.
    pub fn mentions(&self, text: &str) -> bool {
        self.0.to_string().contains(text)
    }
}

fn workers_of(slot: &str, value: &Value) -> Vec<Worker> {
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
    let slot = slot.parse().unwrap_or(u32::MAX);
    let workers = value.get("workers").and_then(Value::as_array).into_iter().flatten();
    workers
        .map(|worker| Worker {
            worker: number(worker, "worker"),
            slot,
            generation: number(worker, "generation"),
            state: worker.get("state").and_then(Value::as_str).unwrap_or_default().to_owned(),
            pid: u32::try_from(number(worker, "pid")).unwrap_or(0),
        })
        .collect()
}

/// The entries of an object by key, or of an array by what `name` or `slot` says.
fn each(value: &Value) -> Box<dyn Iterator<Item = (String, &Value)> + '_> {
    match value {
        Value::Object(map) => Box::new(map.iter().map(|(key, value)| (key.clone(), value))),
        Value::Array(list) => Box::new(list.iter().map(|value| {
            let key = value.get("name").or_else(|| value.get("slot")).cloned().unwrap_or_default();
            (key.as_str().map_or_else(|| key.to_string(), str::to_owned), value)
        })),
        _ => Box::new(std::iter::empty()),
    }
}

fn named<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    each(value).find(|(key, _)| key == name).map(|(_, value)| value)
}
