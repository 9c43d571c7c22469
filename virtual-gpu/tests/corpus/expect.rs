//! What a buffer must hold after a launch.

use crate::data::Dtype;

/// What a buffer must hold after a launch.
pub enum Expect {
    /// These bytes.
    Exact(Vec<u8>),
    /// For each element, a number and how far from it the element may be.
    Near(Vec<(f64, f64)>),
    /// Working memory of the kernel: anything.
    Any,
}

impl Expect {
    pub fn check(&self, dtype: Dtype, got: &[u8]) -> Result<(), String> {
        let got = got.chunks_exact(dtype.bytes());
        match self {
            Expect::Any => Ok(()),
            Expect::Exact(want) => {
                let want = want.chunks_exact(dtype.bytes());
                if want.len() != got.len() {
                    return Err(format!("{} elements instead of {}", got.len(), want.len()));
                }
                let wrong: Vec<usize> = (0..)
                    .zip(want.clone().zip(got.clone()))
                    .filter(|(_, (w, g))| w != g)
                    .map(|(i, _)| i)
                    .collect();
                match wrong.first() {
                    None => Ok(()),
                    Some(&i) => Err(format!(
                        "{} of {} elements differ; the first, {i}, has bytes {:02x?} instead of {:02x?}",
                        wrong.len(),
                        got.len(),
                        got.clone().nth(i).unwrap_or_default(),
                        want.clone().nth(i).unwrap_or_default(),
                    )),
                }
            }
            Expect::Near(want) => {
                if want.len() != got.len() {
                    return Err(format!("{} elements instead of {}", got.len(), want.len()));
                }
                let got: Vec<f64> = got.map(|element| dtype.decode(element)).collect();
                // A NaN is never near.
                let near = |i: usize| (got[i] - want[i].0).abs() <= want[i].1;
                let wrong: Vec<usize> = (0..got.len()).filter(|&i| !near(i)).collect();
                match wrong.first() {
                    None => Ok(()),
                    Some(&i) => Err(format!(
                        "{} of {} elements are too far off; the first, {i}, is {:e} instead of {:e} +- {:e}",
                        wrong.len(),
                        got.len(),
                        got[i],
                        want[i].0,
                        want[i].1,
                    )),
                }
            }
        }
    }

    /// Bytes that pass the check, if this says anything about them.
    pub fn answer(&self, dtype: Dtype) -> Option<Vec<u8>> {
        match self {
            Expect::Exact(bytes) => Some(bytes.clone()),
            Expect::Near(want) => Some(
                want.iter()
                    .flat_map(|&(number, _)| dtype.encode(number))
                    .collect(),
            ),
            Expect::Any => None,
        }
    }
}
