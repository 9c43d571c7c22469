//! Sessions on a device: forks, rewinding, several at a time, and what is refused.

use crate::{assert_holds_its_tokens, generate, ids, next_logits, session, shared, tokens};
use stheno::Error;
use stheno::engine::{Device, GenerateOptions, Prompt};
use stheno::plan::{Row, SegmentKind, SequenceIndex};

fn greedy(count: usize) -> GenerateOptions {
    let mut options = GenerateOptions::greedy(count);
    options.ignore_eos = true;
    options
}

/// They share a page that neither has filled.
#[test]
fn forks_do_not_disturb_each_other() {
    let mut trunk = session(shared());
    trunk.append(&tokens(100, 51)).unwrap();
    let mut one = trunk.fork();
    let mut two = trunk.fork();
    one.append(&tokens(40, 52)).unwrap();
    trunk.append(&tokens(3, 53)).unwrap();
    two.append(&tokens(30, 54)).unwrap();
    let three = one.fork();
    one.truncate(101);
    one.append(&tokens(5, 55)).unwrap();
    generate(
        &mut two,
        &[&tokens(100, 51)[..], &tokens(9, 56)].concat(),
        &greedy(12),
    );
    for (session, length) in [(&trunk, 103), (&one, 106), (&two, 120), (&three, 140)] {
        assert_eq!(session.tokens().len(), length);
        assert_holds_its_tokens(session);
    }
}

#[test]
fn truncation_and_shared_prefixes() {
    let mut session = session(shared());
    session.append(&tokens(140, 57)).unwrap();
    for length in [139, 129, 128, 127, 1] {
        session.truncate(length);
        assert_eq!(session.tokens().len(), length);
        assert_holds_its_tokens(&session);
    }
    session.append(&tokens(60, 58)).unwrap();
    let prompt = [&session.tokens()[..50], &tokens(20, 59)].concat();
    let stream = session
        .generate(Prompt::Tokens(prompt.clone()), &greedy(5))
        .unwrap();
    assert_eq!(stream.statistics().reused_tokens, 50);
    let warm: Vec<u32> = stream.map(|token| token.unwrap().id).collect();
    let cold = generate(&mut crate::session(shared()), &prompt, &greedy(5));
    assert_eq!(warm, ids(&cold));
    assert_holds_its_tokens(&session);
}

#[test]
fn sessions_take_turns() {
    let (mut one, mut two) = (session(shared()), session(shared()));
    for (a, b) in tokens(12, 60).into_iter().zip(tokens(12, 61)) {
        one.append(&[a]).unwrap();
        two.append(&[b, a]).unwrap();
    }
    assert_holds_its_tokens(&one);
    assert_holds_its_tokens(&two);
    assert_ne!(next_logits(&one, 1), next_logits(&two, 1));
}

/// Streams of two sessions are alive together, in one thread token by token and in two threads, beside calls from a third.
#[test]
fn streams_live_side_by_side() {
    let prompts = [tokens(17, 62), tokens(33, 63)];
    let expected = prompts
        .each_ref()
        .map(|prompt| ids(&generate(&mut session(shared()), prompt, &greedy(60))));
    let [mut one, mut two] = [session(shared()), session(shared())];
    let open = |prompt: &Vec<u32>| Prompt::Tokens(prompt.clone());
    let first = one.generate(open(&prompts[0]), &greedy(60)).unwrap();
    let second = two.generate(open(&prompts[1]), &greedy(60)).unwrap();
    for (i, (a, b)) in first.zip(second).enumerate() {
        let pair = [a.unwrap().id, b.unwrap().id];
        assert_eq!(pair, [expected[0][i], expected[1][i]], "token {i}");
    }
    let calls = tokens(8, 64);
    let mut alone = session(shared());
    let logits: Vec<Vec<u32>> = (calls.iter())
        .map(|token| crate::bits(alone.append(&[*token]).unwrap()))
        .collect();
    std::thread::scope(|scope| {
        for (prompt, expected) in prompts.iter().zip(&expected) {
            scope.spawn(move || {
                for _ in 0..2 {
                    let found = generate(&mut session(shared()), prompt, &greedy(60));
                    assert_eq!(ids(&found), *expected);
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..4 {
                let mut session = session(shared());
                for (token, expected) in calls.iter().zip(&logits) {
                    let found = crate::bits(session.append(&[*token]).unwrap());
                    assert!(found == *expected, "a call beside streams");
                }
            }
        });
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    let engine = shared();
    let mut full = session(engine);
    full.append(&tokens(198, 65)).unwrap();
    let overflow = |error: Error, needed: usize| match error {
        Error::ContextOverflow {
            needed: found,
            context_length,
        } => assert_eq!((found, context_length), (needed, 200)),
        other => panic!("{other}"),
    };
    overflow(full.append(&[1, 2, 3]).unwrap_err(), 201);
    let rows = Row::chain(SequenceIndex(0), 198, &[1, 2, 3]);
    overflow(engine.forward(&rows, &[&full]).unwrap_err(), 201);
    let prompt = Prompt::Tokens(tokens(201, 66));
    overflow(
        full.generate(prompt, &greedy(1)).map(drop).unwrap_err(),
        201,
    );
    full.append(&[1, 2]).unwrap();

    let empty = session(engine);
    let many = Row::chain(SequenceIndex(0), 0, &tokens(65, 67));
    let error = engine.forward(&many, &[&empty]).unwrap_err().to_string();
    assert!(
        error.contains("65 rows") && error.contains("1 to 64"),
        "{error}"
    );
    let nine = Row::chain(SequenceIndex(0), 0, &tokens(9, 68));
    let mut forward = stheno::engine::Forward::default();
    let error = engine
        .forward_into(SegmentKind::Target, &nine, &[&empty], &mut forward)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("9 rows") && error.contains("1 to 8"),
        "{error}"
    );
    let error = engine
        .forward(&Row::chain(SequenceIndex(0), 0, &[260]), &[&empty])
        .unwrap_err()
        .to_string();
    assert!(error.contains("token 260"), "{error}");
}

#[test]
fn rows_that_are_no_tree_are_refused() {
    let engine = shared();
    let mut one = session(engine);
    one.append(&[1, 2]).unwrap();
    let mut tree = Row::chain(SequenceIndex(0), 2, &[3, 4, 5]);
    (tree[2].parent, tree[2].position) = (Some(0), 4);
    let error = engine.forward(&tree, &[&one]).unwrap_err().to_string();
    assert!(
        error.contains("row 2") && error.contains("makes it 3"),
        "{error}"
    );
    tree[2].parent = Some(2);
    let error = engine.forward(&tree, &[&one]).unwrap_err().to_string();
    assert!(error.contains("parent 2 is no earlier row"), "{error}");
    assert_holds_its_tokens(&one);
}

/// It goes on with the bits that it would have had, over a page that is full and one that is not, and after it was rewound.
#[test]
fn a_saved_session_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("session");
    let engine = shared();
    let mut one = session(engine);
    one.append(&tokens(150, 69)).unwrap();
    one.truncate(140);
    one.save(&path).unwrap();
    let mut other = session(engine);
    other.append(&tokens(9, 70)).unwrap();
    other.load(&path).unwrap();
    assert_eq!(other.tokens(), one.tokens());
    assert_holds_its_tokens(&other);
    let prompt = [one.tokens(), &[7]].concat();
    let expected = ids(&generate(&mut one, &prompt, &greedy(8)));
    assert_eq!(ids(&generate(&mut other, &prompt, &greedy(8))), expected);

    let bytes = std::fs::read(&path).unwrap();
    let held = other.tokens().to_vec();
    for end in [0, 15, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..end]).unwrap();
        other.load(&path).unwrap_err();
    }
    assert_eq!(other.tokens(), held);
    assert_holds_its_tokens(&other);
    session(engine).save(&path).unwrap();
    other.load(&path).unwrap();
    assert!(other.tokens().is_empty());
    assert_holds_its_tokens(&{
        other.append(&[1]).unwrap();
        other
    });
}

/// The file is the same wherever K and V were computed, up to their rounding: the host goes on with a device's, and back.
#[test]
fn a_saved_session_moves_between_executors() {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["device", "host"].map(|name| directory.path().join(name));
    let host = crate::engine(crate::FIXTURE, Device::Host, |builder| {
        builder.context_length(200).taps(&[0])
    });
    let mut there = session(shared());
    let mut here = session(&host);
    for (session, path) in [&mut there, &mut here].into_iter().zip(&paths) {
        session.append(&tokens(133, 71)).unwrap();
        session.save(path).unwrap();
    }
    let files = paths.each_ref().map(|path| std::fs::read(path).unwrap());
    assert_eq!(files[0].len(), files[1].len());
    let mut moved = session(&host);
    moved.load(&paths[0]).unwrap();
    let mut back = session(shared());
    back.load(&paths[1]).unwrap();
    let near = |a: &[f32], b: &[f32]| {
        let range = a.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.03 * range)
    };
    assert!(near(
        here.append(&[5]).unwrap(),
        moved.append(&[5]).unwrap()
    ));
    assert!(near(
        there.append(&[5]).unwrap(),
        back.append(&[5]).unwrap()
    ));
}
