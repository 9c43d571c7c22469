use super::calls::CallKind;
use super::{Context, DeviceError};
use cudarc::driver::{result, sys};
use std::fmt;
use std::time::Duration;

/// A mark in the stream. Before it is recorded it counts as passed.
pub struct Event {
    context: Context,
    event: sys::CUevent,
}

// SAFETY: the handle is a name that the driver looks up; it takes calls from any number of threads.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// Makes one.
    ///
    /// # Errors
    /// The device failed before.
    pub fn new(context: &Context) -> Result<Event, DeviceError> {
        let event = context.call(CallKind::Event, "cuEventCreate", || {
            result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)
        })?;
        Ok(Event {
            context: context.clone(),
            event,
        })
    }

    /// Sets it behind all work that the stream has now.
    ///
    /// # Errors
    /// As for [`Event::new`].
    pub fn record(&self) -> Result<(), DeviceError> {
        self.context.call(CallKind::Event, "cuEventRecord", || {
            // SAFETY: event and stream are of the same context and live.
            unsafe { result::event::record(self.event, self.context.stream()) }
        })
    }

    /// Whether the device has passed it; does not wait.
    ///
    /// # Errors
    /// A kernel failed.
    pub fn is_done(&self) -> Result<bool, DeviceError> {
        self.context.ready("cuEventQuery", || {
            // SAFETY: the event lives.
            unsafe { result::event::query(self.event) }
        })
    }

    /// Waits until the device has passed it.
    ///
    /// # Errors
    /// A kernel failed.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        self.context
            .call(CallKind::Synchronous, "cuEventSynchronize", || {
                // SAFETY: the event lives.
                unsafe { result::event::synchronize(self.event) }
            })
    }

    /// Time on the device from an earlier event to this one, to about half a microsecond.
    ///
    /// # Errors
    /// One of them was not recorded or not passed, or they are of different contexts.
    pub fn since(&self, earlier: &Event) -> Result<Duration, DeviceError> {
        self.context.same(&earlier.context, "an event")?;
        let milliseconds = self
            .context
            .call(CallKind::Event, "cuEventElapsedTime", || {
                // SAFETY: both live and are of one stream.
                unsafe { result::event::elapsed(earlier.event, self.event) }
            })?;
        Ok(Duration::try_from_secs_f64(f64::from(milliseconds) / 1e3).unwrap_or_default())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once. What fails here has failed before, and was told.
        let _ = self.context.try_call(CallKind::Event, || unsafe {
            result::event::destroy(self.event)
        });
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").finish_non_exhaustive()
    }
}
