use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use stheno_codegen::plan::{DynamicNtk, RopeDecl};

/// How the frequencies of the rotation are stretched beyond the positions that a model was trained on.
///
/// The arithmetic follows transformers' `modeling_rope_utils` step by step, f32 where it uses tensors and f64 where it
/// uses Python numbers, so that frequencies agree to a rounding of f32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// `theta^(-2 i / dims)`.
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// Ratio of positions.
        factor: f64,
    },
    /// A larger base beyond `max_position_embeddings` (NTK-aware).
    ///
    /// transformers takes the base from the largest position of a call, and keeps keys as they were rotated. Here it
    /// comes from each row's own position, so that what is computed there depends on nothing else: the same as
    /// transformers when it generates token by token.
    Dynamic {
        /// Strength of the stretch.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, those between blended.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// Positions before the stretch.
        original_max_position_embeddings: u32,
    },
    /// YaRN: a ramp over the dims between stretched and kept, and a factor on sine and cosine.
    Yarn {
        /// Ratio of positions; that of `max_position_embeddings` to the original ones if left out.
        #[serde(default)]
        factor: Option<f64>,
        /// Factor on sine and cosine; derived from `factor` and the `mscale`s if left out.
        #[serde(default)]
        attention_factor: Option<f64>,
        /// Rotations over the original positions from which on dims are kept; 32.
        #[serde(default)]
        beta_fast: Option<f64>,
        /// Rotations below which dims are stretched in full; 1.
        #[serde(default)]
        beta_slow: Option<f64>,
        /// Numerator's weight in the derived attention factor.
        #[serde(default)]
        mscale: Option<f64>,
        /// Denominator's weight in the derived attention factor.
        #[serde(default)]
        mscale_all_dim: Option<f64>,
        /// Whether the ramp starts and ends at whole dims.
        #[serde(default)]
        truncate: Option<bool>,
        /// Positions before the stretch.
        original_max_position_embeddings: u32,
    },
    /// Each frequency divided by a factor of its own, as GGUF files carry Llama 3's scaling.
    Factors {
        /// One for each pair of rotated dims.
        factors: Vec<f32>,
    },
}

/// What a scaling is applied to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotation {
    /// Base of the frequencies.
    pub theta: f64,
    /// Rotated elements of a head, even.
    pub dims: u32,
    /// Positions of the configuration.
    pub max_position_embeddings: u32,
}

impl RopeScaling {
    /// The rotation table. Fails with what is wrong in the configuration.
    pub(super) fn declare(&self, rotation: &Rotation) -> Result<RopeDecl, String> {
        let theta = rotation.theta;
        if !(theta > 0.0 && theta <= f64::from(f32::MAX)) {
            return Err(format!("`rope_theta` is {theta}"));
        }
        let plain = || rotation.powers(theta).map(|power| 1.0 / power);
        let mut attention_factor = 1.0;
        let mut dynamic = None;
        let inv_freq: Vec<f32> = match self {
            RopeScaling::Default => plain().collect(),
            RopeScaling::Linear { factor } => {
                let factor = positive("factor", *factor)? as f32;
                plain().map(|f| f / factor).collect()
            }
            RopeScaling::Dynamic { factor } => {
                dynamic = Some(DynamicNtk {
                    theta,
                    factor: positive("factor", *factor)?,
                    trained_length: rotation.max_position_embeddings,
                });
                plain().collect()
            }
            RopeScaling::Llama3 { .. } => {
                let blend = self.llama3()?;
                plain().map(blend).collect()
            }
            RopeScaling::Yarn { .. } => {
                let (inv_freq, factor) = self.yarn(rotation)?;
                attention_factor = factor;
                inv_freq
            }
            RopeScaling::Factors { factors } => {
                let pairs = rotation.dims as usize / 2;
                if factors.len() != pairs {
                    let found = factors.len();
                    return Err(format!(
                        "{found} rotation factors for {pairs} pairs of dims"
                    ));
                }
                plain().zip(factors).map(|(f, factor)| f / factor).collect()
            }
        };
        let sound = |f: &f32| f.is_finite() && *f >= 0.0;
        let frequencies = inv_freq.iter().all(sound);
        if !frequencies || !sound(&attention_factor) || attention_factor == 0.0 {
            return Err("the rotation's parameters give no finite frequencies".to_owned());
        }
        Ok(RopeDecl {
            inv_freq,
            attention_factor,
            dynamic,
        })
    }

    fn llama3(&self) -> Result<impl Fn(f32) -> f32, String> {
        let &RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } = self
        else {
            return Err("no llama3 scaling".to_owned());
        };
        positive("factor", factor)?;
        positive("low_freq_factor", low_freq_factor)?;
        positive("high_freq_factor", high_freq_factor)?;
        if high_freq_factor <= low_freq_factor {
            return Err(format!(
                "`high_freq_factor` {high_freq_factor} is not above `low_freq_factor` {low_freq_factor}"
            ));
        }
        let original = f64::from(original_max_position_embeddings);
        let longest = (original / low_freq_factor) as f32;
        let shortest = (original / high_freq_factor) as f32;
        let (factor, low) = (factor as f32, low_freq_factor as f32);
        let range = (high_freq_factor - low_freq_factor) as f32;
        Ok(move |inv_freq: f32| {
            let wavelength = (2.0 * PI) as f32 / inv_freq;
            if wavelength > longest {
                inv_freq / factor
            } else if wavelength < shortest {
                inv_freq
            } else {
                let smooth = (original as f32 / wavelength - low) / range;
                (1.0 - smooth) * inv_freq / factor + smooth * inv_freq
            }
        })
    }

    fn yarn(&self, rotation: &Rotation) -> Result<(Vec<f32>, f32), String> {
        let &RopeScaling::Yarn {
            factor,
            attention_factor,
            beta_fast,
            beta_slow,
            mscale,
            mscale_all_dim,
            truncate,
            original_max_position_embeddings,
        } = self
        else {
            return Err("no yarn scaling".to_owned());
        };
        let original = f64::from(original_max_position_embeddings);
        positive("original_max_position_embeddings", original)?;
        let ratio = f64::from(rotation.max_position_embeddings) / original;
        let factor = positive("factor", factor.unwrap_or(ratio))?;
        // In transformers 0 counts as left out in these four.
        let given = |value: Option<f64>| value.filter(|v| *v != 0.0);
        let attention_factor =
            attention_factor.unwrap_or_else(|| match (given(mscale), given(mscale_all_dim)) {
                (Some(one), Some(all)) => magnitude(factor, one) / magnitude(factor, all),
                _ => magnitude(factor, 1.0),
            });
        let fast = positive("beta_fast", given(beta_fast).unwrap_or(32.0))?;
        let slow = positive("beta_slow", given(beta_slow).unwrap_or(1.0))?;

        let dims = f64::from(rotation.dims);
        // Dim that makes so many rotations over the original positions.
        let dim_of = |rotations: f64| {
            dims * (original / (rotations * 2.0 * PI)).ln() / (2.0 * rotation.theta.ln())
        };
        let (mut low, mut high) = (dim_of(fast), dim_of(slow));
        if truncate.unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dims - 1.0));
        if low == high {
            high += 0.001;
        }
        let (start, range) = (low as f32, (high - low) as f32);
        let factor = factor as f32;
        let powers = rotation.powers(rotation.theta).zip(0u16..);
        let inv_freq = powers.map(|(power, i)| {
            let kept = 1.0 - ((f32::from(i) - start) / range).clamp(0.0, 1.0);
            (1.0 / (factor * power)) * (1.0 - kept) + (1.0 / power) * kept
        });
        Ok((inv_freq.collect(), attention_factor as f32))
    }
}

/// YaRN's magnitude correction.
fn magnitude(scale: f64, mscale: f64) -> f64 {
    if scale <= 1.0 {
        1.0
    } else {
        0.1 * mscale * scale.ln() + 1.0
    }
}

fn positive(key: &str, value: f64) -> Result<f64, String> {
    let fits = value > 0.0 && value <= f64::from(f32::MAX);
    let refusal = || format!("`{key}` is {value}, which is no positive number");
    fits.then_some(value).ok_or_else(refusal)
}

impl Rotation {
    /// `theta^(2 i / dims)` for each pair.
    fn powers(&self, theta: f64) -> impl Iterator<Item = f32> {
        let dims = self.dims;
        (0..dims / 2).map(move |i| (theta as f32).powf((2 * i) as f32 / dims as f32))
    }
}
