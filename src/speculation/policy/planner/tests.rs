use super::super::{StepCost, TreeShape};
use super::*;

fn costs(of_64: f64) -> CostTable {
    let step = |rows, seconds| StepCost { rows, seconds };
    CostTable::new(vec![step(1, 1.0), step(64, of_64)])
}

fn limits() -> Limits {
    Limits {
        levels: 100,
        nodes: 64,
        positions: 10,
    }
}

fn chain(probability: f32, len: usize) -> Tree {
    let nodes: Vec<(u32, f32)> = (1..=len as u32)
        .map(|i| (i, probability.ln() * i as f32))
        .collect();
    Tree::chain(0, &nodes).unwrap()
}

fn automatic(of_64: f64) -> Planner {
    let mut planner = Planner::new(Policy::Automatic, costs(of_64));
    assert!(planner.begin(limits()));
    planner
}

fn round(planner: &mut Planner, tree: &Tree, accepted: usize) {
    let path: Vec<u32> = (0..=accepted as u32).collect();
    planner.observe(&Observation {
        tree,
        path: &path,
        draft: Duration::ZERO,
        levels: 1,
        verify: Duration::from_secs(1),
    });
}

#[test]
fn verifies_as_much_as_pays() {
    let free = automatic(1.0);
    assert_eq!(free.prune(&chain(0.5, 20), 1).len(), 21);
    let dear = automatic(64.0);
    assert_eq!(dear.prune(&chain(0.5, 20), 1).len(), 1);
    // A row costs 0.25: as long as the probability of a node is above that times the rate.
    let between = automatic(1.0 + 63.0 * 0.25);
    let len = between.prune(&chain(0.8, 20), 1).len();
    assert!((3..8).contains(&len), "{len}");
}

#[test]
fn stops_believing_a_draft_that_is_never_right() {
    let mut planner = automatic(1.0 + 63.0 * 0.05);
    let tree = chain(0.9, 8);
    assert!(planner.prune(&tree, 1).len() > 5);
    for _ in 0..100 {
        let tree = planner.prune(&tree, 1);
        round(&mut planner, &tree, 0);
    }
    assert_eq!(planner.prune(&tree, 1).len(), 1);
}

#[test]
fn pauses_where_drafting_does_not_pay_and_comes_back() {
    let mut planner = automatic(1.0);
    let tree = chain(0.9, 3);
    let mut drafted = 0;
    for _ in 0..1000 {
        if planner.begin(limits()) {
            drafted += 1;
            planner.observe(&Observation {
                tree: &tree,
                path: &[0],
                draft: Duration::from_millis(300),
                levels: 1,
                verify: Duration::from_secs(1),
            });
        }
    }
    assert!((20..100).contains(&drafted), "{drafted}");
    let mut planner = automatic(1.0);
    for _ in 0..1000 {
        assert!(planner.begin(limits()));
        round(&mut planner, &tree, 3);
    }
}

/// A draft reads what was said while it was not asked: a prompt, the tokens of a pause.
#[test]
fn catching_up_is_no_cost_of_drafting() {
    let mut planner = automatic(1.0);
    let tree = chain(0.9, 1);
    for i in 0..1000 {
        assert!(planner.begin(limits()), "paused at round {i}");
        let behind = i % 5 == 0;
        if behind {
            planner.observe_plain(Duration::from_secs(1));
        }
        planner.observe(&Observation {
            tree: &tree,
            path: &[0, 1],
            draft: Duration::from_millis(if behind { 9000 } else { 300 }),
            levels: 1,
            verify: Duration::from_secs(1),
        });
    }
}

/// The first level is what drafting begins with: `levels` of them are one less to pay for.
#[test]
fn learns_what_a_draft_and_a_level_cost() {
    let mut planner = automatic(1.0);
    let tree = chain(0.9, 1);
    let mut draft = |levels: u32, seconds: f64| {
        planner.observe(&Observation {
            tree: &tree,
            path: &[0, 1],
            draft: Duration::from_secs_f64(seconds),
            levels,
            verify: Duration::from_secs(1),
        });
        (planner.draft.start, planner.draft.level)
    };
    for levels in (1..=5).cycle().take(2000) {
        draft(levels, 0.2 + 0.05 * f64::from(levels - 1));
    }
    let (start, level) = draft(1, 0.2);
    assert!((start - 0.2).abs() < 0.005, "{start}");
    assert!((level - 0.05).abs() < 0.002, "{level}");
    // One interruption of a minute is not believed.
    let (start, level) = draft(3, 60.0);
    assert!(start < 0.6 && level < 0.3, "{start} {level}");
}

/// Trap 7: a depth that is fixed too low costs the paper's numbers.
#[test]
fn drafts_as_deep_as_guesses_are_good() {
    let levels = |probability: f32| {
        let planner = automatic(1.0 + 63.0 * 0.02);
        let mut tree = DynamicTree::new(0, 1);
        tree.seed(&[(1, probability.ln())]).unwrap();
        while planner.another_level(&tree) {
            tree.expand(&[vec![(1, probability.ln())]]).unwrap();
        }
        tree.levels()
    };
    assert!(levels(0.95) > 7, "{}", levels(0.95));
    assert!(levels(0.3) <= 4, "{}", levels(0.3));
}

#[test]
fn fixed_shapes_are_kept() {
    let shape = TreeShape {
        num_steps: 3,
        topk: 2,
        num_draft_tokens: 5,
    };
    let mut planner = Planner::new(Policy::Fixed(shape), CostTable::new(Vec::new()));
    assert!(planner.begin(limits()));
    assert_eq!(
        (planner.topk(), planner.levels(), planner.nodes()),
        (2, 3, 5)
    );
    assert_eq!(planner.prune(&chain(0.001, 20), 1).len(), 4);
    let short = Limits {
        levels: 1,
        ..limits()
    };
    assert!(planner.begin(short));
    assert_eq!(planner.prune(&chain(0.5, 20), 1).len(), 2);
    assert!(!planner.begin(Limits { levels: 0, ..short }));
    planner.set_policy(Policy::Off, CostTable::new(Vec::new()));
    assert!(!planner.begin(limits()));
}

/// Of two drafts the other is asked only where it has come to more.
#[test]
fn promises_what_rounds_came_to() {
    let mut planner = automatic(1.0 + 63.0 * 0.1);
    assert_eq!(planner.promise(), f64::INFINITY);
    let tree = chain(0.9, 3);
    for _ in 0..Pause::TRIAL {
        round(&mut planner, &tree, 2);
    }
    // Three tokens in a step of four rows.
    let promise = planner.promise();
    assert!((promise - 3.0 / 1.3).abs() < 0.01, "{promise}");
    // Never less than a plain step gives: whether that is worth asking at all, the pause says.
    for _ in 0..200 {
        round(&mut planner, &tree, 0);
    }
    assert!((planner.promise() - LEAST_GAIN).abs() < 1e-9);

    // What a proposal promises, in the same measure; a root alone is a plain step.
    let other = automatic(1.0 + 63.0 * 0.1);
    assert!((other.worth(&chain(0.5, 2), 1) - 1.75 / 1.2).abs() < 1e-6);
    assert!((other.worth(&Tree::new(0), 1) - 1.0).abs() < 1e-9);
}

/// A draft that others are taken before is measured all the same, unless it has long text to catch up with.
#[test]
fn a_draft_that_is_passed_over_learns_what_it_costs() {
    let learnt = |passed: usize| {
        let mut planner = automatic(1.0);
        let tree = chain(0.9, 1);
        round(&mut planner, &tree, 1);
        for _ in 0..200 {
            planner.pass(passed);
            planner.observe(&Observation {
                tree: &tree,
                path: &[0, 1],
                draft: Duration::from_millis(300),
                levels: 1,
                verify: Duration::from_secs(1),
            });
        }
        planner.draft.start
    };
    assert!((learnt(5) - 0.3).abs() < 0.01, "{}", learnt(5));
    assert_eq!(learnt(FEW + 1), 0.0);
}
