use super::*;
use crate::speculation::sampling::{math, philox};
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn index_of(tokens: &[u32], max_match: usize) -> SuffixIndex {
    let mut index = SuffixIndex::new(max_match);
    index.extend(tokens);
    index
}

/// Where each occurrence of `needle` ends.
fn ends(text: &[u32], needle: &[u32]) -> Vec<usize> {
    (needle.len()..=text.len())
        .filter(|&end| text[end - needle.len()..end] == *needle)
        .collect()
}

/// The last `length` tokens of the text with `path` after it.
fn tail(text: &[u32], path: &[u32], length: usize) -> Vec<u32> {
    let whole = [text, path].concat();
    whole[whole.len() - length..].to_vec()
}

fn naive_match(text: &[u32], last: u32, max_len: usize) -> Option<Match> {
    (1..=max_len.min(text.len() + 1)).rev().find_map(|length| {
        let ends = ends(text, &tail(text, &[last], length));
        let &end = ends.last()?;
        Some(Match {
            length,
            count: ends.len(),
            end,
        })
    })
}

/// (token, score of it below `base`) of the children of the node that `path` leads to, in their order.
fn naive_children(
    text: &[u32],
    path: &[u32],
    base: f32,
    max_match: usize,
    options: &ProposeOptions,
) -> Vec<(u32, f32)> {
    let mut children: Vec<(u32, f32)> = Vec::new();
    let mut known: Vec<u32> = Vec::new();
    let mut base = base;
    let longest = (max_match - 1).min(text.len() + path.len());
    // A context counts only if it occurred in the text with all of the path.
    for length in (options.min_match.max(1)..=longest).rev() {
        let needle = tail(text, path, length);
        let mut followed: Vec<(usize, usize, u32)> = Vec::new();
        for end in ends(text, &needle) {
            let Some(&token) = text.get(end) else {
                continue;
            };
            if known.contains(&token) {
                continue;
            }
            match followed.iter_mut().find(|entry| entry.2 == token) {
                Some(entry) => *entry = (entry.0 + 1, end, token),
                None => followed.push((1, end, token)),
            }
        }
        if followed.is_empty() {
            continue;
        }
        let total: usize = followed.iter().map(|entry| entry.0).sum();
        let escape = 2.0 / length as f32;
        let whole = total as f32 + escape;
        followed.sort_by(|a, b| b.cmp(a));
        for &(count, _, token) in followed.iter().take(options.topk - children.len()) {
            children.push((token, base + math::log(count as f32 / whole)));
        }
        known.extend(followed.iter().map(|entry| entry.2));
        base += math::log(escape / whole);
        if children.len() == options.topk {
            break;
        }
    }
    children
}

/// The best scores of all nodes that a proposal could have, largest first.
fn naive_scores(text: &[u32], root: u32, max_match: usize, options: &ProposeOptions) -> Vec<f32> {
    let mut open = vec![(0.0f32, vec![root])];
    let mut scores = Vec::new();
    while scores.len() < options.max_nodes && !open.is_empty() {
        let best = (0..open.len())
            .reduce(|a, b| if open[b].0 > open[a].0 { b } else { a })
            .unwrap();
        let (score, path) = open.remove(best);
        scores.push(score);
        if path.len() as u32 <= options.max_depth {
            for (token, score) in naive_children(text, &path, score, max_match, options) {
                open.push((score, [path.as_slice(), &[token]].concat()));
            }
        }
    }
    scores
}

fn text(length: usize) -> impl Strategy<Value = Vec<u32>> {
    (1u32..5).prop_flat_map(move |alphabet| prop::collection::vec(0..alphabet, 0..length))
}

prop_compose! {
    fn options()(
        max_depth in 0u32..6,
        topk in 1usize..4,
        max_nodes in 1usize..20,
        min_match in 0usize..4,
    ) -> ProposeOptions {
        ProposeOptions { max_depth, topk, max_nodes, min_match }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn longest_match_is_a_scan(text in text(60), max_match in 1usize..12, max_len in 0usize..14) {
        let mut index = SuffixIndex::new(max_match);
        for length in 0..=text.len() {
            for last in 0..5 {
                let expected = naive_match(&text[..length], last, max_len.min(max_match));
                prop_assert_eq!(index.longest_match(last, max_len), expected);
            }
            if let Some(&token) = text.get(length) {
                index.push(token);
            }
        }
        let (states, edges) = index.automaton.size();
        prop_assert!(states <= (2 * text.len()).max(2) && edges <= 3 * text.len(), "{states} {edges}");
    }

    #[test]
    fn proposals_are_their_definition(text in text(50), root in 0u32..4, max_match in 1usize..9, options in options()) {
        let index = index_of(&text, max_match);
        let tree = index.propose(root, &options).unwrap();
        let scores: Vec<f32> = (0..tree.len()).map(|node| tree.score(node)).collect();
        prop_assert_eq!(&scores, &naive_scores(&text, root, max_match, &options));
        for node in 0..tree.len() {
            let path: Vec<u32> = tree.path(node).iter().map(|&n| tree.token(n as usize)).collect();
            prop_assert!(tree.depth(node) <= options.max_depth);
            let expected = naive_children(&text, &path, tree.score(node), max_match, &options);
            let children: Vec<(u32, f32)> = tree.children(node).map(|c| (tree.token(c), tree.score(c))).collect();
            // All of those with better scores than the last node are there, so they are the first ones.
            prop_assert_eq!(&children[..], &expected[..children.len()]);
        }
    }

    #[test]
    fn rewinds_leave_no_trace(
        steps in prop::collection::vec((text(20), 0usize..30), 1..8),
        max_match in 1usize..9,
        options in options(),
    ) {
        let mut index = SuffixIndex::new(max_match);
        let mut tokens: Vec<u32> = Vec::new();
        for (pushed, taken) in steps {
            index.extend(&pushed);
            tokens.extend(&pushed);
            let fork = index.clone();
            tokens.truncate(tokens.len().saturating_sub(taken));
            index.truncate(tokens.len());
            prop_assert_eq!(index.tokens(), &tokens[..]);
            let fresh = index_of(&tokens, max_match);
            prop_assert_eq!(index.automaton.size(), fresh.automaton.size());
            for last in 0..4 {
                prop_assert_eq!(index.longest_match(last, 9), fresh.longest_match(last, 9));
                prop_assert_eq!(index.propose(last, &options).unwrap(), fresh.propose(last, &options).unwrap());
            }
            // The fork did not notice.
            let fresh = index_of(fork.tokens(), max_match);
            prop_assert_eq!(fork.propose(0, &options).unwrap(), fresh.propose(0, &options).unwrap());
        }
    }
}

/// Text with phrases that come again: words of a skewed distribution, and copies of earlier passages.
fn prose(length: usize) -> Vec<u32> {
    let mut tokens: Vec<u32> = Vec::new();
    let mut draw = 0;
    let mut uniform = || {
        draw += 1;
        philox::uniform(4, 0, draw)
    };
    while tokens.len() < length {
        if uniform() < 0.04 && tokens.len() > 50 {
            let start = (uniform() * (tokens.len() - 40) as f32) as usize;
            let count = 5 + (uniform() * 30.0) as usize;
            tokens.extend_from_within(start..start + count);
        } else {
            tokens.push((uniform().powi(4) * 30_000.0) as u32);
        }
    }
    tokens.truncate(length);
    tokens
}

#[test]
fn long_rewinds_build_again() {
    let tokens = prose(3000);
    let mut index = index_of(&tokens, SuffixIndex::MAX_MATCH);
    for length in [2999, 2999 - SuffixIndex::UNDO, 1000, 1000, 7, 0] {
        index.truncate(length);
        let fresh = index_of(&tokens[..length], SuffixIndex::MAX_MATCH);
        assert_eq!(index.tokens(), fresh.tokens());
        assert_eq!(index.automaton.size(), fresh.automaton.size());
        for &root in &tokens[..50] {
            let options = ProposeOptions::default();
            assert_eq!(
                index.propose(root, &options).unwrap(),
                fresh.propose(root, &options).unwrap()
            );
        }
        index.extend(&tokens[length..tokens.len().min(length + 20)]);
        index.truncate(length);
    }
    assert!(index.is_empty());
}

#[test]
fn a_passage_that_comes_again() {
    let passage: Vec<u32> = (100..140).collect();
    let text = [&passage[..], &[1, 2, 3], &passage[..5]].concat();
    let index = index_of(&text, 32);
    let found = index.longest_match(105, 32).unwrap();
    assert_eq!(
        found,
        Match {
            length: 6,
            count: 1,
            end: 6
        }
    );
    let options = ProposeOptions {
        topk: 1,
        ..Default::default()
    };
    let tree = index.propose(105, &options).unwrap();
    assert_eq!(tree.tokens(), (105..=121).collect::<Vec<u32>>());
    assert_eq!(tree.max_depth(), 16);
    assert!((tree.score(1).exp() - 1.0 / (1.0 + 2.0 / 6.0)).abs() < 1e-6);
    // A token that never was has nothing to propose.
    assert_eq!(index.propose(9999, &options).unwrap(), Tree::new(9999));
}

#[test]
fn frequency_then_recency_then_shorter_contexts() {
    //          context 1 2: 7 twice, 8 and 9 once, 9 later; context 2 alone: 5 as well.
    let text = [1, 2, 7, 1, 2, 8, 1, 2, 7, 1, 2, 9, 3, 2, 5, 1];
    let index = index_of(&text, 8);
    let options = ProposeOptions {
        max_depth: 1,
        topk: 4,
        max_nodes: 64,
        min_match: 1,
    };
    let tree = index.propose(2, &options).unwrap();
    assert_eq!(tree.tokens(), [2, 7, 9, 8, 5]);
    let p: Vec<f32> = (1..5).map(|node| tree.score(node).exp()).collect();
    // The last tokens are 5 1 2; 1 2 has 4 continuations, of which b = 1 remains for shorter ones.
    for (p, expected) in p.iter().zip([0.4, 0.2, 0.2, 0.2 / 3.0]) {
        assert!((p - expected).abs() < 1e-6, "{p} for {expected}");
    }
    let longer = ProposeOptions {
        min_match: 2,
        ..options
    };
    assert_eq!(index.propose(2, &longer).unwrap().len(), 4);
}

#[test]
fn a_text_of_one_token() {
    let index = index_of(&[5; 1000], 32);
    let found = index.longest_match(5, 100).unwrap();
    assert_eq!(
        found,
        Match {
            length: 32,
            count: 969,
            end: 1000
        }
    );
    // Past the end of the text, shorter contexts know how it goes on.
    let options = ProposeOptions {
        max_depth: 40,
        topk: 1,
        max_nodes: 64,
        min_match: 1,
    };
    assert_eq!(index.propose(5, &options).unwrap().tokens(), [5; 41]);
}

/// Times: `cargo test --release -p stheno --lib ngram_speed -- --nocapture`.
#[test]
fn ngram_speed() {
    let tokens = prose(8192);
    let mut fresh = Duration::MAX;
    let mut index = SuffixIndex::default();
    for _ in 0..3 {
        let start = Instant::now();
        index = index_of(&tokens, SuffixIndex::MAX_MATCH);
        fresh = fresh.min(start.elapsed());
    }
    let (states, edges) = index.automaton.size();
    println!(
        "{states} states, {edges} edges of {} tokens; a push {:?}",
        tokens.len(),
        fresh / 8192
    );
    // A passage from the text again, and what it proposes on the way.
    let passage = &tokens[2000..2064];
    for (name, topk, max_nodes, min_match) in [
        ("chain", 1, 17, 2),
        ("tree of 32", 2, 32, 2),
        ("tree of 64", 4, 64, 1),
    ] {
        let options = ProposeOptions {
            max_depth: 16,
            topk,
            max_nodes,
            min_match,
        };
        let (mut time, mut nodes) = (Duration::MAX, 0);
        for _ in 0..3 {
            let mut index = index.clone();
            let mut sum = Duration::ZERO;
            nodes = 0;
            for &token in passage {
                let start = Instant::now();
                let tree = index.propose(token, &options).unwrap();
                sum += start.elapsed();
                nodes += tree.len() - 1;
                index.push(token);
            }
            time = time.min(sum);
        }
        println!("{name}: {:?} for {} nodes", time / 64, nodes / 64);
        assert!(nodes > 0);
    }
    let start = Instant::now();
    index.truncate(tokens.len() - 16);
    println!("a rewind of 16 tokens: {:?}", start.elapsed());
    let start = Instant::now();
    index.truncate(4000);
    println!("a rewind of 4176 tokens: {:?}", start.elapsed());
}
