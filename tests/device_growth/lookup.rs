//! What lookup guesses, against [`SuffixIndex`]: the same chains with the same bits of scores.

use crate::inputs::Random;
use crate::support::{Gpu, SHARED_WITHOUT_PRODUCTS, Shape, Source, WITHOUT_PRODUCTS};
use bytemuck::Zeroable;
use stheno::draft::ngram::{ProposeOptions, SuffixIndex};
use stheno::speculation::Tree;
use stheno_codegen::program::abi::Control;
use virtual_gpu::LaunchOptions;

const VOCAB_SIZE: u32 = 500;

const VERIFY_ROWS: u32 = 64;

fn source() -> Source {
    Source {
        name: "lookup.cu",
        variant: String::new(),
        text: include_str!("../../kernels/tests/lookup/lookup.cu").into(),
        sizes: [
            &WITHOUT_PRODUCTS[..],
            &[
                ("SEGMENT_PREFILL", 0),
                ("SEGMENT_TARGET", 1),
                ("VERIFY_ROWS", VERIFY_ROWS),
            ],
        ]
        .concat(),
    }
}

struct Case {
    /// Text and root.
    history: Vec<u32>,
    limit: u32,
    nodes: u32,
}

impl Case {
    /// Of few tokens, many or hardly any in a row that stood in a row before.
    fn random(random: &mut Random) -> Case {
        let tokens = random.pick(&[1, 2, 3, 8, 100]);
        let most = random.pick(&[4, 40, 400]);
        let length = 1 + random.below(most);
        let mut history: Vec<u32> = Vec::new();
        while history.len() < length {
            if random.below(3) == 0 && history.len() > 2 {
                // Copies reach into themselves, as periods do.
                let from = random.below(history.len());
                for i in 0..random.below(60) {
                    history.push(history[from + i]);
                }
            } else {
                history.push(random.below(tokens) as u32 * 7 % VOCAB_SIZE);
            }
        }
        history.truncate(length);
        Case {
            history,
            limit: random.below(80) as u32,
            nodes: 1 + random.below(64) as u32,
        }
    }

    /// As the host makes it.
    fn expected(&self) -> Tree {
        let (root, text) = self.history.split_last().unwrap();
        let mut index = SuffixIndex::default();
        index.extend(text);
        let options = ProposeOptions {
            max_depth: self.limit,
            topk: 1,
            max_nodes: self.nodes.min(VERIFY_ROWS) as usize,
            min_match: 1,
        };
        index.propose(*root, &options).unwrap()
    }
}

/// The trees that blocks of the virtual GPU make.
fn chains(cases: &[Case], seed: u64) -> Vec<Control> {
    let mut gpu = Gpu::new(cases.len() as u32);
    let mut parameters = Vec::new();
    let mut places = Vec::new();
    // What was counted before does not matter.
    let followers = vec![3u32; VOCAB_SIZE as usize];
    for case in cases {
        let mut control = Control::zeroed();
        control.generation.nodes = case.nodes;
        let control = gpu.upload(bytemuck::bytes_of(&control));
        // Whole vectors are read.
        let mut history = case.history.clone();
        history.resize(history.len().next_multiple_of(4), 0);
        let history = gpu.upload(bytemuck::cast_slice(&history));
        let followers = gpu.upload(bytemuck::cast_slice(&followers));
        parameters.extend([control.0, history.0, followers.0]);
        parameters.push(u64::from(case.limit) << 32 | case.history.len() as u64);
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
    let module = source().module(80);
    gpu.launch(&module, "guess_cases", shape, &parameter, &options);
    let read = |place| bytemuck::pod_read_unaligned(&gpu.download(place, size_of::<Control>()));
    places.into_iter().map(read).collect()
}

#[test]
fn chains_are_those_of_the_host() {
    let mut random = Random::new(11);
    let mut cases: Vec<Case> = (0..150).map(|_| Case::random(&mut random)).collect();
    // More places than there is room for, few of which match far.
    let mut crowded = || (0..7000).map(|_| random.below(3) as u32).collect();
    cases.extend([30, 3].map(|limit| Case {
        history: crowded(),
        limit,
        nodes: 64,
    }));
    let mut deepest = 0;
    for seed in 0..2 {
        for (number, (case, control)) in cases.iter().zip(chains(&cases, seed)).enumerate() {
            let (tree, found) = (case.expected(), control.tree);
            let place = format!(
                "case {number}: {} tokens, at most {} guesses and {} nodes",
                case.history.len(),
                case.limit,
                case.nodes
            );
            assert_eq!(found.nodes as usize, tree.len(), "{place}");
            let guesses = 1..tree.len();
            assert_eq!(
                &found.tokens[guesses.clone()],
                &tree.tokens()[guesses.clone()],
                "{place}"
            );
            for node in guesses {
                assert_eq!(found.parents[node], node as u32 - 1, "{place}");
                let score = tree.score(node);
                assert_eq!(found.scores[node].to_bits(), score.to_bits(), "{place}");
            }
            deepest = deepest.max(tree.len());
        }
    }
    assert!(deepest > 50);
}

/// Where even the longest match has more places than are kept, the latest count.
#[test]
fn too_many_places_are_the_latest_ones() {
    let mut history = vec![1; 5000];
    history.extend(vec![2; 2500]);
    let last = *history.last().unwrap();
    let cases = [history, vec![1; 9000]].map(|history| Case {
        history,
        limit: 40,
        nodes: 64,
    });
    let found = chains(&cases, 0);
    assert_eq!((found[0].tree.nodes, found[1].tree.nodes), (41, 41));
    assert!(found[0].tree.tokens[1..41].iter().all(|t| *t == last));
    assert!(found[1].tree.tokens[1..41].iter().all(|t| *t == 1));
    // All places that are left are followed by the same.
    let one = (2048.0f32 / (2048.0 + 2.0 / 31.0)).ln();
    assert!((found[1].tree.scores[1] - one).abs() < 1e-6);
}
