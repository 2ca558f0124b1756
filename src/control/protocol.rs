//! What can be asked, and what comes back.
//!
//! Pure: types and their JSON. [`ROUTES`] is the one table of all that the server answers; the level that each
//! route needs stands there and nowhere else.
//!
//! Members that a client does not know are to be ignored by it, and lines of a type that it does not know as well.
//! The server is strict the other way round: an unknown member in a request is an error, because it may be an
//! order that would otherwise silently not be carried out.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::PoolName;
use crate::supervisor::{self, Scope};

mod send;

pub use crate::wire::Payload;
pub use crate::wire::limits::DATA_MAX;
pub use send::{SEND_BODY_MAX, Send};

/// The media type of a document.
pub const JSON: &str = "application/json";
/// The media type of long work and of events: one JSON object a line.
pub const JSON_LINES: &str = "application/x-ndjson";
/// The longest body of a request, in bytes; of a message to workers it is [`SEND_BODY_MAX`].
pub const BODY_MAX: usize = 64 * 1024;
/// The largest number of slots that can be asked for, as in the configuration.
pub const WORKERS_MAX: u32 = 10_000;

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Look: status and events, without output of workers.
    Read,
    /// Everything.
    Admin,
}

/// One thing that the server answers.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path, whole.
    pub path: &'static str,
    /// The level that a client needs.
    pub level: Level,
    /// The longest body, in bytes.
    pub body_max: usize,
    /// It is answered with JSON lines instead of one document.
    pub streams: bool,
    read: fn(&[u8]) -> Result<Request, BadRequest>,
}

/// Everything that the server answers.
pub const ROUTES: [Route; 8] = [
    Route {
        method: "GET",
        path: "/v1/status",
        level: Level::Read,
        body_max: 0,
        streams: false,
        read: |_| Ok(Request::Status),
    },
    Route {
        method: "GET",
        path: "/v1/events",
        level: Level::Read,
        body_max: 0,
        streams: true,
        read: |_| Ok(Request::Events),
    },
    Route::post("/v1/reload", |body| from_json::<Reload>(body)?.checked().map(Request::Reload)),
    Route::post("/v1/restart", |body| from_json(body).map(Request::Restart)),
    Route::post("/v1/cancel", |body| from_json(body).map(Request::Cancel)),
    Route::post("/v1/scale", |body| from_json::<Scale>(body)?.checked().map(Request::Scale)),
    Route::post("/v1/stop", |body| from_json(body).map(Request::Stop)),
    Route {
        body_max: SEND_BODY_MAX,
        ..Route::post("/v1/send", |body| from_json::<Send>(body)?.checked().map(Request::Send))
    },
];

impl Route {
    const fn post(path: &'static str, read: fn(&[u8]) -> Result<Request, BadRequest>) -> Self {
        Self { method: "POST", path, level: Level::Admin, body_max: BODY_MAX, streams: true, read }
    }

    /// Reads the body of a request to this route; an empty one is `{}`.
    ///
    /// # Errors
    ///
    /// [`BadRequest`]: not JSON, or not what this route takes.
    pub fn read(&self, body: &[u8]) -> Result<Request, BadRequest> {
        match body.trim_ascii() {
            b"" => (self.read)(b"{}"),
            // An array would do for a struct as well, and name nothing.
            [b'{', ..] => (self.read)(body),
            _ => Err(BadRequest("body: not a JSON object".to_owned())),
        }
    }
}

/// A body that the route does not take; for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRequest(pub String);

fn from_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, BadRequest> {
    serde_json::from_slice(body).map_err(|error| BadRequest(format!("body: {error}")))
}

/// A request, read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `GET /v1/status`
    Status,
    /// `GET /v1/events`
    Events,
    /// `POST /v1/reload`
    Reload(Reload),
    /// `POST /v1/restart`
    Restart(Restart),
    /// `POST /v1/cancel`
    Cancel(Cancel),
    /// `POST /v1/scale`
    Scale(Scale),
    /// `POST /v1/stop`
    Stop(Stop),
    /// `POST /v1/send`
    Send(Send),
}

/// Read the configuration again and roll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reload {
    /// Only these pools; left out or empty: all.
    pub pools: BTreeSet<PoolName>,
    /// Only pools whose configuration changed.
    pub changed: bool,
    /// Answer when it is done; else as soon as it is accepted.
    pub wait: bool,
    /// Do nothing, and answer what would be done.
    pub dry_run: bool,
}

/// Roll with the same configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// Only these pools; left out or empty: all.
    pub pools: BTreeSet<PoolName>,
    /// Answer when it is done; else as soon as it is accepted.
    pub wait: bool,
}

/// Roll the running rollout back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cancel {
    /// Only if this pool takes part in it.
    pub pool: Option<PoolName>,
}

/// Set the number of slots of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Which pool.
    pub pool: PoolName,
    /// The number of slots, 1 to [`WORKERS_MAX`]. Exactly one of this, `by` and `reset`.
    #[serde(default)]
    pub workers: Option<u32>,
    /// So many slots more, or fewer, than are wanted when the daemon begins it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<i32>,
    /// Back to the number in the configuration.
    #[serde(default)]
    pub reset: bool,
    /// Answer when it is done; else as soon as it is accepted.
    #[serde(default = "yes")]
    pub wait: bool,
}

/// End the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// At once, without waiting for what workers have in hand.
    pub now: bool,
}

fn yes() -> bool {
    true
}

impl Default for Reload {
    fn default() -> Self {
        Self { pools: BTreeSet::new(), changed: false, wait: true, dry_run: false }
    }
}

impl Default for Restart {
    fn default() -> Self {
        Self { pools: BTreeSet::new(), wait: true }
    }
}

impl Reload {
    fn checked(self) -> Result<Self, BadRequest> {
        match self {
            Self { dry_run: true, wait: false, .. } => {
                Err(BadRequest("wait: a dry run is answered when it is done".to_owned()))
            }
            _ => Ok(self),
        }
    }

    fn scope(&self) -> Scope {
        let pools = (!self.pools.is_empty()).then(|| self.pools.clone());
        Scope { reread: true, pools, changed_only: self.changed }
    }
}

impl Scale {
    fn checked(self) -> Result<Self, BadRequest> {
        match (self.workers, self.by, self.reset) {
            (Some(1..=WORKERS_MAX), None, false) | (None, None, true) => Ok(self),
            (Some(workers), None, false) => {
                Err(BadRequest(format!("workers: {workers} is not between 1 and {WORKERS_MAX}")))
            }
            (None, Some(0), false) => Err(BadRequest("by: 0 changes nothing".to_owned())),
            (None, Some(by), false) if by.unsigned_abs() > WORKERS_MAX => {
                Err(BadRequest(format!("by: {by} is more than {WORKERS_MAX} workers")))
            }
            (None, Some(_), false) => Ok(self),
            _ => Err(BadRequest("exactly one of workers, by and reset is needed".to_owned())),
        }
    }
}

impl Request {
    /// The route that takes it.
    pub fn route(&self) -> &'static Route {
        // In the order of the table.
        &ROUTES[match self {
            Self::Status => 0,
            Self::Events => 1,
            Self::Reload(_) => 2,
            Self::Restart(_) => 3,
            Self::Cancel(_) => 4,
            Self::Scale(_) => 5,
            Self::Stop(_) => 6,
            Self::Send(_) => 7,
        }]
    }

    /// Its body.
    pub fn body(&self) -> Vec<u8> {
        let json = match self {
            Self::Status | Self::Events => return Vec::new(),
            Self::Reload(body) => serde_json::to_vec(body),
            Self::Restart(body) => serde_json::to_vec(body),
            Self::Cancel(body) => serde_json::to_vec(body),
            Self::Scale(body) => serde_json::to_vec(body),
            Self::Stop(body) => serde_json::to_vec(body),
            Self::Send(body) => serde_json::to_vec(body),
        };
        json.expect("plain structs with text keys are always JSON")
    }

    /// The client wants the outcome, not only to know that the request was accepted.
    pub fn waits(&self) -> bool {
        match self {
            Self::Reload(reload) => reload.wait,
            Self::Restart(restart) => restart.wait,
            Self::Scale(scale) => scale.wait,
            Self::Status | Self::Events | Self::Cancel(_) | Self::Stop(_) | Self::Send(_) => true,
        }
    }

    /// What a reload would cover of which only the plan is wanted; `None` for every other request.
    pub fn dry_run(&self) -> Option<Scope> {
        match self {
            Self::Reload(reload) if reload.dry_run => Some(reload.scope()),
            _ => None,
        }
    }

    /// What the machine is asked; `None` for what only looks, and for messages, which are none of its business.
    pub fn for_machine(&self) -> Option<supervisor::Request> {
        let some = |pools: &BTreeSet<PoolName>| (!pools.is_empty()).then(|| pools.clone());
        Some(match self {
            Self::Status | Self::Events | Self::Send(_) => return None,
            Self::Reload(reload) if reload.dry_run => return None,
            Self::Reload(reload) => supervisor::Request::Roll(reload.scope()),
            Self::Restart(restart) => {
                let pools = some(&restart.pools);
                supervisor::Request::Roll(Scope { reread: false, pools, changed_only: false })
            }
            Self::Cancel(cancel) => supervisor::Request::Cancel { pool: cancel.pool.clone() },
            Self::Scale(Scale { pool, by: Some(by), .. }) => {
                supervisor::Request::ScaleBy { pool: pool.clone(), by: *by }
            }
            Self::Scale(scale) => {
                supervisor::Request::Scale { pool: scale.pool.clone(), workers: scale.workers }
            }
            Self::Stop(stop) => supervisor::Request::Stop { now: stop.now },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SlotIndex;

    fn read(path: &str, body: &str) -> Result<Request, BadRequest> {
        ROUTES.iter().find(|route| route.path == path).unwrap().read(body.as_bytes())
    }

    #[test]
    fn whatever_changes_something_needs_admin_and_a_post() {
        for route in ROUTES {
            let changes = route.read(b"{}").ok().is_none_or(|request| request.for_machine().is_some());
            assert_eq!(route.level == Level::Admin, changes, "{}", route.path);
            assert_eq!(route.method == "POST", changes, "{}", route.path);
            let body_max = if route.path == "/v1/send" { SEND_BODY_MAX } else { BODY_MAX };
            assert!(route.path.starts_with("/v1/") && route.body_max <= body_max);
            assert_eq!(ROUTES.iter().filter(|other| other.path == route.path).count(), 1);
        }
    }

    #[test]
    fn each_request_finds_the_route_that_reads_it_back() {
        let requests = [
            Request::Status,
            Request::Events,
            Request::Reload(Reload { changed: true, wait: false, ..Reload::default() }),
            Request::Restart(Restart { pools: [PoolName::new("web")].into(), wait: true }),
            Request::Cancel(Cancel { pool: Some(PoolName::new("web")) }),
            Request::Scale(Scale {
                pool: PoolName::new("web"),
                workers: Some(3),
                by: None,
                reset: false,
                wait: true,
            }),
            Request::Scale(Scale {
                pool: PoolName::new("web"),
                workers: None,
                by: Some(-1),
                reset: false,
                wait: true,
            }),
            Request::Stop(Stop { now: true }),
            Request::Send(Send {
                pool: Some(PoolName::new("web")),
                slot: Some(SlotIndex(3)),
                worker: None,
                data: Payload::of("hello").unwrap(),
            }),
        ];
        for request in requests {
            assert_eq!(request.route().read(&request.body()), Ok(request));
        }
    }

    #[test]
    fn an_empty_body_is_the_usual_request() {
        assert_eq!(read("/v1/reload", " "), Ok(Request::Reload(Reload::default())));
        assert_eq!(read("/v1/stop", ""), Ok(Request::Stop(Stop { now: false })));
        let Some(supervisor::Request::Roll(scope)) = Request::Reload(Reload::default()).for_machine() else {
            panic!("a reload rolls");
        };
        assert_eq!(scope, Scope { reread: true, pools: None, changed_only: false });
    }

    #[test]
    fn an_order_that_is_not_understood_is_refused() {
        for (path, body) in [
            ("/v1/reload", r#"{"dry_run": true, "wait": false}"#),
            ("/v1/reload", r#"{"dryrun": true}"#),
            ("/v1/reload", "[]"),
            ("/v1/reload", "{"),
            ("/v1/stop", r#"{"now": 1}"#),
            ("/v1/scale", ""),
            ("/v1/scale", r#"{"pool": "web"}"#),
            ("/v1/scale", r#"{"pool": "web", "workers": 0}"#),
            ("/v1/scale", r#"{"pool": "web", "workers": 10001}"#),
            ("/v1/scale", r#"{"pool": "web", "workers": 2, "reset": true}"#),
            ("/v1/scale", r#"{"pool": "web", "workers": 2, "by": 1}"#),
            ("/v1/scale", r#"{"pool": "web", "by": 0}"#),
            ("/v1/scale", r#"{"pool": "web", "by": 10001}"#),
            ("/v1/scale", r#"{"pool": "web", "by": -10001}"#),
            ("/v1/scale", r#"{"pool": "web", "by": 4294967297}"#),
            ("/v1/scale", r#"{"pool": "web", "by": "+1"}"#),
        ] {
            assert!(read(path, body).is_err(), "{path} {body}");
        }
    }
}
