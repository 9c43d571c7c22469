/// How often a draft's guesses come true, by what it thought of them: maps the probability that a draft gives to a token
/// to the share of such tokens that were accepted so far.
#[derive(Debug, Clone)]
pub(super) struct Calibration {
    buckets: [Bucket; BUCKETS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    offered: f64,
    accepted: f64,
}

/// By the logarithm of the odds, in steps of 1/2 from -6 to 6.
const BUCKETS: usize = 25;

/// Guesses that the draft's own probability is worth.
const PRIOR: f64 = 6.0;

/// Texts change: after so many guesses in a bucket, older ones count half.
const MEMORY: f64 = 256.0;

impl Calibration {
    /// Believes the draft.
    pub fn new() -> Self {
        Calibration {
            buckets: [Bucket::default(); BUCKETS],
        }
    }

    /// The probability that a token is accepted which the draft gives `probability`, its parent being accepted.
    pub fn probability(&self, probability: f64) -> f64 {
        let bucket = &self.buckets[bucket(probability)];
        (bucket.accepted + PRIOR * probability) / (bucket.offered + PRIOR)
    }

    /// Takes note of a guess whose parent was accepted.
    pub fn observe(&mut self, probability: f64, accepted: bool) {
        let bucket = &mut self.buckets[bucket(probability)];
        bucket.offered += 1.0;
        bucket.accepted += f64::from(u8::from(accepted));
    }

    /// Halves what has become old, once all guesses of a round have been noted.
    pub fn forget(&mut self) {
        let full = (self.buckets.iter_mut()).filter(|bucket| bucket.offered >= MEMORY);
        for bucket in full {
            bucket.offered /= 2.0;
            bucket.accepted /= 2.0;
        }
    }
}

fn bucket(probability: f64) -> usize {
    let p = probability.clamp(1e-6, 1.0 - 1e-6);
    let log_odds = (p / (1.0 - p)).ln();
    let index = (2.0 * log_odds).round() + (BUCKETS / 2) as f64;
    index.clamp(0.0, (BUCKETS - 1) as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn believes_until_it_knows_better() {
        let mut calibration = Calibration::new();
        assert!((calibration.probability(0.9) - 0.9).abs() < 1e-12);
        for i in 0..100 {
            calibration.observe(0.9, i % 2 == 0);
        }
        assert!((calibration.probability(0.9) - 0.52).abs() < 0.01);
        assert!((calibration.probability(0.1) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn forgets() {
        let mut calibration = Calibration::new();
        let mut round = |accepted: bool| {
            calibration.observe(0.5, accepted);
            calibration.forget();
            calibration.probability(0.5)
        };
        let unlucky = (0..10_000).map(|_| round(false)).last();
        assert!(unlucky < Some(0.05));
        (0..1000).for_each(|_| _ = round(true));
        assert!(calibration.probability(0.5) > 0.9);
    }

    #[test]
    fn takes_any_number() {
        for p in [0.0, 1.0, -1.0, 2.0, f64::NAN, f64::INFINITY] {
            assert!(bucket(p) < BUCKETS);
        }
    }
}
