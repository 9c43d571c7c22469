//! Typical acceptance by the kernel against [`TypicalParams::accept`]: equal logits give the same path, the same token after it and
//! the same bits of log-probabilities.

use crate::inputs::{Kind, Random};
use crate::support::{Gpu, SHARED_WITHOUT_PRODUCTS, Shape, Source, WITHOUT_PRODUCTS};
use bytemuck::Zeroable;
use stheno::speculation::Tree;
use stheno::speculation::acceptance::{TypicalParams, TypicalPosterior};
use stheno::speculation::sampling::{Logprobs, math};
use stheno_codegen::program::abi::{ChoosePhase, Control, NONE, TOP_LIMIT};
use virtual_gpu::{DevicePointer, LaunchOptions};

fn source() -> Source {
    Source {
        name: "typical.cu",
        variant: String::new(),
        text: include_str!("../../kernels/tests/typical/typical.cu").into(),
        sizes: [
            &WITHOUT_PRODUCTS[..],
            &[("SEGMENT_PREFILL", 0), ("SEGMENT_TARGET", 1)],
        ]
        .concat(),
    }
}

struct Case {
    params: TypicalParams,
    temperature: f32,
    /// Whether log-probabilities are wanted.
    lists: bool,
    tree: Tree,
    /// Of each node, `[vocab_size]`.
    logits: Vec<Vec<f32>>,
}

impl Case {
    fn random(random: &mut Random, vocab_size: usize) -> Case {
        let any = random.unit();
        let params = TypicalParams {
            posterior_threshold: random.pick(&[0.09, 0.0, 1.0, 0.01, any]),
            posterior_alpha: random.pick(&[0.3, 0.0, 2.0, 1.0, 0.05]),
        };
        let mut tree = Tree::new(random.below(vocab_size) as u32);
        // Deep as often as wide.
        let back = random.pick(&[1, 3, 64]);
        for _ in 0..random.pick(&[0, 1, 6, 20, 50]) {
            let parent = tree.len() - 1 - random.below(tree.len().min(back));
            let _ = tree.push(parent, random.below(vocab_size) as u32, -1.0);
        }
        let kind = random.pick(&[
            Kind::Model,
            Kind::Model,
            Kind::Ties,
            Kind::Close,
            Kind::Equal,
            Kind::Tiny,
        ]);
        let mut logits = |_| {
            let mut logits = kind.logits(random, vocab_size);
            if random.one_in(4) {
                logits[0] = random.pick(&[f32::NAN, f32::NEG_INFINITY, -0.0]);
                logits[vocab_size - 1] = 2.5;
            }
            // Few values make paths that are equally likely.
            let coarse = random.one_in(3);
            logits
                .iter_mut()
                .for_each(|l| *l = if coarse { l.round() } else { *l });
            logits
        };
        let logits = (0..tree.len()).map(&mut logits).collect();
        let warm = 0.2 + 2.0 * random.unit();
        Case {
            params,
            temperature: random.pick(&[0.0, 1.0, 0.7, warm, 1e-45, 1e-20, 1e31]),
            lists: random.one_in(2),
            tree,
            logits,
        }
    }

    fn control(&self) -> Control {
        let mut control = Control::zeroed();
        control.generation.posterior_threshold = self.params.posterior_threshold;
        control.generation.posterior_alpha = self.params.posterior_alpha;
        control.sampling.temperature = self.temperature;
        control.sampling.top_logprobs = if self.lists { 2 } else { NONE };
        let rows = self.tree.len();
        (control.call.rows, control.call.output_rows) = (rows as u32, rows as u32);
        for (row, parent) in self.tree.parents().into_iter().enumerate() {
            control.call.tokens[row] = self.tree.token(row);
            control.call.parents[row] = parent.unwrap_or(NONE);
            control.call.outputs[row] = row as u32;
        }
        control
    }
}

/// What of a case lies where.
struct Placed {
    control: DevicePointer,
    choices: DevicePointer,
    goal: DevicePointer,
    bytes: Vec<u8>,
}

fn place(gpu: &mut Gpu, case: &Case) -> Placed {
    let (vocab_size, rows) = (case.logits[0].len(), case.tree.len());
    let mut size = 0u32;
    let mut reserve = |bytes: usize| {
        let at = size;
        size += bytes.next_multiple_of(16) as u32;
        at
    };
    let phase = ChoosePhase {
        logits: reserve(4 * vocab_size * rows),
        vocab_size: vocab_size as u32,
        best: NONE,
        choices: reserve(16 * rows),
        top: reserve(8 * TOP_LIMIT * rows),
        candidates: reserve(8 * vocab_size * rows),
        adjusted: NONE,
        head: 0,
        listed: NONE,
        unused: 0,
    };
    let workspace = gpu.alloc(size as usize);
    let logits: Vec<f32> = case.logits.concat();
    gpu.write(workspace, bytemuck::cast_slice(&logits));
    let control = gpu.upload(bytemuck::bytes_of(&case.control()));
    let goal = gpu.alloc(16);
    let mut bytes = Vec::new();
    for pointer in [control.0, workspace.0, goal.0] {
        bytes.extend(pointer.to_le_bytes());
    }
    bytes.extend(bytemuck::bytes_of(&phase));
    let choices = DevicePointer(workspace.0 + u64::from(phase.choices));
    Placed {
        control,
        choices,
        goal,
        bytes,
    }
}

fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes[4 * index..][..4].try_into().unwrap())
}

#[test]
fn paths_are_those_of_the_host() {
    let mut random = Random::new(21);
    let mut cases: Vec<Case> = Vec::new();
    for (vocab_size, count) in [(3, 50), (4, 50), (65, 8), (130, 4), (1001, 1)] {
        cases.extend((0..count).map(|_| Case::random(&mut random, vocab_size)));
    }
    let mut gpu = Gpu::new(cases.len() as u32);
    let placed: Vec<Placed> = cases.iter().map(|case| place(&mut gpu, case)).collect();
    let bytes: Vec<u8> = placed.iter().flat_map(|p| p.bytes.clone()).collect();
    let parameter = gpu.upload(&bytes).0.to_le_bytes();
    let shape = Shape {
        blocks: cases.len() as u32,
        threads: 256,
        shared: SHARED_WITHOUT_PRODUCTS,
    };
    let module = source().module(80);
    gpu.launch(
        &module,
        "judge_cases",
        shape,
        &parameter,
        &LaunchOptions::default(),
    );
    let (mut deep, mut branches, mut ties) = (0, 0, 0);
    for (number, (case, placed)) in cases.iter().zip(&placed).enumerate() {
        let tree = &case.tree;
        let logits = |node: usize| case.logits[node].as_slice();
        let expected = case.params.accept(tree, case.temperature, logits).unwrap();
        let place = format!(
            "case {number}: {:?}, {} nodes, temperature {}",
            case.params,
            tree.len(),
            case.temperature
        );
        let goal = word(&gpu.download(placed.goal, 4), 0) as usize;
        let choices = gpu.download(placed.choices, 16 * tree.len());
        let found = gpu.download(placed.control, size_of::<Control>());
        let found: Control = bytemuck::pod_read_unaligned(&found);
        assert_eq!(goal, expected.node, "{place}");
        assert_eq!(word(&choices, 4 * goal), expected.bonus, "{place}");
        for node in 0..tree.len() {
            let posterior =
                TypicalPosterior::new(&case.params, logits(node), case.temperature).unwrap();
            for child in tree.children(node) {
                let token = tree.token(child);
                let score = match posterior.accepts(token) {
                    true => math::log(posterior.probability(token)),
                    false => f32::NEG_INFINITY,
                };
                assert_eq!(
                    found.judged[child].score.to_bits(),
                    score.to_bits(),
                    "{place}, node {child}"
                );
                let logprob = Logprobs::new(logits(node), token, 0).chosen.logprob;
                let own = found.judged[child].logprob.to_bits();
                assert!(
                    !case.lists || own == logprob.to_bits(),
                    "{place}, node {child}"
                );
            }
            let best = word(&choices, 4 * node);
            let logprob = Logprobs::new(logits(node), best, 0).chosen.logprob;
            let own = word(&choices, 4 * node + 2);
            assert!(
                !case.lists || own == logprob.to_bits(),
                "{place}, node {node}"
            );
        }
        deep += usize::from(tree.depth(goal) > 1);
        branches += usize::from(tree.path(goal).iter().zip(0..).any(|(node, i)| *node != i));
        // Another path as long and as likely.
        let sum = |node: usize| {
            let path = tree.path(node).into_iter().skip(1);
            path.fold(0.0, |sum, row| sum + found.judged[row as usize].score)
        };
        let is_rival = |node: &usize| {
            *node != goal && tree.depth(*node) == tree.depth(goal) && sum(*node) == sum(goal)
        };
        ties += usize::from((1..tree.len()).any(|node| is_rival(&node)));
    }
    assert!(
        deep > 20 && branches > 15 && ties > 1,
        "{deep} {branches} {ties}"
    );
}
