//! Every instruction form against a reference that shares nothing with the implementation.

mod approx;
mod atomic;
mod bits;
mod compare;
mod control;
mod convert;
mod float;
mod forms;
mod half;
mod harness;
mod integer;
mod memory;
mod moves;
mod operand;
#[cfg(target_arch = "x86_64")]
mod portable;
mod refusals;
mod soft;
mod warp;
