use crate::parameters::{Gradients, Parameters};
use crate::{Error, Result};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Settings of AdamW (Loshchilov and Hutter, 2019).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdamWSettings {
    /// Decay of the moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Share of a parameter that is taken off at each step, times the learning rate.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm of all together, if they are above.
    pub max_grad_norm: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        AdamWSettings {
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 0.5,
        }
    }
}

/// AdamW with its moments, which are all that it remembers besides the number of steps.
#[derive(Debug, Clone)]
pub struct AdamW {
    settings: AdamWSettings,
    /// First and second moment of each parameter, in its form.
    pub(crate) moments: Vec<[Tensor<2>; 2]>,
    pub(crate) steps: u64,
}

impl AdamW {
    /// At rest.
    pub fn new(settings: AdamWSettings, parameters: &Parameters) -> Self {
        let zeros = parameters.iter().map(|p| p.value.zeros_like());
        AdamW {
            settings,
            moments: zeros.map(|zero| [zero.clone(), zero]).collect(),
            steps: 0,
        }
    }

    /// One step against `gradients`, clipped as the settings say. Returns their norm before.
    ///
    /// # Errors
    /// If there is not a gradient for each parameter, or the norm is no number.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        mut gradients: Gradients,
        learning_rate: f64,
    ) -> Result<f64> {
        if gradients.0.len() != parameters.len() {
            return Err(Error::Invalid(format!(
                "{} gradients of {} parameters",
                gradients.0.len(),
                parameters.len()
            )));
        }
        let norm = gradients.norm()?;
        if !norm.is_finite() {
            return Err(Error::Invalid(format!(
                "the gradients' norm is {norm} at step {}; a lower learning rate or a longer warm-up may help",
                self.steps
            )));
        }
        // As PyTorch's clip_grad_norm_ has it.
        let factor = self.settings.max_grad_norm / (norm + 1e-6);
        if factor < 1.0 {
            gradients.scale(factor as f32);
        }
        self.steps += 1;
        let [beta1, beta2] = self.settings.betas;
        let exponent = self.steps.min(i32::MAX as u64) as i32;
        let (bias1, bias2) = (1.0 - beta1.powi(exponent), 1.0 - beta2.powi(exponent));
        let keep = 1.0 - learning_rate * self.settings.weight_decay;
        let (rate, root) = ((learning_rate / bias1) as f32, (1.0 / bias2.sqrt()) as f32);
        let all = parameters
            .iter_mut()
            .zip(&mut self.moments)
            .zip(gradients.0);
        for ((parameter, [m, v]), gradient) in all {
            m.inplace(|m| m * beta1 as f32 + gradient.clone() * (1.0 - beta1) as f32);
            let square = gradient.clone() * gradient;
            v.inplace(|v| v * beta2 as f32 + square * (1.0 - beta2) as f32);
            let divisor = v.clone().sqrt() * root + self.settings.eps as f32;
            let change = m.clone() * rate / divisor;
            parameter.value.inplace(|value| match keep {
                1.0 => value - change,
                _ => value * keep as f32 - change,
            });
        }
        Ok(norm)
    }
}
