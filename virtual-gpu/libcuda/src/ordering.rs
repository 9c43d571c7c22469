//! What of one stream is ordered before what of another, for memory that is allocated and freed in the order of streams. Here
//! all work runs in the order of submission; on a GPU a stream that waits for nobody may use memory before it is allocated, or
//! while another stream has it freed and given to somebody else. That is told as a warning.

use crate::driver::State;
use crate::handle::Handle;
use crate::operation::Operation;
use crate::stream::is_legacy;
use std::collections::BTreeMap;

/// How far each stream is known to have come.
#[derive(Clone, Debug, Default)]
pub struct Clock(BTreeMap<Handle, u64>);

impl Clock {
    fn merge(&mut self, other: &Self) {
        for (stream, time) in &other.0 {
            let own = self.0.entry(*stream).or_default();
            *own = (*own).max(*time);
        }
    }

    fn knows(&self, stream: Handle, time: u64) -> bool {
        self.0.get(&stream).is_some_and(|own| *own >= time)
    }
}

/// Memory that was allocated in the order of a stream.
#[derive(Debug)]
struct Life {
    /// By which stream and when; none once everybody knows.
    allocated: Option<(Handle, u64)>,
    /// The last use by each stream, and by what.
    uses: BTreeMap<Handle, (u64, String)>,
}

/// What streams, the host and memory know of each other.
#[derive(Debug, Default)]
pub struct Ordering {
    clocks: BTreeMap<Handle, Clock>,
    /// What the host has waited for: whatever it submits comes after that.
    host: Clock,
    memory: BTreeMap<u64, Life>,
    /// Counts the steps of all streams.
    time: u64,
}

/// Streams that are told apart, gone ones included; beyond that the past is taken for known.
const MOST: usize = 128;

impl Ordering {
    /// Takes all that has been submitted for known to everybody.
    fn forget(&mut self) {
        self.clocks.clear();
        self.host = Clock::default();
        for life in self.memory.values_mut() {
            life.allocated = None;
            life.uses.clear();
        }
    }
}

/// The legacy stream has two handles.
fn one(stream: Handle) -> Handle {
    if is_legacy(stream) {
        Handle::NULL
    } else {
        stream
    }
}

impl State {
    fn blocks(&self, stream: Handle) -> bool {
        self.streams
            .get(stream)
            .map_or(true, |stream| stream.is_blocking())
    }

    /// What work that is submitted to `stream` now comes after.
    fn clock(&self, stream: Handle) -> Clock {
        let (stream, order) = (one(stream), &self.ordering);
        let mut clock = order.host.clone();
        for (other, known) in &order.clocks {
            let legacy = *other == Handle::NULL || stream == Handle::NULL;
            if *other == stream || (legacy && self.blocks(*other) && self.blocks(stream)) {
                clock.merge(known);
            }
        }
        clock
    }

    /// Lets `stream` take a step, and gives what that comes after and its own time.
    fn step(&mut self, stream: Handle) -> (Clock, u64) {
        if self.ordering.clocks.len() > MOST || self.ordering.host.0.len() > MOST {
            self.ordering.forget();
        }
        let mut clock = self.clock(stream);
        let stream = one(stream);
        self.ordering.time += 1;
        let time = self.ordering.time;
        clock.0.insert(stream, time);
        self.ordering.clocks.insert(stream, clock.clone());
        (clock, time)
    }

    /// Notes work that is submitted to `stream`, and warns if memory is used that is not known to be allocated by then.
    pub fn order_work<'a>(
        &mut self,
        stream: Handle,
        work: impl IntoIterator<Item = &'a Operation>,
    ) {
        let (clock, time) = self.step(stream);
        let stream = one(stream);
        for operation in work {
            for address in operation.addresses() {
                let Some(base) = self.directory.find(address).map(|range| range.base) else {
                    continue;
                };
                let Some(life) = self.ordering.memory.get_mut(&base) else {
                    continue;
                };
                let used = (time, operation.name());
                let first = life.uses.insert(stream, used).is_none();
                if let Some((owner, allocated)) = life.allocated
                    && first
                    && !clock.knows(owner, allocated)
                {
                    eprintln!(
                        "virtual-gpu: warning: {} in stream {:#x} uses the memory at {base:#x}, which is allocated in the order of \
                         stream {:#x}: nothing orders the one after the other",
                        operation.name(),
                        stream.0,
                        owner.0
                    );
                }
            }
        }
    }

    /// Notes an allocation in the order of `stream`.
    pub fn order_allocation(&mut self, stream: Handle, base: u64) {
        let (_, time) = self.step(stream);
        let life = Life {
            allocated: Some((one(stream), time)),
            uses: BTreeMap::new(),
        };
        self.ordering.memory.insert(base, life);
    }

    /// Notes that memory is freed in the order of `stream`, and warns if it may be in use by then.
    pub fn order_free(&mut self, stream: Handle, base: u64) {
        let (clock, _) = self.step(stream);
        let Some(life) = self.ordering.memory.remove(&base) else {
            return;
        };
        for (user, (time, what)) in life.uses {
            if !clock.knows(user, time) {
                eprintln!(
                    "virtual-gpu: warning: the memory at {base:#x} is freed in the order of stream {:#x}, while {what} in stream \
                     {:#x} may still use it: nothing orders the free after it",
                    one(stream).0,
                    user.0
                );
            }
        }
    }

    /// What an event stands for that is recorded in `stream` now.
    pub fn order_record(&mut self, stream: Handle) -> Clock {
        self.step(stream).0
    }

    /// Notes that `stream` waits for what an event stands for.
    pub fn order_wait(&mut self, stream: Handle, event: &Clock) {
        let mut clock = self.clock(stream);
        clock.merge(event);
        self.ordering.clocks.insert(one(stream), clock);
    }

    /// Notes that the host has waited for what an event stands for.
    pub fn host_saw(&mut self, event: &Clock) {
        self.ordering.host.merge(event);
    }

    /// Notes that the host has waited for a stream.
    pub fn host_saw_stream(&mut self, stream: Handle) {
        let clock = self.clock(stream);
        self.ordering.host.merge(&clock);
    }

    /// Notes that the host has waited for everything.
    pub fn host_saw_all(&mut self) {
        self.ordering.forget();
    }

    /// Notes that memory is freed by a call that waits for everything.
    pub fn order_end(&mut self, base: u64) {
        self.ordering.memory.remove(&base);
    }
}
