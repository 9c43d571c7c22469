//! The library as programs meet it: unmodified cudarc and raw calls, each test in a process of its own whose
//! `LD_LIBRARY_PATH` leads to the library under test.

mod c;
mod examples;
mod faults;
mod graphs;
mod harness;
mod hopper;
mod host;
mod launches;
mod memory;
mod misuse;
mod pools;
mod random;
mod raw;
