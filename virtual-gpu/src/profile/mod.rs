//! Devices that are imitated, and what launches on them are counted by.

pub mod counters;
mod device;

pub use device::Profile;
