//! Single calls of segments: what they take, and what they leave.

use super::{DeviceError, DeviceExecutor, DeviceKv};
use crate::plan::{Dim, Row, SegmentKind};
use crate::speculation::sampling::TokenLogprob;
use crate::{Error, Result};
use bytemuck::Zeroable;
use std::ops::Range;
use stheno_codegen::program::Lists;
use stheno_codegen::program::abi::{self, NONE, TOP_LIMIT};

/// One call of a segment.
#[derive(Debug, Clone, Copy)]
pub struct DeviceCall<'a> {
    /// What to run.
    pub segment: SegmentKind,
    /// Over what: a tree after the committed positions of the segment's own cache.
    pub rows: &'a [Row],
    /// Contents of [`stheno_codegen::plan::Segment::inputs`] in their order, [source rows, columns] each.
    pub inputs: &'a [&'a [f32]],
    /// For each row the source row that it takes; `None` if they are the same.
    pub sources: Option<&'a [u8]>,
    /// Of a draft: tokens to list for each output row.
    pub topk: usize,
}

impl<'a> DeviceCall<'a> {
    /// Rows of a segment without inputs.
    pub fn new(segment: SegmentKind, rows: &'a [Row]) -> Self {
        DeviceCall {
            segment,
            rows,
            inputs: &[],
            sources: None,
            topk: 0,
        }
    }
}

/// What a call left.
#[derive(Debug, Default)]
pub struct DeviceForward {
    outputs: Vec<(String, Vec<f32>)>,
    lists: Vec<Vec<Vec<TokenLogprob>>>,
    /// Which cache it wrote to.
    pub(super) is_draft: bool,
    /// Which call it was.
    pub(super) call: u64,
    /// Parent of each row.
    pub(super) parents: Vec<Option<u32>>,
}

impl DeviceForward {
    /// Contents of the output of that name, [rows or output rows, columns]; `None` if the segment has no such output.
    pub fn output(&self, name: &str) -> Option<&[f32]> {
        let found = self.outputs.iter().find(|(other, _)| other == name)?;
        Some(&found.1)
    }

    /// What a draft lists, [heads, output rows, [`DeviceCall::topk`]], most likely first, by the target's ids; empty if none
    /// were wanted.
    pub fn lists(&self) -> &[Vec<Vec<TokenLogprob>>] {
        &self.lists
    }
}

impl DeviceExecutor {
    /// Runs `rows`, a tree over the committed content of `kv`, in a segment without inputs, and reads the outputs. Nothing is
    /// committed: see [`DeviceExecutor::commit`].
    ///
    /// # Errors
    /// The rows are no such tree, are too many, or reach past the context; device memory does not suffice; the kernel
    /// failed.
    pub fn forward(
        &self,
        segment: SegmentKind,
        rows: &[Row],
        kv: &mut DeviceKv,
        out: &mut DeviceForward,
    ) -> Result<()> {
        self.call(&DeviceCall::new(segment, rows), kv, out)
    }

    /// Runs a segment. What it finds in the place of an input is overwritten: that of an output of the same place too.
    ///
    /// # Errors
    /// Those of [`DeviceExecutor::forward`], and if inputs have other sizes than the segment declares, a source row is not
    /// there, or lists are wanted that the segment does not make.
    pub fn call(
        &self,
        call: &DeviceCall<'_>,
        kv: &mut DeviceKv,
        out: &mut DeviceForward,
    ) -> Result<()> {
        self.run(call, kv, std::iter::once(0..NONE), out)
    }

    /// [`DeviceExecutor::forward`] in several launches, each of some phases: the next one begins at each of `starts`,
    /// which ascend. The bits are those of one launch. For finding out in which phase something goes wrong.
    ///
    /// # Errors
    /// Those of [`DeviceExecutor::forward`], and if `starts` do not ascend from 1 to below
    /// [`DeviceExecutor::phases_of`].
    pub fn forward_stepped(
        &self,
        segment: SegmentKind,
        rows: &[Row],
        starts: &[u32],
        kv: &mut DeviceKv,
        out: &mut DeviceForward,
    ) -> Result<()> {
        let end = self.phases_of(segment);
        let bounds: Vec<u32> = [0].iter().chain(starts).copied().chain([end]).collect();
        if bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Error::Invalid(format!(
                "launches of phases that start at {starts:?} do not ascend from 1 to below {end}, the phases of {segment}"
            )));
        }
        let steps = bounds.windows(2).map(|pair| pair[0]..pair[1]);
        self.run(&DeviceCall::new(segment, rows), kv, steps, out)
    }

    fn run(
        &self,
        call: &DeviceCall<'_>,
        kv: &mut DeviceKv,
        launches: impl Iterator<Item = Range<u32>>,
        out: &mut DeviceForward,
    ) -> Result<()> {
        let DeviceCall { segment, rows, .. } = *call;
        // A draft that attends to nothing keeps nothing.
        let start = kv.cache(segment).map_or(0, DeviceKv::len);
        let mut told = self.tree(segment, start, rows)?;
        self.check_inputs(call, &mut told)?;
        let lists = self.wanted_lists(call, &told)?;
        told.chooses = u32::from(lists.is_some());
        out.call = 0;
        if let Some(cache) = kv.cache_mut(segment) {
            cache.reserve(self.context(), start + rows.len())?;
            out.call = cache.begin_call();
        }
        out.is_draft = segment.is_draft();
        out.parents = rows.iter().map(|row| row.parent).collect();
        out.outputs.clear();
        out.lists.clear();
        let state = self.turn();
        self.write_inputs(call, &told)?;
        state.begin_call(told, call.topk as u32, kv)?;
        for phases in launches {
            self.launch(&state, 1, phases)?;
        }
        self.read(call, &told, lists, out)
            .map_err(|error| state.explain(&self.plan, &self.program, error))?;
        self.collect()?;
        Ok(())
    }

    /// Reads what a call left.
    fn read(
        &self,
        call: &DeviceCall<'_>,
        told: &abi::Call,
        lists: Option<Lists>,
        out: &mut DeviceForward,
    ) -> Result<(), DeviceError> {
        let declared = self.plan.segment(call.segment).map(|s| &*s.outputs);
        let declared = declared.unwrap_or_default();
        let outputs = self.program.outputs.iter();
        for output in outputs.filter(|output| declared.contains(&output.buffer)) {
            let rows = match output.rows {
                Dim::Rows => told.rows,
                Dim::OutputRows => told.output_rows,
            };
            let mut values = vec![0f32; rows as usize * output.columns as usize];
            let bytes = bytemuck::cast_slice_mut(&mut values);
            self.workspace.read(output.offset.into(), bytes)?;
            out.outputs.push((output.name.clone(), values));
        }
        let Some(lists) = lists else {
            return Ok(());
        };
        let all = lists.heads as usize * lists.rows as usize * TOP_LIMIT;
        let mut entries = vec![abi::TopLogprob::zeroed(); all];
        let bytes = bytemuck::cast_slice_mut(&mut entries);
        self.workspace.read(lists.top.into(), bytes)?;
        let list = |entries: &[abi::TopLogprob]| {
            let listed = entries.iter().take(call.topk);
            let listed =
                listed.map(|&abi::TopLogprob { token, logprob }| TokenLogprob { token, logprob });
            listed.collect::<Vec<_>>()
        };
        let heads = entries.chunks(lists.rows as usize * TOP_LIMIT);
        let of_head = |entries: &[abi::TopLogprob]| {
            let rows = entries.chunks(TOP_LIMIT).take(told.output_rows as usize);
            rows.map(list).collect::<Vec<_>>()
        };
        out.lists = heads.map(of_head).collect();
        Ok(())
    }

    /// Checks the inputs of a call and says which rows take what of them.
    pub(super) fn check_inputs(&self, call: &DeviceCall<'_>, told: &mut abi::Call) -> Result<()> {
        let DeviceCall { segment, rows, .. } = *call;
        let inputs = self.program.inputs.iter();
        let inputs = inputs.filter(|input| input.segment == told.segment as usize);
        let inputs: Vec<_> = inputs.collect();
        if inputs.len() != call.inputs.len() {
            return Err(Error::Invalid(format!(
                "segment {segment} takes {} inputs, got {}",
                inputs.len(),
                call.inputs.len()
            )));
        }
        let most = self.program.sizes.row_capacity() as usize;
        let mut source_rows = rows.len();
        if let (Some(_), Some(input), Some(values)) =
            (call.sources, inputs.first(), call.inputs.first())
        {
            source_rows = values.len() / input.columns as usize;
        }
        for (input, values) in inputs.iter().zip(call.inputs) {
            if values.len() != source_rows * input.columns as usize || source_rows > most {
                return Err(Error::Invalid(format!(
                    "input `{}` has {} elements, expected {source_rows} rows of {}, at most {most}",
                    input.name,
                    values.len(),
                    input.columns
                )));
            }
        }
        if let Some(sources) = call.sources {
            let beyond = sources
                .iter()
                .find(|source| usize::from(**source) >= source_rows);
            if sources.len() != rows.len() || beyond.is_some() {
                return Err(Error::Invalid(format!(
                    "sources {sources:?} of {} rows, of which there are {source_rows}",
                    rows.len()
                )));
            }
            told.sources[..sources.len()].copy_from_slice(sources);
        }
        Ok(())
    }

    /// Puts the inputs of a call, which were checked, where its segment finds them.
    pub(super) fn write_inputs(
        &self,
        call: &DeviceCall<'_>,
        told: &abi::Call,
    ) -> Result<(), DeviceError> {
        let inputs = self.program.inputs.iter();
        let inputs = inputs.filter(|input| input.segment == told.segment as usize);
        for (input, values) in inputs.zip(call.inputs) {
            let bytes = bytemuck::cast_slice(values);
            self.workspace.write(input.offset.into(), bytes)?;
        }
        Ok(())
    }

    /// Where the lists of a call are, if it wants any.
    pub(super) fn wanted_lists(
        &self,
        call: &DeviceCall<'_>,
        told: &abi::Call,
    ) -> Result<Option<Lists>> {
        if call.topk == 0 {
            return Ok(None);
        }
        let lists = self.program.lists.filter(|_| call.segment.is_draft());
        let lists = lists
            .ok_or_else(|| Error::Invalid(format!("segment {} lists no guesses", call.segment)))?;
        if call.topk > TOP_LIMIT || told.output_rows > lists.rows {
            return Err(Error::Invalid(format!(
                "lists of {} tokens for {} rows; a device makes lists of {TOP_LIMIT} for {} rows at most",
                call.topk, told.output_rows, lists.rows
            )));
        }
        Ok(Some(lists))
    }
}
