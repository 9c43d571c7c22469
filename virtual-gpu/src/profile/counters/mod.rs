//! What launches are counted by. Everything follows from the program, its inputs and the seed: two runs give the same
//! numbers.

mod lines;
mod memory;
mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::exec::{Extra, Grid, Program};
use crate::num::mma::{Mma, MmaShape};

pub use crate::exec::{CacheHint, Class};
pub use lines::LineCounters;
pub use memory::MemoryCounters;

/// Instructions of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCounters {
    /// The class.
    pub class: Class,
    /// Executions by warps.
    pub warp_instructions: u64,
    /// Executions by lanes.
    pub lane_instructions: u64,
}

/// Global accesses that ask the same of caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HintCounters {
    /// What they ask.
    pub hint: CacheHint,
    /// Warp-wide requests.
    pub requests: u64,
    /// Bytes of lanes.
    pub bytes: u64,
}

/// Tensor-core products of one shape and type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorCounters {
    /// Such as `m16n8k16 f32.bf16.bf16.f32`: shape, and types of D, A, B and C.
    pub shape: String,
    /// Products of warps.
    pub count: u64,
    /// Multiplications and additions.
    pub flops: u64,
}

/// What one launch was counted by; the numbers are zero if counting was off.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counters {
    /// The kernel.
    pub kernel: String,
    /// The device that was imitated.
    pub profile: String,
    /// Blocks of the grid.
    pub blocks: u64,
    /// Threads of a block.
    pub threads: u32,
    /// Instructions that warps executed.
    pub warp_instructions: u64,
    /// Instructions that lanes executed.
    pub lane_instructions: u64,
    /// The same by class; classes that did not occur are left out.
    pub classes: Vec<ClassCounters>,
    /// Warps that arrived at barriers of their block.
    pub barriers: u64,
    /// Branches at which lanes of a warp parted.
    pub divergent_branches: u64,
    /// Most atomic operations that met one address.
    pub atomics_at_one_address: u64,
    /// Tensor-core products.
    pub tensor: Vec<TensorCounters>,
    /// Their operations.
    pub tensor_flops: u64,
    /// Memory traffic.
    pub memory: MemoryCounters,
    /// Global accesses by what they ask of caches.
    pub hints: Vec<HintCounters>,
    /// Instructions and traffic by source line.
    pub lines: Vec<LineCounters>,
}

impl Counters {
    /// The counts of a launch that has run.
    pub(crate) fn of(grid: &Grid) -> Self {
        let mut counters = Self {
            kernel: grid.program.name.clone(),
            profile: grid.profile.name.clone(),
            blocks: grid.config.blocks(),
            threads: grid.config.threads(),
            atomics_at_one_address: grid.atomics.values().copied().max().unwrap_or(0),
            lines: lines::of(grid),
            ..Self::default()
        };
        let mut classes: BTreeMap<Class, (u64, u64)> = BTreeMap::new();
        let mut hints: BTreeMap<CacheHint, (u64, u64)> = BTreeMap::new();
        let mut tensor: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (pc, (count, traffic)) in grid.counts.iter().zip(&grid.traffic).enumerate() {
            if count.warps == 0 {
                continue;
            }
            counters.warp_instructions += count.warps;
            counters.lane_instructions += count.lanes;
            counters.barriers += count.arrivals;
            counters.divergent_branches += count.splits;
            counters.memory.add(traffic);
            let class = classes.entry(grid.program.origins[pc].class).or_default();
            class.0 += count.warps;
            class.1 += count.lanes;
            if traffic.global_requests > 0 {
                let hint = hints.entry(grid.program.origins[pc].hint).or_default();
                hint.0 += traffic.global_requests;
                hint.1 += traffic.global_read_bytes + traffic.global_written_bytes;
            }
            if let Some(shape) = shape(&grid.program, pc) {
                let entry = tensor.entry(shape).or_default();
                entry.0 += count.warps;
                entry.1 += count.warps * flops(&grid.program, pc);
            }
        }
        counters.classes = classes
            .into_iter()
            .map(|(class, (warps, lanes))| ClassCounters {
                class,
                warp_instructions: warps,
                lane_instructions: lanes,
            })
            .collect();
        counters.hints = hints
            .into_iter()
            .map(|(hint, (requests, bytes))| HintCounters {
                hint,
                requests,
                bytes,
            })
            .collect();
        counters.tensor_flops = tensor.values().map(|(_, flops)| flops).sum();
        counters.tensor = tensor
            .into_iter()
            .map(|(shape, (count, flops))| TensorCounters {
                shape,
                count,
                flops,
            })
            .collect();
        counters
    }
}

/// The tensor-core product at an instruction, if it is one: its form, and its shape as the warps of it share it.
fn product(program: &Program, pc: usize) -> Option<(&Mma, MmaShape)> {
    if program.origins[pc].class != Class::Tensor {
        return None;
    }
    match program.extras.get(program.code[pc].ext as usize) {
        Some(Extra::Mma(mma, _)) => Some((mma, mma.shape)),
        Some(Extra::Product(product)) => {
            let (n, k) = (product.n, product.mma.shape.k);
            Some((&product.mma, MmaShape { m: 64, n, k }))
        }
        _ => None,
    }
}

/// Operations of one execution.
fn flops(program: &Program, pc: usize) -> u64 {
    product(program, pc).map_or(0, |(mma, shape)| {
        // Four warps make a product of 64 rows, each of them its own 16.
        let rows = if mma.shape == shape { shape.m } else { 16 };
        2 * [rows, shape.n, shape.k]
            .map(u64::from)
            .iter()
            .product::<u64>()
    })
}

fn shape(program: &Program, pc: usize) -> Option<String> {
    let (mma, shape) = product(program, pc)?;
    let types = [mma.d, mma.a, mma.b, mma.c].map(|ty| format!("{ty:?}").to_lowercase());
    Some(format!(
        "m{}n{}k{} {}",
        shape.m,
        shape.n,
        shape.k,
        types.join(".")
    ))
}
