//! The list of instruction forms that these tests exercise.

use crate::harness::{Form, opcodes_of};
use crate::{
    approx, atomic, bits, compare, control, convert, float, half, integer, memory, moves, warp,
};
use std::collections::BTreeSet;

/// Opcodes that the tests run, from the tables and from the texts.
fn exercised() -> BTreeSet<String> {
    let tables: [fn() -> Vec<Form>; 10] = [
        approx::forms,
        atomic::forms,
        bits::forms,
        compare::forms,
        convert::forms,
        float::forms,
        half::forms,
        integer::forms,
        memory::forms,
        moves::forms,
    ];
    let texts: [fn() -> Vec<String>; 5] = [
        atomic::texts,
        control::texts,
        memory::texts,
        moves::texts,
        warp::texts,
    ];
    let mut opcodes = BTreeSet::new();
    for form in tables.iter().flat_map(|forms| forms()) {
        opcodes.extend(form.opcodes().map(String::from));
    }
    for text in texts.iter().flat_map(|texts| texts()) {
        opcodes_of(&text, &mut opcodes);
    }
    opcodes
}

/// `forms.txt` is kept by hand: `UPDATE_FORMS=1` writes it anew, and a difference is to be looked at.
#[test]
fn list() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ops/forms.txt");
    let exercised = exercised();
    println!("{} instruction forms", exercised.len());
    if std::env::var_os("UPDATE_FORMS").is_some() {
        let text: String = exercised
            .iter()
            .map(|opcode| format!("{opcode}\n"))
            .collect();
        std::fs::write(path, text).unwrap();
    }
    let listed: BTreeSet<String> = std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(String::from)
        .collect();
    let lost: Vec<_> = listed.difference(&exercised).collect();
    let new: Vec<_> = exercised.difference(&listed).collect();
    assert!(
        lost.is_empty() && new.is_empty(),
        "no longer exercised: {lost:?}; not listed: {new:?}"
    );
}
