//! Decode steps of the whole program on the virtual GPU, counted: what they read of global memory, and how often.

use crate::models::{self, LLAMA_8B, Sizes};
use bytemuck::Zeroable;
use std::time::Instant;
use stheno_codegen::jit::{Cache, FindOptions, Nvrtc, Request, Target};
use stheno_codegen::layout::{CHUNK, Formats, Group, Layout, WeightFormat};
use stheno_codegen::plan::{KV_PAGE, Plan, SegmentKind};
use stheno_codegen::program::abi::{
    self, Control, KvPool, LinearPhase, NONE, PhaseKind, SPAN_ARRIVES,
};
use stheno_codegen::program::{DeviceProgram, KERNEL};
use stheno_codegen::tune::{Architecture, Facts, ProgramLayout, THREADS};
use virtual_gpu::num::mma::MmaMode;
use virtual_gpu::profile::counters::{Counters, MemoryCounters};
use virtual_gpu::{Checks, Device, DevicePointer, LaunchConfig, LaunchOptions, Module, Profile};

/// Positions before the step: a page and a part of the next.
const LENGTH: u32 = 200;

/// A model of some format: embedding rows in bf16, as checkpoints of all formats have them.
struct Case {
    plan: Plan,
    program: DeviceProgram,
    arena_bytes: u64,
}

impl Case {
    fn new(sizes: Sizes, format: WeightFormat, sm_count: u32) -> Case {
        let plan = models::plan(sizes);
        let formats = Formats::new(&plan, |id| {
            let is_table = plan.weight(id).name == "embed";
            Some(if is_table { WeightFormat::Bf16 } else { format })
        });
        let architecture = Architecture {
            sm_count,
            ..Architecture::H100
        };
        let facts = Facts::new(&plan, &formats);
        let chosen = ProgramLayout::choose(&facts, &architecture, 8).unwrap();
        let layout = Layout::new(&plan, &formats, chosen.cut()).unwrap();
        let program = DeviceProgram::new(&plan, &layout, &chosen, &|_| 0).unwrap();
        Case {
            plan,
            program,
            arena_bytes: layout.arena_bytes,
        }
    }

    fn segment(&self) -> usize {
        let mut segments = self.plan.segments.iter();
        segments
            .position(|s| s.kind == SegmentKind::Target)
            .unwrap()
    }

    /// Bytes of weights of the segment: elements, then all.
    fn weight_bytes(&self) -> (u64, u64) {
        let (mut elements, mut all) = (0, 0);
        for phase in self.program.phases_of(self.segment()) {
            if phase.kind != PhaseKind::Linear as u32 {
                continue;
            }
            let linear: LinearPhase = phase.part();
            let format = self.program.stacks[linear.stack as usize];
            let (k, column) = (linear.k as usize, linear.span as usize);
            let spans = self.program.spans.chunks(self.program.span_count as usize);
            let tiles = spans.map(|spans| u64::from(spans[column].tiles & !SPAN_ARRIVES));
            let tiles: u64 = tiles.sum();
            let mut tile = k / CHUNK * format.block_bytes(CHUNK);
            if !k.is_multiple_of(CHUNK) {
                tile += format.block_bytes(k % CHUNK);
            }
            all += tiles * tile as u64;
            elements += tiles * (16 * k * format.bits() / 8) as u64;
        }
        (elements, all)
    }

    /// Bytes of the records of all blocks' stages.
    fn record_bytes(&self) -> u64 {
        let blocks = self.program.sizes.architecture.sm_count as usize;
        let kinds = self.program.tapes.len() / (self.program.segments.len() * blocks);
        let whole = &self.program.tapes[self.segment() * kinds * blocks..][..blocks];
        let stages: u64 = whole.iter().map(|range| u64::from(range.count)).sum();
        stages * size_of::<abi::Stage>() as u64
    }

    fn kv_bytes(&self, length: u32) -> u64 {
        let kv = &self.plan.kv;
        u64::from(kv.layers * 2 * kv.num_key_value_heads * kv.head_dim * 2 * length)
    }

    fn ptx(&self) -> String {
        let options = FindOptions::for_project(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let nvrtc = Nvrtc::find(&options).unwrap_or_else(|error| panic!("{error}"));
        let mut request = Request::new(
            "decode.cu",
            &*self.program.source.program,
            Target::Virtual(90),
        );
        request.headers = self.program.source.headers();
        request.options = vec!["--std=c++17".to_owned()];
        request.line_info = true;
        let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("counted");
        let compiled = Cache::open(directory).unwrap().compile(&nvrtc, &request);
        let compiled = compiled.unwrap_or_else(|error| panic!("{error}"));
        compiled.0.ptx.unwrap()
    }

    /// Greedy steps after [`LENGTH`] positions, in one launch.
    fn steps(&self, module: &Module, steps: u32, checks: Checks) -> Counters {
        let (program, plan) = (&self.program, &self.plan);
        let blocks = program.sizes.architecture.sm_count;
        let mut gpu = Device::new(Profile::h100().with_multiprocessors(blocks));
        let arena = filled(&mut gpu, self.arena_bytes, &weights);
        let constants = filled(&mut gpu, program.constants.bytes(), &ones);
        let nothing = |_: u64, _: &mut [u8]| {};
        let workspace = filled(&mut gpu, program.workspace.bytes(), &nothing);
        let edges = filled(&mut gpu, u64::from(program.edges) * 128, &nothing);
        let history = filled(&mut gpu, 4 * 4200, &nothing);
        let host = filled(&mut gpu, 4096, &nothing);
        let mut words = [0u32; 32];
        words[12] = 100;
        gpu.write(host, bytemuck::cast_slice(&words)).unwrap();
        let layer =
            u64::from(2 * plan.kv.num_key_value_heads * plan.kv.head_dim * 2) * KV_PAGE as u64;
        let pages: Vec<u64> = (0..=LENGTH as usize / KV_PAGE)
            .map(|_| filled(&mut gpu, layer * u64::from(plan.kv.layers), &weights).0)
            .collect();
        let mut upload = |bytes: &[u8]| {
            let pointer = gpu.alloc(bytes.len().max(16)).unwrap();
            gpu.write(pointer, bytes).unwrap();
            pointer.0
        };
        let pool = KvPool {
            layer_bytes: layer,
            table: upload(bytemuck::cast_slice(&pages)),
            planes: plan.kv.layers * 2 * plan.kv.num_key_value_heads,
            row_bytes: 2 * plan.kv.head_dim,
        };
        let parameter = abi::Program {
            arena: arena.0,
            constants: constants.0,
            workspace: workspace.0,
            phases: upload(bytemuck::cast_slice(&program.phases)),
            segments: upload(bytemuck::cast_slice(&program.segments)),
            stages: upload(bytemuck::cast_slice(&program.stages)),
            tapes: upload(bytemuck::cast_slice(&program.tapes)),
            spans: upload(bytemuck::cast_slice(&program.spans)),
            edges: edges.0,
            control: upload(bytemuck::bytes_of(&self.control())),
            history: history.0,
            counts: upload(&[]),
            bias: upload(&[]),
            mask: 0,
            host: host.0,
            timers: 0,
            kv: [pool, pool],
            span_count: program.span_count,
            patience: 0,
            phase_begin: 0,
            phase_end: NONE,
            rounds: steps,
            home: program.home,
            target_ids: 0,
            logit_scale: 1.0,
            unused: 0,
        };
        let config = LaunchConfig {
            dynamic_shared: program.sizes.shared_bytes,
            cooperative: true,
            ..LaunchConfig::linear(blocks, THREADS)
        };
        let options = LaunchOptions {
            checks,
            mma: MmaMode::Fast,
            ..LaunchOptions::default()
        };
        let start = Instant::now();
        let bytes = bytemuck::bytes_of(&parameter);
        let report = gpu
            .launch(module, KERNEL, &config, bytes, &options)
            .unwrap();
        println!(
            "  {:.1} s on the virtual GPU",
            start.elapsed().as_secs_f64()
        );
        assert!(report.findings.is_empty(), "{}", report.findings[0]);
        assert!(report.completed);
        gpu.read(host, bytemuck::cast_slice_mut(&mut words))
            .unwrap();
        assert_eq!(
            (words[10], words[11]),
            (steps, LENGTH + steps),
            "a token a step"
        );
        report.counters
    }

    fn control(&self) -> Control {
        let mut control = Control::zeroed();
        control.round = 1;
        control.pause_round = NONE;
        control.generation.mode = abi::MODE_GENERATE;
        control.generation.length = LENGTH;
        control.generation.known = LENGTH + 1;
        control.generation.begin = LENGTH + 1;
        control.generation.limit = LENGTH + 90;
        control.sampling.greedy = 1;
        control.sampling.top_p = 1.0;
        control.sampling.top_logprobs = NONE;
        let call = &mut control.call;
        call.segment = self.segment() as u32;
        (call.run, call.rows, call.row_tiles) = (1, 1, 1);
        (call.output_rows, call.output_tiles, call.chooses) = (1, 1, 1);
        call.length = LENGTH;
        (call.expected, call.expected_rows, call.expected_outputs) = (call.segment, 1, 1);
        call.tokens[0] = 5;
        call.positions[0] = LENGTH;
        call.parents[0] = NONE;
        control.generation.runs[self.segment()] = 1;
        control
    }
}

/// Device memory written in pieces, so that the host holds it once.
fn filled(gpu: &mut Device, bytes: u64, fill: &dyn Fn(u64, &mut [u8])) -> DevicePointer {
    const PIECE: u64 = 64 << 20;
    let pointer = gpu.alloc(bytes.max(16) as usize).unwrap();
    let mut piece = vec![0; PIECE.min(bytes) as usize];
    for at in (0..bytes).step_by(PIECE as usize) {
        let piece = &mut piece[..PIECE.min(bytes - at) as usize];
        fill(at, piece);
        gpu.write(DevicePointer(pointer.0 + at), piece).unwrap();
    }
    pointer
}

/// Numbers in every format, scales too: as bf16 and f16 their exponents are small, and no code of fp8 is NaN.
fn weights(at: u64, bytes: &mut [u8]) {
    let mut state = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for pair in bytes.chunks_mut(2) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bits = (state >> 40) as u16 & 0x8377 | 0x2800;
        pair.copy_from_slice(&bits.to_le_bytes()[..pair.len()]);
    }
}

/// Norm weights and rotations.
fn ones(_: u64, bytes: &mut [u8]) {
    for word in bytes.chunks_exact_mut(4) {
        word.copy_from_slice(&1.0f32.to_le_bytes());
    }
}

/// Traffic of the statement that begins at the first line of a header with `text`.
fn line(counters: &Counters, header: &str, text: &str) -> MemoryCounters {
    let headers = stheno_kernels::HEADERS.iter();
    let source = headers
        .filter(|(name, _)| *name == header)
        .map(|(_, text)| text);
    let lines = source.flat_map(|source| source.lines());
    let number = lines.zip(1..).find(|(line, _)| line.contains(text));
    let number: u32 = number
        .unwrap_or_else(|| panic!("{header} has no `{text}`"))
        .1;
    let mut sum = MemoryCounters::default();
    let own = |file: &str| file.rsplit('/').next() == Some(header);
    let found = counters.lines.iter();
    for line in found.filter(|line| own(&line.file) && line.line == number) {
        sum.add(&line.memory);
    }
    sum
}

/// `most`: unique bytes over those that a step cannot do without.
fn check(name: &str, case: &Case, checks: Checks, most: f64) {
    let ptx = case.ptx();
    for word in ["barrier.cluster", "griddepcontrol"] {
        assert!(
            !ptx.contains(word),
            "the program has no barrier of the grid"
        );
    }
    println!("{name}:");
    let module = Module::from_ptx(&ptx).unwrap_or_else(|error| panic!("{error}"));
    // What a launch fetches ahead at its end, for a step that comes in the next one, is no step's: it is what one step and
    // three have in common.
    let one = case.steps(&module, 1, checks);
    let three = case.steps(&module, 3, checks);
    let (elements, weights) = case.weight_bytes();
    let kv = case.kv_bytes(LENGTH + 1) + case.kv_bytes(LENGTH + 2);
    let activations = case.program.activation_bytes(case.segment(), 1, 1);
    let row = u64::from(case.plan.buffers[0].columns) * 2;
    let of = |header: &str, text: &str| (line(&one, header, text), line(&three, header, text));

    let (first, all) = of("copies.cuh", "cp.async.bulk.shared");
    let records = case.record_bytes();
    assert_eq!(
        all.async_bytes - first.async_bytes,
        2 * (weights + records),
        "each weight once a step, and with each stage the record of another"
    );
    let ring = case.program.sizes.stages * case.program.sizes.stage_bytes;
    let blocks = u64::from(case.program.sizes.architecture.sm_count);
    assert!(first.async_bytes <= weights + records + u64::from(ring + 512) * blocks);
    let streamed = first.async_bytes;
    let (first, all) = of("copies.cuh", "cp.async.cg.shared");
    assert_eq!(
        all.async_bytes - first.async_bytes,
        2 * activations + kv,
        "inputs as the formula says, and K and V once"
    );
    let (first, all) = of("prelude.cuh", "ld.shared.v4.u32");
    assert_eq!(
        all.shared_bytes - first.shared_bytes,
        2 * (elements + activations),
        "every weight that was fetched is read once, and so is every input"
    );
    assert_eq!(all.bank_conflicts(), 0);
    let (_, scales) = of("formats.cuh", "ld.shared.u32");
    assert_eq!(scales.bank_conflicts(), 0);
    assert_eq!(scales.shared_requests > 0, weights > elements);

    let needed = weights + case.kv_bytes(LENGTH) + row;
    let memory = &one.memory;
    let unique = memory.global_unique_read_bytes as f64 / needed as f64;
    let share = |bytes: u64| 100.0 * bytes as f64 / needed as f64;
    let again = memory.global_read_bytes - streamed - case.kv_bytes(LENGTH);
    println!(
        "  needed {needed} bytes: weights {weights}, K and V {}, a row {row}\n  \
         unique reads {unique:.4} of it; from L2 {again} bytes ({:.2} %), of them activations {activations} ({:.2} %)\n  \
         polls {}, bank conflicts {} of {} passes",
        case.kv_bytes(LENGTH),
        share(again),
        share(activations),
        memory.polls,
        memory.bank_conflicts(),
        memory.shared_wavefronts,
    );
    assert!(unique <= most, "{unique} of what is needed");
}

const FORMATS: [(&str, WeightFormat); 3] = [
    ("bf16", WeightFormat::Bf16),
    ("fp8", WeightFormat::Fp8E4M3 { group: Group::Row }),
    (
        "int4",
        WeightFormat::Int4 {
            group: Group::G128,
            offset: false,
        },
    ),
];

/// Two layers of an eighth of the width.
#[test]
#[ignore = "minutes: run with --include-ignored"]
fn a_step_of_a_narrow_model_reads_what_it_needs() {
    let narrow = Sizes {
        layers: 2,
        hidden: 512,
        intermediate: 1792,
        heads: 4,
        kv_heads: 1,
        vocab: 16032,
        ..LLAMA_8B
    };
    for (name, format) in FORMATS {
        check(name, &Case::new(narrow, format, 33), Checks::All, 1.1);
    }
}

/// Two layers of the Llama-3.1-8B shape on a whole H100. A minute or more, and 4 GB of memory.
#[test]
#[ignore = "takes minutes; run it in release"]
fn a_step_of_the_8b_shape_reads_what_it_needs() {
    let sizes = Sizes {
        layers: 2,
        ..LLAMA_8B
    };
    for (name, format) in FORMATS {
        check(name, &Case::new(sizes, format, 132), Checks::Bounds, 1.02);
    }
}
