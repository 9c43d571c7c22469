use super::{Architecture, Facts, Reason, TuneError};
use crate::layout::{CHUNK, Cut, SLICE, TILE_ROWS};
use crate::plan::KV_PAGE;
use std::fmt;

/// Row counts that a device program can be laid out for.
pub const ROW_LAYOUTS: [u32; 4] = [8, 16, 32, 64];

/// Warps that multiply: one for each slice of a chunk.
pub const CONSUMER_WARPS: u32 = (CHUNK / SLICE) as u32;

/// Threads of a block: the consumers, a producer of weights, one of activations and KV, and two that sample, build trees,
/// move KV and talk to the host.
pub const THREADS: u32 = 32 * (CONSUMER_WARPS + 4);

/// Registers of a consumer thread that hold no accumulator, activation or partial sum: addresses, loop counters, a
/// weight fragment and what decodes it. With it the formula gives the two cases known to compile without spills: 6
/// tiles at 32 rows and 14 at 16, both with int4.
const WORKING_REGISTERS: u32 = 40;

/// Tiles of a group, at most: a consumer's loop over them is unrolled, and past 16 the activations read again are few
/// beside the weights.
const TILE_GROUP_MAX: u32 = 16;

/// Bytes for barriers, the row table, ancestor masks and the state of the round.
const CONTROL_BYTES: u32 = 4096;

/// What a stage should hold: long enough that issuing copies costs little, short enough that a ring has several.
const STAGE_GOAL: u32 = 16 << 10;

/// Stages without which copies and multiplications cannot overlap, and from which on they do so evenly.
const STAGES_MIN: u32 = 2;
const STAGES_EVEN: u32 = 3;

/// Keys between two rescalings of a softmax; part of the numeric rules, so no choice.
const ATTENTION_UNIT: u32 = 64;

/// The sizes that a device program is compiled with.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgramLayout {
    /// The architecture it is for.
    pub architecture: Architecture,
    /// Rows of one call, at most.
    pub max_rows: u32,
    /// Registers of a thread, at most.
    pub registers: u32,
    /// Row tiles that a consumer accumulates at a time.
    pub tile_group: u32,
    /// Bytes of one stage of the weight ring, a multiple of 128.
    pub stage_bytes: u32,
    /// Stages of the weight ring.
    pub stages: u32,
    /// Chunks of activations held: 2 overlap loading with multiplying, 1 does not.
    pub activation_buffers: u32,
    /// Bytes of the activation ring, which also carries K and V of the prefix.
    pub activation_bytes: u32,
    /// Rows whose partial sums are exchanged at a time.
    pub partial_rows: u32,
    /// Bytes of the partial sums of one tile: 8 warps x 16 outputs x `partial_rows` in f32.
    pub partial_bytes: u32,
    /// Bytes of the residual rows that a block owns, in f32.
    pub residual_bytes: u32,
    /// How attention is divided.
    pub attention: AttentionSplit,
    /// Bytes of shared memory in all.
    pub shared_bytes: u32,
    /// Each decision and why.
    pub reasons: Vec<Reason>,
}

/// How attention is divided: work items are (KV head, run of segments of 128 absolute positions).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionSplit {
    /// KV heads of the target.
    pub kv_heads: u32,
    /// Streaming multiprocessors.
    pub sm_count: u32,
    /// Positions whose K and V are loaded at a time, 16 to 64.
    pub positions: u32,
    /// m16 tiles of query rows: rows times query heads of a KV head.
    pub row_tiles: u32,
}

impl AttentionSplit {
    /// Consecutive segments of 128 positions that one item takes, so that all items together are at most one for each
    /// SM. Bits do not depend on it: each segment is reduced by itself and merged in order.
    pub fn segments_per_item(&self, positions: u32) -> u32 {
        let segments = positions.div_ceil(KV_PAGE as u32);
        let heads = self.kv_heads.max(1);
        let items = (self.sm_count / heads).max(1);
        segments.div_ceil(items).max(1)
    }
}

impl ProgramLayout {
    /// Chooses all sizes: a function of the plan's facts and the architecture, nothing else.
    ///
    /// # Errors
    /// `max_rows` is none of [`ROW_LAYOUTS`], the architecture lacks an instruction, or shared memory or registers do
    /// not suffice; the error says what would fit.
    pub fn choose(
        facts: &Facts,
        architecture: &Architecture,
        max_rows: u32,
    ) -> Result<Self, TuneError> {
        let arch = *architecture;
        if !ROW_LAYOUTS.contains(&max_rows) {
            return Err(TuneError::Rows { max_rows });
        }
        if arch.compute_capability < (8, 0) || arch.sm_count == 0 {
            let (major, minor) = arch.compute_capability;
            let name = arch.name;
            return Err(TuneError::Architecture { name, major, minor });
        }
        let fits = |rows: &u32| Self::fit(facts, arch, *rows).is_ok();
        Self::fit(facts, arch, max_rows).map_err(|missing| TuneError::DoesNotFit {
            max_rows,
            name: arch.name,
            missing,
            fits: ROW_LAYOUTS.into_iter().rev().find(fits),
        })
    }

    /// What the weights are cut by.
    pub fn cut(&self) -> Cut {
        Cut {
            sm_count: self.architecture.sm_count,
            tile_group: self.tile_group,
            stage_bytes: self.stage_bytes,
        }
    }

    fn fit(facts: &Facts, arch: Architecture, max_rows: u32) -> Result<Self, String> {
        let mut reasons = Vec::new();
        let mut because = |decision, choice: String, why: String| {
            reasons.push(Reason {
                decision,
                choice,
                why,
            });
        };
        let registers = arch.registers_per_sm / THREADS / 8 * 8;
        because(
            "block",
            format!("{THREADS} threads, {registers} registers each"),
            format!(
                "one block on each of {} SMs, all its registers",
                arch.sm_count
            ),
        );
        let (tile_group, why) = tile_group(facts, arch, max_rows, registers)?;
        because("tile group", format!("{tile_group} row tiles"), why);
        let (stage_bytes, why) = stage_bytes(facts);
        because("stage", format!("{stage_bytes} bytes"), why);

        let owned = facts
            .residual
            .div_ceil(TILE_ROWS as u32)
            .div_ceil(arch.sm_count);
        let residual_bytes = owned.saturating_mul(TILE_ROWS as u32 * max_rows * 4);
        because(
            "residual",
            format!("{residual_bytes} bytes"),
            format!("at most {owned} tiles of {max_rows} rows in f32 belong to a block"),
        );
        let partial_rows = max_rows.min(32);
        let partial_bytes = CONSUMER_WARPS * TILE_ROWS as u32 * partial_rows * 4;
        because(
            "partial sums",
            format!("{partial_bytes} bytes"),
            format!("{CONSUMER_WARPS} slices of one tile, {partial_rows} rows at a time"),
        );

        // The least that a k16 step of attention over K and V asks of the ring.
        let key = facts.head_dim.saturating_mul(2 * facts.kv_bytes);
        let fixed = residual_bytes.saturating_add(partial_bytes + CONTROL_BYTES);
        let chunk_bytes = max_rows * CHUNK as u32 * 2;
        let ring = |buffers: u32| {
            let activations = (buffers * chunk_bytes).max(key.saturating_mul(16));
            let left = arch
                .shared_memory_per_block
                .checked_sub(fixed.saturating_add(activations));
            (buffers, activations, left.unwrap_or(0) / stage_bytes)
        };
        let candidates = [
            (2, STAGES_EVEN),
            (1, STAGES_EVEN),
            (2, STAGES_MIN),
            (1, STAGES_MIN),
        ];
        let mut candidates = candidates
            .map(|(buffers, least)| (ring(buffers), least))
            .into_iter();
        let found = candidates.find(|((_, _, stages), least)| stages >= least);
        let Some(((activation_buffers, activation_bytes, stages), _)) = found else {
            let (_, activations, _) = ring(1);
            let needed = fixed.saturating_add(activations);
            let needed = needed.saturating_add(STAGES_MIN * stage_bytes);
            return Err(format!(
                "it needs {needed} bytes of shared memory (activations {activations}, \
                 {STAGES_MIN} stages of {stage_bytes}, the rest {fixed}), a block has {}",
                arch.shared_memory_per_block
            ));
        };
        because(
            "activations",
            format!("{activation_buffers} x {chunk_bytes} bytes"),
            match activation_buffers {
                2 => "the next chunk is loaded while one is multiplied".to_owned(),
                _ => "a second buffer would leave the ring too few stages".to_owned(),
            },
        );
        let per_sm = arch.bandwidth / f64::from(arch.sm_count);
        let micros = f64::from(stages * stage_bytes) / per_sm * 1e6;
        because(
            "ring",
            format!("{stages} stages, {} bytes", stages * stage_bytes),
            format!("all that is left; memory stays busy for {micros:.1} us without consumers"),
        );
        let positions = (activation_bytes / key.max(1)).min(ATTENTION_UNIT);
        let attention = AttentionSplit {
            kv_heads: facts.kv_heads,
            sm_count: arch.sm_count,
            positions: 1 << positions.max(16).ilog2(),
            row_tiles: max_rows.saturating_mul(facts.queries_per_kv).div_ceil(16),
        };
        because(
            "attention",
            format!(
                "{} positions at a time, {} row tiles",
                attention.positions, attention.row_tiles
            ),
            format!("their K and V fit the activation ring; {key} bytes a position"),
        );
        Ok(ProgramLayout {
            architecture: arch,
            max_rows,
            registers,
            tile_group,
            stage_bytes,
            stages,
            activation_buffers,
            activation_bytes,
            partial_rows,
            partial_bytes,
            residual_bytes,
            attention,
            shared_bytes: fixed + activation_bytes + stages * stage_bytes,
            reasons,
        })
    }
}

/// As many tiles as accumulators leave room for: each tile group reads all activations again.
///
/// A formula, and known to be too hopeful for int4 at 32 rows: the probe's loop over groups of 128 takes 181 to 189
/// registers with 4 tiles, where 168 are to be had (`gpu-probe/README.md`). It waits for the kernel's own compile reports.
fn tile_group(
    facts: &Facts,
    arch: Architecture,
    max_rows: u32,
    registers: u32,
) -> Result<(u32, String), String> {
    let columns = max_rows / 8;
    let scaled = facts.formats.iter().any(|format| format.group().is_some());
    let shared = 4 * columns * if scaled { 2 } else { 1 };
    let free = registers.saturating_sub(WORKING_REGISTERS + shared);
    let limit = free / (4 * columns);
    if limit == 0 {
        return Err(format!(
            "{registers} registers hold no accumulators of {max_rows} rows"
        ));
    }
    let limit = limit.min(TILE_GROUP_MAX);
    let widest = facts.tiles.div_ceil(arch.sm_count).max(1);
    let group = limit.min(widest);
    let why = if widest <= limit {
        format!("no SM has more of one op; {limit} would fit")
    } else {
        let passes = widest.div_ceil(group);
        format!(
            "{} accumulators of {registers} registers; the widest op reads its activations {passes} times",
            4 * columns * group
        )
    };
    Ok((group, why))
}

/// The blocks of each format that come closest to the goal; the longest of these is the stage.
fn stage_bytes(facts: &Facts) -> (u32, String) {
    let of_format = facts.formats.iter().map(|format| {
        let block = format.block_bytes(CHUNK) as u32;
        let blocks = ((STAGE_GOAL + block / 2) / block).max(1);
        (blocks * block, format!("{blocks} blocks of {format}"))
    });
    let longest = of_format.max_by_key(|(bytes, _)| *bytes);
    let (bytes, why) = longest.unwrap_or((STAGE_GOAL, "nothing is streamed".to_owned()));
    (bytes.next_multiple_of(128), why)
}

impl fmt::Display for ProgramLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} rows on {}: {} of {} bytes of shared memory",
            self.max_rows,
            self.architecture.name,
            self.shared_bytes,
            self.architecture.shared_memory_per_block
        )?;
        self.reasons
            .iter()
            .try_for_each(|reason| writeln!(f, "  {reason}"))
    }
}
