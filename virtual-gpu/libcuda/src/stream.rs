//! Streams. All work runs in the order of submission, so that streams only have to know what was theirs.

use crate::boundary::{Answer, HostCall, Out, exports};
use crate::driver::{Scope, enter};
use crate::error::{INVALID_VALUE, NOT_READY};
use crate::handle::Handle;
use crate::operation::Operation;
use crate::queue::Ticket;

/// A stream that a program has made.
#[derive(Debug)]
pub struct Stream {
    flags: u32,
    priority: i32,
    /// Context that it belongs to.
    pub context: Handle,
    /// The last job submitted to it.
    pub last: Ticket,
}

impl Stream {
    /// Whether it waits for the legacy stream, and that one for it.
    pub fn is_blocking(&self) -> bool {
        self.flags & 1 == 0
    }
}

/// Whether `stream` is the default stream that all others wait for.
pub fn is_legacy(stream: Handle) -> bool {
    stream.0 <= 1
}

/// The default streams: null, legacy, per thread.
const DEFAULT: std::ops::RangeInclusive<usize> = 0..=2;

/// An error unless `stream` is a stream.
pub fn valid(scope: Scope, stream: Handle) -> Answer {
    if DEFAULT.contains(&stream.0) {
        return Ok(());
    }
    scope.state().streams.get(stream).map(|_| ())
}

/// The last job of a stream; for a default one, the last of all.
fn last(scope: Scope, stream: Handle) -> Answer<Ticket> {
    if DEFAULT.contains(&stream.0) {
        return Ok(scope.queue.last());
    }
    Ok(scope.state().streams.get(stream)?.last)
}

fn create(stream: Out<Handle>, flags: u32, priority: i32) -> Answer {
    stream.check()?;
    let scope = enter()?;
    if flags > 1 {
        return Err(INVALID_VALUE);
    }
    let made = Stream {
        flags,
        priority: priority.clamp(-5, 0),
        context: scope.context,
        last: Ticket::default(),
    };
    let handle = scope.state().streams.insert(made);
    stream.set(handle)
}

/// Has a stream do something: queues it, or adds it to the graph that the stream is captured into.
pub fn submit(scope: Scope, stream: Handle, operation: Operation) -> Answer {
    let mut state = scope.state();
    if let Some(operation) = state.divert(scope, stream, operation)? {
        state.order_work(stream, [&operation]);
        let ticket = scope
            .queue
            .submit(move |device| operation.run(&scope, device));
        state.note(stream, ticket);
    }
    Ok(())
}

exports! {
    /// Makes a stream.
    fn cuStreamCreate(stream: Out<Handle>, flags: u32) {
        create(stream, flags, 0)
    }

    /// Makes a stream with a priority, which is kept but changes nothing.
    fn cuStreamCreateWithPriority(stream: Out<Handle>, flags: u32, priority: i32) {
        create(stream, flags, priority)
    }

    /// Ends a stream; its work is still done.
    fn cuStreamDestroy_v2(stream: Handle) {
        let scope = enter()?;
        let mut state = scope.state();
        state.streams.get(stream)?;
        state.leave_captures(stream);
        state.streams.remove(stream).map(|_| ())
    }

    /// Whether a stream has nothing left to do.
    fn cuStreamQuery(stream: Handle) {
        let scope = enter()?;
        scope.state().guard_stream(scope.context, stream)?;
        if !scope.queue.is_done(last(scope, stream)?) {
            return Err(NOT_READY);
        }
        scope.queue.observe()?;
        scope.state().host_saw_stream(stream);
        Ok(())
    }

    /// Waits for the work of a stream.
    fn cuStreamSynchronize(stream: Handle) {
        let scope = enter()?;
        scope.state().guard_stream(scope.context, stream)?;
        scope.wait(last(scope, stream)?)?;
        scope.state().host_saw_stream(stream);
        Ok(())
    }

    /// Makes a stream wait for an event. What was recorded was submitted before, so that it is already in order.
    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: u32) {
        let scope = enter()?;
        valid(scope, stream)?;
        let mut state = scope.state();
        state.events.get(event)?;
        match flags {
            0 => {
                state.wait_captured(scope, stream, event)?;
                let clock = state.events.get(event)?.clock.clone();
                state.order_wait(stream, &clock);
                Ok(())
            }
            // Of a captured stream, a node that waits at each launch for what was recorded last.
            1 => {
                state.divert(scope, stream, Operation::Wait(event))?;
                let clock = state.events.get(event)?.clock.clone();
                state.order_wait(stream, &clock);
                Ok(())
            }
            _ => Err(INVALID_VALUE),
        }
    }

    /// Flags of a stream.
    fn cuStreamGetFlags(stream: Handle, flags: Out<u32>) {
        let scope = enter()?;
        valid(scope, stream)?;
        let value = scope.state().streams.get(stream).map_or(0, |stream| stream.flags);
        flags.set(value)
    }

    /// Priority of a stream.
    fn cuStreamGetPriority(stream: Handle, priority: Out<i32>) {
        let scope = enter()?;
        valid(scope, stream)?;
        let value = scope.state().streams.get(stream).map_or(0, |stream| stream.priority);
        priority.set(value)
    }

    /// Context of a stream.
    fn cuStreamGetCtx(stream: Handle, context: Out<Handle>) {
        let scope = enter()?;
        valid(scope, stream)?;
        let value = scope.state().streams.get(stream).map_or(scope.context, |stream| stream.context);
        context.set(value)
    }

    /// A number that no other stream has.
    fn cuStreamGetId(stream: Handle, id: Out<u64>) {
        valid(enter()?, stream)?;
        id.set(stream.0 as u64)
    }

    /// Device of a stream.
    fn cuStreamGetDevice(stream: Handle, device: Out<i32>) {
        valid(enter()?, stream)?;
        device.set(0)
    }

    /// Calls a function of the host when the stream gets there, on the thread of the device and with no lock held.
    fn cuLaunchHostFunc(stream: Handle, function: Option<extern "C" fn(*mut u8)>, argument: *mut u8) {
        let call = HostCall { function: function.ok_or(INVALID_VALUE)?, argument };
        let scope = enter()?;
        valid(scope, stream)?;
        submit(scope, stream, Operation::Host(call))
    }

    /// The older way to call a function of the host, with the stream and a code. It is left out after a fault, as all work,
    /// and no stream that is captured takes it.
    fn cuStreamAddCallback(
        stream: Handle,
        function: Option<extern "C" fn(Handle, u32, *mut u8)>,
        argument: usize,
        flags: u32,
    ) {
        let function = function.ok_or(INVALID_VALUE)?;
        if flags != 0 {
            return Err(INVALID_VALUE);
        }
        let scope = enter()?;
        valid(scope, stream)?;
        let mut state = scope.state();
        state.guard_stream(scope.context, stream)?;
        let ticket = scope.queue.submit(move |_| {
            function(stream, 0, argument as *mut u8);
            Ok(())
        });
        state.note(stream, ticket);
        Ok(())
    }
}
