//! What the services here share: a log, and a way to serve HTTP that finishes well. Made to be copied.

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod http;
pub mod log;
