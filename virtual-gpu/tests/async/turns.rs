//! Where the turn of a warp may end.

use crate::machine::{as_words, assert_clean, compile, run};
use virtual_gpu::{Checks, LaunchConfig, LaunchOptions};

/// Two warps by turns: the first lane of each waits for a flag, the others wait for that lane.
const BY_TURNS: &str = r#"
extern "C" __global__ void by_turns(unsigned* y, int rounds) {
    __shared__ volatile unsigned flag;
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, spins = 0;
    if (threadIdx.x == 0) flag = 0;
    __syncthreads();
    for (unsigned i = 0; i <= rounds; i++) {
        __syncwarp();
        if (lane == 0 && i > 0) flag = 2 * i + warp - 1;
        if (lane == 0 && i < rounds) {
            while (flag != 2 * i + warp) {}
            for (unsigned j = 0; j < i * 7 % 1009; j++) asm volatile("mov.u32 %0, %0;" : "+r"(spins));
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) *y = flag;
}
"#;

#[test]
fn lanes_that_meet_as_their_turn_ends_go_on() {
    let ptx = compile("by_turns.cu", BY_TURNS, 80);
    for seed in 0..24 {
        let options = LaunchOptions {
            seed,
            checks: Checks::Bounds,
            ..LaunchOptions::default()
        };
        let mut buffers = [vec![0; 4]];
        let config = LaunchConfig::linear(1, 64);
        let report = run(&ptx, "by_turns", config, options, &mut buffers, &[1000]);
        assert_clean(&report);
        assert_eq!(as_words(&buffers[0]), [2000]);
    }
}
