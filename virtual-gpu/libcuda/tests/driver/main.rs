//! The library as programs meet it: unmodified cudarc and raw calls, each test in a process of its own whose
//! `LD_LIBRARY_PATH` leads to the library under test.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every launch and raw call is unsafe; wrong ones are what is tested, each in a process of its own"
)]

mod examples;
mod faults;
mod harness;
mod host;
mod launches;
mod memory;
mod misuse;
mod raw;
