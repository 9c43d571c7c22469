use super::batch::Batch;
use super::executor::Weight;
use super::input::Input;
use super::kernels::widen::round_bf16;
use super::kernels::{Isa, LANES};
use super::kv::KvRowsLayout;
use super::rope::RopeTable;
use super::shared::SharedSlice;
use stheno_codegen::plan::{BufferId, Dtype, Plan, WeightId};

/// All that ops of one call share. `E` is the element type of the KV cache.
pub(super) struct Context<'a, E> {
    pub plan: &'a Plan,
    pub weights: &'a [Weight],
    pub isa: Isa,
    pub batch: &'a Batch<'a>,
    /// One for each buffer of the plan, [rows, columns] in f32; values are rounded to the buffer's type.
    pub buffers: Vec<SharedSlice<'a, f32>>,
    /// Prepared input of the linear op that runs.
    pub input: Input<'a>,
    /// Products of a qkv op, [rows, q + k + v columns].
    pub products: SharedSlice<'a, f32>,
    /// One for each rotation of the plan.
    pub ropes: &'a [RopeTable],
    /// K and V of the call's rows.
    pub kv: SharedSlice<'a, E>,
    pub kv_layout: KvRowsLayout,
    /// Work space of attention, one part for each member.
    pub scores: SharedSlice<'a, f32>,
    pub scores_per_member: usize,
}

impl<E> Context<'_, E> {
    /// Columns of a buffer.
    pub fn columns(&self, buffer: BufferId) -> usize {
        self.plan.buffer(buffer).columns as usize
    }

    /// Elements `start..start + len` of a buffer's row.
    ///
    /// # Safety
    /// No other thread may write them meanwhile.
    pub unsafe fn read(&self, buffer: BufferId, row: usize, start: usize, len: usize) -> &[f32] {
        let at = row * self.columns(buffer) + start;
        // SAFETY: the caller's promise.
        unsafe { self.buffers[buffer.index()].read(at, len) }
    }

    /// Asks for 16 elements from `start` on of a buffer's row, which will be wanted soon.
    pub fn prefetch(&self, buffer: BufferId, row: usize, start: usize) {
        let at = row * self.columns(buffer) + start;
        self.buffers[buffer.index()].prefetch(at, LANES);
    }

    /// Elements `start..start + len` of a buffer's row, to be written; round what is stored with [`Self::rounder`].
    ///
    /// # Safety
    /// No other access to them may happen meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn write(
        &self,
        buffer: BufferId,
        row: usize,
        start: usize,
        len: usize,
    ) -> &mut [f32] {
        let at = row * self.columns(buffer) + start;
        // SAFETY: the caller's promise.
        unsafe { self.buffers[buffer.index()].write(at, len) }
    }

    /// Rounds values to a buffer's type, in place.
    #[inline]
    pub fn round(&self, buffer: BufferId, values: &mut [f32]) {
        match self.plan.buffer(buffer).dtype {
            Dtype::F32 => {}
            Dtype::BF16 => values.iter_mut().for_each(|x| *x = round_bf16(*x)),
            Dtype::F16 => values
                .iter_mut()
                .for_each(|x| *x = half::f16::from_f32(*x).to_f32()),
        }
    }

    /// A weight declared as a vector, [n].
    pub fn vector(&self, id: WeightId) -> &[f32] {
        match &self.weights[id.index()] {
            Weight::Vector(vector) => vector,
            // `HostExecutor::new` checks the kind of every weight.
            Weight::Matrix(_) => &[],
        }
    }
}
