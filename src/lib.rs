//! Stheno.
