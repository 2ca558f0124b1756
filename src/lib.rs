//! handover holds a service's listening sockets and hands them over: to the workers that serve them, and
//! from one generation of workers to the next. The sockets stay while everything else is replaced.
//!
//! The map of this tree, from the bottom up; a module uses only what stands above it
//! (`tests/tidy.rs` keeps that):
//!
//! - `id`, `time`, `stamp`, `exit`: names, moments, moments as text, exit codes: what all layers share
//! - `os`: the only unsafe code: processes, sockets, fd passing, signals; knows nothing of the rest
//! - `pipe`: connections and other fds from one process to another, with data; for programs without the daemon, too
//! - `config`: TOML text to a `config::model::Config` that is valid by construction
//! - `wire`: what handover and a worker say to each other: bytes to lines and back
//! - `worker`: the SDK: what a worker written in Rust needs
//! - `units`: a configuration to the units with which systemd runs it, or to a job of launchd
//! - `supervisor`: the pure state machine that takes every decision about workers
//! - `listeners`, `notify`, `observe`, `control`: held sockets, the service manager, logs, the control API
//! - `daemon`: the shell, where everything meets
//! - `cli`: the `handover` command

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "supervisor")]
pub mod config;
#[cfg(feature = "supervisor")]
pub mod control;
#[cfg(feature = "supervisor")]
pub mod daemon;
pub mod exit;
#[cfg(any(feature = "supervisor", feature = "worker"))]
pub mod id;
#[cfg(feature = "supervisor")]
pub mod listeners;
#[cfg(feature = "supervisor")]
pub mod notify;
#[cfg(feature = "supervisor")]
pub mod observe;
#[cfg(any(feature = "supervisor", feature = "worker", feature = "pipe"))]
pub mod os;
#[cfg(feature = "pipe")]
pub mod pipe;
#[cfg(feature = "supervisor")]
pub mod stamp;
#[cfg(feature = "supervisor")]
pub mod supervisor;
#[cfg(feature = "supervisor")]
pub mod time;
#[cfg(feature = "supervisor")]
pub mod units;
#[cfg(any(feature = "supervisor", feature = "worker"))]
pub mod wire;
#[cfg(feature = "worker")]
pub mod worker;
