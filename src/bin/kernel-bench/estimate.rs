use crate::counters::Counted;
use serde::Serialize;

/// What bounds an op on an H100 SXM: rates that are measured elsewhere or assumed, none of them here.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Machine {
    pub name: &'static str,
    pub sms: u32,
    /// Bytes a second: copies, measured by others (3.09e12), rounded down.
    pub memory: f64,
    /// Bytes a second from L2 to all SMs together: assumed.
    pub l2: f64,
    /// Clock of the SMs, Hz.
    pub clock: f64,
    /// Warp instructions a clock and SM.
    pub issue: f64,
    /// Operations a second of `mma.sync` in bf16: 62 % of the 989e12 that `wgmma` has.
    pub mma: f64,
    /// Passes over the banks of shared memory a clock and SM.
    pub wavefronts: f64,
}

pub const H100: Machine = Machine {
    name: "H100 SXM",
    sms: 132,
    memory: 3.0e12,
    l2: 5.5e12,
    clock: 1.755e9,
    issue: 4.0,
    mma: 0.62 * 989e12,
    wavefronts: 1.0,
};

/// Microseconds that an edge costs beyond what bounds its phase. With it `most` of 18 steps (Llama-3.2-1B and -3.1-8B in int4, fp8 and bf16, of
/// 1, 8 and 16 rows after 512 positions) is within 12 % of what an H100 took on 2026-11-28; each by itself says 3.7 to 7.5.
pub const EDGE_US: f64 = 5.5;

/// Seconds that an op would take on an H100 if nothing but one resource bounded it, and what follows. An estimate: instructions
/// are those of PTX, and nothing waits for anything but edges.
#[derive(Debug, Clone, Serialize)]
pub struct Estimate {
    pub memory: f64,
    pub l2: f64,
    pub issue: f64,
    pub mma: f64,
    pub shared: f64,
    /// Edges times what each costs.
    pub edges: f64,
    /// The slowest resource over all phases, every edge hidden.
    pub least: f64,
    /// The slowest of each phase, and no edge hidden: what an H100 comes near to.
    pub most: f64,
    /// Name of the slowest resource.
    pub bound: &'static str,
}

impl Estimate {
    /// From what one phase after the other was counted by, each with how often it comes and the edges that it passes. Work of
    /// fewer blocks than there are SMs is taken to be spread over all of them.
    pub fn of(phases: &[(Counted, u64, u32)], edge_seconds: f64) -> Estimate {
        let mut all = Counted::default();
        let (mut edges, mut exposed) = (0, 0.0);
        for (counted, times, own) in phases {
            all = all.plus(*times, counted);
            edges += times * u64::from(*own);
            exposed += *times as f64 * slowest(&resources(counted)).1;
        }
        let found = resources(&all);
        let [memory, l2, issue, mma, shared] = found.map(|(_, seconds)| seconds);
        let (bound, least) = slowest(&found);
        let edges = edges as f64 * edge_seconds;
        Estimate {
            memory,
            l2,
            issue,
            mma,
            shared,
            edges,
            least,
            most: exposed + edges,
            bound,
        }
    }
}

fn resources(counted: &Counted) -> [(&'static str, f64); 5] {
    let machine = H100;
    let sms = f64::from(machine.sms);
    let clocks = |count: u64, a_clock: f64| count as f64 / (sms * a_clock * machine.clock);
    [
        ("memory", counted.unique_read_bytes as f64 / machine.memory),
        ("l2", counted.global_read_bytes as f64 / machine.l2),
        ("issue", clocks(counted.warp_instructions, machine.issue)),
        ("mma", counted.mma_flops as f64 / machine.mma),
        (
            "shared",
            clocks(counted.shared_wavefronts, machine.wavefronts),
        ),
    ]
}

fn slowest(resources: &[(&'static str, f64); 5]) -> (&'static str, f64) {
    let later = |a: (&'static str, f64), b: &(&'static str, f64)| if b.1 > a.1 { *b } else { a };
    resources.iter().fold(resources[0], later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_resource_decides() {
        let mut counted = Counted {
            unique_read_bytes: 3_000_000,
            global_read_bytes: 3_300_000,
            ..Counted::default()
        };
        let estimate = Estimate::of(&[(counted, 1, 2)], 1.7e-6);
        assert_eq!(estimate.bound, "memory");
        assert!((estimate.least - 1e-6).abs() < 1e-12);
        assert!((estimate.most - 4.4e-6).abs() < 1e-12);
        counted.warp_instructions = 132 * 4 * 17550;
        let estimate = Estimate::of(&[(counted, 2, 0)], 1.7e-6);
        assert_eq!(estimate.bound, "issue");
        assert!((estimate.most - 2e-5).abs() < 1e-12);
    }
}
