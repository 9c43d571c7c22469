//! The phase in f64.

use crate::case::{Case, EPS, Outcome};
use crate::tree::Tree;

/// A head of a row after norm and rotation.
fn turned(case: &Case, tree: &Tree, row: u32, column: u32, is_k: bool) -> Vec<f64> {
    let d = case.head_dim;
    let position = case.length + tree.depth(row);
    let mut x: Vec<f64> = (0..d)
        .map(|i| f64::from(case.product(tree, row, column + i)))
        .collect();
    if case.has_norms {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / f64::from(d);
        let factor = 1.0 / (mean + f64::from(EPS)).sqrt();
        for (i, x) in x.iter_mut().enumerate() {
            *x *= factor * f64::from(case.norm(is_k, i as u32));
        }
    }
    let pairs = case.rope_pairs as usize;
    for pair in 0..pairs {
        let (cos, sin) = case.angle(position, pair as u32);
        let (cos, sin) = (f64::from(cos), f64::from(sin));
        let (a, b) = (x[pair], x[pair + pairs]);
        x[pair] = a * cos - b * sin;
        x[pair + pairs] = b * cos + a * sin;
    }
    x
}

/// Half a step of the type of K and V, relative.
fn half_step(case: &Case) -> f64 {
    if case.is_f16 {
        2f64.powi(-11)
    } else {
        2f64.powi(-8)
    }
}

/// What of the output is furthest from f64, in parts of what is allowed.
///
/// K and V that were appended may be half a step of their type off, and what f32 adds. The output is compared to
/// attention over K and V as they are in the pool. Allowed are half a step of bf16 of the output; and, for weights that
/// are rounded to the type of K and V, half a step of the largest V by as much as errors of these weights add up that
/// know nothing of each other.
pub fn check(case: &Case, outcome: &Outcome) -> f64 {
    check_tree(case, &Tree::chain(case.rows), outcome)
}

/// The same for a tree.
pub fn check_tree(case: &Case, tree: &Tree, outcome: &Outcome) -> f64 {
    let d = case.head_dim;
    let kv = |is_v: u32, head: u32, position: u32| -> Vec<f64> {
        let row = (is_v * case.kv_heads + head) * case.positions() + position;
        let row = &outcome.kv[(row * d) as usize..][..d as usize];
        row.iter().map(|x| f64::from(case.widen(*x))).collect()
    };
    let step = half_step(case);
    let mut worst = 0f64;
    for head in 0..case.kv_heads {
        let k_column = (case.query_heads() + head) * d;
        let v_column = k_column + case.kv_heads * d;
        let all = |is_v| (0..case.positions()).map(|p| kv(is_v, head, p)).collect();
        let (k, v): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (all(0), all(1));
        for row in 0..case.rows {
            let position = case.length + tree.depth(row);
            let place = (case.length + row) as usize;
            let own = turned(case, tree, row, k_column, true);
            for (x, y) in k[place].iter().zip(&own) {
                let allowed = y.abs() * step * 1.01 + 1e-6;
                assert!((x - y).abs() <= allowed, "{case:?}: K: {x} for {y}");
            }
            for (i, x) in v[place].iter().enumerate() {
                let y =
                    f64::from(case.widen(case.round(case.product(tree, row, v_column + i as u32))));
                assert_eq!(*x, y, "{case:?}: V");
            }
            let first = if case.window > 0 {
                (position + 1).saturating_sub(case.window)
            } else {
                0
            };
            // Places in the pool of what the row sees.
            let before = (first..case.length).map(|position| position as usize);
            let path = tree.path(row).into_iter();
            let path = path.filter(|row| case.length + tree.depth(*row) >= first);
            let path = path.map(|row| (case.length + row) as usize);
            let seen: Vec<usize> = before.chain(path).collect();
            let largest_v = seen.iter().flat_map(|place| &v[*place]);
            let largest_v = largest_v.fold(0f64, |a, x| a.max(x.abs()));
            for g in 0..case.group {
                let column = (head * case.group + g) * d;
                let q: Vec<f64> = turned(case, tree, row, column, false)
                    .iter()
                    .map(|x| f64::from(case.widen(case.round(*x as f32))))
                    .collect();
                let dot = |k: &Vec<f64>| q.iter().zip(k).map(|(x, y)| x * y).sum::<f64>();
                let scores = seen.iter();
                let scores = scores.map(|place| dot(&k[*place]) * f64::from(case.scale()));
                let scores: Vec<f64> = scores.collect();
                let largest = scores.iter().fold(f64::NEG_INFINITY, |a, x| a.max(*x));
                let weights: Vec<f64> = scores.iter().map(|x| (x - largest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                let spread = weights.iter().map(|w| w * w).sum::<f64>().sqrt() / sum;
                let at = (row * case.query_heads() * d + column) as usize;
                for (i, bits) in outcome.output[at..][..d as usize].iter().enumerate() {
                    let values = seen.iter().map(|place| v[*place][i]);
                    let products = weights.iter().zip(values).map(|(w, v)| w * v);
                    let expected = products.sum::<f64>() / sum;
                    let got = f64::from(half::bf16::from_bits(*bits).to_f32());
                    let allowed = expected.abs() * 2f64.powi(-8) + step * largest_v * spread;
                    let part = (got - expected).abs() / allowed;
                    assert!(part <= 1.0, "{case:?}: output: {got} for {expected}");
                    worst = worst.max(part);
                }
            }
        }
    }
    worst
}
