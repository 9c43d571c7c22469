//! Several sequences in one call of the engine: what each computes is what it computes alone, whatever stands between its rows.

use crate::{FIXTURE, bits, engine, session, tokens};
use std::sync::OnceLock;
use stheno::engine::{Device, Engine, Forward, Session};
use stheno::plan::{Row, SegmentKind, SequenceIndex};

fn on_device() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        engine(FIXTURE, Device::Virtual, |builder| {
            builder.context_length(200).taps(&[0]).max_rows(16)
        })
    })
}

fn sessions(engine: &Engine) -> Vec<Session> {
    let start = |(seed, count)| {
        let mut session = session(engine);
        if count > 0 {
            session.append(&tokens(count, seed)).unwrap();
        }
        session
    };
    (1..).zip([0, 130, 5]).map(start).collect()
}

/// The index of the parent is that of the whole call.
fn row(
    of: &Session,
    sequence: u32,
    token: u32,
    depth: usize,
    parent: Option<u32>,
    output: bool,
) -> Row {
    Row {
        token,
        position: (of.tokens().len() + depth) as u32,
        parent,
        sequence: SequenceIndex(sequence),
        delta: None,
        output,
    }
}

/// A chain of one sequence, a tree of another and no row of the third, one between the other.
fn rows(of: &[Session]) -> Vec<Row> {
    vec![
        row(&of[1], 1, 9, 0, None, true),
        row(&of[0], 0, 21, 0, None, false),
        row(&of[1], 1, 14, 1, Some(0), false),
        row(&of[0], 0, 35, 1, Some(1), true),
        row(&of[1], 1, 77, 1, Some(0), true),
        row(&of[1], 1, 3, 2, Some(4), true),
    ]
}

/// The rows of one sequence, as a call over it alone has them.
fn alone(rows: &[Row], sequence: u32) -> (Vec<Row>, Vec<usize>) {
    let own = |index: &usize| rows[*index].sequence.0 == sequence;
    let indices: Vec<usize> = (0..rows.len()).filter(own).collect();
    let place = |parent: u32| indices.iter().position(|i| *i == parent as usize);
    let of = |index: &usize| Row {
        sequence: SequenceIndex(0),
        parent: rows[*index]
            .parent
            .map(|parent| place(parent).unwrap() as u32),
        ..rows[*index]
    };
    (indices.iter().map(of).collect(), indices)
}

#[test]
fn each_computes_what_it_computes_alone() {
    let engine = on_device();
    let mut several = sessions(engine);
    let rows = rows(&several);
    let mut together = Forward::default();
    // What an earlier call of another shape has left says nothing.
    engine
        .forward_into(
            SegmentKind::Target,
            &rows[1..2],
            &[&several[0]],
            &mut together,
        )
        .unwrap();
    let all: Vec<&Session> = several.iter().collect();
    engine
        .forward_into(SegmentKind::Target, &rows, &all, &mut together)
        .unwrap();
    let outputs: Vec<usize> = (0..rows.len()).filter(|i| rows[*i].output).collect();
    let vocab = engine.vocab_size();
    assert_eq!(together.logits().len(), outputs.len() * vocab);
    let mut apart = sessions(engine);
    for sequence in [0, 1] {
        let (own, indices) = alone(&rows, sequence);
        let single = engine.forward(&own, &[&apart[sequence as usize]]).unwrap();
        let mut count = 0;
        for (place, index) in outputs.iter().enumerate() {
            if !indices.contains(index) {
                continue;
            }
            let logits =
                |forward: &Forward, at: usize| bits(&forward.logits()[at * vocab..][..vocab]);
            assert_eq!(
                logits(&together, place),
                logits(&single, count),
                "row {index}"
            );
            let tap = |forward: &Forward, at: usize| {
                let tap = forward.tap(0).unwrap();
                let columns = tap.len() / (forward.logits().len() / vocab);
                bits(&tap[at * columns..][..columns])
            };
            assert_eq!(tap(&together, place), tap(&single, count), "row {index}");
            count += 1;
        }
        // A path that is no chain of rows, so that some move.
        let path: &[u32] = if sequence == 0 { &[1, 3] } else { &[0, 4, 5] };
        let local = path
            .iter()
            .map(|row| indices.iter().position(|i| *i == *row as usize));
        let local: Vec<u32> = local.map(|row| row.unwrap() as u32).collect();
        several[sequence as usize].commit(&together, path).unwrap();
        apart[sequence as usize].commit(&single, &local).unwrap();
    }
    for (one, other) in several.iter().zip(&apart) {
        assert_eq!(one.tokens(), other.tokens());
        assert_eq!(crate::next_logits(one, 7), crate::next_logits(other, 7));
    }
}

/// The host says the same of such rows.
#[test]
fn rows_that_contradict_each_other_are_refused() {
    let host = engine(FIXTURE, Device::Host, |builder| {
        builder.context_length(200).max_rows(16)
    });
    for engine in [on_device(), &host] {
        let mut some = sessions(engine);
        let good = rows(&some);
        let refused = |rows: &[Row], sessions: &[&Session], reason: &str| {
            let error = engine.forward(rows, sessions).map(|_| ());
            let error = error.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        };
        let all: Vec<&Session> = some.iter().collect();
        let changed = |index: usize, change: &dyn Fn(&mut Row)| {
            let mut rows = good.clone();
            change(&mut rows[index]);
            rows
        };
        refused(&good, &all[..1], "sequence 1, which is not there");
        refused(
            &changed(3, &|row| row.parent = Some(0)),
            &all,
            "row 3: parent 0 is no earlier row of its sequence",
        );
        refused(
            &changed(3, &|row| row.parent = Some(5)),
            &all,
            "row 3: parent 5 is no earlier row of its sequence",
        );
        refused(&changed(5, &|row| row.position += 1), &all, "position");
        let forward = engine.forward(&good, &all).unwrap();
        // What is refused overwrites nothing of what an earlier call has left.
        refused(
            &changed(5, &|row| row.token = 1 << 20),
            &all,
            "token 1048576",
        );
        let error = some[1].commit(&forward, &[0, 3]).unwrap_err().to_string();
        assert!(error.contains("path"), "{error}");
        some[0].commit(&forward, &[1, 3]).unwrap();
        some[1].commit(&forward, &[0, 2]).unwrap();
        crate::assert_holds_its_tokens(&some[1]);
    }
    let engine = on_device();
    let one = session(engine);
    let two = [
        row(&one, 0, 4, 0, None, true),
        row(&one, 1, 5, 0, None, true),
    ];
    let error = engine.forward(&two, &[&one, &one]).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("fork it"), "{error}");
    let many = [two; 33].concat();
    let error = engine
        .forward(&many, &[&one, &one])
        .map(|_| ())
        .unwrap_err();
    assert!(error.to_string().contains("66 rows"), "{error}");
    let fork = one.fork();
    assert_eq!(
        engine.forward(&two, &[&one, &fork]).unwrap().logits().len(),
        2 * engine.vocab_size()
    );
}
