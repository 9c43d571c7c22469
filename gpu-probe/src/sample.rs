//! Several repeats of one measurement.

use serde::Serialize;

/// Median and spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// How many there were.
    pub repeats: usize,
}

impl Sample {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Sample {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
        Sample {
            median: if sorted.len() % 2 == 1 {
                at(middle)
            } else {
                (at(middle.wrapping_sub(1)) + at(middle)) / 2.0
            },
            min: at(0),
            max: at(sorted.len().wrapping_sub(1)),
            repeats: sorted.len(),
        }
    }

    /// Of the last `repeats` values: of those that no warm-up gave.
    pub fn of_last(values: &[f64], repeats: usize) -> Sample {
        Sample::of(
            values
                .get(values.len().saturating_sub(repeats)..)
                .unwrap_or_default(),
        )
    }

    /// The same with every value turned into another, which need not keep their order.
    pub fn map(self, f: impl Fn(f64) -> f64) -> Sample {
        let (a, b) = (f(self.min), f(self.max));
        Sample {
            median: f(self.median),
            min: a.min(b),
            max: a.max(b),
            repeats: self.repeats,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spread() {
        let odd = Sample::of(&[3.0, 1.0, 2.0]);
        assert_eq!(
            (odd.median, odd.min, odd.max, odd.repeats),
            (2.0, 1.0, 3.0, 3)
        );
        assert_eq!(Sample::of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        let rate = odd.map(|time| 6.0 / time);
        assert_eq!((rate.median, rate.min, rate.max), (3.0, 2.0, 6.0));
    }
}
