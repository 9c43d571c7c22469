//! Randomness that depends on nothing but a seed: the same on every machine and in every version.

/// SplitMix64 (Steele et al., 2014): small, and good enough to shuffle, to draw and to start weights from.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for each `(seed, stream)`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Random(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
        // Seeds are small numbers: streams of neighbours part after a step.
        random.bits();
        random
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// Within `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Within `[-1, 1)`, on a grid that f32 holds exactly.
    pub(crate) fn symmetric(&mut self) -> f32 {
        ((self.bits() >> 40) as f32) * (2.0 / (1u64 << 24) as f32) - 1.0
    }

    /// `count` numbers spread evenly within `[-bound, bound)`.
    pub(crate) fn uniform(&mut self, count: usize, bound: f32) -> Vec<f32> {
        (0..count).map(|_| self.symmetric() * bound).collect()
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = (u128::from(self.bits()) * (i as u128 + 1)) >> 64;
            items.swap(i, j as usize);
        }
    }
}

/// The numbers below `len` in an order of the seed's. A number keeps its place among others when `len` grows.
pub fn order(seed: u64, len: usize) -> Vec<usize> {
    let key = |i: usize| mixed(seed ^ (i as u64 + 1).wrapping_mul(STEP));
    let mut numbers: Vec<usize> = (0..len).collect();
    numbers.sort_by_key(|&i| (key(i), i));
    numbers
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
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
        let few: Vec<usize> = first.into_iter().filter(|i| *i < 100).collect();
        assert_eq!(few, order(1, 100));
    }

    #[test]
    fn units_are_even() {
        let mut random = Random::new(7, 0);
        let all: Vec<f64> = (0..10_000).map(|_| random.unit()).collect();
        let mean = all.iter().sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert!(all.iter().all(|x| (0.0..1.0).contains(x)));
    }
}
