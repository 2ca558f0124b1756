//! A worker against a stand-in for handover.
