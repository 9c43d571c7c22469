//! Counters of launches whose numbers can be worked out by hand.

use stheno_jit::{FindOptions, Nvrtc, Request, Target};
use virtual_gpu::profile::counters::{CacheHint, Class, Counters, TensorCounters};
use virtual_gpu::profile::coverage::Coverage;
use virtual_gpu::profile::roofline::{MEASURED, Roofline};
use virtual_gpu::{Device, LaunchConfig, LaunchOptions, LaunchReport, Module, Profile};

/// Runs `kernel` of `source` on a buffer of 64 KiB of zeros, which is its parameter.
fn count(source: &str, config: LaunchConfig, seed: u64) -> Counters {
    launched(source, config, seed).counters
}

fn launched(source: &str, config: LaunchConfig, seed: u64) -> LaunchReport {
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
    report
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

/// Launches add up, and a line that one of them alone runs counts as run.
#[test]
fn coverage_of_several_launches_is_merged() {
    let source = "extern \"C\" __global__ void kernel(int* p) {\n    if (blockIdx.x > 0) {\n        p[32 * blockIdx.x + threadIdx.x] = 1;\n    } else {\n        \
                  asm volatile(\"nanosleep.u32 1;\");\n    }\n}\n";
    let run = |blocks: u32| launched(source, LaunchConfig::linear(blocks, 32), 0).coverage;
    let one = run(1);
    let lines = |coverage: &Coverage| {
        let (_, lines) = coverage
            .files
            .iter()
            .find(|(file, _)| file.ends_with("k.cu"))
            .unwrap();
        [3, 5].map(|line| lines[&line].threads)
    };
    assert_eq!(lines(&one), [0, 32]);
    let mut all = one.clone();
    all.merge(&run(3));
    assert_eq!(lines(&all), [64, 64]);
    assert_eq!(all.kernels["kernel"].threads, 128);
    let branches = all
        .files
        .values()
        .flat_map(|lines| lines.values())
        .flat_map(|line| &line.branches);
    let mut sides: Vec<[u64; 2]> = branches
        .map(|branch| [branch.taken, branch.passed])
        .collect();
    sides.sort_unstable();
    assert_eq!(sides, [[64, 64]]);
    let alone = one.annotated(|_| Some(source.into()));
    assert!(
        alone.contains("always taken, 32 times") || alone.contains("never taken, 32 times"),
        "{alone}"
    );
    let merged = all.annotated(|_| None);
    assert!(
        !merged.contains("never taken") && !merged.contains("#####"),
        "{merged}"
    );
}

#[test]
fn the_roofline_names_what_bounds_a_launch() {
    let device = Profile::h100();
    let counters = Counters {
        blocks: 132,
        threads: 128,
        ..Counters::default()
    };
    let idle = Roofline::of(&counters, &device, 0);
    assert_eq!((idle.bound(), idle.least, idle.most), (None, 0.0, 0.0));
    // A gigabyte through memory, at 885 thousandths of 3352 GB/s.
    let mut streaming = counters.clone();
    streaming.memory.global_unique_read_bytes = 1 << 30;
    streaming.memory.global_read_bytes = 1 << 30;
    streaming.memory.global_requests = 1 << 20;
    let estimate = Roofline::of(&streaming, &device, 4);
    assert_eq!(estimate.bound(), Some("memory"));
    assert!(
        (estimate.least * 1e6 - 361.9).abs() < 0.1,
        "{}",
        estimate.least
    );
    assert_eq!((estimate.waves, estimate.occupancy), (1, 6));
    assert_eq!(estimate.warm, estimate.least, "it does not fit into L2");
    // Instructions of one block are those of one multiprocessor: 4 a clock.
    let issuing = Counters {
        blocks: 1,
        warp_instructions: 4 * 1_980_000,
        ..counters.clone()
    };
    let estimate = Roofline::of(&issuing, &device, 1);
    assert_eq!(estimate.bound(), Some("issue"));
    assert!((estimate.least - 1e-3).abs() < 1e-9, "{}", estimate.least);
    let shape = "m16n8k16 f32.bf16.bf16.f32".to_string();
    let flops = 132 * 2647 * 1_980_000;
    let product = TensorCounters {
        shape,
        count: 1,
        flops,
    };
    let multiplying = Counters {
        tensor: vec![product],
        ..counters.clone()
    };
    let estimate = Roofline::of(&multiplying, &device, 1);
    assert_eq!(estimate.bound(), Some("tensor"));
    assert!((estimate.least - 1e-3).abs() < 1e-9, "{}", estimate.least);
    let text = estimate.to_string();
    assert!(
        text.contains("tensor") && text.contains("1000.000"),
        "{text}"
    );
}

/// Steps of a decode program, one launch each: counted on the virtual GPU (512 positions before) and measured on an H100 (64 to
/// 128 before). What is measured over what is estimated is what `roofline::MEASURED` says.
#[test]
fn the_roofline_is_as_far_from_an_h100_as_it_says() {
    let results = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/results/");
    let read = |name: &str| std::fs::read_to_string(format!("{results}{name}")).unwrap();
    let mut found = Vec::new();
    let text = read("2026-11-26-kernel-bench-llama-3.1-8b-rounds-h100-virtual.json");
    let bench: serde_json::Value = serde_json::from_str(&text).unwrap();
    for record in bench["records"].as_array().unwrap() {
        if record["op"] != "step" || record["rows"] != 1 {
            continue;
        }
        let number = |name: &str| record["counters"][name].as_u64().unwrap();
        let mut counters = Counters {
            blocks: 132,
            threads: 512,
            warp_instructions: number("warp_instructions"),
            ..Counters::default()
        };
        counters.memory.global_read_bytes = number("global_read_bytes");
        counters.memory.global_unique_read_bytes = number("unique_read_bytes");
        counters.memory.global_written_bytes = number("global_written_bytes");
        counters.memory.shared_wavefronts = number("shared_wavefronts");
        counters.tensor.push(TensorCounters {
            shape: "m16n8k16 f32.bf16.bf16.f32".into(),
            count: number("mma"),
            flops: number("mma_flops"),
        });
        let estimate = Roofline::of(&counters, &Profile::h100(), 1);
        assert_eq!(estimate.bound(), Some("memory"));
        let format = record["format"].as_str().unwrap().to_string();
        // The program's own barriers over the grid are no barriers of a block: 1.6 us each, as the probe measured.
        let edges = 1.6e-6 * record["edges"].as_f64().unwrap();
        found.push((format, estimate.least, edges));
    }
    let profile = read("2026-11-26-h100-profile-5-live-rows.txt");
    let measured = |format: &str| {
        let mut lines = profile
            .lines()
            .skip_while(|line| *line != format!("# llama-3.1-8b-{format}"));
        let sum = lines
            .find(|line| line.trim_start().starts_with("sum "))
            .unwrap();
        1e-6 * sum
            .split_whitespace()
            .nth(2)
            .unwrap()
            .parse::<f64>()
            .unwrap()
    };
    assert_eq!(found.len(), 3);
    for (format, least, edges) in found {
        let (alone, with) = (
            measured(&format) / least,
            measured(&format) / (least + edges),
        );
        println!(
            "{format}: {alone:.2} times the least, {:.0} us; {with:.2} with barriers of the grid, {:.0} us",
            1e6 * least,
            1e6 * (least + edges)
        );
        let told = format!("{alone:.2} times the least in {format}");
        assert!(MEASURED.contains(&told), "{told}: {MEASURED}");
        assert!((1.0..1.6).contains(&with), "{with}");
    }
}
