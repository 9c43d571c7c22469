//! One sequence, the rows that follow it, and what the phase makes of them on the virtual GPU.

use crate::support::{Gpu, Kernels, Shape, Source};
use crate::tree::Tree;
use half::{bf16, f16};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use stheno_kernels::attention::{counter_bytes, partial_bytes};
use virtual_gpu::{Arch, Checks, DevicePointer, LaunchOptions, LaunchReport, MmaMode};

const PAGE: u32 = 128;
const LAYERS: u32 = 2;
const LAYER: u32 = 1;
/// Of `program.cuh`: a row of it is missing.
const NONE: u32 = u32::MAX;

/// What is asked of the phase.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub head_dim: u32,
    pub group: u32,
    pub kv_heads: u32,
    /// Positions before the rows.
    pub length: u32,
    pub rows: u32,
    pub window: u32,
    pub has_norms: bool,
    pub rope_pairs: u32,
    pub is_f16: bool,
    pub blocks: u32,
    pub scratch: u32,
    /// Rows of a call: the rows come as one call of all, or as several.
    pub rows_of_call: u32,
    /// Of the order in which warps take turns.
    pub schedule: u64,
    /// Of the data.
    pub seed: u64,
    pub compute: u32,
    /// Whose sums products have.
    pub tensor_cores: Arch,
    pub checks: Checks,
    /// Before the rows K repeats after 640 positions, and V does with the other sign: sums nearly cancel, so that what
    /// f32 rounds off shows in an output of bf16.
    pub cancels: bool,
    /// Without norm and rotation K of all rows is the same, and so much larger than K before them that weights of these
    /// nearly vanish. Along each path V is something large, something small, and the large with the other sign, in turn:
    /// every third row has an output that is all of the small, and of what f32 rounds off.
    pub rows_cancel: bool,
}

impl Default for Case {
    fn default() -> Case {
        Case {
            head_dim: 64,
            group: 2,
            kv_heads: 2,
            length: 0,
            rows: 1,
            window: 0,
            has_norms: false,
            rope_pairs: 32,
            is_f16: false,
            blocks: 4,
            scratch: 65536,
            rows_of_call: 64,
            schedule: 0,
            seed: 1,
            compute: 90,
            tensor_cores: Arch::Hopper,
            checks: Checks::All,
            cancels: false,
            rows_cancel: false,
        }
    }
}

/// What the phase left.
pub struct Outcome {
    /// Bits of bf16, `[row][kv_heads * group * head_dim]`.
    pub output: Vec<u16>,
    /// Bits as the pool has them, `[K, V][kv head][position][head_dim]`.
    pub kv: Vec<u16>,
    pub report: LaunchReport,
}

/// Which draw a number is.
#[derive(Clone, Copy)]
enum Kind {
    Prefix,
    Products,
    Norm,
}

pub const EPS: f32 = 1e-5;

impl Case {
    pub fn query_heads(&self) -> u32 {
        self.group * self.kv_heads
    }
    pub fn positions(&self) -> u32 {
        self.length + self.rows
    }
    pub fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
    pub fn qkv_columns(&self) -> u32 {
        (self.query_heads() + 2 * self.kv_heads) * self.head_dim
    }
    /// Bits of the type of K and V.
    pub fn round(&self, x: f32) -> u16 {
        if self.is_f16 {
            f16::from_f32(x).to_bits()
        } else {
            bf16::from_f32(x).to_bits()
        }
    }
    pub fn widen(&self, bits: u16) -> f32 {
        if self.is_f16 {
            f16::from_bits(bits).to_f32()
        } else {
            bf16::from_bits(bits).to_f32()
        }
    }

    /// About normal, from -2 to 2: the same for the same place, whatever else the case is.
    fn draw(&self, kind: Kind, a: u32, b: u32) -> f32 {
        let mut x = self.seed ^ (kind as u64) << 56 ^ u64::from(a) << 24 ^ u64::from(b);
        let mut sum = 0.0;
        for _ in 0..4 {
            x = (x ^ x >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x = (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            sum += (x >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        }
        sum
    }
    /// Products of a row of the tree; those of a chain do not depend on where it is cut into calls.
    pub fn product(&self, tree: &Tree, row: u32, column: u32) -> f32 {
        let x = self.draw(Kind::Products, self.length + row, column) * 2.0;
        if !self.rows_cancel {
            return x;
        }
        let all = self.draw(Kind::Products, 0, column).abs();
        if column < self.query_heads() * self.head_dim {
            0.5 + x.abs()
        } else if column < (self.query_heads() + self.kv_heads) * self.head_dim {
            8.0 + 8.0 * all
        } else {
            match tree.depth(row) % 3 {
                0 => 1.0 + all,
                1 => x * 2f32.powi(-16),
                _ => -1.0 - all,
            }
        }
    }
    pub fn norm(&self, is_k: bool, d: u32) -> f32 {
        1.0 + self.draw(Kind::Norm, u32::from(is_k), d) / 2.0
    }
    pub fn angle(&self, position: u32, pair: u32) -> (f32, f32) {
        let angle = f64::from(position) * 0.5f64.powi(pair as i32);
        (angle.cos() as f32, angle.sin() as f32)
    }
    fn prefix(&self, is_v: bool, head: u32, position: u32, d: u32) -> u16 {
        let row = (u32::from(is_v) * self.kv_heads + head) * self.head_dim + d;
        if !self.cancels {
            return self.round(self.draw(Kind::Prefix, position, row));
        }
        let x = self.draw(Kind::Prefix, position % 640, row);
        // One key of each segment has another score everywhere and V of 0, so that largest scores differ.
        let factor = match (is_v, position % 128 == 17) {
            (true, true) => 0.0,
            (true, false) => 1.0 - 2.0 * (position / 640 % 2) as f32,
            (false, true) => (1 + position / 128 % 5) as f32,
            (false, false) => 1.0,
        };
        self.round(x * factor)
    }

    pub fn source(&self) -> Source {
        let kv = if self.is_f16 { "KvF16" } else { "KvBf16" };
        let instance = format!("{}, {kv}", self.head_dim);
        let sizes = [
            ("ROW_CAPACITY", 64),
            ("STAGES", 1),
            ("STAGE_BYTES", 128),
            ("SCRATCH_BYTES", self.scratch),
            ("PARTIAL_BYTES", 16384),
            ("RESIDUAL_BYTES", 128),
        ];
        Source {
            name: "attention.cu",
            variant: instance.clone(),
            text: include_str!("phase.cu").replace("INSTANCE", &instance),
            sizes: sizes.to_vec(),
        }
    }

    fn module(&self) -> Arc<Kernels> {
        type Key = (u32, bool, u32, u32);
        static MODULES: Mutex<Option<HashMap<Key, Arc<Kernels>>>> = Mutex::new(None);
        let key = (self.head_dim, self.is_f16, self.scratch, self.compute);
        let mut modules = MODULES.lock().unwrap();
        let modules = modules.get_or_insert_default();
        let module = modules.entry(key);
        module
            .or_insert_with(|| self.source().module(self.compute))
            .clone()
    }

    /// Page of the pool: scattered, and not all of it is the sequence's.
    fn pages(&self) -> (Vec<u32>, u32) {
        let count = self.positions().div_ceil(PAGE);
        let of_pool = count + 3;
        let stride = (3..).find(|s| !of_pool.is_multiple_of(*s)).unwrap();
        let table = (0..count).map(|page| (page * stride + 2) % of_pool);
        (table.collect(), of_pool)
    }

    /// Runs a chain of `rows` rows, in calls of `rows_of_call`.
    pub fn run(&self) -> Outcome {
        let tree = Tree::chain(self.rows);
        let rows: Vec<u32> = (0..self.rows).collect();
        let calls: Vec<_> = rows.chunks(self.rows_of_call as usize).collect();
        self.run_calls(&tree, &calls)
    }

    /// Runs all of a tree in one call. `rows` are its rows.
    pub fn run_tree(&self, tree: &Tree) -> Outcome {
        let rows: Vec<u32> = (0..self.rows).collect();
        self.run_calls(tree, &[&rows])
    }

    /// Runs the ancestors of a row of a tree and the row, in one call or several.
    pub fn run_path(&self, tree: &Tree, row: u32) -> Outcome {
        let path = tree.path(row);
        let case = Case {
            rows: path.len() as u32,
            ..*self
        };
        let calls: Vec<_> = path.chunks(self.rows_of_call as usize).collect();
        case.run_calls(tree, &calls)
    }

    /// Runs calls of rows of a tree one after the other, each with all ancestors in it or before it, and checks what every
    /// run must leave: counters, edges, pages of others.
    fn run_calls(&self, tree: &Tree, calls: &[&[u32]]) -> Outcome {
        let (d, heads) = (self.head_dim, self.kv_heads);
        let mut gpu = Gpu::new(self.blocks);
        let (table, pages) = self.pages();
        let head_bytes = PAGE * d * 2;
        let layer_bytes = 2 * heads * head_bytes;
        let page_bytes = LAYERS * layer_bytes;
        // Slots after the sequence stay uninitialised: to read them is a finding.
        let pool = gpu.alloc((pages * page_bytes) as usize);
        let row_at = |is_v: u32, head: u32, position: u32| {
            let page = u64::from(table[(position / PAGE) as usize]) * u64::from(page_bytes);
            let head = (is_v * heads + head) * head_bytes + position % PAGE * d * 2;
            DevicePointer(pool.0 + page + u64::from(LAYER * layer_bytes + head))
        };
        for is_v in 0..2 {
            for head in 0..heads {
                for position in 0..self.length {
                    let row = (0..d).map(|d| self.prefix(is_v == 1, head, position, d));
                    let at = row_at(is_v, head, position);
                    gpu.write(at, &halves(row));
                }
            }
        }

        let mut constants = Vec::new();
        for is_k in [false, true] {
            constants.extend((0..d).map(|d| self.norm(is_k, d)));
        }
        for position in 0..self.positions() {
            for pair in 0..self.rope_pairs {
                let (cos, sin) = self.angle(position, pair);
                constants.extend([cos, sin]);
            }
        }
        let constants: Vec<u8> = constants.iter().flat_map(|x| x.to_le_bytes()).collect();

        let slices = (self.query_heads() * d).div_ceil(64);
        let tiles = |rows: u32| rows.div_ceil(8).next_power_of_two();
        let mut end = 0u32;
        let mut place = |bytes: u64| {
            let at = end;
            end += (bytes as u32).next_multiple_of(256);
            at
        };
        let partials = place(partial_bytes(
            self.rows_of_call.min(self.rows),
            self.query_heads(),
            d,
            self.positions(),
        ));
        let counter_bytes = counter_bytes(self.rows, self.query_heads(), heads);
        let counters = place(counter_bytes);
        let places: Vec<(u32, u32)> = calls
            .iter()
            .map(|rows| {
                let rows = rows.len() as u32;
                let qkv = place(u64::from(rows * self.qkv_columns() * 4));
                (qkv, place(u64::from(slices * 2 * tiles(rows) * 512)))
            })
            .collect();
        let workspace = gpu.alloc(end as usize);
        let at = |offset: u32| DevicePointer(workspace.0 + u64::from(offset));
        let zeros = vec![0; counter_bytes as usize];
        gpu.write(at(counters), &zeros);
        let (mut call_bytes, mut phase_bytes) = (Vec::new(), Vec::new());
        let mut length = self.length;
        for (run, (&of_call, &(qkv, output))) in calls.iter().zip(&places).enumerate() {
            let rows = of_call.len() as u32;
            let products = of_call.iter().flat_map(|&row| {
                (0..self.qkv_columns()).map(move |column| self.product(tree, row, column))
            });
            let products: Vec<u8> = products.flat_map(f32::to_le_bytes).collect();
            gpu.write(at(qkv), &products);

            let positions = of_call.iter().map(|&row| self.length + tree.depth(row));
            let row_of = |row: u32| of_call.iter().position(|other| *other == row);
            let parents = of_call.iter().map(|&row| {
                let parent = tree.parent(row).and_then(row_of);
                parent.map_or(NONE, |row| row as u32)
            });
            let mut call = vec![0, run as u32, rows, tiles(rows), 1, 1, length, 0];
            length += rows;
            let fill = |values: Vec<u32>| values.into_iter().chain(std::iter::repeat(0)).take(64);
            // No call is expected to follow.
            call.extend([NONE, 0, 0, 0, 0, 0, 0, 0]);
            call.extend(fill(vec![]));
            call.extend(fill(positions.collect()));
            call.extend(fill(parents.collect()));
            call.extend(fill(vec![rows - 1]));
            // Path and sources.
            call.extend([0; 32]);
            call_bytes.extend(words(&call));

            let norm = |at: u32| if self.has_norms { at } else { NONE };
            // Run r waits for the edge of run r - 1.
            let mut phase = vec![2, 0, 1, heads, 1, 0];
            phase.extend([0, 1, LAYER, heads, self.group, d]);
            phase.extend([self.scale().to_bits(), self.window, qkv, self.qkv_columns()]);
            phase.extend([norm(0), norm(d * 4), EPS.to_bits(), EPS.to_bits()]);
            phase.extend([
                2 * d * 4,
                self.rope_pairs,
                output,
                slices,
                partials,
                counters,
            ]);
            phase.resize(48, 0);
            phase_bytes.extend(words(&phase));
        }
        let edges = gpu.upload(&[0; 4 * 128]);
        let constants = gpu.upload(&constants);
        let calls_at = gpu.upload(&call_bytes);
        let phases_at = gpu.upload(&phase_bytes);
        let addresses = table
            .iter()
            .map(|page| pool.0 + u64::from(page * page_bytes));
        let addresses: Vec<u8> = addresses.flat_map(u64::to_le_bytes).collect();
        let table_at = gpu.upload(&addresses);

        let mut given = vec![0u64; 17];
        given[1] = constants.0;
        given[2] = workspace.0;
        given[3] = phases_at.0;
        given[8] = edges.0;
        given.extend([0; 3]);
        let planes = u64::from(2 * LAYERS * heads);
        given.extend([layer_bytes.into(), table_at.0, planes | u64::from(d) << 33]);
        given.extend([0, 0, 0, 0, 0, calls_at.0, calls.len() as u64]);
        let given: Vec<u8> = given.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = Shape {
            blocks: self.blocks,
            threads: 256,
            shared: 128 + self.scratch + 16384 + 128 + 4096,
        };
        let options = LaunchOptions {
            seed: self.schedule,
            checks: self.checks,
            mma: MmaMode::Exact(self.tensor_cores),
            ..LaunchOptions::default()
        };
        let report = gpu.launch(&self.module(), "phase", shape, &given, &options);

        let edge = gpu.download(edges, 4 * 128);
        let arrivals: Vec<u32> = edge
            .chunks(128)
            .map(|edge| u32::from_le_bytes(edge[..4].try_into().unwrap()))
            .collect();
        assert_eq!(arrivals, [0, heads * calls.len() as u32, 0, 0], "{self:?}");
        let left = gpu.download(at(counters), counter_bytes as usize);
        assert!(left.iter().all(|byte| *byte == 0), "{self:?}: counters");

        let mut output = Vec::new();
        for (rows, &(_, place)) in calls.iter().zip(&places) {
            let rows = rows.len() as u32;
            let tiles = tiles(rows);
            let bytes = gpu.download(at(place), (slices * 2 * tiles * 512) as usize);
            for row in 0..rows {
                for column in 0..slices * 64 {
                    let lane = row % 8 * 4 + column % 32 / 8;
                    let piece = (column / 32 * tiles + row / 8) * 32 + lane;
                    let at = (piece * 16 + column % 8 * 2) as usize;
                    let bits = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
                    if column < self.query_heads() * d {
                        output.push(bits);
                    } else {
                        assert_eq!(bits, 0, "{self:?}: row {row} column {column}");
                    }
                }
            }
        }
        let mut kv = Vec::new();
        for is_v in 0..2 {
            for head in 0..heads {
                for position in 0..self.positions() {
                    let row = gpu.download(row_at(is_v, head, position), (d * 2) as usize);
                    let row = row.chunks(2).map(|x| u16::from_le_bytes([x[0], x[1]]));
                    let before = kv.len();
                    kv.extend(row);
                    if position < self.length {
                        let prefix = (0..d).map(|d| self.prefix(is_v == 1, head, position, d));
                        assert!(prefix.eq(kv[before..].iter().copied()), "{self:?}");
                    }
                }
            }
        }
        Outcome { output, kv, report }
    }
}

fn halves(values: impl Iterator<Item = u16>) -> Vec<u8> {
    values.flat_map(u16::to_le_bytes).collect()
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}
