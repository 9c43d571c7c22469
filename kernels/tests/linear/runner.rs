//! Programs of a few phases, and their memory.

use crate::matrix::type_of;
use crate::support::{Gpu, Kernels, Shape, Source};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use stheno_codegen::layout::{Cut, WeightFormat};
use virtual_gpu::{DevicePointer, LaunchOptions, LaunchReport};

pub const NONE: u32 = u32::MAX;
pub const THREADS: u32 = 256;

/// The text of the test kernels for a format.
pub fn kernel_text(format: &str) -> String {
    include_str!("kernel.cu").replace("FORMAT", format)
}

/// What a program is compiled with. Widths and slots are those of 1, 2, 4 and 8 row tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sizes {
    pub row_capacity: u32,
    /// Whether the last chunk of a product may be shorter than the others.
    pub has_short_chunks: bool,
    pub stages: u32,
    pub stage_bytes: u32,
    pub tile_group: u32,
    pub groups: [u32; 4],
    pub slots: [u32; 4],
    pub scratch_bytes: u32,
    pub partial_bytes: u32,
    pub residual_bytes: u32,
}

/// Small groups that calls of many rows take in parts, and fewer slots than products have chunks.
pub const SMALL: Sizes = Sizes {
    row_capacity: 64,
    has_short_chunks: true,
    stages: 3,
    stage_bytes: 16384,
    tile_group: 2,
    groups: [2, 2, 2, 1],
    slots: [2, 2, 1, 1],
    scratch_bytes: 65536,
    partial_bytes: 8192,
    residual_bytes: 36864,
};

/// Larger ones, and room for several tiles in the exchange.
pub const LARGE: Sizes = Sizes {
    row_capacity: 64,
    has_short_chunks: true,
    stages: 2,
    stage_bytes: 21504,
    tile_group: 4,
    groups: [4, 4, 4, 2],
    slots: [8, 4, 2, 1],
    scratch_bytes: 65536,
    partial_bytes: 33792,
    residual_bytes: 36864,
};

impl Sizes {
    pub fn cut(&self, blocks: u32) -> Cut {
        Cut {
            sm_count: blocks,
            tile_group: self.tile_group,
            stage_bytes: self.stage_bytes,
        }
    }

    pub fn defines(&self) -> Vec<(&'static str, u32)> {
        vec![
            // Nobody guesses.
            ("SEGMENT_EXTEND", NONE),
            ("SEGMENT_DRAFT", NONE),
            ("LOOKS_UP", 0),
            ("ROW_CAPACITY", self.row_capacity),
            ("ROW_TILE_SET", self.row_capacity / 4 - 1),
            // All activations in all epilogues.
            ("EPILOGUES", 32767),
            ("HAS_SHORT_CHUNKS", self.has_short_chunks.into()),
            ("STAGES", self.stages),
            ("STAGE_BYTES", self.stage_bytes),
            ("TILE_GROUP", self.tile_group),
            ("GROUP_1", self.groups[0]),
            ("GROUP_2", self.groups[1]),
            ("GROUP_4", self.groups[2]),
            ("GROUP_8", self.groups[3]),
            ("SLOTS_1", self.slots[0]),
            ("SLOTS_2", self.slots[1]),
            ("SLOTS_4", self.slots[2]),
            ("SLOTS_8", self.slots[3]),
            ("SCRATCH_BYTES", self.scratch_bytes),
            ("PARTIAL_BYTES", self.partial_bytes),
            ("RESIDUAL_BYTES", self.residual_bytes),
        ]
    }

    fn shared_bytes(&self) -> u32 {
        let regions = self.scratch_bytes + self.partial_bytes + self.residual_bytes;
        // Shared is below 4 KiB.
        self.stages * self.stage_bytes + regions + 4096
    }
}

type Modules = Mutex<HashMap<(String, Sizes, u32), Arc<Kernels>>>;

/// The module for a format, compiled once.
pub fn module(format: WeightFormat, sizes: Sizes, number: u32) -> Arc<Kernels> {
    static MODULES: LazyLock<Modules> = LazyLock::new(Modules::default);
    let key = (type_of(format), sizes, number);
    let found = MODULES.lock().unwrap().get(&key).cloned();
    found.unwrap_or_else(|| {
        let source = Source {
            name: "linear.cu",
            variant: key.0.clone(),
            text: kernel_text(&key.0),
            sizes: sizes.defines(),
        };
        let module = source.module(number);
        MODULES.lock().unwrap().insert(key, module.clone());
        module
    })
}

pub fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.chunks_exact(4);
    words
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

/// Which rows a phase reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rows {
    All,
    Output,
    Gathered,
}

/// A call: how many rows, their tokens, and which of them are output rows.
#[derive(Debug, Clone)]
pub struct Call {
    pub rows: u32,
    pub tokens: Vec<u32>,
    pub outputs: Vec<u32>,
}

impl Call {
    pub fn new(rows: u32) -> Self {
        Call {
            rows,
            tokens: vec![0; rows as usize],
            outputs: Vec::new(),
        }
    }

    pub fn row_tiles(&self, rows: Rows) -> u32 {
        self.count(rows).div_ceil(8).next_power_of_two()
    }

    /// Rows that a phase of that row set works on.
    pub fn count(&self, rows: Rows) -> u32 {
        match rows {
            Rows::All => self.rows,
            Rows::Output | Rows::Gathered => self.outputs.len() as u32,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let outputs = self.outputs.len() as u32;
        let mut words = vec![0, 1, self.rows, self.row_tiles(Rows::All)];
        words.extend([outputs, self.row_tiles(Rows::Output), 0, 0]);
        // No call is expected.
        words.extend([u32::MAX, 0, 0, 0, 0, 0, 0, 0]);
        let of = |list: &[u32]| {
            let mut list = list.to_vec();
            list.resize(64, 0);
            list
        };
        words.extend(of(&self.tokens));
        words.extend([0; 128]);
        words.extend(of(&self.outputs));
        // Path and sources.
        words.extend([0; 32]);
        bytes_of(&words)
    }
}

/// LinearPhase of program.cuh; offsets as there.
#[derive(Debug, Clone)]
pub struct Linear {
    pub k: u32,
    pub input: u32,
    pub input_rows: Rows,
    pub stats: u32,
    pub stat_tiles: u32,
    pub eps: f32,
    pub inverse_n: f32,
    pub epilogue: u32,
    pub activation: u32,
    pub output: u32,
    pub output_columns: u32,
    pub view: u32,
    pub view_weight: u32,
    pub view_stats: u32,
    pub view_tiles: u32,
    pub best: u32,
    /// first_tile, n, exponent, bias, column
    pub parts: Vec<[u32; 5]>,
}

pub const LOGITS: u32 = 0;
pub const RESIDUAL: u32 = 1;
pub const GATED: u32 = 2;
pub const QKV: u32 = 3;

impl Linear {
    /// Nothing but a product of K padded columns that begin the workspace.
    pub fn new(k: u32, epilogue: u32, parts: Vec<[u32; 5]>) -> Self {
        Linear {
            k,
            input: 0,
            input_rows: Rows::All,
            stats: NONE,
            stat_tiles: 0,
            eps: 0.0,
            inverse_n: 0.0,
            epilogue,
            activation: 0,
            output: 0,
            output_columns: 0,
            view: NONE,
            view_weight: NONE,
            view_stats: NONE,
            view_tiles: 0,
            best: NONE,
            parts,
        }
    }

    pub fn phase(&self) -> Vec<u32> {
        let mut words = vec![1, 0, NONE, 0, NONE, 0];
        words.extend([0, 0, self.k, self.input, self.input_rows as u32]);
        words.extend([self.stats, self.stat_tiles]);
        words.extend([self.eps.to_bits(), self.inverse_n.to_bits()]);
        words.extend([
            self.epilogue,
            self.activation,
            self.output,
            self.output_columns,
        ]);
        words.extend([
            self.view,
            self.view_weight,
            self.view_stats,
            self.view_tiles,
        ]);
        words.extend([self.best, self.parts.len() as u32]);
        words.extend(self.parts.as_flattened());
        words
    }
}

/// EmbedPhase of program.cuh; the table's spans are the second of each block.
#[derive(Debug, Clone)]
pub struct Embed {
    pub in_tiles: bool,
    pub is_f16: bool,
    pub columns: u32,
    pub table_tiles: u32,
    pub exponent: i32,
    pub table_stride: u32,
    pub table: u64,
    pub view: u32,
    pub view_weight: u32,
    pub view_stats: u32,
}

impl Embed {
    pub fn phase(&self) -> Vec<u32> {
        let mut words = vec![0, 0, NONE, 0, NONE, 0];
        words.extend([if self.in_tiles { 0 } else { NONE }, 1, self.is_f16.into()]);
        words.extend([self.columns, self.columns.div_ceil(16), self.table_tiles]);
        words.extend([self.exponent as u32, self.table_stride]);
        words.extend([self.table as u32, (self.table >> 32) as u32]);
        words.extend([self.view, self.view_weight, self.view_stats]);
        words
    }
}

pub fn narrow(tiles: u32) -> Vec<u32> {
    vec![3, 1, NONE, 0, NONE, 0, tiles]
}

/// Of the output rows, to f32 `[output row][columns]`.
pub fn export(columns: u32, output: u32) -> Vec<u32> {
    let mut words = vec![4, 1, NONE, 0, NONE, 0];
    words.extend([NONE, 0, 0, output, columns, 0, 0, columns]);
    words.extend([columns.div_ceil(16), NONE, 0, 0, NONE, NONE, NONE, NONE]);
    words
}

/// Lets a phase wait for the one before it: edge `edge` gets an arrival of every block.
pub fn link(phases: &mut [Vec<u32>], blocks: u32) {
    for edge in 1..phases.len() {
        phases[edge - 1][4] = edge as u32;
        phases[edge][2] = edge as u32;
        phases[edge][3] = blocks;
    }
}

/// A device with an arena, constants and a workspace.
pub struct Machine {
    pub gpu: Gpu,
    pub blocks: u32,
    arena: DevicePointer,
    spans: DevicePointer,
    constants: DevicePointer,
    workspace: DevicePointer,
    workspace_bytes: usize,
}

impl Machine {
    /// `workspace` is its first content; the rest is 0.
    pub fn new(
        blocks: u32,
        arena: &[u8],
        spans: &[u8],
        constants: &[f32],
        workspace: &[u8],
        workspace_bytes: usize,
    ) -> Self {
        let mut gpu = Gpu::new(blocks);
        let mut content = workspace.to_vec();
        content.resize(workspace_bytes, 0);
        let constants: Vec<u8> = constants.iter().flat_map(|x| x.to_le_bytes()).collect();
        Machine {
            blocks,
            arena: gpu.upload(arena),
            spans: gpu.upload(spans),
            constants: gpu.upload(&constants),
            workspace: gpu.upload(&content),
            workspace_bytes,
            gpu,
        }
    }

    /// Runs phases one after the other in one launch.
    pub fn run(
        &mut self,
        module: &Kernels,
        sizes: Sizes,
        call: &Call,
        phases: &[Vec<u32>],
        seed: u64,
    ) -> LaunchReport {
        let mut bytes = Vec::new();
        for phase in phases {
            let mut words = phase.clone();
            words.resize(48, 0);
            bytes.extend(bytes_of(&words));
        }
        let phase_bytes = self.gpu.upload(&bytes);
        let call = self.gpu.upload(&call.bytes());
        let edges = self.gpu.upload(&vec![0; 128 * (phases.len() + 1)]);
        let host = self.gpu.upload(&[0; 64]);
        // TAPE_ROOM of the kernel.
        let stages = vec![0; self.blocks as usize * 8192 * 16];
        let stages = self.gpu.upload(&stages);
        let mut parameter = Vec::new();
        let addresses = [
            self.arena.0,
            self.constants.0,
            self.workspace.0,
            phase_bytes.0,
            0,
            stages.0,
            0,
            self.spans.0,
            edges.0,
            call.0,
            // History, followers, counts, bias and mask: of choices.
            0,
            0,
            0,
            0,
            0,
            host.0,
            0,
        ];
        // Two pools of K and V, which no product reads.
        for word in addresses.into_iter().chain([0; 6]) {
            parameter.extend(word.to_le_bytes());
        }
        parameter.extend(bytes_of(&[2, 0, 0, phases.len() as u32, 0, 0, 0, 0, 0, 0]));
        let shape = Shape {
            blocks: self.blocks,
            threads: THREADS,
            shared: sizes.shared_bytes(),
        };
        let options = LaunchOptions {
            seed,
            fuel: 400_000_000,
            ..LaunchOptions::default()
        };
        self.gpu
            .launch(module, "phases", shape, &parameter, &options)
    }

    pub fn workspace(&mut self) -> Vec<u8> {
        self.gpu.download(self.workspace, self.workspace_bytes)
    }
}

/// Byte of element (row, k) in a buffer in B order.
pub fn b_order(row_tiles: u32, row: u32, k: u32) -> usize {
    let lane = 4 * (row % 8) + k % 32 / 8;
    (((k / 32 * row_tiles + row / 8) * 32 + lane) * 16 + 2 * (k % 8)) as usize
}
