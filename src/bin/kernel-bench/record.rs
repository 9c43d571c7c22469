use crate::cases::BenchOp;
use crate::counters::Counted;
use crate::estimate::Estimate;
use crate::timing::Timed;
use serde::Serialize;

/// One measurement: an op of a shape in a format, at a number of rows.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    pub op: BenchOp,
    pub shape: String,
    /// Layers of the model, a draft's too; 0 for a matrix.
    pub layers: u32,
    /// Layers that were run. Where they are fewer, what is said of whole calls counts the first layer for each that was not.
    /// Calls of a draft run none of the model's.
    pub layers_run: u32,
    pub format: String,
    pub rows: u32,
    /// Rows that the program is laid out for.
    pub layout_rows: u32,
    /// Positions before the call.
    pub context: u32,
    /// Multiprocessors that ran it.
    pub sms: u32,
    /// Bytes of the op's weights as the format has them, without padding of tiles.
    pub format_bytes: u64,
    /// Bytes of weights that are streamed, padding included.
    pub streamed_bytes: u64,
    /// Edges that one launch passes.
    pub edges: u32,
    /// Registers of a thread, spills and shared memory as the compiler tells them for sm_90a.
    pub compiler: Option<CompilerReport>,
    /// Of the virtual GPU, without what a launch of no phase counts.
    pub counters: Option<Counted>,
    /// Of an H100, from the counters.
    pub estimate: Option<Estimate>,
    /// Of a GPU, seconds; launch included.
    pub time: Option<Timed>,
    /// Of launches of nothing, which `time` of a single phase contains.
    pub empty_launch: Option<Timed>,
    /// Of the same products in bf16 by cuBLAS.
    pub cublas: Option<Timed>,
}

#[derive(Debug, Clone, Serialize)]
pub struct CompilerReport {
    pub architecture: String,
    pub registers: u32,
    pub spill_stores: u32,
    pub spill_loads: u32,
    pub stack: u32,
    pub dynamic_shared: u32,
}

impl Record {
    /// Seconds that the op takes: measured, or else estimated with all edges hidden.
    pub fn seconds(&self) -> Option<f64> {
        let measured = self.time.map(|time| time.median);
        measured.or(self.estimate.as_ref().map(|estimate| estimate.least))
    }

    /// Seconds that it takes at worst: the slowest measurement, or else estimated with every edge exposed.
    pub fn most(&self) -> Option<f64> {
        let measured = self.time.map(|time| time.most);
        measured.or(self.estimate.as_ref().map(|estimate| estimate.most))
    }

    /// Whether [`Record::seconds`] is an estimate.
    pub fn is_estimate(&self) -> bool {
        self.time.is_none()
    }
}
