//! Trees that the kernel makes out of a draft's lists, on the virtual GPU with all checks, against [`DynamicTree`] and [`Choices`]: the
//! same nodes in the same order with the same bits of scores, however many score the same. What a draft's logits are listed as, what
//! lookup guesses, what typical acceptance takes of trees, and what rejection sampling draws, decides and emits.

#[path = "device_growth/distribution.rs"]
mod distribution;
#[path = "device_choice/inputs.rs"]
#[allow(dead_code)]
mod inputs;
#[path = "device_growth/likeliest.rs"]
mod likeliest;
#[path = "device_growth/lookup.rs"]
mod lookup;
#[path = "device_growth/rejection.rs"]
mod rejection;
#[path = "../kernels/tests/support/mod.rs"]
mod support;
#[path = "device_growth/typical.rs"]
mod typical;

use bytemuck::Zeroable;
use inputs::Random;
use stheno::speculation::{Choices, DynamicTree, Tree};
use stheno_codegen::program::abi::{Control, NONE, StaticTree, TOP_LIMIT};
use support::{Gpu, SHARED_WITHOUT_PRODUCTS, Shape, Source, WITHOUT_PRODUCTS};
use virtual_gpu::LaunchOptions;

const VOCAB_SIZE: u32 = 500;

const VERIFY_ROWS: u32 = 4;

fn source() -> Source {
    Source {
        name: "growth.cu",
        variant: String::new(),
        text: include_str!("../kernels/tests/growth/growth.cu").into(),
        sizes: [
            &WITHOUT_PRODUCTS[..],
            &[
                ("SEGMENT_PREFILL", 0),
                ("SEGMENT_TARGET", 1),
                ("VOCAB_SIZE", VOCAB_SIZE),
                ("VERIFY_ROWS", VERIFY_ROWS),
            ],
        ]
        .concat(),
    }
}

/// What a draft says of a node: tokens and log-probabilities, best first.
type List = Vec<(u32, f32)>;

struct Case {
    topk: usize,
    nodes: u32,
    /// Ranks of a static tree; it grows without them.
    choices: Option<Choices>,
    /// Of a static tree, that it is cut to.
    levels: usize,
    /// `[level][node of the frontier]`; of a static tree `[head][row]`, of which the first counts.
    lists: Vec<Vec<List>>,
}

impl Case {
    fn random(random: &mut Random) -> Case {
        let topk = random.pick(&[1, 2, 3, 8, TOP_LIMIT]);
        // Few values make many ties; some are 0, above it by rounding, or nothing at all.
        let values: &[f32] = match random.below(3) {
            0 => &[-0.5],
            1 => &[0.0, 1e-7, -0.25, -0.25, -3.0, f32::NEG_INFINITY],
            _ => &[
                -0.01,
                -0.3,
                -0.9,
                -1.7,
                -2.2,
                -4.5,
                -8.25,
                -11.0,
                -30.0,
                f32::MIN,
            ],
        };
        let list = |random: &mut Random| -> List {
            let mut values: Vec<f32> = (0..topk).map(|_| random.pick(values)).collect();
            values.sort_by(|a, b| b.total_cmp(a));
            // Some ids are none of the target's.
            let first = random.below(VOCAB_SIZE as usize + 20) as u32;
            (first..).step_by(7).zip(values).collect()
        };
        let levels = 1 + random.below(6);
        let level = |random: &mut Random| (0..TOP_LIMIT).map(|_| list(random)).collect();
        Case {
            topk,
            nodes: 2 + random.below(63) as u32,
            choices: None,
            levels,
            lists: (0..levels).map(|_| level(random)).collect(),
        }
    }

    /// Of a static tree, or the root alone, whose heads know all that it takes.
    fn fixed(random: &mut Random) -> Case {
        let depth = 1 + random.below(6);
        let ranks = random.pick(&[1, 3, 10, TOP_LIMIT]);
        let mut paths: Vec<Vec<u32>> = Vec::new();
        for _ in 0..random.below(90) {
            let mut path = match random.below(paths.len() + 1).checked_sub(1) {
                Some(parent) => paths[parent].clone(),
                None => Vec::new(),
            };
            path.push(random.below(ranks) as u32);
            if path.len() <= depth && !paths.contains(&path) && paths.len() + 1 < Tree::MAX_NODES {
                paths.push(path);
            }
        }
        let values: &[f32] = match random.below(2) {
            0 => &[-0.5],
            _ => &[0.0, -0.01, -0.3, -0.3, -1.7, -4.5, -11.0, -30.0],
        };
        let list = |random: &mut Random| -> List {
            let mut values: Vec<f32> = (0..TOP_LIMIT).map(|_| random.pick(values)).collect();
            values.sort_by(|a, b| b.total_cmp(a));
            let first = random.below(VOCAB_SIZE as usize - 7 * TOP_LIMIT) as u32;
            (first..).step_by(7).zip(values).collect()
        };
        let head = |random: &mut Random| (0..VERIFY_ROWS).map(|_| list(random)).collect();
        Case {
            topk: ranks,
            nodes: 2 + random.below(63) as u32,
            choices: Some(Choices::from_paths(paths).unwrap()),
            levels: 1 + random.below(depth),
            lists: (0..depth).map(|_| head(random)).collect(),
        }
    }

    fn static_tree(&self) -> StaticTree {
        let mut tree = StaticTree::zeroed();
        let Some(choices) = &self.choices else {
            return tree;
        };
        (tree.nodes, tree.levels) = (choices.nodes() as u32, choices.depth());
        for (i, path) in choices.paths().iter().enumerate() {
            tree.parents[i + 1] = choices.parents()[i + 1].unwrap() as u8;
            tree.ranks[i + 1] = path[path.len() - 1] as u8;
            tree.depths[i + 1] = path.len() as u8;
        }
        tree
    }

    fn expected(&self) -> Tree {
        if let Some(choices) = &self.choices {
            let heads: Vec<List> = self.lists.iter().map(|head| head[0].clone()).collect();
            let tree = choices.fill(7, &heads).unwrap();
            let tree = tree.truncate_depth(self.levels as u32);
            return tree.retain_top(self.nodes as usize);
        }
        let known = |list: &List| -> List {
            let known = list.iter().copied();
            known
                .filter(|(token, logprob)| *token < VOCAB_SIZE && *logprob > f32::NEG_INFINITY)
                .collect()
        };
        let mut tree = DynamicTree::new(7, self.topk);
        tree.seed(&known(&self.lists[0][0])).unwrap();
        for level in &self.lists[1..] {
            let nodes = level.iter().take(tree.frontier().len());
            tree.expand(&nodes.map(known).collect::<Vec<_>>()).unwrap();
        }
        tree.finish(self.nodes as usize).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for list in self.lists.iter().flatten() {
            let nothing = (NONE, f32::NEG_INFINITY);
            for (token, logprob) in list
                .iter()
                .copied()
                .chain(std::iter::repeat(nothing))
                .take(TOP_LIMIT)
            {
                bytes.extend(token.to_le_bytes());
                bytes.extend(logprob.to_bits().to_le_bytes());
            }
        }
        bytes
    }
}

#[test]
fn trees_are_those_of_the_host() {
    let mut random = Random::new(5);
    let mut cases: Vec<Case> = (0..120).map(|_| Case::random(&mut random)).collect();
    cases.extend((0..40).map(|_| Case::fixed(&mut random)));
    for seed in 0..3 {
        let mut gpu = Gpu::new(cases.len() as u32);
        let mut parameters = Vec::new();
        let mut places = Vec::new();
        for case in &cases {
            let mut control = Control::zeroed();
            control.generation.topk = case.topk as u32;
            control.static_tree = case.static_tree();
            control.tree.tokens[0] = 7;
            control.tree.parents[0] = NONE;
            let control = gpu.upload(bytemuck::bytes_of(&control));
            let lists = gpu.upload(&case.bytes());
            parameters.extend([control.0, lists.0]);
            parameters.push(u64::from(case.nodes) << 32 | case.levels as u64);
            places.push(control);
        }
        let cases_at = gpu.upload(bytemuck::cast_slice(&parameters));
        let shape = Shape {
            blocks: cases.len() as u32,
            threads: 256,
            shared: SHARED_WITHOUT_PRODUCTS,
        };
        let options = LaunchOptions {
            seed,
            ..Default::default()
        };
        let parameter = cases_at.0.to_le_bytes();
        gpu.launch(
            &source().module(80),
            "grow_cases",
            shape,
            &parameter,
            &options,
        );
        for (number, (case, place)) in cases.iter().zip(places).enumerate() {
            let bytes = gpu.download(place, size_of::<Control>());
            let control: Control = bytemuck::pod_read_unaligned(&bytes);
            let (tree, found) = (case.expected(), control.tree);
            let place = format!(
                "case {number}: top-k {}, {} levels, {:?}",
                case.topk, case.levels, case.choices
            );
            assert_eq!(found.nodes as usize, tree.len(), "{place}");
            let nodes = 0..tree.len();
            let parents = tree.parents().into_iter();
            let parents: Vec<u32> = parents.map(|parent| parent.unwrap_or(NONE)).collect();
            assert_eq!(&found.tokens[nodes.clone()], tree.tokens(), "{place}");
            assert_eq!(&found.parents[nodes.clone()], parents, "{place}");
            let bits = |score: f32| score.to_bits();
            assert_eq!(
                found.scores[nodes.clone()]
                    .iter()
                    .copied()
                    .map(bits)
                    .collect::<Vec<_>>(),
                nodes.map(|node| bits(tree.score(node))).collect::<Vec<_>>(),
                "{place}"
            );
            assert_eq!(found.levels, tree.max_depth(), "{place}");
        }
    }
}
