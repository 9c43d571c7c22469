//! The planner of the device's loop, `kernels/planner.cuh` in f32, against the host's: over whole histories of rounds both decide alike
//! how many levels to draft, how many nodes to verify, and when to pause. The loop is the program's own, `finish_call` on the
//! virtual GPU; what drafts say, what the target chooses and what calls take is drawn from a seed.
//!
//! Where the two sides of a comparison are within [`NEAR`] of each other rounding may decide, and the host then goes on as the device
//! did. What the context adds to a step is no part of this: the device knows a factor for all widths, the host seconds for each row
//! and position.

use super::super::StepCost;
use super::*;
use crate::draft::ngram::{ProposeOptions, SuffixIndex};
use bytemuck::{Pod, Zeroable};
use stheno_codegen::program::abi::{self, ChoosePhase, Control, NONE, ROW_LIMIT, TOP_LIMIT};
use support::{Gpu, SHARED_WITHOUT_PRODUCTS, Shape, Source, WITHOUT_PRODUCTS};
use virtual_gpu::{DevicePointer, LaunchOptions};

#[path = "../../../../kernels/tests/support/mod.rs"]
mod support;

#[path = "../../../../tests/device_choice/inputs.rs"]
#[allow(dead_code)]
mod inputs;

use inputs::Random;

/// Relative difference of rates that f32 may not tell apart: a few dozen roundings of 2^-24.
const NEAR: f64 = 3e-6;

/// Rounds of a history.
const ROUNDS: usize = 80;

/// Tokens known before the first round, and at which the generation would end.
const KNOWN: u32 = 4;
const LIMIT: u32 = 3000;

/// Rows of a step, and nodes that a draft may run for a tree.
const VERIFY_ROWS: usize = 64;

const VOCAB_SIZE: u32 = 1000;

/// A token that no draft says.
const UNSAID: u32 = 999;

/// The program of heads, or of a draft that is a model: neither has the code of the other.
fn source(is_heads: bool) -> Source {
    let sizes = [
        ("SEGMENT_PREFILL", 0),
        ("SEGMENT_TARGET", 1),
        ("SEGMENT_DRAFT_PREFILL", 2),
        ("SEGMENT_EXTEND", if is_heads { abi::NONE } else { 3 }),
        ("SEGMENT_DRAFT", 4),
        ("VOCAB_SIZE", VOCAB_SIZE),
        ("DRAFT_VOCAB_SIZE", 1000),
        ("PREFILL_ROWS", 64),
        ("VERIFY_ROWS", VERIFY_ROWS as u32),
        ("ROW_TILE_SET", 15),
    ];
    Source {
        name: "planner.cu",
        variant: String::new(),
        text: include_str!("../../../../kernels/tests/planner/planner.cu").into(),
        sizes: [&WITHOUT_PRODUCTS[..], &sizes].concat(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Levels cost a call each.
    Model,
    /// All levels come of one call.
    Heads,
    /// A chain that is drawn and verified whole.
    Drawn,
    /// A chain of what followed in the text itself.
    Lookup,
}

impl Kind {
    /// Whether a level takes a call of its own.
    fn has_levels(self) -> bool {
        matches!(self, Kind::Model | Kind::Drawn)
    }
}

/// A history.
struct Case {
    kind: Kind,
    costs: CostTable,
    /// By how much steps take longer than the device has measured.
    stretch: f64,
    topk: usize,
    levels: u32,
    /// Seconds of a draft's first call and of each one more.
    start: f32,
    level: f32,
    /// `[round][level]`, best first.
    lists: Vec<Vec<Vec<(u32, f32)>>>,
    /// `[round][level]`.
    targets: Vec<Vec<u32>>,
}

impl Case {
    fn random(random: &mut Random, kind: Kind) -> Case {
        // Of a row in seconds, so large that the instructions which the virtual clock counts are nothing beside it.
        let plain = 1000.0;
        let slope = random.pick(&[0.0, 0.003, 0.01, 0.03, 0.1, 0.4, 1.0]);
        let mut seconds = plain;
        let steps = (0..abi::COST_STEPS).map(|i| {
            let rows = 1 << i;
            // Not quite a line.
            seconds += plain * slope * f64::from(rows) * 0.5 * f64::from(0.5 + random.unit());
            StepCost {
                rows: rows as usize,
                seconds,
            }
        });
        let costs = CostTable::new(steps.collect());
        let topk = match kind {
            Kind::Model | Kind::Heads => costs.topk(0),
            Kind::Drawn | Kind::Lookup => 1,
        };
        let levels = if kind == Kind::Heads { 4 } else { DEEPEST };
        let start = random.pick(&[0.0, 0.02, 0.2, 0.7]) * plain as f32;
        let (mut right, mut tokens) = (0.0, 1);
        let (mut lists, mut targets) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            // Texts change.
            if round % 20 == 0 {
                right = random.pick(&[0.0, 0.05, 0.3, 0.6, 0.9, 0.98]);
                tokens = random.pick(&[1, 2, 3, 100]);
            }
            let (mut said, mut follows) = (Vec::new(), Vec::new());
            for _ in 0..levels {
                let sharpness = 0.2 + 4.0 * random.unit();
                let weights: Vec<f32> = (0..topk)
                    .map(|rank| (-(rank as f32) * sharpness).exp() * (0.8 + 0.2 * random.unit()))
                    .collect();
                let sum = weights.iter().sum::<f32>() * random.pick(&[1.1, 1.6, 5.0]);
                let mut list: Vec<(u32, f32)> = (weights.iter().zip(0..))
                    .map(|(w, rank)| (rank, (w / sum).ln()))
                    .collect();
                list.sort_by(|a, b| b.1.total_cmp(&a.1));
                let is_said = random.unit() < right;
                let rank = [0, 0, 0, topk / 2, topk - 1][random.below(5)];
                follows.push(match kind {
                    Kind::Lookup => random.below(tokens) as u32,
                    _ if is_said => list[rank].0,
                    _ => UNSAID,
                });
                said.push(list);
            }
            // After the last level.
            lists.push(said);
            targets.push(follows);
        }
        Case {
            kind,
            costs,
            stretch: random.pick(&[1.0, 1.0, 1.7]),
            topk,
            levels,
            start,
            level: match kind.has_levels() {
                true => random.pick(&[0.01, 0.05, 0.3]) * plain as f32,
                false => 0.0,
            },
            lists,
            targets,
        }
    }

    /// A generation whose first step is over the last known token alone.
    fn control(&self) -> Control {
        let mut control = Control::zeroed();
        control.pause_round = NONE;
        let generation = &mut control.generation;
        generation.mode = abi::MODE_GENERATE;
        (generation.length, generation.known, generation.begin) = (KNOWN - 1, KNOWN, KNOWN);
        generation.limit = LIMIT;
        generation.drafter = match self.kind {
            Kind::Heads => abi::DRAFTER_HEADS,
            Kind::Model | Kind::Drawn => abi::DRAFTER_MODEL,
            Kind::Lookup => abi::DRAFTER_LOOKUP,
        };
        if self.kind == Kind::Drawn {
            generation.acceptance = abi::ACCEPT_REJECTION;
        }
        (generation.levels, generation.topk) = (self.levels, self.topk as u32);
        generation.nodes = VERIFY_ROWS as u32;
        control.sampling.top_logprobs = NONE;
        (control.tree.nodes, control.tree.parents[0]) = (1, NONE);
        let call = &mut control.call;
        (call.segment, call.rows, call.row_tiles) = (1, 1, 1);
        (call.output_rows, call.output_tiles) = (1, 1);
        (call.length, call.chooses, call.expected) = (KNOWN - 1, abi::CHOOSES_TOKENS, NONE);
        (call.positions[0], call.parents[0]) = (KNOWN - 1, NONE);
        let measured = |i: usize| self.costs.seconds(1 << i, 0) / self.stretch;
        control.planner = abi::Planner {
            automatic: 1,
            steps: std::array::from_fn(|i| measured(i) as f32),
            level: match self.kind.has_levels() {
                true => 0.05 * self.costs.seconds(1, 0) as f32,
                false => 0.0,
            },
            stretch: self.stretch as f32,
            child_rate: 0.6,
            gain: 1.0,
            length: 16,
            behind: 1,
            ..abi::Planner::zeroed()
        };
        control
    }
}

/// `struct Trace` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Trace {
    nodes: u32,
    levels: u32,
    count: u32,
    drafted: f32,
    planner: abi::Planner,
}

/// `struct Case` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Placed {
    control: u64,
    workspace: u64,
    history: u64,
    followers: u64,
    host: u64,
    lists: u64,
    targets: u64,
    traces: u64,
    rounds: u32,
    levels: u32,
    start: f32,
    level: f32,
    phase: ChoosePhase,
}

fn place(gpu: &mut Gpu, case: &Case) -> Placed {
    let mut lists = Vec::new();
    for list in case.lists.iter().flatten() {
        let nothing = (NONE, f32::NEG_INFINITY);
        let entries = list.iter().copied().chain(std::iter::repeat(nothing));
        let entry = |(token, logprob)| abi::TopLogprob { token, logprob };
        lists.extend(entries.take(TOP_LIMIT).map(entry));
    }
    let phase = ChoosePhase {
        choices: 0,
        top: 16 * ROW_LIMIT as u32,
        ..ChoosePhase::zeroed()
    };
    let top = 8 * TOP_LIMIT * VERIFY_ROWS * case.levels as usize;
    let tokens = ROUNDS * (1 + case.levels as usize);
    let zeros = |gpu: &mut Gpu, bytes: usize| gpu.upload(&vec![0; bytes]).0;
    // After the last level the target says something that nobody guesses any more.
    let depth = case.levels as usize;
    let targets: Vec<u32> = case.targets.concat();
    assert_eq!(targets.len(), ROUNDS * depth);
    let mut padded = targets;
    padded.push(UNSAID);
    Placed {
        control: gpu.upload(bytemuck::bytes_of(&case.control())).0,
        workspace: zeros(gpu, 16 * ROW_LIMIT + top),
        history: zeros(gpu, 4 * (KNOWN as usize + tokens + ROW_LIMIT)),
        followers: zeros(gpu, 4 * VOCAB_SIZE as usize),
        host: zeros(gpu, 128 + 16 * tokens),
        lists: gpu.upload(bytemuck::cast_slice(&lists)).0,
        targets: gpu.upload(bytemuck::cast_slice(&padded)).0,
        traces: zeros(gpu, ROUNDS * size_of::<Trace>()),
        rounds: ROUNDS as u32,
        levels: case.levels,
        start: case.start,
        level: case.level,
        phase,
    }
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= NEAR * a.abs().max(b.abs())
}

/// The host's planner beside the device's.
struct Mirror<'a> {
    case: &'a Case,
    planner: Planner,
    known: u32,
    /// What lookup guesses from: the text without its last token, and that.
    text: SuffixIndex,
    root: u32,
    /// Decisions that rounding may have made.
    near: usize,
}

impl Mirror<'_> {
    /// Tokens for the time of the best `nodes` nodes of a tree, as [`Planner::best`] compares them.
    fn rate(&self, tree: &Tree, levels: u32, nodes: usize) -> f64 {
        let probabilities = self.planner.probabilities(tree);
        let mut order: Vec<usize> = (1..tree.len()).collect();
        order.sort_by(|&a, &b| tree.score(b).total_cmp(&tree.score(a)).then(a.cmp(&b)));
        let guesses = order[..nodes - 1].iter().map(|node| probabilities[*node]);
        let expected = 1.0 + guesses.sum::<f64>();
        let least = if nodes == 1 { LEAST_GAIN } else { 1.0 };
        least * expected / self.planner.round_seconds(nodes, levels)
    }

    /// Whether `goes_on`, which the device has decided, is what these rates say.
    fn check(&mut self, (now, deeper): (f64, f64), goes_on: bool, place: &str) {
        if (deeper > now) == goes_on {
            return;
        }
        assert!(
            is_near(now, deeper),
            "{place}: {now} {deeper}, and on: {goes_on}"
        );
        self.near += 1;
    }

    /// The `nodes` nodes that the device has verified, and the host would have.
    fn pruned(&mut self, tree: &Tree, levels: u32, nodes: usize, place: &str) -> Tree {
        let pruned = self.planner.prune(tree, levels);
        if pruned.len() == nodes {
            return pruned;
        }
        let [own, other] = [pruned.len(), nodes].map(|n| self.rate(tree, levels, n));
        assert!(
            is_near(own, other),
            "{place}: {} nodes instead of {nodes}",
            pruned.len()
        );
        self.near += 1;
        tree.retain_top(nodes)
    }

    /// The tree of a round that the device has drafted `levels` levels for and verified `nodes` nodes of.
    fn tree(&mut self, round: usize, levels: u32, nodes: usize, place: &str) -> Tree {
        let case = self.case;
        let lists = &case.lists[round];
        if case.kind == Kind::Lookup {
            let options = ProposeOptions {
                max_depth: self.planner.levels(),
                topk: 1,
                max_nodes: self.planner.nodes(),
                min_match: 1,
            };
            let tree = self.text.propose(self.root, &options).unwrap();
            return self.pruned(&tree, 1, nodes, place);
        }
        if case.kind == Kind::Drawn {
            let mut tree = Tree::new(0);
            for (node, list) in lists.iter().take(levels as usize).enumerate() {
                let (token, logprob) = list[0];
                tree.push(node, token, tree.score(node) + logprob.min(0.0))
                    .unwrap();
                let depth = node as u32 + 1;
                if depth < self.planner.levels() && tree.len() < self.planner.nodes() {
                    let rates = self.planner.drawn_rates(&tree, depth);
                    self.check(rates, depth < levels, place);
                } else {
                    assert_eq!(depth, levels, "{place}");
                }
            }
            assert_eq!(tree.len(), nodes, "{place}");
            return tree;
        }
        let mut tree = DynamicTree::new(0, case.topk);
        tree.seed(&lists[0]).unwrap();
        let mut rows = 0;
        loop {
            let width = tree.frontier().len();
            let so_far = tree.finish(self.planner.nodes()).unwrap();
            // What the draft's cache has room for: a bound of the program.
            let has_room = case.kind == Kind::Heads || rows + width <= ROW_LIMIT;
            if tree.levels() < self.planner.levels() && has_room {
                let best = self.planner.best(&so_far, tree.levels());
                let frontier = tree.frontier().iter().map(|node| (node.score, node.depth));
                let rates = self.planner.rates(best, tree.levels(), frontier);
                self.check(rates, tree.levels() < levels, place);
            } else {
                assert_eq!(tree.levels(), levels, "{place}");
            }
            if tree.levels() == levels {
                return self.pruned(&so_far, levels, nodes, place);
            }
            rows += width;
            let list = lists[tree.levels() as usize].clone();
            tree.expand(&vec![list; width]).unwrap();
        }
    }

    fn round(&mut self, round: usize, trace: &Trace, place: &str) {
        let case = self.case;
        let limits = Limits {
            levels: (LIMIT - self.known - 1).min(case.levels),
            nodes: VERIFY_ROWS,
            // Without them the host has no context to correct for.
            positions: 0,
        };
        // The prompt's last token has nobody's guesses after it.
        let drafts = round > 0 && self.planner.begin(limits);
        let is_lookup = case.kind == Kind::Lookup;
        let has_levels = drafts && !is_lookup;
        assert_eq!(
            trace.levels > 0,
            has_levels,
            "{place}: {} levels",
            trace.levels
        );
        let verify = Duration::from_secs_f64(case.costs.seconds(trace.nodes as usize, 0));
        let mut count = 1;
        let tree = drafts.then(|| self.tree(round, trace.levels, trace.nodes as usize, place));
        // A round for which the text has no guess is one that nobody was asked in.
        if let Some(tree) = tree.filter(|tree| !is_lookup || tree.len() > 1) {
            let mut path = vec![0];
            for target in &case.targets[round] {
                let Some(child) = tree.child(path[path.len() - 1] as usize, *target) else {
                    break;
                };
                path.push(child as u32);
            }
            count = path.len() as u32;
            self.planner.observe(&Observation {
                tree: &tree,
                path: &path,
                draft: Duration::from_secs_f64(trace.drafted.into()),
                levels: match case.kind.has_levels() {
                    true => trace.levels,
                    false => 1,
                },
                verify,
            });
        } else {
            assert_eq!(trace.nodes, 1, "{place}");
            self.planner.observe_plain(verify);
        }
        assert_eq!(trace.count, count, "{place}");
        self.known += count;
        let follows = case.targets[round..].iter().flatten();
        for &token in follows.take(count as usize) {
            self.text.push(std::mem::replace(&mut self.root, token));
        }
        self.compare(trace, place);
    }

    /// What both have learnt.
    fn compare(&self, trace: &Trace, place: &str) {
        let (own, found) = (&self.planner, &trace.planner);
        let close = |name: &str, a: f64, b: f32| {
            let b = f64::from(b);
            assert!(
                (a - b).abs() <= 1e-4 * a.abs().max(b.abs()).max(1e-3),
                "{place}: {name} is {b} instead of {a}"
            );
        };
        close("start", own.draft.start, found.start);
        close("level", own.draft.level, found.level);
        close("child_rate", own.child_rate, found.child_rate);
        close("gain", own.pause.gain, found.gain);
        close("stretch", self.case.stretch, found.stretch);
        assert_eq!(own.pause.rounds, found.rounds, "{place}");
        assert_eq!(own.pause.length, found.length, "{place}");
        // The device takes a round off a pause where the round before it ends.
        assert_eq!(own.pause.left.saturating_sub(1), found.left, "{place}");
    }
}

#[test]
fn the_loop_on_a_device_decides_as_the_host() {
    let mut random = Random::new(77);
    let kinds = [
        Kind::Model,
        Kind::Model,
        Kind::Heads,
        Kind::Drawn,
        Kind::Lookup,
    ];
    let cases: Vec<Case> = (0..40)
        .map(|i| Case::random(&mut random, kinds[i % 5]))
        .collect();
    let mut gpu = Gpu::new(cases.len() as u32);
    let placed: Vec<Placed> = cases.iter().map(|case| place(&mut gpu, case)).collect();
    for is_heads in [false, true] {
        let of_kind = cases.iter().zip(&placed);
        let of_kind = of_kind.filter(|(case, _)| (case.kind == Kind::Heads) == is_heads);
        let of_kind: Vec<Placed> = of_kind.map(|(_, placed)| *placed).collect();
        let parameter = gpu.upload(bytemuck::cast_slice(&of_kind)).0.to_le_bytes();
        let shape = Shape {
            blocks: of_kind.len() as u32,
            threads: 256,
            shared: SHARED_WITHOUT_PRODUCTS,
        };
        gpu.launch(
            &source(is_heads).loose_module(80),
            "play",
            shape,
            &parameter,
            &LaunchOptions::default(),
        );
    }
    let mut looked_up = 0;
    let (mut near, mut drafted, mut pauses, mut deep, mut wide, mut nothing) = (0, 0, 0, 0, 0, 0);
    for (number, (case, placed)) in cases.iter().zip(&placed).enumerate() {
        let bytes = gpu.download(DevicePointer(placed.traces), ROUNDS * size_of::<Trace>());
        let control = gpu.download(DevicePointer(placed.control), size_of::<Control>());
        let times = bytemuck::pod_read_unaligned::<Control>(&control).times;
        let (mut draft, mut verify) = (0.0, 0.0);
        let mut planner = Planner::new(Policy::Automatic, case.costs.clone());
        if !case.kind.has_levels() {
            planner.draft.level = 0.0;
        }
        let mut mirror = Mirror {
            case,
            planner,
            known: KNOWN,
            text: SuffixIndex::default(),
            root: 0,
            near: 0,
        };
        mirror.text.extend(&[0; KNOWN as usize - 1]);
        for (round, bytes) in bytes.chunks_exact(size_of::<Trace>()).enumerate() {
            let trace: Trace = bytemuck::pod_read_unaligned(bytes);
            mirror.round(
                round,
                &trace,
                &format!("case {number}, {:?}, round {round}", case.kind),
            );
            draft += f64::from(trace.drafted);
            verify += case.costs.seconds(trace.nodes as usize, 0);
            if case.kind == Kind::Lookup {
                looked_up += usize::from(trace.nodes > 1);
                continue;
            }
            drafted += usize::from(trace.levels > 0);
            pauses += usize::from(round > 0 && trace.levels == 0);
            deep += usize::from(trace.levels > 4);
            wide += usize::from(trace.nodes > trace.levels + 1);
            nothing += usize::from(trace.levels > 0 && trace.nodes == 1);
        }
        near += mirror.near;
        // What the loop adds up for the host.
        let seconds = [times.draft, times.verify].map(|time| time as f64 * 1e-9);
        let is_close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b;
        assert!(
            is_close(seconds[0], draft) && is_close(seconds[1], verify),
            "case {number}: {times:?}, {draft}, {verify}"
        );
        assert!(times.accept > 0, "case {number}");
    }
    let seen = format!(
        "{looked_up} rounds looked up, {drafted} drafted, {pauses} paused, {deep} deep, {wide} wide, {nothing} that verified no guess, {near} near ties"
    );
    println!("{seen}");
    assert!(
        looked_up > 100 && drafted > 500 && pauses > 200 && deep > 30 && wide > 100 && nothing > 10,
        "{seen}"
    );
    assert!(30 * near < drafted, "{seen}");
}
