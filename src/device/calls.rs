use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};

/// What kind of call of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    Launch,
    Synchronous,
    AsyncCopy,
    Fill,
    Query,
    Event,
    Memory,
    Setup,
}

/// Calls of the driver that a context has made, by what they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallCounts {
    /// Kernels started.
    pub launches: u64,
    /// Calls that wait for the device: synchronizing a stream or an event, and copies to and from the caller's memory.
    pub synchronous: u64,
    /// Copies that are queued.
    pub async_copies: u64,
    /// Fills that are queued.
    pub fills: u64,
    /// Questions whether work is done, and for how much memory is free.
    pub queries: u64,
    /// Events made, recorded, and compared.
    pub events: u64,
    /// Memory allocated and freed, of the device or mapped. Freeing waits for the device.
    pub memory: u64,
    /// The rest: modules, functions, their attributes.
    pub setup: u64,
}

impl CallCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.launches
            + self.synchronous
            + self.async_copies
            + self.fills
            + self.queries
            + self.events
            + self.memory
            + self.setup
    }
}

/// The calls between two counts, the earlier one being subtracted.
impl Sub for CallCounts {
    type Output = CallCounts;

    fn sub(self, earlier: CallCounts) -> CallCounts {
        CallCounts {
            launches: self.launches.wrapping_sub(earlier.launches),
            synchronous: self.synchronous.wrapping_sub(earlier.synchronous),
            async_copies: self.async_copies.wrapping_sub(earlier.async_copies),
            fills: self.fills.wrapping_sub(earlier.fills),
            queries: self.queries.wrapping_sub(earlier.queries),
            events: self.events.wrapping_sub(earlier.events),
            memory: self.memory.wrapping_sub(earlier.memory),
            setup: self.setup.wrapping_sub(earlier.setup),
        }
    }
}

/// Counts as they rise.
#[derive(Debug, Default)]
pub(super) struct Calls([AtomicU64; 8]);

impl Calls {
    pub fn add(&self, kind: CallKind) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn counts(&self) -> CallCounts {
        let of = |kind: CallKind| self.0[kind as usize].load(Ordering::Relaxed);
        CallCounts {
            launches: of(CallKind::Launch),
            synchronous: of(CallKind::Synchronous),
            async_copies: of(CallKind::AsyncCopy),
            fills: of(CallKind::Fill),
            queries: of(CallKind::Query),
            events: of(CallKind::Event),
            memory: of(CallKind::Memory),
            setup: of(CallKind::Setup),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_count() {
        let calls = Calls::default();
        let kinds = [
            CallKind::Launch,
            CallKind::Synchronous,
            CallKind::AsyncCopy,
            CallKind::Fill,
            CallKind::Query,
            CallKind::Event,
            CallKind::Memory,
            CallKind::Setup,
        ];
        for (i, kind) in kinds.into_iter().enumerate() {
            (0..=i).for_each(|_| calls.add(kind));
        }
        let counts = calls.counts();
        let expected = CallCounts {
            launches: 1,
            synchronous: 2,
            async_copies: 3,
            fills: 4,
            queries: 5,
            events: 6,
            memory: 7,
            setup: 8,
        };
        assert_eq!(counts, expected);
        assert_eq!(counts.total(), 36);
        calls.add(CallKind::Launch);
        assert_eq!((calls.counts() - counts).total(), 1);
    }
}
