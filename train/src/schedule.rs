use serde::{Deserialize, Serialize};

/// How the learning rate goes after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// It stays.
    Constant,
    /// It falls evenly.
    Linear,
    /// It falls along half a cosine.
    #[default]
    Cosine,
}

/// The learning rate at each step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// The largest.
    pub learning_rate: f64,
    /// Steps in which it rises evenly to the largest.
    pub warmup_steps: u64,
    /// What follows.
    pub decay: Decay,
    /// Share of the largest that is left at the last step.
    pub floor: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            learning_rate: 1e-4,
            warmup_steps: 100,
            decay: Decay::Cosine,
            floor: 0.05,
        }
    }
}

impl Schedule {
    /// The rate of step `step`, from 0, of `total`.
    pub fn at(&self, step: u64, total: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let after = total.saturating_sub(self.warmup_steps + 1).max(1);
        let gone = ((step - self.warmup_steps) as f64 / after as f64).min(1.0);
        let left = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - gone * (1.0 - self.floor),
            Decay::Cosine => {
                let half = 0.5 * (1.0 + (std::f64::consts::PI * gone).cos());
                self.floor + (1.0 - self.floor) * half
            }
        };
        self.learning_rate * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_and_falls_to_the_floor() {
        let mut schedule = Schedule {
            learning_rate: 1.0,
            warmup_steps: 4,
            decay: Decay::Cosine,
            floor: 0.1,
        };
        assert_eq!(schedule.at(0, 11), 0.25);
        assert_eq!(schedule.at(3, 11), 1.0);
        assert_eq!(schedule.at(4, 11), 1.0);
        assert!((schedule.at(7, 11) - 0.55).abs() < 1e-12);
        assert!((schedule.at(10, 11) - 0.1).abs() < 1e-12);
        schedule.decay = Decay::Linear;
        assert!((schedule.at(7, 11) - 0.55).abs() < 1e-12);
        assert!((schedule.at(1000, 11) - 0.1).abs() < 1e-12);
        schedule.decay = Decay::Constant;
        assert_eq!(schedule.at(1000, 11), 1.0);
    }
}
