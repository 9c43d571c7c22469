use super::Forward;
use super::device_calls::DeviceCalls;
use crate::device::{DeviceExecutor, DeviceKv};
use crate::host::{self, HostExecutor, KvSequence};
use crate::plan::{Plan, Row, SegmentKind};
use crate::{Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What runs the plan of an engine.
#[derive(Debug)]
pub(super) enum Executor {
    /// The CPU; calls take turns.
    Host(Box<Mutex<HostExecutor>>),
    /// A device, real or virtual; it takes turns itself.
    Device(Arc<DeviceExecutor>),
}

/// K and V of a session, where its executor has them.
#[derive(Debug)]
pub(super) enum SessionKv {
    Host(KvSequence),
    /// A call writes into free slots of the sequence, so it needs it alone.
    Device(Mutex<DeviceKv>),
}

/// What a call left, where its executor left it.
#[derive(Debug)]
pub(super) enum Computed {
    Host(host::Forward),
    Device(DeviceCalls),
}

impl Default for Computed {
    fn default() -> Self {
        Computed::Host(host::Forward::default())
    }
}

impl Computed {
    /// The output of that name, [rows or output rows, columns].
    pub fn output(&self, name: &str) -> Option<&[f32]> {
        match self {
            Computed::Host(forward) => forward.output(name),
            Computed::Device(forward) => forward.output(name),
        }
    }
}

impl SessionKv {
    pub fn new(executor: &Executor, plan: &Plan) -> Self {
        match executor {
            Executor::Host(_) => SessionKv::Host(KvSequence::new(plan.kv)),
            Executor::Device(_) => SessionKv::Device(Mutex::new(DeviceKv::new(plan))),
        }
    }

    /// A fork; pages are shared until one of the two changes them.
    pub fn fork(&self) -> Self {
        match self {
            SessionKv::Host(kv) => SessionKv::Host(kv.clone()),
            SessionKv::Device(kv) => SessionKv::Device(Mutex::new(lock(kv).clone())),
        }
    }

    pub fn truncate(&mut self, len: usize) {
        match self {
            SessionKv::Host(kv) => kv.truncate(len),
            SessionKv::Device(kv) => lock(kv).truncate(len),
        }
    }

    /// Pages of 128 positions that hold what is committed.
    pub fn pages(&self) -> usize {
        match self {
            SessionKv::Host(kv) => kv.pages(),
            SessionKv::Device(kv) => lock(kv).pages(),
        }
    }

    /// Copies a page, `[layer][K, V][kv head][position 128][head_dim]` on every executor.
    ///
    /// # Errors
    /// The device failed before.
    pub fn read_page(&self, index: usize, bytes: &mut [u8]) -> Result<()> {
        match self {
            SessionKv::Host(kv) => kv.read_page(index, bytes),
            SessionKv::Device(kv) => lock(kv).read_page(index, bytes)?,
        }
        Ok(())
    }

    /// Appends such a page, whose first `count` positions are to be committed, after full ones.
    ///
    /// # Errors
    /// Device memory does not suffice, or the device failed before.
    pub fn push_page(&mut self, executor: &Executor, bytes: &[u8], count: usize) -> Result<()> {
        match (executor, self) {
            (Executor::Host(_), SessionKv::Host(kv)) => kv.push_page(bytes, count),
            (Executor::Device(executor), SessionKv::Device(kv)) => {
                lock(kv).push_page(executor.context(), bytes, count)?;
            }
            _ => return Err(foreign("the sequence")),
        }
        Ok(())
    }
}

/// Something of an engine was handed to another one.
pub(super) fn foreign(what: &str) -> Error {
    Error::Invalid(format!("{what} was made by another engine"))
}

/// A lock whose holder panicked guards nothing that matters: what a sequence holds is told by its length, which changes
/// last.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executor {
    /// Runs rows over the committed content of sequences; the result is in `out`.
    pub fn forward(
        &self,
        segment: SegmentKind,
        rows: &[Row],
        sequences: &[&SessionKv],
        out: &mut Forward,
    ) -> Result<()> {
        match self {
            Executor::Host(executor) => {
                let sequences: Result<Vec<_>> = sequences
                    .iter()
                    .map(|kv| match kv {
                        SessionKv::Host(kv) => Ok(kv),
                        SessionKv::Device(_) => Err(foreign("a session")),
                    })
                    .collect();
                if !matches!(out.inner, Computed::Host(_)) {
                    out.inner = Computed::default();
                }
                let Computed::Host(inner) = &mut out.inner else {
                    return Ok(());
                };
                // A panic in another thread's call leaves no state that matters: every call writes its buffers anew.
                lock(executor).forward(segment, rows, &sequences?, inner)
            }
            Executor::Device(executor) => {
                if !matches!(out.inner, Computed::Device(_)) {
                    out.inner = Computed::Device(DeviceCalls::default());
                }
                let Computed::Device(inner) = &mut out.inner else {
                    return Ok(());
                };
                inner.run(executor, segment, rows, sequences)
            }
        }
    }

    /// Appends the rows `path` of a call to the sequence.
    pub fn commit(&self, kv: &mut SessionKv, forward: &Forward, path: &[u32]) -> Result<()> {
        match (self, kv, &forward.inner) {
            (Executor::Host(_), SessionKv::Host(kv), Computed::Host(forward)) => {
                kv.commit(forward.kv(), path)
            }
            (Executor::Device(executor), SessionKv::Device(kv), Computed::Device(forward)) => {
                forward.commit(executor, &mut lock(kv), path)
            }
            _ => Err(foreign("the call")),
        }
    }

    /// Rows of one call of a segment of the plan, at most.
    pub fn rows_of(&self, plan: &Plan, segment: SegmentKind) -> usize {
        let planned = plan.segment(segment).map_or(1, |s| s.max_rows as usize);
        match self {
            Executor::Host(_) => planned,
            Executor::Device(executor) => planned.min(executor.rows_of(segment)),
        }
    }
}
