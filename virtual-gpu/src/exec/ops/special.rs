//! Special registers.

use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::Machine;
use crate::exec::row::LANES;

/// A special register whose value differs between lanes, warps or blocks, or changes with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // The names are PTX's own.
pub enum Special {
    TidX,
    TidY,
    TidZ,
    CtaidX,
    CtaidY,
    CtaidZ,
    LaneId,
    WarpId,
    SmId,
    LanemaskEq,
    LanemaskLt,
    LanemaskLe,
    LanemaskGt,
    LanemaskGe,
    ClusterCtaidX,
    ClusterCtaidY,
    ClusterCtaidZ,
    ClusterCtaRank,
    ClusterIdX,
    ClusterIdY,
    ClusterIdZ,
    // What follows is time.
    Clock,
    ClockHigh,
    Clock64,
    GlobalTimer,
    GlobalTimerLow,
    GlobalTimerHigh,
}

/// Special registers by the index that an instruction carries.
const ALL: [Special; 27] = [
    Special::TidX,
    Special::TidY,
    Special::TidZ,
    Special::CtaidX,
    Special::CtaidY,
    Special::CtaidZ,
    Special::LaneId,
    Special::WarpId,
    Special::SmId,
    Special::LanemaskEq,
    Special::LanemaskLt,
    Special::LanemaskLe,
    Special::LanemaskGt,
    Special::LanemaskGe,
    Special::ClusterCtaidX,
    Special::ClusterCtaidY,
    Special::ClusterCtaidZ,
    Special::ClusterCtaRank,
    Special::ClusterIdX,
    Special::ClusterIdY,
    Special::ClusterIdZ,
    Special::Clock,
    Special::ClockHigh,
    Special::Clock64,
    Special::GlobalTimer,
    Special::GlobalTimerLow,
    Special::GlobalTimerHigh,
];

impl Special {
    /// The register called `name`, without `%`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "tid.x" => Self::TidX,
            "tid.y" => Self::TidY,
            "tid.z" => Self::TidZ,
            "ctaid.x" => Self::CtaidX,
            "ctaid.y" => Self::CtaidY,
            "ctaid.z" => Self::CtaidZ,
            "cluster_ctaid.x" => Self::ClusterCtaidX,
            "cluster_ctaid.y" => Self::ClusterCtaidY,
            "cluster_ctaid.z" => Self::ClusterCtaidZ,
            "cluster_ctarank" => Self::ClusterCtaRank,
            "clusterid.x" => Self::ClusterIdX,
            "clusterid.y" => Self::ClusterIdY,
            "clusterid.z" => Self::ClusterIdZ,
            "laneid" => Self::LaneId,
            "warpid" => Self::WarpId,
            "smid" => Self::SmId,
            "lanemask_eq" => Self::LanemaskEq,
            "lanemask_lt" => Self::LanemaskLt,
            "lanemask_le" => Self::LanemaskLe,
            "lanemask_gt" => Self::LanemaskGt,
            "lanemask_ge" => Self::LanemaskGe,
            "clock" | "clock_lo" => Self::Clock,
            "clock_hi" => Self::ClockHigh,
            "clock64" => Self::Clock64,
            "globaltimer" => Self::GlobalTimer,
            "globaltimer_lo" => Self::GlobalTimerLow,
            "globaltimer_hi" => Self::GlobalTimerHigh,
            _ => return None,
        })
    }

    /// Whether it has 64 bits.
    pub fn is_wide(self) -> bool {
        matches!(self, Self::Clock64 | Self::GlobalTimer)
    }
}

/// A value for each lane.
fn by_lane(value: impl Fn(u32) -> u32) -> [u32; LANES] {
    std::array::from_fn(|lane| value(lane as u32))
}

/// A coordinate of each thread in its block.
fn threads(machine: &Machine<'_>, axis: usize) -> [u32; LANES] {
    let first = machine.warp.index * 32;
    let [nx, ny, _] = machine.grid.config.block;
    let mut place = [first % nx, first / nx % ny, first / nx / ny];
    std::array::from_fn(|_| {
        let value = place[axis];
        place[0] += 1;
        if place[0] == nx {
            place = [0, place[1] + 1, place[2]];
        }
        if place[1] == ny {
            place = [place[0], 0, place[2] + 1];
        }
        value
    })
}

/// `mov d, %special`: which one is in the flags; `d` is wide with `imm` 1.
pub struct ReadSpecial;

impl Code for ReadSpecial {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let special = ALL[inst.flags as usize];
        // Time is made of instructions: the same in every run. Sleeping takes time as well.
        machine.grid.clock_reads += u64::from(special as u8 >= Special::Clock as u8);
        let clock =
            machine.grid.instructions + 1000 * machine.grid.slept + machine.grid.clock_reads;
        let coordinates = machine.block.coordinates;
        let ([bx, by, bz], shape) = (coordinates, machine.grid.cluster);
        let values = match special {
            Special::TidX => threads(machine, 0),
            Special::TidY => threads(machine, 1),
            Special::TidZ => threads(machine, 2),
            Special::CtaidX => [bx; LANES],
            Special::CtaidY => [by; LANES],
            Special::CtaidZ => [bz; LANES],
            Special::LaneId => by_lane(|lane| lane),
            Special::WarpId => [machine.warp.index; LANES],
            Special::SmId => [machine.block.index % machine.grid.profile.multiprocessors; LANES],
            Special::LanemaskEq => by_lane(|lane| 1 << lane),
            Special::LanemaskLt => by_lane(|lane| (1 << lane) - 1),
            Special::LanemaskLe => by_lane(|lane| u32::MAX >> (31 - lane)),
            Special::LanemaskGt => by_lane(|lane| !(u32::MAX >> (31 - lane))),
            Special::LanemaskGe => by_lane(|lane| !((1 << lane) - 1)),
            Special::ClusterCtaidX => [shape.place(coordinates)[0]; LANES],
            Special::ClusterCtaidY => [shape.place(coordinates)[1]; LANES],
            Special::ClusterCtaidZ => [shape.place(coordinates)[2]; LANES],
            Special::ClusterCtaRank => [shape.rank(coordinates); LANES],
            Special::ClusterIdX => [shape.id(coordinates)[0]; LANES],
            Special::ClusterIdY => [shape.id(coordinates)[1]; LANES],
            Special::ClusterIdZ => [shape.id(coordinates)[2]; LANES],
            Special::Clock | Special::Clock64 => [clock as u32; LANES],
            Special::GlobalTimerLow | Special::GlobalTimer => [clock as u32; LANES],
            Special::ClockHigh | Special::GlobalTimerHigh => [(clock >> 32) as u32; LANES],
        };
        let whole = matches!(special, Special::Clock64 | Special::GlobalTimer);
        let high = if whole { clock >> 32 << 32 } else { 0 };
        // SAFETY: the handler's contract.
        unsafe {
            if inst.imm != 0 {
                machine.set_wide(inst.d, &values.map(|value| high | u64::from(value)));
            } else {
                machine.set_row(inst.d, &values);
            }
        }
        Flow::Next
    }
}
