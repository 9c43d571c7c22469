//! Programs in the memory of the virtual GPU, and calls of them.

use crate::models::{self, Sizes};
use bytemuck::Zeroable;
use std::time::Instant;
use stheno_codegen::jit::{Cache, FindOptions, Nvrtc, Request, Target};
use stheno_codegen::layout::{CHUNK, Formats, Layout, WeightFormat};
use stheno_codegen::plan::{KV_PAGE, KvDecl, Plan, SegmentKind};
use stheno_codegen::program::abi::{
    self, Control, KvPool, LinearPhase, NONE, PhaseKind, SPAN_ARRIVES,
};
use stheno_codegen::program::{DeviceProgram, KERNEL};
use stheno_codegen::tune::{Architecture, Facts, ProgramLayout, THREADS};
use virtual_gpu::num::mma::MmaMode;
use virtual_gpu::profile::counters::{Counters, MemoryCounters};
use virtual_gpu::{
    Checks, Device, DevicePointer, LaunchConfig, LaunchOptions, LaunchReport, Module, Profile,
};

/// Positions that there is room for.
const CONTEXT: usize = 2 * KV_PAGE;

/// A plan and its program. Embedding rows are in bf16, as checkpoints of all formats have them.
pub struct Case {
    pub plan: Plan,
    pub layout: Layout,
    pub program: DeviceProgram,
}

impl Case {
    pub fn new(sizes: Sizes, format: WeightFormat, sm_count: u32, max_rows: u32) -> Case {
        Case::of_plan(models::plan(sizes), format, sm_count, max_rows)
    }

    pub fn of_plan(plan: Plan, format: WeightFormat, sm_count: u32, max_rows: u32) -> Case {
        let formats = Formats::new(&plan, |id| {
            let is_table = plan.weight(id).name == "embed";
            Some(if is_table { WeightFormat::Bf16 } else { format })
        });
        let architecture = Architecture {
            sm_count,
            ..Architecture::H100
        };
        let facts = Facts::new(&plan, &formats);
        let chosen = ProgramLayout::choose(&facts, &architecture, max_rows).unwrap();
        let layout = Layout::new(&plan, &formats, chosen.cut()).unwrap();
        let program = DeviceProgram::new(&plan, &layout, &chosen, &|_| 0).unwrap();
        Case {
            plan,
            layout,
            program,
        }
    }

    pub fn segment(&self, kind: SegmentKind) -> usize {
        let mut segments = self.plan.segments.iter();
        segments.position(|s| s.kind == kind).unwrap()
    }

    /// Bytes of weights of a segment: elements, then all.
    pub fn weight_bytes(&self, segment: usize) -> (u64, u64) {
        let (mut elements, mut all) = (0, 0);
        for phase in self.program.phases_of(segment) {
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

    /// Bytes of the records of all blocks' stages, where tile groups are taken whole.
    pub fn record_bytes(&self, segment: usize) -> u64 {
        let blocks = self.program.sizes.architecture.sm_count as usize;
        let kinds = self.program.tapes.len() / (self.program.segments.len() * blocks);
        let whole = &self.program.tapes[segment * kinds * blocks..][..blocks];
        let stages: u64 = whole.iter().map(|range| u64::from(range.count)).sum();
        stages * size_of::<abi::Stage>() as u64
    }

    pub fn kv_bytes(&self, length: u32) -> u64 {
        page_row_bytes(&self.plan.kv) * u64::from(length)
    }

    pub fn ptx(&self) -> String {
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

    /// A call of a tree after `length` positions, of which row 0 is the root: `parents` are those of the rows after it. Every
    /// row has an output. Nothing is fetched ahead for a call after it.
    pub fn call(&self, segment: usize, length: u32, parents: &[u32]) -> Control {
        let mut control = Control::zeroed();
        control.round = 1;
        control.pause_round = NONE;
        control.generation.mode = abi::MODE_CALL;
        control.generation.topk = 4;
        control.generation.runs[segment] = 1;
        control.sampling.greedy = 1;
        control.sampling.top_p = 1.0;
        control.sampling.top_logprobs = NONE;
        let rows = 1 + parents.len() as u32;
        let call = &mut control.call;
        call.segment = segment as u32;
        (call.run, call.chooses) = (1, 1);
        (call.rows, call.output_rows) = (rows, rows);
        call.row_tiles = rows.div_ceil(8).next_power_of_two();
        call.output_tiles = call.row_tiles;
        call.length = length;
        call.expected = NONE;
        for row in 0..rows as usize {
            call.tokens[row] = 5 + 2 * row as u32;
            call.outputs[row] = row as u32;
            call.sources[row] = row as u8;
            (call.parents[row], call.positions[row]) = match row.checked_sub(1) {
                None => (NONE, length),
                Some(i) => (parents[i], call.positions[parents[i] as usize] + 1),
            };
        }
        control
    }

    /// The same as a round of a generation: a token comes of it, and maybe guesses.
    pub fn round(&self, segment: usize, length: u32, parents: &[u32]) -> Control {
        let mut control = self.call(segment, length, parents);
        let generation = &mut control.generation;
        generation.mode = abi::MODE_GENERATE;
        generation.length = length;
        generation.known = length + 1;
        generation.begin = length + 1;
        generation.limit = length + 90;
        let (tree, call) = (&mut control.tree, &control.call);
        tree.nodes = call.rows;
        (tree.tokens, tree.parents) = (call.tokens, call.parents);
        control
    }
}

/// Bytes of K and V of a position.
fn page_row_bytes(kv: &KvDecl) -> u64 {
    u64::from(kv.layers * 2 * kv.num_key_value_heads * kv.head_dim * 2)
}

/// What the host sees of a generation: see `struct HostRing`.
pub struct Seen {
    pub tokens: u32,
    pub length: u32,
}

/// A program with weights, and pages of a sequence for the target and the draft.
pub struct Loaded<'a> {
    case: &'a Case,
    pub gpu: Device,
    host: DevicePointer,
    /// `[target, draft][page]`
    pages: [Vec<u64>; 2],
    parameter: abi::Program,
}

impl<'a> Loaded<'a> {
    /// With all weights.
    pub fn new(case: &'a Case) -> Self {
        Loaded::with_arena(case, |gpu| {
            filled(gpu, "arena", case.layout.arena_bytes, &weights)
        })
    }

    pub fn with_arena(
        case: &'a Case,
        fill_arena: impl FnOnce(&mut Device) -> DevicePointer,
    ) -> Self {
        let (program, plan) = (&case.program, &case.plan);
        let blocks = program.sizes.architecture.sm_count;
        let mut gpu = Device::new(Profile::h100().with_multiprocessors(blocks));
        let arena = fill_arena(&mut gpu);
        let nothing = |_: u64, _: &mut [u8]| {};
        let constants = filled(&mut gpu, "constants", program.constants.bytes(), &ones);
        let workspace = filled(&mut gpu, "workspace", program.workspace.bytes(), &nothing);
        let edges = filled(&mut gpu, "edges", u64::from(program.edges) * 128, &nothing);
        let history = filled(&mut gpu, "history", 4 * 4200, &nothing);
        let host = filled(&mut gpu, "host", 4096, &nothing);
        let mut words = [0u32; 32];
        words[12] = 100;
        gpu.write(host, bytemuck::cast_slice(&words)).unwrap();
        let caches = [Some(plan.kv), plan.draft.as_ref().map(|draft| draft.kv)];
        let pages = caches.map(|kv| {
            let bytes = kv.map_or(0, |kv| page_row_bytes(&kv) * KV_PAGE as u64);
            let pages = (0..CONTEXT / KV_PAGE).map(|_| filled(&mut gpu, "page", bytes, &weights).0);
            pages.collect::<Vec<u64>>()
        });
        let mut upload = |bytes: &[u8]| {
            let pointer = gpu.alloc(bytes.len().max(16)).unwrap();
            gpu.write(pointer, bytes).unwrap();
            pointer.0
        };
        let mut pool = |which: usize| {
            let kv = caches[which].unwrap_or(plan.kv);
            KvPool {
                layer_bytes: page_row_bytes(&KvDecl { layers: 1, ..kv }) * KV_PAGE as u64,
                table: upload(bytemuck::cast_slice(&pages[which])),
                planes: kv.layers * 2 * kv.num_key_value_heads,
                row_bytes: 2 * kv.head_dim,
            }
        };
        let kv = [pool(0), pool(1)];
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
            control: upload(bytemuck::bytes_of(&Control::zeroed())),
            history: history.0,
            followers: upload(&vec![0; 4 * plan.vocab_size as usize]),
            counts: upload(&[]),
            bias: upload(&[]),
            mask: 0,
            host: host.0,
            timers: 0,
            kv,
            span_count: program.span_count,
            patience: 0,
            phase_begin: 0,
            phase_end: NONE,
            rounds: 1,
            home: program.home,
            target_ids: 0,
            logit_scale: 1.0,
            unused: 0,
        };
        Loaded {
            case,
            gpu,
            host,
            pages,
            parameter,
        }
    }

    /// Bytes of the workspace.
    pub fn workspace(&self, offset: u32, bytes: u32) -> Vec<u8> {
        let mut content = vec![0; bytes as usize];
        let at = DevicePointer(self.parameter.workspace + u64::from(offset));
        self.gpu.read(at, &mut content).unwrap();
        content
    }

    pub fn write_workspace(&mut self, offset: u32, values: &[f32]) {
        let at = DevicePointer(self.parameter.workspace + u64::from(offset));
        self.gpu.write(at, bytemuck::cast_slice(values)).unwrap();
    }

    /// A launch from this state on, of at most so many calls of the target.
    pub fn launch(
        &mut self,
        module: &Module,
        control: &Control,
        steps: u32,
        checks: Checks,
    ) -> LaunchReport {
        let sizes = &self.case.program.sizes;
        let at = DevicePointer(self.parameter.control);
        self.gpu.write(at, bytemuck::bytes_of(control)).unwrap();
        let config = LaunchConfig {
            dynamic_shared: sizes.shared_bytes,
            cooperative: true,
            cluster: None,
            ..LaunchConfig::linear(sizes.architecture.sm_count, THREADS)
        };
        let options = LaunchOptions {
            checks,
            mma: MmaMode::Fast,
            ..LaunchOptions::default()
        };
        let start = Instant::now();
        let parameter = abi::Program {
            rounds: steps,
            ..self.parameter
        };
        let bytes = bytemuck::bytes_of(&parameter);
        let report = self.gpu.launch(module, KERNEL, &config, bytes, &options);
        println!(
            "  {:.1} s on the virtual GPU",
            start.elapsed().as_secs_f64()
        );
        report.unwrap()
    }

    pub fn seen(&self) -> Seen {
        let mut words = [0u32; 32];
        let bytes = bytemuck::cast_slice_mut(&mut words);
        self.gpu.read(self.host, bytes).unwrap();
        Seen {
            tokens: words[10],
            length: words[11],
        }
    }

    /// K and V of a position of the target's cache (0) or the draft's (1): of every plane its row.
    pub fn position(&self, cache: usize, position: usize) -> Vec<u8> {
        let pool = self.parameter.kv[cache];
        let row = pool.row_bytes as usize;
        let mut rows = vec![0; pool.planes as usize * row];
        for (plane, bytes) in rows.chunks_mut(row).enumerate() {
            let page = self.pages[cache][position / KV_PAGE];
            let at = page + ((plane * KV_PAGE + position % KV_PAGE) * row) as u64;
            self.gpu.read(DevicePointer(at), bytes).unwrap();
        }
        rows
    }

    /// All positions of a cache.
    pub fn cache(&self, cache: usize) -> Vec<Vec<u8>> {
        let positions = 0..CONTEXT;
        positions.map(|at| self.position(cache, at)).collect()
    }
}

/// That a launch did what it should.
pub fn assert_good(report: &LaunchReport) {
    assert!(report.findings.is_empty(), "{}", report.findings[0]);
    assert!(report.completed);
}

/// Device memory written in pieces, so that the host holds it once.
pub fn filled(
    gpu: &mut Device,
    name: &str,
    bytes: u64,
    fill: &dyn Fn(u64, &mut [u8]),
) -> DevicePointer {
    let pointer = gpu.alloc_named(bytes.max(16) as usize, name).unwrap();
    fill_range(gpu, pointer, bytes, fill);
    pointer
}

/// Writes `bytes` bytes from there on.
pub fn fill_range(
    gpu: &mut Device,
    pointer: DevicePointer,
    bytes: u64,
    fill: &dyn Fn(u64, &mut [u8]),
) {
    const PIECE: u64 = 64 << 20;
    let mut piece = vec![0; PIECE.min(bytes) as usize];
    for at in (0..bytes).step_by(PIECE as usize) {
        let piece = &mut piece[..PIECE.min(bytes - at) as usize];
        fill(pointer.0 + at, piece);
        gpu.write(DevicePointer(pointer.0 + at), piece).unwrap();
    }
}

/// Numbers in every format, scales too: as bf16 and f16 their exponents are small, and no code of fp8 is NaN. Those from another
/// address are others.
pub fn weights(at: u64, bytes: &mut [u8]) {
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

/// Traffic of the statements that begin at lines of a header with `text`.
pub fn line(counters: &Counters, header: &str, text: &str) -> MemoryCounters {
    let headers = stheno_kernels::HEADERS.iter();
    let source = headers
        .filter(|(name, _)| *name == header)
        .map(|(_, text)| text);
    let lines = source.flat_map(|source| source.lines()).zip(1..);
    let lines = lines.filter(|(line, _)| line.contains(text));
    let numbers: Vec<u32> = lines.map(|(_, number)| number).collect();
    assert!(!numbers.is_empty(), "{header} has no `{text}`");
    let mut sum = MemoryCounters::default();
    let own = |file: &str| file.rsplit('/').next() == Some(header);
    let found = counters.lines.iter();
    for line in found.filter(|line| own(&line.file) && numbers.contains(&line.line)) {
        sum.add(&line.memory);
    }
    sum
}
