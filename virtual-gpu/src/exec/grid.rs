//! A launch: resident blocks, who runs next, what was found and counted.

use super::agent::{self, Agent};
use super::block::{Barrier, Block};
use super::cluster::{Meeting, Shape};
use super::machine::{Machine, Site};
use super::mbarrier::Mbarriers;
use super::program::{Constant, LaunchValue, Program};
use super::row::{LANES, Row};
use super::run::Stop;
use super::standstill;
use super::warp::{State, Warp};
use crate::check::finding::{Finding, FindingKind, Findings, MemorySpace, Other, SourceLine};
use crate::check::race::Races;
use crate::check::shadow::ByteState;
use crate::launch::{Checks, LaunchConfig, LaunchOptions};
use crate::memory::{Bytes, Memory};
use crate::profile::{Profile, counters::MemoryCounters};
use std::collections::HashMap;
use std::sync::Arc;

/// Executions of one instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PcCount {
    /// By warps.
    pub warps: u64,
    /// By lanes.
    pub lanes: u64,
    /// Lanes that came to it, those that its guard keeps from it included: where there is a guard.
    pub reached: u64,
    /// Branches at which lanes parted.
    pub splits: u64,
    /// Arrivals at a barrier of the block.
    pub arrivals: u64,
}

impl PcCount {
    #[inline(always)]
    pub(super) fn add(&mut self, mask: u32) {
        self.warps += 1;
        // Counting bits takes many steps on processors without an instruction for it.
        self.lanes += if mask == u32::MAX {
            32
        } else {
            u64::from(mask.count_ones())
        };
    }

    /// Takes back an execution that came to nothing, because the fragment waits and will execute it again.
    pub(super) fn take_back(&mut self, mask: u32) {
        self.warps = self.warps.saturating_sub(1);
        self.lanes = self.lanes.saturating_sub(u64::from(mask.count_ones()));
    }
}

/// A launch while it runs.
pub struct Grid {
    /// The kernel.
    pub program: Arc<Program>,
    /// Names of source files by index.
    pub files: Arc<Vec<(u32, String)>>,
    /// Its constants, filled in.
    pub constants: Vec<Row>,
    /// Kernel parameters.
    pub parameters: Vec<u8>,
    /// Shape of the launch.
    pub config: LaunchConfig,
    /// How it is run.
    pub options: LaunchOptions,
    /// The device that is imitated.
    pub profile: Profile,
    /// Device memory.
    pub memory: Memory,
    /// Executions by instruction.
    pub counts: Vec<PcCount>,
    /// Memory traffic by instruction.
    pub traffic: Vec<MemoryCounters>,
    /// Warp instructions so far: the clock.
    pub instructions: u64,
    /// Times that a warp slept.
    pub slept: u64,
    /// Atomic operations by allocation or block, and offset.
    pub atomics: HashMap<u64, u64>,
    /// Times that a clock was read: each takes a tick, since instructions are counted when a fragment stops.
    pub clock_reads: u64,
    /// What was found.
    pub findings: Findings,
    /// What merely deserves a look.
    pub warnings: Vec<String>,
    /// What the kernel printed.
    pub printed: String,
    /// The allocation that the last access met.
    pub last_allocation: usize,
    /// Whether the host program may write to some of the memory.
    pub host_memory: bool,
    /// Whether registers of products of warpgroups are looked after.
    pub watches_registers: bool,
    /// Blocks of a cluster.
    pub cluster: Shape,
    /// The other blocks of the cluster whose block runs.
    pub peers: Vec<Block>,
    /// Barriers of clusters that have not ended.
    pub meetings: HashMap<u32, Meeting>,
    /// Blocks of a full device.
    resident_limit: usize,
    random: Random,
    /// Finds races, where all is checked.
    pub races: Option<Races>,
    /// Warps of ended blocks, for the next.
    #[allow(clippy::vec_box)] // As those of a block.
    spare: Vec<Box<Warp>>,
}

/// A small generator for schedules: xorshift.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Seeds it.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as usize) % bound.max(1)
    }

    /// Puts items into another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}

/// Everything that a launch is made of.
pub struct Setup {
    pub program: Arc<Program>,
    pub files: Arc<Vec<(u32, String)>>,
    /// Addresses of the module's variables.
    pub symbols: Vec<u64>,
    /// Address of the words that the blocks of a cooperative launch meet at; 0 if there are none.
    pub workspace: u64,
    pub parameters: Vec<u8>,
    pub config: LaunchConfig,
    pub options: LaunchOptions,
    pub profile: Profile,
    pub memory: Memory,
    pub resident_limit: usize,
    /// Blocks of a cluster; each block is one of its own if the launch has none.
    pub cluster: Shape,
}

impl Grid {
    /// A launch about to run.
    pub fn new(setup: Setup) -> Self {
        let Setup {
            program,
            files,
            symbols,
            workspace,
            parameters,
            config,
            options,
            profile,
            memory,
            resident_limit,
            cluster,
        } = setup;
        let counts = vec![
            PcCount::default();
            if options.counters {
                program.code.len()
            } else {
                0
            }
        ];
        let traffic = vec![MemoryCounters::default(); counts.len()];
        let mut grid = Self {
            constants: Vec::new(),
            counts,
            traffic,
            instructions: 0,
            slept: 0,
            atomics: HashMap::new(),
            clock_reads: 0,
            findings: Findings::default(),
            warnings: Vec::new(),
            printed: String::new(),
            last_allocation: 0,
            host_memory: memory.has_host(),
            watches_registers: options.checks == Checks::All && program.watch.is_some(),
            cluster,
            peers: Vec::new(),
            meetings: HashMap::new(),
            resident_limit: resident_limit.max(cluster.blocks() as usize),
            random: Random::new(options.seed),
            races: None,
            spare: Vec::new(),
            program,
            files,
            parameters,
            config,
            options,
            profile,
            memory,
        };
        grid.constants = grid.fill_constants(&symbols, workspace);
        if grid.options.checks == Checks::All {
            let warps = grid.config.threads().div_ceil(32);
            let blocks = grid.config.blocks() as u32;
            let mut races = Races::new(blocks, warps);
            if cluster.blocks() > 1 {
                let number = |index| cluster.number(grid.coordinates(index), grid.config.grid);
                races.set_clusters((0..blocks).map(number).collect());
            }
            grid.races = Some(races);
        }
        if grid.options.counters {
            (0..grid.memory.count())
                .for_each(|index| grid.memory.allocation_mut(index).start_counting());
        }
        grid
    }

    fn fill_constants(&self, symbols: &[u64], workspace: u64) -> Vec<Row> {
        let mut rows = vec![Row::ZERO; self.program.constants.len()];
        let [bx, by, bz] = self.config.block;
        let [gx, gy, gz] = self.config.grid;
        for (index, constant) in self.program.constants.iter().enumerate() {
            let wide = match *constant {
                Constant::Narrow(value) => {
                    rows[index] = Row([value; LANES]);
                    continue;
                }
                Constant::Launch(value) => {
                    let value = match value {
                        LaunchValue::BlockX => bx,
                        LaunchValue::BlockY => by,
                        LaunchValue::BlockZ => bz,
                        LaunchValue::GridX => gx,
                        LaunchValue::GridY => gy,
                        LaunchValue::GridZ => gz,
                        LaunchValue::DynamicShared => self.config.dynamic_shared,
                        LaunchValue::TotalShared => {
                            self.program.shared_bytes + self.config.dynamic_shared
                        }
                        LaunchValue::MultiProcessors => self.profile.multiprocessors,
                        LaunchValue::Warps => self.config.threads().div_ceil(32),
                        LaunchValue::WorkspaceLow => workspace as u32,
                        LaunchValue::WorkspaceHigh => (workspace >> 32) as u32,
                        LaunchValue::ClusterX => self.cluster.0[0],
                        LaunchValue::ClusterY => self.cluster.0[1],
                        LaunchValue::ClusterZ => self.cluster.0[2],
                        LaunchValue::ClusterBlocks => self.cluster.blocks(),
                        LaunchValue::ClustersX => gx / self.cluster.0[0],
                        LaunchValue::ClustersY => gy / self.cluster.0[1],
                        LaunchValue::ClustersZ => gz / self.cluster.0[2],
                        LaunchValue::ExplicitCluster => {
                            let required = self.program.limits.cluster != [0; 3];
                            u32::from(required || self.config.cluster.is_some())
                        }
                    };
                    rows[index] = Row([value; LANES]);
                    continue;
                }
                Constant::Rest => continue,
                Constant::Wide(value) => value,
                Constant::Symbol(symbol, addend) => {
                    symbols[symbol as usize].wrapping_add(addend as u64)
                }
                Constant::Function(function) => FUNCTION_BASE + 16 * u64::from(function),
            };
            let words = [wide as u32, (wide >> 32) as u32];
            // Both rows of a wide constant are alike, as all lanes are.
            let pairs: [u32; LANES] = std::array::from_fn(|lane| words[lane % 2]);
            rows[index] = Row(pairs);
            rows[index + 1] = Row(pairs);
        }
        // Slots of constants count backwards from the registers.
        rows.reverse();
        rows
    }

    /// Runs all blocks. True if the kernel came to its end.
    pub fn run(&mut self) -> bool {
        let [gx, gy, gz] = self.config.grid;
        let total = u64::from(gx) * u64::from(gy) * u64::from(gz);
        let mut waiting = 0..total;
        let mut resident: Vec<Block> = Vec::new();
        let mut grace = standstill::Grace::default();
        loop {
            // Blocks become resident when those that are can do no more: few are in memory at a time, and any order is
            // legal. A cooperative grid is resident as a whole.
            let wanted = if self.config.cooperative {
                usize::MAX
            } else {
                1
            };
            let ready = resident
                .iter()
                .filter(|block| block.warps.iter().any(|warp| warp.is_ready()))
                .count();
            let mut add = wanted
                .saturating_sub(ready)
                .min(self.resident_limit - resident.len().min(self.resident_limit));
            if self.options.seed != 0 && add > 0 {
                add += self
                    .random
                    .below(4.min(self.resident_limit - resident.len()));
            }
            // Blocks of a cluster become resident together.
            let together = self.cluster.blocks() as usize;
            let room = self.resident_limit - resident.len().min(self.resident_limit);
            let add = add
                .next_multiple_of(together)
                .min(room / together * together);
            for place in waiting.by_ref().take(add) {
                let index = self.cluster.nth(place, self.config.grid);
                let block = self.start_block(index);
                self.join_cluster(&block);
                resident.push(block);
            }
            if resident.is_empty() {
                return true;
            }
            let before = self.instructions;
            let mut order: Vec<usize> = (0..resident.len()).collect();
            if self.options.seed != 0 {
                self.random.shuffle(&mut order);
            }
            for index in order {
                if !self.run_resident(&mut resident, index) {
                    return false;
                }
            }
            if self.options.fuel != 0 && self.instructions >= self.options.fuel {
                let left = resident.iter().any(|block| !block.has_ended());
                if left || !waiting.is_empty() {
                    standstill::out_of_fuel(self, &resident);
                    return false;
                }
            }
            let count = resident.len();
            let (done, rest) = self.take_ended(resident);
            resident = rest;
            for block in done {
                self.meetings.remove(&self.cluster_of(&block));
                if let Some(races) = &mut self.races {
                    races.finish_block(block.index);
                }
                self.spare.extend(block.warps);
            }
            let moved = self.instructions > before || resident.len() < count;
            if !moved
                && (waiting.start >= waiting.end || resident.len() >= self.resident_limit)
                && !standstill::resolve(self, &mut resident, &mut grace)
            {
                return false;
            }
        }
    }

    /// Runs one of the resident blocks, which reaches the others of its cluster. False if the launch has failed.
    fn run_resident(&mut self, resident: &mut [Block], index: usize) -> bool {
        let ended = resident[index].has_ended();
        if self.cluster.blocks() == 1 {
            return self.run_block(&mut resident[index]);
        }
        let number = self.cluster_of(&resident[index]);
        let is_peer = |block: &Block| self.cluster_of(block) == number;
        let others = (0..resident.len()).filter(|at| *at != index && is_peer(&resident[*at]));
        let others: Vec<usize> = others.collect();
        let take = |at: &usize| std::mem::take(&mut resident[*at]);
        self.peers = others.iter().map(take).collect();
        let going = self.run_block(&mut resident[index]);
        if going && !ended && resident[index].has_ended() {
            self.check_visits(&resident[index]);
        }
        for (at, peer) in others.into_iter().zip(std::mem::take(&mut self.peers)) {
            resident[at] = peer;
        }
        going
    }

    /// Parts the blocks whose cluster has ended from the others: until then they may be reached.
    fn take_ended(&self, resident: Vec<Block>) -> (Vec<Block>, Vec<Block>) {
        let mut busy: Vec<u32> = Vec::new();
        if self.cluster.blocks() > 1 {
            let running = resident.iter().filter(|block| !block.has_ended());
            busy.extend(running.map(|block| self.cluster_of(block)));
        }
        resident
            .into_iter()
            .partition(|block| block.has_ended() && !busy.contains(&self.cluster_of(block)))
    }

    fn start_block(&mut self, index: u32) -> Block {
        let [gx, gy, _] = self.config.grid;
        let threads = self.config.threads();
        let shared = (self.program.shared_bytes + self.config.dynamic_shared) as usize;
        let all_checks = self.options.checks == Checks::All;
        let program = Arc::clone(&self.program);
        let warps = (0..threads.div_ceil(32))
            .map(|warp| {
                let lanes = (threads - 32 * warp).min(32);
                let mut state = self.spare.pop().unwrap_or_default();
                let (rows, predicates) = (program.rows as usize, program.predicates as usize);
                state.start(
                    &self.constants,
                    warp,
                    u32::MAX >> (32 - lanes),
                    0,
                    rows,
                    predicates,
                    program.local_bytes as usize,
                );
                state
            })
            .collect();
        Block {
            index,
            coordinates: [index % gx, index / gx % gy, index / gx / gy],
            warps,
            shared: Bytes::new(shared),
            shared_state: ByteState::new(if all_checks { shared } else { 0 }, false),
            copies: 0,
            mbarriers: Mbarriers::default(),
            agent: Agent::default(),
            products: Vec::new(),
            barriers: std::array::from_fn(|_| Barrier::default()),
            threads,
            exited: 0,
            finished: 0,
        }
    }

    /// Runs the warps of a block until none of them can go on. False if the launch has failed.
    fn run_block(&mut self, block: &mut Block) -> bool {
        let seeded = self.options.seed != 0;
        let mut order: Vec<usize> = (0..block.warps.len()).collect();
        let mut turns = if seeded { 1 + self.random.below(8) } else { 64 };
        // Stands in the place of the warp whose turn it is.
        let mut vacant = Box::<Warp>::default();
        loop {
            if seeded {
                self.random.shuffle(&mut order);
            }
            let (mut ran, mut awake) = (false, false);
            for &index in &order {
                standstill::wake_polls(self, block, index);
                if !block.warps[index].is_ready() {
                    continue;
                }
                ran = true;
                block.warps[index].sleeps = false;
                let quantum = if seeded {
                    16 << self.random.below(8)
                } else {
                    4096
                };
                let mut warp = std::mem::replace(&mut block.warps[index], vacant);
                let mut machine = Machine::new(&mut warp, block, self);
                let stop = if machine.grid.options.counters {
                    machine.run::<true>(quantum)
                } else {
                    machine.run::<false>(quantum)
                };
                let stop = match stop {
                    Stop::Parked => machine.check_gathering(),
                    Stop::Quantum => machine.check_spinning(),
                    stop => stop,
                };
                awake |= !warp.sleeps;
                vacant = std::mem::replace(&mut block.warps[index], warp);
                match stop {
                    Stop::Fault => return false,
                    Stop::Done => block.finished += 1,
                    Stop::Quantum | Stop::Parked => {}
                }
                if !agent::step(self, block) {
                    return false;
                }
            }
            if !ran && !block.agent.is_idle() {
                if !agent::finish(self, block) {
                    return false;
                }
                continue;
            }
            turns -= 1;
            if !ran {
                return true;
            }
            // Where all others wait for another block, one that only sleeps between polls leaves it the turn.
            if turns == 0 || !awake {
                // Copies come to their end even if nobody ever stands still.
                let late = !seeded || block.finished == block.warps.len();
                return !late || agent::finish(self, block);
            }
        }
    }

    /// True once in `times`, at random, in runs with a seed.
    pub fn chance(&mut self, times: usize) -> bool {
        self.options.seed != 0 && self.random.below(times) == 0
    }

    /// A random number below `bound`.
    pub fn pick(&mut self, bound: usize) -> usize {
        self.random.below(bound)
    }

    /// Records a finding at `site`, with what else it involves.
    pub fn report(
        &mut self,
        kind: FindingKind,
        space: MemorySpace,
        site: Site,
        message: String,
        other: Option<(u32, Other)>,
    ) {
        let (source, inlined_at) = self.source(site.pc);
        let (other_pc, other) = other.unzip();
        let finding = Finding {
            kernel: self.program.name.clone(),
            kind,
            space,
            message,
            source,
            inlined_at,
            ptx_line: self.program.origins[site.pc as usize].ptx_line,
            block: self.coordinates(site.block),
            warp: site.warp,
            lane: site.lane,
            other,
        };
        self.findings.push(finding, site.pc, other_pc);
    }

    /// Source line of an instruction, and where it was inlined.
    pub fn source(&self, pc: u32) -> (Option<SourceLine>, Option<SourceLine>) {
        let Some(location) = self.program.origins[pc as usize].location else {
            return (None, None);
        };
        let line = |file: u32, line: u32| {
            let name = self.files.iter().find(|(index, _)| *index == file)?;
            Some(SourceLine {
                file: name.1.clone(),
                line,
            })
        };
        let inlined = location.inlined_at.and_then(|(file, at)| line(file, at));
        (line(location.file, location.line), inlined)
    }

    /// Coordinates of the block with linear index `block`.
    pub fn coordinates(&self, block: u32) -> [u32; 3] {
        let [gx, gy, _] = self.config.grid;
        [block % gx, block / gx % gy, block / gx / gy]
    }
}

/// Addresses of functions: no memory lies there.
pub const FUNCTION_BASE: u64 = 0x6b00_0000_0000;

impl Machine<'_> {
    /// All fragments of the warp wait. If all of them wait for other lanes of the warp, these will never come.
    pub fn check_gathering(&mut self) -> Stop {
        let all = self
            .warp
            .fragments
            .iter()
            .all(|f| matches!(f.state, State::Sync { .. }));
        if !all {
            return Stop::Parked;
        }
        standstill::divergence(self)
    }
}
