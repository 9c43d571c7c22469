//! A GPU for machines that have none: loads the PTX that NVRTC produced and executes it on the CPU, exactly, with the
//! checks of a sanitizer and the counters of a profiler.

pub mod check;
pub mod num;
