//! References of producer/consumer rings and of the persistent grid.

use crate::case::{Case, Size, Target};
use crate::data::{Dtype, Init, bytes_of};
use crate::expect::Expect;

const CONSUMERS: usize = 96;

/// A case whose consumer threads fold 4 words of every tile into a hash.
fn ring(kernel: &'static str, blocks: usize, tiles: usize) -> Case {
    let mut case = Case::new(kernel, [blocks, 1], [128, 1]);
    let words = case
        .input(
            Dtype::U32,
            blocks * tiles * CONSUMERS * 4,
            Init::Range(0, 1 << 32),
        )
        .u32s();
    let hash = |i: usize| {
        let (block, consumer) = (i / CONSUMERS, i % CONSUMERS);
        (0..tiles).fold(0u32, |hash, tile| {
            let first = ((block * tiles + tile) * CONSUMERS + consumer) * 4;
            let sum = words[first..first + 4]
                .iter()
                .fold(0u32, |sum, word| sum.wrapping_add(*word));
            hash.rotate_left(5) ^ sum
        })
    };
    let hashes = (0..blocks * CONSUMERS).map(|i| hash(i).to_le_bytes());
    case.output(
        Dtype::U32,
        blocks * CONSUMERS,
        Expect::Exact(bytes_of(hashes)),
    );
    case.sizes([tiles]);
    case
}

pub fn named_ring(size: Size) -> Case {
    let (blocks, tiles) = size.pick((20, 50), (3, 11));
    ring("named_ring", blocks, tiles)
}

pub fn bulk_ring(size: Size) -> Case {
    let (blocks, tiles) = size.pick((20, 50), (3, 11));
    let mut case = ring("bulk_ring", blocks, tiles);
    case.target = Target::Hopper;
    case
}

pub fn persistent_phases(size: Size) -> Case {
    // The full case has a block for every processor of an H100.
    let (blocks, n, phases) = size.pick((132, 40_001, 6), (6, 2_001, 4));
    let shift = 977;
    let mut case = Case::new("persistent_phases", [blocks, 1], [128, 1]);
    case.cooperative = true;
    let all = Init::Range(0, 1 << 32);
    let mut from = case.next(Dtype::U32, n, all).u32s();
    let mut to = vec![0; n];
    for _ in 0..phases {
        for i in 0..n {
            let neighbour = from[(i + shift) % n];
            to[i] = 1664525u32
                .wrapping_mul(from[i])
                .wrapping_add(neighbour)
                .wrapping_add(1013904223);
        }
        std::mem::swap(&mut from, &mut to);
    }
    // After an even number of phases the result is where the input was, and the other buffer holds the phase before.
    let exact = |words: Vec<u32>| Expect::Exact(bytes_of(words.into_iter().map(u32::to_le_bytes)));
    case.update(Dtype::U32, n, all, exact(from));
    case.output(Dtype::U32, n, exact(to));
    case.update(
        Dtype::U32,
        1,
        Init::Zeros,
        exact(vec![(blocks * (phases - 1)) as u32]),
    );
    case.sizes([n, shift, phases]);
    case
}
