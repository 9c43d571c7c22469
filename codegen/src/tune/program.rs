use super::{Architecture, Facts, Reason, TuneError};
use crate::layout::{CHUNK, Cut, Group, SLICE, TILE_ROWS, WeightFormat};
use std::fmt;

/// Row counts that a device program can be laid out for.
pub const ROW_LAYOUTS: [u32; 4] = [8, 16, 32, 64];

/// Row tiles of tokens that the matrix product is compiled for; index of the lists of [`ProgramLayout`].
pub const ROW_TILES: [u32; 4] = [1, 2, 4, 8];

/// Warps that multiply: one for each slice of a chunk.
pub const CONSUMER_WARPS: u32 = (CHUNK / SLICE) as u32;

/// Threads of a block. Each warp multiplies, copies its own slice of the activations, and refills the stage of the ring that
/// it is the last to have read; blocks take turns at sampling and control. So there are no further roles: nine warps would
/// leave each thread 168 registers instead of 255, since warps go to the four quarters of an SM.
pub const THREADS: u32 = 32 * CONSUMER_WARPS;

/// Row tiles of weights that a consumer warp accumulates at a time, for 1, 2, 4 and 8 row tiles of tokens. More would spare
/// little, since activations stay in shared memory from pass to pass where they fit, and their code, which is not a loop, would
/// leave the caches of instructions.
const TILE_GROUP_LIMITS: [u32; 4] = [4, 4, 4, 2];

/// The same where weights have offsets or groups of scales within a slice, whose sums take registers too: what spills none
/// (`codegen/tests/program/compiled.txt`).
const HEAVY_GROUP_LIMITS: [u32; 4] = [4, 4, 2, 1];

/// The same with [`HEAVIEST`].
const HEAVIEST_GROUP_LIMITS: [u32; 4] = [2, 2, 1, 1];

/// What takes most registers: 16 words of scales and offsets beside each block.
const HEAVIEST: WeightFormat = WeightFormat::Int8 {
    group: Group::G16,
    offset: true,
};

/// Slices of activations that a consumer warp holds, at most. Below as many as a product has chunks, each slice waits for L2.
const SLOTS_MAX: u32 = 8;

/// Blocks of a full stage of the ring, at most: `unit_of` of `kernels/ring.cuh`.
const UNIT_MAX: u32 = 4;

/// Bytes for barriers, the call, the current phase and what warps tell each other.
const CONTROL_BYTES: u32 = 4096;

/// Partial sums of 8 warps x 16 outputs x 32 rows in f32; tiles of fewer rows are exchanged several at a time.
const PARTIAL_BYTES: u32 = 16 << 10;

/// What the choice of tokens and attention ask of the scratch region.
const SCRATCH_LEAST: u32 = 16 << 10;

/// What a stage should hold: long enough that issuing copies costs little, short enough that a ring has several.
const STAGE_GOAL: u32 = 16 << 10;

/// Bytes of the ring without which an edge is not hidden; below it wide prompt chunks have to give way.
const RING_GOAL: u32 = 96 << 10;

/// Stages without which copies and multiplications cannot overlap.
const STAGES_MIN: u32 = 2;

/// Stages that the kernel has barriers for.
const STAGES_MAX: u32 = 32;

/// The sizes that a device program is compiled with.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgramLayout {
    /// The architecture it is for.
    pub architecture: Architecture,
    /// Rows of one step, at most.
    pub max_rows: u32,
    /// Rows of one chunk of a prompt, at most.
    pub prefill_rows: u32,
    /// Registers of a thread, at most.
    pub registers: u32,
    /// Row tiles of a group in the arena: what a step accumulates at a time.
    pub tile_group: u32,
    /// Row tiles that are accumulated at a time at each of [`ROW_TILES`]; a step's are whole groups.
    pub groups: [u32; 4],
    /// Slices of activations that a consumer warp holds at each of [`ROW_TILES`], a power of two.
    pub slots: [u32; 4],
    /// Bytes of one stage of the weight ring, a multiple of 128.
    pub stage_bytes: u32,
    /// Stages of the weight ring.
    pub stages: u32,
    /// Bytes of slices of activations, of K and V during attention, of buckets during a choice.
    pub scratch_bytes: u32,
    /// Bytes of partial sums.
    pub partial_bytes: u32,
    /// Bytes of the residual rows that a block owns, in f32.
    pub residual_bytes: u32,
    /// Bytes of shared memory in all.
    pub shared_bytes: u32,
    /// Each decision and why.
    pub reasons: Vec<Reason>,
}

impl ProgramLayout {
    /// Chooses all sizes: a function of the plan's facts and the architecture, nothing else.
    ///
    /// # Errors
    /// `max_rows` is none of [`ROW_LAYOUTS`], the architecture lacks an instruction, or shared memory does not suffice; the
    /// error says what would fit.
    pub fn choose(
        facts: &Facts,
        architecture: &Architecture,
        max_rows: u32,
    ) -> Result<Self, TuneError> {
        let arch = architecture.clone();
        if !ROW_LAYOUTS.contains(&max_rows) {
            return Err(TuneError::Rows { max_rows });
        }
        if arch.compute_capability < (8, 0) || arch.sm_count == 0 {
            let (major, minor) = arch.compute_capability;
            let name = arch.name.to_string();
            return Err(TuneError::Architecture { name, major, minor });
        }
        let fits = |rows: &u32| Self::fit(facts, &arch, *rows).is_ok();
        Self::fit(facts, &arch, max_rows).map_err(|missing| TuneError::DoesNotFit {
            max_rows,
            name: arch.name.to_string(),
            missing,
            fits: ROW_LAYOUTS.into_iter().rev().find(fits),
        })
    }

    /// Rows of the widest call.
    pub fn row_capacity(&self) -> u32 {
        self.max_rows.max(self.prefill_rows)
    }

    /// Row tiles of tokens that products are compiled for, added up: those of a step, and that of a prompt chunk.
    pub fn row_tile_set(&self) -> u32 {
        let of_step = ROW_TILES
            .into_iter()
            .filter(|tiles| 8 * tiles <= self.max_rows);
        of_step.sum::<u32>() | (self.prefill_rows / 8)
    }

    /// The fewest of them that hold the rows of a call.
    pub fn row_tiles(&self, rows: u32) -> u32 {
        let mut tiles = ROW_TILES
            .into_iter()
            .filter(|tiles| self.row_tile_set() & tiles != 0);
        tiles.find(|tiles| rows <= 8 * tiles).unwrap_or(8)
    }

    /// What the weights are cut by.
    pub fn cut(&self) -> Cut {
        Cut {
            sm_count: self.architecture.sm_count,
            tile_group: self.tile_group,
            stage_bytes: self.stage_bytes,
        }
    }

    fn fit(facts: &Facts, arch: &Architecture, max_rows: u32) -> Result<Self, String> {
        let mut reasons = Vec::new();
        let mut because = |decision, choice: String, why: String| {
            reasons.push(Reason {
                decision,
                choice,
                why,
            });
        };
        // Warps go to the four quarters of an SM in turn; the fullest one decides.
        let of_quarter = (THREADS / 32).div_ceil(4) * 32;
        let registers = (arch.registers_per_sm / 4 / of_quarter / 8 * 8).min(255);
        because(
            "block",
            format!("{THREADS} threads, {registers} registers each"),
            format!(
                "one block on each of {} SMs, all its registers",
                arch.sm_count
            ),
        );
        let (tile_group, why) = tile_group(facts, arch, max_rows);
        because("tile group", format!("{tile_group} row tiles"), why);
        let (stage_bytes, why) = stage_bytes(facts);
        because("stage", format!("{stage_bytes} bytes"), why);

        let widest = widest_rows(facts);
        if max_rows > widest {
            return Err(format!(
                "products of weights in 8 bits with offsets and scale groups of 16 take more registers than there are beyond \
                 {widest} rows"
            ));
        }
        // A step that overlaps loading its activations is worth more than a wide prompt chunk.
        let choices = [2, 1].into_iter().flat_map(|slots| {
            let widths = ROW_LAYOUTS.into_iter().rev();
            let widths = widths.filter(move |rows| *rows <= widest);
            widths.map(move |rows| Room::new(facts, arch, (max_rows, slots), rows))
        });
        let rooms: Vec<Room> = choices.collect();
        let stages = |room: &Room| (room.left / stage_bytes).min(STAGES_MAX);
        let enough = |room: &&Room| stages(room) * stage_bytes >= RING_GOAL.min(6 * stage_bytes);
        let possible = |room: &&Room| stages(room) >= STAGES_MIN;
        let found = rooms.iter().find(enough);
        let Some(room) = found.or_else(|| rooms.iter().rev().find(possible)) else {
            let least = rooms.last().map_or(0, |room| room.fixed);
            let needed = least.saturating_add(STAGES_MIN * stage_bytes);
            return Err(format!(
                "it needs {needed} bytes of shared memory ({STAGES_MIN} stages of {stage_bytes}, the rest {least}), a \
                 block has {}",
                arch.shared_memory_per_block
            ));
        };
        because(
            "prompt chunk",
            format!("{} rows", room.prefill_rows),
            format!(
                "the widest that leaves a ring of {} bytes",
                stages(room) * stage_bytes
            ),
        );
        because(
            "residual",
            format!("{} bytes", room.residual),
            format!(
                "at most {} tiles of {} rows in f32 belong to a block",
                room.owned,
                max_rows.max(room.prefill_rows)
            ),
        );
        because(
            "scratch",
            format!("{} bytes", room.scratch),
            format!(
                "slices of activations of {} rows, {} a warp",
                max_rows.max(room.prefill_rows),
                room.slots[3]
            ),
        );
        let stages = stages(room);
        let per_sm = arch.bandwidth / f64::from(arch.sm_count);
        let micros = f64::from(stages * stage_bytes) / per_sm * 1e6;
        because(
            "ring",
            format!("{stages} stages, {} bytes", stages * stage_bytes),
            format!("all that is left; memory stays busy for {micros:.1} us without consumers"),
        );
        Ok(ProgramLayout {
            architecture: arch.clone(),
            max_rows,
            prefill_rows: room.prefill_rows,
            registers,
            tile_group,
            groups: group_limits(facts).map(|limit| limit.min(tile_group)),
            slots: room.slots,
            stage_bytes,
            stages,
            scratch_bytes: room.scratch,
            partial_bytes: PARTIAL_BYTES,
            residual_bytes: room.residual,
            shared_bytes: room.fixed + stages * stage_bytes,
            reasons,
        })
    }
}

/// Rows of the widest call whose products need no more registers than there are (`codegen/tests/program/compiled.txt`).
fn widest_rows(facts: &Facts) -> u32 {
    let [.., narrower, widest] = ROW_LAYOUTS;
    match facts.formats.contains(&HEAVIEST) {
        true => narrower,
        false => widest,
    }
}

/// Shared memory beside the ring, for one width of prompt chunks.
struct Room {
    prefill_rows: u32,
    owned: u32,
    residual: u32,
    scratch: u32,
    slots: [u32; 4],
    fixed: u32,
    left: u32,
}

impl Room {
    fn new(
        facts: &Facts,
        arch: &Architecture,
        (max_rows, step_slots): (u32, u32),
        prefill_rows: u32,
    ) -> Self {
        let rows = max_rows.max(prefill_rows);
        let owned = facts.residual.div_ceil(TILE_ROWS as u32);
        let owned = owned.div_ceil(arch.sm_count);
        let residual = owned.saturating_mul(TILE_ROWS as u32 * rows * 4);
        // One slice of 64 columns for each warp, as 16-bit elements.
        let slice = |row_tiles: u32| CONSUMER_WARPS * row_tiles * 1024;
        let widest = rows / 8;
        // For a wider chunk of a prompt one slice must do.
        let scratch = (step_slots * slice(max_rows / 8))
            .max(slice(widest))
            .max(SCRATCH_LEAST);
        let slots = ROW_TILES.map(|tiles| {
            let fit = (scratch / slice(tiles)).clamp(1, SLOTS_MAX);
            1 << fit.ilog2()
        });
        let fixed = residual.saturating_add(scratch + PARTIAL_BYTES + CONTROL_BYTES);
        Room {
            prefill_rows,
            owned,
            residual,
            scratch,
            slots,
            fixed,
            left: arch.shared_memory_per_block.saturating_sub(fixed),
        }
    }
}

fn group_limits(facts: &Facts) -> [u32; 4] {
    let is_heavy = |format: &WeightFormat| match *format {
        WeightFormat::Bf16 | WeightFormat::F16 => false,
        WeightFormat::Fp8E4M3 { group } => matches!(group, Group::G16 | Group::G32),
        WeightFormat::Int8 { group, offset } | WeightFormat::Int4 { group, offset } => {
            offset || matches!(group, Group::G16 | Group::G32)
        }
    };
    if facts.formats.contains(&HEAVIEST) {
        HEAVIEST_GROUP_LIMITS
    } else if facts.formats.iter().any(is_heavy) {
        HEAVY_GROUP_LIMITS
    } else {
        TILE_GROUP_LIMITS
    }
}

/// A power of two, since that is what a group at the end of a span is cut into.
fn tile_group(facts: &Facts, arch: &Architecture, max_rows: u32) -> (u32, String) {
    let index = ROW_TILES.iter().position(|tiles| *tiles == max_rows / 8);
    let limit = group_limits(facts)[index.unwrap_or(0)];
    let widest = facts.tiles.div_ceil(arch.sm_count).max(1);
    let group = limit.min(1 << widest.ilog2());
    let why = if widest <= limit {
        format!("no SM has more than {widest} of one op")
    } else {
        let passes = widest.div_ceil(group);
        format!(
            "what code without branches multiplies at a time; the widest op takes {passes} passes"
        )
    };
    (group, why)
}

/// The blocks of each format, a power of two, that come closest to the goal; the longest of these is the stage.
fn stage_bytes(facts: &Facts) -> (u32, String) {
    let of_format = facts.formats.iter().map(|format| {
        let block = format.block_bytes(CHUNK) as u32;
        let counts = (0..=UNIT_MAX.ilog2()).map(|shift| 1 << shift);
        let closest = counts.min_by_key(|blocks: &u32| (blocks * block).abs_diff(STAGE_GOAL));
        let blocks = closest.unwrap_or(1);
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
            "{} rows a step, {} a prompt chunk on {}: {} of {} bytes of shared memory",
            self.max_rows,
            self.prefill_rows,
            self.architecture.name,
            self.shared_bytes,
            self.architecture.shared_memory_per_block
        )?;
        self.reasons
            .iter()
            .try_for_each(|reason| writeln!(f, "  {reason}"))
    }
}
