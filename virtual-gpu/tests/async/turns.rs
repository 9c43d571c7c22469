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

/// One warp waits for a phase that never ends or a flag, whichever comes first; the other sets the flag.
const EITHER: &str = r#"
extern "C" __global__ void either(unsigned* y) {
    __shared__ unsigned long long barrier;
    __shared__ unsigned flag;
    unsigned at = (unsigned)__cvta_generic_to_shared(&barrier);
    unsigned flag_at = (unsigned)__cvta_generic_to_shared(&flag);
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(at) : "memory");
        flag = 0;
    }
    __syncthreads();
    unsigned over = 0, seen = 0;
    if (threadIdx.x < 32) {
        while (!over && !seen) {
            asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], 0; selp.u32 %0, 1, 0, p; }"
                         : "=r"(over) : "r"(at) : "memory");
            asm volatile("ld.relaxed.cta.shared.u32 %0, [%1];" : "=r"(seen) : "r"(flag_at) : "memory");
        }
        y[threadIdx.x] = seen * 2 + over;
    } else if (threadIdx.x == 32) {
        asm volatile("st.relaxed.cta.shared.u32 [%0], 1;" ::"r"(flag_at) : "memory");
    }
}
"#;

#[test]
fn a_suspended_wait_ends_so_that_something_else_is_seen() {
    let ptx = compile("either.cu", EITHER, 90);
    for seed in 0..8 {
        let options = LaunchOptions {
            seed,
            ..LaunchOptions::default()
        };
        let mut buffers = [vec![0; 128]];
        let config = LaunchConfig::linear(1, 64);
        let report = run(&ptx, "either", config, options, &mut buffers, &[]);
        assert_clean(&report);
        assert_eq!(as_words(&buffers[0]), [2; 32]);
    }
}

/// A copy that an mbarrier's arrival covers belongs to a group of its thread as well, and either wait will do.
const COVERED: &str = r#"
extern "C" __global__ void covered(const uint4* x, uint4* y) {
    __shared__ uint4 data[32];
    __shared__ unsigned long long barrier;
    unsigned at = (unsigned)__cvta_generic_to_shared(&barrier);
    unsigned to = (unsigned)__cvta_generic_to_shared(data + threadIdx.x);
    if (threadIdx.x == 0) asm volatile("mbarrier.init.shared.b64 [%0], 64;" ::"r"(at) : "memory");
    __syncthreads();
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(x + threadIdx.x) : "memory");
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(at) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    for (unsigned i = 0; i < 64; i++) __syncwarp();
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    y[threadIdx.x] = data[threadIdx.x];
}
"#;

#[test]
fn a_copy_that_an_arrival_covers_can_be_waited_for_as_a_group() {
    let ptx = compile("covered.cu", COVERED, 80);
    let content: Vec<u8> = (0..512u32).map(|i| i as u8).collect();
    for seed in 0..24 {
        let options = LaunchOptions {
            seed,
            ..LaunchOptions::default()
        };
        let mut buffers = [content.clone(), vec![0; 512]];
        let config = LaunchConfig::linear(1, 32);
        let report = run(&ptx, "covered", config, options, &mut buffers, &[]);
        assert_clean(&report);
        assert_eq!(buffers[1], content);
    }
}
