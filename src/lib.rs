//! handover holds a service's listening sockets and hands them over: to the workers that serve them, and
//! from one generation of workers to the next. The sockets stay while everything else is replaced.
//!
//! What programs may build on:
//!
#![cfg_attr(
    feature = "worker",
    doc = "- [`worker`]: the SDK, what a worker written in Rust needs (feature `worker`)"
)]
#![cfg_attr(
    not(feature = "worker"),
    doc = "- `worker`: the SDK, what a worker written in Rust needs (feature `worker`)"
)]
#![cfg_attr(
    feature = "pipe",
    doc = "- [`pipe`]: connections and other fds from one process to another, with data (feature `pipe`)"
)]
#![cfg_attr(
    not(feature = "pipe"),
    doc = "- `pipe`: connections and other fds from one process to another, with data (feature `pipe`)"
)]
#![cfg_attr(
    feature = "supervisor",
    doc = "- [`embed`]: the supervisor as a part of another program (feature `supervisor`)"
)]
#![cfg_attr(
    not(feature = "supervisor"),
    doc = "- `embed`: the supervisor as a part of another program (feature `supervisor`)"
)]
//! - [`exit`]: the exit codes of the command
//!
//! All of it is listed in `docs/public-api`. **Every other module is here for the `handover` command, is left out
//! of these pages, and may change in any release.**
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
//! - `embed`: the daemon as a part of another program
//! - `cli`: the `handover` command

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "supervisor")]
#[doc(hidden)]
pub mod config;
#[cfg(feature = "supervisor")]
#[doc(hidden)]
pub mod control;
#[cfg(feature = "supervisor")]
#[doc(hidden)]
pub mod daemon;
#[cfg(feature = "supervisor")]
pub mod embed;
pub mod exit;
#[cfg(any(feature = "supervisor", feature = "worker"))]
#[doc(hidden)]
pub mod id;
#[cfg(feature = "supervisor")]
#[doc(hidden)]
pub mod listeners;
#[cfg(feature = "supervisor")]
#[doc(hidden)]
pub mod notify;
#[cfg(feature = "supervisor")]
#[doc(hidden)]
pub mod observe;
#[cfg(any(feature = "supervisor", feature = "worker", feature = "pipe"))]
#[doc(hidden)]
pub mod os;
#[cfg(feature = "pipe")]
pub mod pipe;
#[cfg(feature = "supervisor")]
#[doc(hidden)]
pub mod stamp;
#[cfg(feature = "supervisor")]
#[doc(hidden)]
pub mod supervisor;
#[cfg(feature = "supervisor")]
#[doc(hidden)]
pub mod time;
#[cfg(feature = "supervisor")]
#[doc(hidden)]
pub mod units;
#[cfg(feature = "supervisor")]
#[doc(hidden)]
pub mod visible;
#[cfg(any(feature = "supervisor", feature = "worker"))]
#[doc(hidden)]
pub mod wire;
#[cfg(feature = "worker")]
pub mod worker;
