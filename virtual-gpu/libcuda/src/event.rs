//! Events: when the queue got somewhere.

use crate::boundary::{Answer, Out, exports};
use crate::driver::{Scope, enter};
use crate::error::{INVALID_HANDLE, INVALID_VALUE, NOT_READY, UNKNOWN};
use crate::handle::Handle;
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
    let time = Arc::new(OnceLock::new());
    let clock = Arc::clone(&time);
    let ticket = scope.queue.upkeep(move |_| {
        let _ = clock.set(Instant::now());
    });
    state.note(stream, ticket);
    state.events.get_mut(event)?.record = Some(Record { ticket, time });
    Ok(())
}

/// The last record of an event that measures time.
fn timed(scope: Scope, event: Handle) -> Answer<Record> {
    let state = scope.state();
    let event = state.events.get(event)?;
    if event.flags & NO_TIMING != 0 {
        return Err(INVALID_HANDLE);
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

exports! {
    /// Makes an event.
    fn cuEventCreate(event: Out<Handle>, flags: u32) {
        event.check()?;
        let scope = enter()?;
        // Sharing between processes is only for events without time.
        if flags & !7 != 0 || (flags & 4 != 0 && flags & NO_TIMING == 0) {
            return Err(INVALID_VALUE);
        }
        let made = Event { flags, context: scope.context, record: None };
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

    /// The same, with flags, of which there is none outside of graphs.
    fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: u32) {
        if flags != 0 {
            return Err(INVALID_VALUE);
        }
        record(event, stream)
    }

    /// Whether what was recorded has happened.
    fn cuEventQuery(event: Handle) {
        let scope = enter()?;
        if !scope.queue.is_done(ticket(scope, event)?) {
            return Err(NOT_READY);
        }
        scope.queue.observe()
    }

    /// Waits for what was recorded.
    fn cuEventSynchronize(event: Handle) {
        let scope = enter()?;
        scope.queue.wait(ticket(scope, event)?)
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
