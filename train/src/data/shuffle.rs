//! Randomness that depends on nothing but a seed: the same on every machine and in every version.

/// SplitMix64 (Steele et al., 2014): well mixed bits of a counter.
fn mix(seed: u64, counter: u64) -> u64 {
    let mut z = seed ^ counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in [0, 1) of a seed and a counter.
pub fn unit(seed: u64, counter: u64) -> f64 {
    (mix(seed, counter) >> 11) as f64 / (1u64 << 53) as f64
}

/// The numbers below `len` in an order of the seed's: ordered by mixed bits, then by number.
pub fn order(seed: u64, len: usize) -> Vec<usize> {
    let mut keyed: Vec<(u64, usize)> = (0..len).map(|i| (mix(seed, i as u64), i)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, i)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_hold_every_number_once_and_differ_by_seed() {
        let first = order(1, 1000);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_ne!(first, order(2, 1000));
        assert_eq!(first, order(1, 1000));
    }

    #[test]
    fn units_are_even() {
        let mean = (0..10_000).map(|i| unit(7, i)).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert!((0..10_000).all(|i| (0.0..1.0).contains(&unit(3, i))));
    }
}
