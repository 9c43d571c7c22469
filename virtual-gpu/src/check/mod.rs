//! The checks of a sanitizer, as plain data structures that an executor feeds with events.
//!
//! [`race`] finds data races by happens-before with the warp as the unit of concurrency, so that a verdict does not
//! depend on the schedule that happened to run. [`shadow`] knows which bytes are initialised or still being copied,
//! [`finding`] is what all of them report.

mod clock;
pub mod finding;
mod granule;
mod log;
mod pattern;
mod proxy;
pub mod race;
mod record;
pub mod shadow;
mod sync;
mod table;
mod walk;
