//! Stamps of the decode program (kernels/timers.cuh): memory for them, and reading them back.

use super::{Context, DeviceBuffer, DeviceError};
use bytemuck::Zeroable;
use stheno_codegen::program::DeviceProgram;
use stheno_codegen::program::abi::{Stamp, TimedCall, TimerHead};

/// Bytes of stamps, at most.
const MOST_BYTES: u64 = 256 << 20;

/// The stamps of one call.
#[derive(Debug, Clone)]
pub(super) struct RecordedCall {
    pub call: TimedCall,
    /// `[phase][block]`
    pub stamps: Vec<Stamp>,
}

/// Records calls until it has as many as it may. One generation, or call, at a time: two that run by turns would write the
/// same places.
#[derive(Debug)]
pub(super) struct Recording {
    buffer: DeviceBuffer,
    head: TimerHead,
    blocks: u32,
    calls: Vec<RecordedCall>,
    /// What is added to stamps: a virtual device's clock starts anew with every launch.
    shift: u64,
}

impl Recording {
    /// For the first `calls` calls, or fewer if that is too much memory.
    pub fn new(
        context: &Context,
        program: &DeviceProgram,
        calls: u32,
    ) -> Result<Recording, DeviceError> {
        let blocks = program.sizes.architecture.sm_count;
        let phases = program.segments.iter().map(|segment| segment.phases).max();
        let mut head = TimerHead {
            capacity: 0,
            phases: phases.unwrap_or(0),
            unused: [0; 2],
        };
        let fit = (MOST_BYTES / call_bytes(&head, blocks)).max(1);
        head.capacity = u32::try_from(fit).unwrap_or(u32::MAX).min(calls.max(1));
        let bytes =
            size_of::<TimerHead>() as u64 + u64::from(head.capacity) * call_bytes(&head, blocks);
        let buffer = DeviceBuffer::zeroed(context, bytes, "times of phases")?;
        buffer.write(0, bytemuck::bytes_of(&head))?;
        Ok(Recording {
            buffer,
            head,
            blocks,
            calls: Vec::new(),
            shift: 0,
        })
    }

    /// What the kernel is told: the address of the stamps, or 0 once there are enough.
    pub fn address(&self) -> u64 {
        match self.calls.len() < self.head.capacity as usize {
            true => self.buffer.address(),
            false => 0,
        }
    }

    /// Takes what a generation or call has left, after it has ended, and makes room for the next one.
    pub fn collect(&mut self) -> Result<(), DeviceError> {
        if self.address() == 0 {
            return Ok(());
        }
        let capacity = self.head.capacity as usize;
        let mut calls = vec![TimedCall::zeroed(); capacity];
        let first = size_of::<TimerHead>() as u64;
        self.buffer
            .read(first, bytemuck::cast_slice_mut(&mut calls))?;
        let stamps_at = first + (capacity * size_of::<TimedCall>()) as u64;
        let each = self.head.phases as usize * self.blocks as usize;
        let made = calls.iter().take_while(|call| call.rows > 0);
        let made = made.take(capacity - self.calls.len());
        for (index, call) in made.enumerate() {
            let mut stamps = vec![Stamp::zeroed(); each];
            let at = stamps_at + (index * each * size_of::<Stamp>()) as u64;
            self.buffer
                .read(at, bytemuck::cast_slice_mut(&mut stamps))?;
            self.push(*call, stamps);
        }
        self.buffer.fill_async(first..self.buffer.len(), 0)
    }

    /// Everything recorded.
    pub fn into_calls(self) -> Vec<RecordedCall> {
        self.calls
    }

    fn push(&mut self, call: TimedCall, mut stamps: Vec<Stamp>) {
        let blocks = self.blocks as usize;
        let first = stamps.iter().take(blocks).map(|stamp| stamp.begin).min();
        let last = self.calls.last().map(|call| &call.stamps);
        let end = last.and_then(|stamps| stamps.iter().map(|stamp| stamp.end).max());
        let (first, end) = (first.unwrap_or(0), end.unwrap_or(0));
        if first + self.shift < end {
            self.shift = end - first;
        }
        for stamp in &mut stamps {
            // A phase without an edge, and phases that the segment does not have.
            if stamp.ready == 0 {
                stamp.ready = stamp.begin;
            }
            if stamp.end == 0 {
                continue;
            }
            stamp.begin += self.shift;
            stamp.ready += self.shift;
            stamp.end += self.shift;
        }
        self.calls.push(RecordedCall { call, stamps });
    }
}

fn call_bytes(head: &TimerHead, blocks: u32) -> u64 {
    let stamps = u64::from(head.phases) * u64::from(blocks) * size_of::<Stamp>() as u64;
    size_of::<TimedCall>() as u64 + stamps
}
