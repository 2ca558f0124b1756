//! Programs that know nothing of handover, unmodified, as its workers.
