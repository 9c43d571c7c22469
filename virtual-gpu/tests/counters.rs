//! Counters of launches whose numbers can be worked out by hand.

use stheno_jit::{FindOptions, Nvrtc, Request, Target};
use virtual_gpu::profile::counters::{CacheHint, Class, Counters};
use virtual_gpu::{Device, LaunchConfig, LaunchOptions, Module, Profile};

/// Runs `kernel` of `source` on a buffer of 64 KiB of zeros, which is its parameter.
fn count(source: &str, config: LaunchConfig, seed: u64) -> Counters {
    let nvrtc = Nvrtc::find(&FindOptions::for_project(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut request = Request::new("k.cu", source, Target::Virtual(80));
    request.line_info = true;
    let ptx = nvrtc
        .compile(&request)
        .unwrap_or_else(|e| panic!("{e}"))
        .ptx
        .unwrap();
    let module = Module::from_ptx(&ptx).unwrap();
    let mut device = Device::new(Profile::h100());
    let buffer = device.alloc(1 << 16).unwrap();
    device.write(buffer, &vec![0; 1 << 16]).unwrap();
    let options = LaunchOptions {
        seed,
        ..LaunchOptions::default()
    };
    let parameters = buffer.0.to_le_bytes();
    let report = device
        .launch(&module, "kernel", &config, &parameters, &options)
        .unwrap();
    assert!(
        report.completed && report.findings.is_empty(),
        "{:?}",
        report.findings
    );
    report.counters
}

fn body(body: &str) -> String {
    format!(
        "extern \"C\" __global__ void kernel(float* p) {{\n    int i = threadIdx.x;\n{body}\n}}\n"
    )
}

fn one_warp(text: &str) -> Counters {
    count(&body(text), LaunchConfig::linear(1, 32), 0)
}

#[test]
fn sectors_follow_the_stride() {
    for (stride, sectors) in [(0, 1), (1, 4), (2, 8), (8, 32), (64, 32)] {
        let counters = one_warp(&format!(
            "    float v = p[i * {stride}];\n    asm volatile(\"\" :: \"f\"(v));"
        ));
        let memory = counters.memory;
        assert_eq!(
            (memory.global_requests, memory.global_sectors),
            (1, sectors),
            "stride {stride}"
        );
        assert_eq!(memory.global_read_bytes, 128);
        let unique = if stride == 0 { 4 } else { 128 };
        assert_eq!(memory.global_unique_read_bytes, unique);
        assert_eq!(memory.global_reread_bytes(), 128 - unique);
        assert_eq!(memory.sectors_per_request(), sectors as f64);
    }
}

#[test]
fn vectors_are_one_request() {
    let counters = one_warp("    float4 v = ((float4*)p)[i];\n    ((float4*)p)[i + 32] = v;");
    let memory = counters.memory;
    assert_eq!((memory.global_requests, memory.global_sectors), (2, 32));
    assert_eq!(
        (memory.global_read_bytes, memory.global_written_bytes),
        (512, 512)
    );
}

#[test]
fn bank_conflicts_are_passes_beyond_one_for_each_128_bytes() {
    for (stride, words, passes, ideal) in [
        (0, 1, 1, 1),
        (1, 1, 1, 1),
        (2, 1, 2, 1),
        (32, 1, 32, 1),
        (33, 1, 1, 1),
        (2, 2, 2, 2),
        (4, 4, 4, 4),
        (64, 2, 32, 2),
    ] {
        let ty = ["", "float", "float2", "", "float4"][words];
        let counters = one_warp(&format!(
            "    __shared__ {ty} s[{}];\n    s[i * {stride} / {words}] = {ty}();\n    asm volatile(\"\" :: \"l\"(s) : \"memory\");",
            32 * stride / words + 1
        ));
        let memory = counters.memory;
        assert_eq!(memory.shared_requests, 1);
        assert_eq!(
            (memory.shared_wavefronts, memory.shared_ideal_wavefronts),
            (passes, ideal),
            "stride {stride}, {words} words"
        );
        assert_eq!(memory.bank_conflicts(), passes - ideal);
        assert_eq!(memory.shared_bytes, 128 * words as u64);
    }
}

#[test]
fn few_lanes_need_few_passes() {
    let text = "    __shared__ float4 s[32];\n    if (i < 8) s[i] = float4();\n    \
                asm volatile(\"\" :: \"l\"(s) : \"memory\");";
    let memory = one_warp(text).memory;
    assert_eq!(
        (memory.shared_wavefronts, memory.shared_ideal_wavefronts),
        (1, 1)
    );
}

#[test]
fn atomics_barriers_and_divergence() {
    let source = body(
        "    atomicAdd(p + i % 4, 1.0f);
    __shared__ int s[64];
    s[i] = i;
    __syncthreads();
    float* mine = p + 256 * (1 + blockIdx.x);
    if (i % 2) { mine[i] = sqrtf(s[i ^ 32]); } else { mine[64 + i] = __sinf(s[i ^ 32]); }
    __syncthreads();",
    );
    let counters = count(&source, LaunchConfig::linear(3, 64), 0);
    assert_eq!((counters.blocks, counters.threads), (3, 64));
    assert_eq!(counters.memory.atomics, 192);
    assert_eq!(counters.atomics_at_one_address, 48);
    // Two warps of three blocks, twice.
    assert_eq!(counters.barriers, 12);
    let lines = &counters.lines;
    let divergent = lines
        .iter()
        .find(|line| line.divergent_branches > 0)
        .unwrap();
    assert_eq!(
        (divergent.file.rsplit('/').next(), divergent.line),
        (Some("k.cu"), 8)
    );
    assert_eq!(counters.divergent_branches, 6);
    let sync = counters
        .classes
        .iter()
        .find(|class| class.class == Class::Sync)
        .unwrap();
    assert_eq!(
        sync.warp_instructions, 12,
        "a barrier counts once, however long a warp waits at it"
    );
}

#[test]
fn local_memory_and_hints() {
    let counters = one_warp(
        "    float v[8];\n    for (int k = 0; k < 8; ++k) v[k] = __ldcs(p + 32 * k + i);\n    \
         int at = (int)p[i];\n    p[i] = v[at & 7];",
    );
    assert_eq!(counters.memory.local_bytes, 32 * 4 * 9);
    let streamed = counters
        .hints
        .iter()
        .find(|hint| hint.hint == CacheHint::EvictFirst)
        .unwrap();
    assert_eq!((streamed.requests, streamed.bytes), (8, 1024));
}

#[test]
fn tensor_products_and_asynchronous_copies() {
    let source = r#"extern "C" __global__ void kernel(float* p) {
    __shared__ float4 s[32];
    int i = threadIdx.x;
    unsigned to = (unsigned)__cvta_generic_to_shared(s + i);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(p + 4 * i) : "memory");
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    float4 d = s[31 - i];
    for (int k = 0; k < 5; ++k) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%4,%4,%4}, {%4,%4}, {%0,%1,%2,%3};"
            : "+f"(d.x), "+f"(d.y), "+f"(d.z), "+f"(d.w) : "r"(i));
    }
    ((float4*)p)[i + 32] = d;
}
"#;
    let counters = count(source, LaunchConfig::linear(1, 32), 0);
    let [tensor] = &counters.tensor[..] else {
        panic!("{:?}", counters.tensor)
    };
    assert_eq!(
        (tensor.shape.as_str(), tensor.count),
        ("m16n8k16 f32.bf16.bf16.f32", 5)
    );
    assert_eq!((tensor.flops, counters.tensor_flops), (5 * 4096, 5 * 4096));
    let line = counters
        .lines
        .iter()
        .find(|line| line.tensor_flops > 0)
        .unwrap();
    assert_eq!((line.line, line.tensor_flops), (10, 5 * 4096));
    assert_eq!(counters.memory.async_bytes, 512);
}

/// Warps wait for each other by polling, so that the order of turns matters.
const TURNS: &str = r#"extern "C" __global__ void kernel(int* p) {
    volatile int* turn = p;
    if (threadIdx.x == 0) {
        while (*turn != blockIdx.x) {}
        for (int k = 0; k < 100; ++k) atomicAdd(p + 64 + k % 3, k);
        __threadfence();
        *turn = blockIdx.x + 1;
    }
    __syncthreads();
}
"#;

#[test]
fn the_same_launch_counts_the_same() {
    let mut config = LaunchConfig::linear(8, 96);
    config.cooperative = true;
    for seed in [0, 1, 0x5eed] {
        let first = count(TURNS, config, seed);
        assert_eq!(first, count(TURNS, config, seed), "seed {seed}");
        assert_eq!(first.memory.atomics, 800);
        assert_eq!(first.atomics_at_one_address, 8 * 34);
        assert!(first.memory.polls >= 8);
    }
}

#[test]
fn parts_add_up() {
    let counters = count(TURNS, LaunchConfig::linear(8, 96), 0);
    let warps: u64 = counters
        .classes
        .iter()
        .map(|class| class.warp_instructions)
        .sum();
    let lanes: u64 = counters
        .classes
        .iter()
        .map(|class| class.lane_instructions)
        .sum();
    assert_eq!(
        (warps, lanes),
        (counters.warp_instructions, counters.lane_instructions)
    );
    let requests: u64 = counters.hints.iter().map(|hint| hint.requests).sum();
    assert_eq!(requests, counters.memory.global_requests);
    let by_line: u64 = counters
        .lines
        .iter()
        .map(|line| line.memory.global_sectors)
        .sum();
    assert_eq!(by_line, counters.memory.global_sectors);
    let table = counters.to_string();
    assert!(table.contains("kernel on H100 (virtual): 8 blocks of 96 threads"));
    assert!(
        table.contains(&format!("{:<30}{:>16}", "atomics of lanes", 800)),
        "{table}"
    );
}

#[test]
fn counting_can_be_left_off() {
    let ptx =
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry kernel()\n{\n    ret;\n}\n";
    let module = Module::from_ptx(ptx).unwrap();
    let options = LaunchOptions {
        counters: false,
        ..LaunchOptions::default()
    };
    let config = LaunchConfig::linear(1, 32);
    let report = Device::new(Profile::a100())
        .launch(&module, "kernel", &config, &[], &options)
        .unwrap();
    assert!(report.completed);
    assert_eq!(report.counters.warp_instructions, 0);
}

/// Two blocks take turns fifty times. In each a second warp looks at two flags of its block in turn, which is no poll of one
/// place, and sleeps between looks: its block's turn is not spent on that.
#[test]
fn who_sleeps_between_looks_leaves_others_the_turn() {
    let source = r#"extern "C" __global__ void kernel(unsigned* p) {
        __shared__ unsigned flags[2];
        if (threadIdx.x == 0) flags[0] = flags[1] = 0;
        __syncthreads();
        unsigned seen;
        if (threadIdx.x == 0) {
            for (unsigned i = 0; i < 100; i++) {
                if (i % 2 != blockIdx.x) continue;
                do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(p) : "memory");
                while (seen < i);
                asm volatile("st.release.gpu.global.u32 [%0], %1;" :: "l"(p), "r"(i + 1) : "memory");
            }
            asm volatile("st.release.cta.shared.u32 [%0], 1;" :: "r"((unsigned)__cvta_generic_to_shared(flags + 1)) : "memory");
        } else if (threadIdx.x == 32) {
            for (;;) {
                bool ends = false;
                for (unsigned i = 0; i < 2; i++) {
                    const unsigned flag = (unsigned)__cvta_generic_to_shared(flags + i);
                    asm volatile("ld.acquire.cta.shared.u32 %0, [%1];" : "=r"(seen) : "r"(flag) : "memory");
                    ends |= seen != 0;
                }
                if (ends) break;
                asm volatile("nanosleep.u32 100;" ::: "memory");
            }
        }
    }"#;
    let config = LaunchConfig {
        cooperative: true,
        cluster: None,
        ..LaunchConfig::linear(2, 64)
    };
    let counters = count(source, config, 0);
    let instructions: u64 = counters.warp_instructions;
    assert!(instructions < 20_000, "{instructions}");
}
