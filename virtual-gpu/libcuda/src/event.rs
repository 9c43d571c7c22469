//! Events: when the queue got somewhere.

use crate::boundary::{Answer, Out, exports};
use crate::capture::Captured;
use crate::driver::{Scope, enter};
use crate::error::{CAPTURED_EVENT, INVALID_HANDLE, INVALID_VALUE, NOT_READY, UNKNOWN};
use crate::handle::Handle;
use crate::operation::Operation;
use crate::ordering::Clock;
use crate::queue::Ticket;
use crate::stream::valid;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// An event.
#[derive(Debug)]
pub struct Event {
    flags: u32,
    /// Context that it belongs to.
    pub context: Handle,
    record: Option<Record>,
    /// What it comes after.
    pub clock: Clock,
    /// What it stands for if it was last recorded in a capture.
    pub captured: Option<Captured>,
}

impl Event {
    /// Whether it has ever been recorded.
    pub fn is_recorded(&self) -> bool {
        self.record.is_some()
    }

    /// Notes that the job `ticket` records it, where the time will be, and what it comes after.
    pub fn was_recorded(&mut self, ticket: Ticket, time: Arc<OnceLock<Instant>>, clock: Clock) {
        self.record = Some(Record { ticket, time });
        self.clock = clock;
        self.captured = None;
    }
}

#[derive(Clone, Debug)]
struct Record {
    ticket: Ticket,
    time: Arc<OnceLock<Instant>>,
}

/// `CU_EVENT_DISABLE_TIMING`.
const NO_TIMING: u32 = 2;

fn record(event: Handle, stream: Handle) -> Answer {
    let scope = enter()?;
    valid(scope, stream)?;
    let mut state = scope.state();
    state.events.get(event)?;
    if let Some(captured) = state.captured_now(scope, stream)? {
        let event = state.events.get_mut(event)?;
        event.captured = Some(captured);
        return Ok(());
    }
    let time = Arc::new(OnceLock::new());
    let clock = Arc::clone(&time);
    let ticket = scope.queue.upkeep(move |_| {
        let _ = clock.set(Instant::now());
    });
    state.note(stream, ticket);
    let after = state.order_record(stream);
    state
        .events
        .get_mut(event)?
        .was_recorded(ticket, time, after);
    Ok(())
}

/// Adds a node that records an event at each launch of the graph that `stream` is captured into.
fn record_outside(event: Handle, stream: Handle) -> Answer {
    let scope = enter()?;
    valid(scope, stream)?;
    let captured = {
        let mut state = scope.state();
        state.events.get(event)?;
        let node = Operation::Record(event, Arc::default());
        state.divert(scope, stream, node)?.is_none()
    };
    if captured {
        Ok(())
    } else {
        record(event, stream)
    }
}

/// The last record of an event that measures time.
fn timed(scope: Scope, event: Handle) -> Answer<Record> {
    let state = scope.state();
    let event = state.events.get(event)?;
    if event.flags & NO_TIMING != 0 {
        return Err(INVALID_HANDLE);
    }
    if event.captured.is_some() {
        return Err(CAPTURED_EVENT);
    }
    event.record.clone().ok_or(INVALID_HANDLE)
}

fn elapsed(milliseconds: Out<f32>, start: Handle, end: Handle) -> Answer {
    milliseconds.check()?;
    let scope = enter()?;
    let (start, end) = (timed(scope, start)?, timed(scope, end)?);
    if !scope.queue.is_done(start.ticket) || !scope.queue.is_done(end.ticket) {
        return Err(NOT_READY);
    }
    scope.queue.observe()?;
    let (start, end) = start.time.get().zip(end.time.get()).ok_or(UNKNOWN)?;
    let signed = if end >= start {
        end.duration_since(*start).as_secs_f64()
    } else {
        -start.duration_since(*end).as_secs_f64()
    };
    milliseconds.set((signed * 1e3) as f32)
}

fn ticket(scope: Scope, event: Handle) -> Answer<Ticket> {
    let state = scope.state();
    let record = &state.events.get(event)?.record;
    Ok(record
        .as_ref()
        .map_or_else(Ticket::default, |record| record.ticket))
}

/// The host has waited for what was recorded.
fn saw(scope: Scope, event: Handle) -> Answer {
    let mut state = scope.state();
    let clock = state.events.get(event)?.clock.clone();
    state.host_saw(&clock);
    Ok(())
}

exports! {
    /// Makes an event.
    fn cuEventCreate(event: Out<Handle>, flags: u32) {
        event.check()?;
        let scope = enter()?;
        // Sharing between processes is only for events without time.
        if flags & !7 != 0 || (flags & 4 != 0 && flags & NO_TIMING == 0) {
            return Err(INVALID_VALUE);
        }
        let made = Event { flags, context: scope.context, record: None, clock: Clock::default(), captured: None };
        let handle = scope.state().events.insert(made);
        event.set(handle)
    }

    /// Ends an event.
    fn cuEventDestroy_v2(event: Handle) {
        enter()?.state().events.remove(event).map(|_| ())
    }

    /// Records an event in a stream.
    fn cuEventRecord(event: Handle, stream: Handle) {
        record(event, stream)
    }

    /// The same; with a flag, the capture of a stream gets a node that records at each launch.
    fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: u32) {
        match flags {
            0 => record(event, stream),
            1 => record_outside(event, stream),
            _ => Err(INVALID_VALUE),
        }
    }

    /// Whether what was recorded has happened.
    fn cuEventQuery(event: Handle) {
        let scope = enter()?;
        scope.state().guard_event(event)?;
        if !scope.queue.is_done(ticket(scope, event)?) {
            return Err(NOT_READY);
        }
        scope.queue.observe()?;
        saw(scope, event)
    }

    /// Waits for what was recorded.
    fn cuEventSynchronize(event: Handle) {
        let scope = enter()?;
        scope.state().guard_event(event)?;
        scope.wait(ticket(scope, event)?)?;
        saw(scope, event)
    }

    /// Milliseconds between two events: of the host's clock, which tells nothing of a GPU.
    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }

    /// The newer name.
    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }
}
