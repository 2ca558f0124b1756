//! The real daemon with real workers: does it do what the machine decided, and what the documentation says?
