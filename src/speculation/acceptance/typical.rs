use crate::speculation::Tree;
use crate::speculation::sampling::math;
use crate::{Error, Result};

/// 2^40: probabilities and entropies are added in steps of 2^-40, so that no order of summation changes a bit.
const FIXED: f32 = (1u64 << 40) as f32;

/// Parameters of typical acceptance (Cai et al., 2024): a token is accepted if its probability is above
/// min(`posterior_threshold`, `posterior_alpha` * exp(-H)), where H is the entropy in nats of the target's distribution
/// at this temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TypicalParams {
    /// Epsilon, between 0 and 1: a token more likely than this is accepted whatever the entropy.
    pub posterior_threshold: f32,
    /// Delta, at least 0: how far below exp(-H) a token may be; Medusa advises the root of the threshold.
    pub posterior_alpha: f32,
}

impl Default for TypicalParams {
    /// Medusa's: 0.09 and 0.3.
    fn default() -> Self {
        TypicalParams {
            posterior_threshold: 0.09,
            posterior_alpha: 0.3,
        }
    }
}

/// What a tree came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The last accepted node; the root if there is none. Its path is accepted with it.
    pub node: usize,
    /// The token that follows: the most likely at that node, the smaller id of equals.
    pub bonus: u32,
}

impl TypicalParams {
    /// Checks the parameters.
    ///
    /// # Errors
    /// If one is out of range.
    pub fn validate(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.posterior_threshold) {
            return Err(Error::Invalid(format!(
                "posterior_threshold is {}; it must be between 0 and 1",
                self.posterior_threshold
            )));
        }
        if !(0.0..=f32::MAX).contains(&self.posterior_alpha) {
            return Err(Error::Invalid(format!(
                "posterior_alpha is {}; it must be at least 0",
                self.posterior_alpha
            )));
        }
        Ok(())
    }

    /// The longest accepted path of a tree. `logits` gives the target's logits of a node, `[vocab_size]`; it is asked
    /// only about accepted nodes. Of accepted nodes equally deep the one with the largest sum of ln p along its path
    /// wins, then the one that comes first in the rows of [`Tree::retrieve_indices`].
    ///
    /// # Errors
    /// If a parameter or the temperature is out of range, or logits are no numbers.
    pub fn accept<'a>(
        &self,
        tree: &Tree,
        temperature: f32,
        mut logits: impl FnMut(usize) -> &'a [f32],
    ) -> Result<Accepted> {
        self.validate()?;
        // Of accepted nodes, the sum of ln p.
        let mut sums: Vec<Option<f32>> = vec![None; tree.len()];
        sums[0] = Some(0.0);
        for node in 0..tree.len() {
            let (Some(sum), Some(_)) = (sums[node], tree.children(node).next()) else {
                continue;
            };
            let posterior = TypicalPosterior::new(self, logits(node), temperature)?;
            for child in tree.children(node) {
                let token = tree.token(child);
                if posterior.accepts(token) {
                    sums[child] = Some(sum + posterior.logprob(token));
                }
            }
        }
        let accepted = sums
            .iter()
            .enumerate()
            .filter_map(|(n, sum)| Some((n, (*sum)?)));
        let best = accepted.max_by(|&(a, x), &(b, y)| {
            let depths = tree.depth(a).cmp(&tree.depth(b));
            let by_row = || first_row(tree, a).cmp(&first_row(tree, b));
            depths.then(x.total_cmp(&y)).then_with(by_row)
        });
        let node = best.map_or(0, |(node, _)| node);
        let posterior = TypicalPosterior::new(self, logits(node), temperature)?;
        Ok(Accepted {
            node,
            bonus: posterior.best,
        })
    }
}

/// (depth, path) of the leaf below a node whose row is the first: rows come largest first.
fn first_row(tree: &Tree, node: usize) -> Option<(u32, Vec<u32>)> {
    let below = (node..tree.len()).filter(|&other| tree.mask(other) >> node & 1 == 1);
    below.map(|leaf| (tree.depth(leaf), tree.path(leaf))).max()
}

/// The target's distribution at one node, and what is typical of it.
#[derive(Debug, Clone, Copy)]
pub struct TypicalPosterior<'a> {
    logits: &'a [f32],
    temperature: f32,
    largest: f32,
    /// The first token with the largest logit.
    best: u32,
    /// Sum of exp(score).
    total: f32,
    entropy: f32,
    limit: f32,
}

impl<'a> TypicalPosterior<'a> {
    /// Of softmax(logits / temperature); temperature 0 is the most likely token alone. NaN counts as -inf.
    ///
    /// # Errors
    /// If the temperature is not a number of at least 0, or no logit is a finite number.
    pub fn new(params: &TypicalParams, logits: &'a [f32], temperature: f32) -> Result<Self> {
        if !(0.0..=f32::MAX).contains(&temperature) {
            return Err(Error::Invalid(format!(
                "temperature is {temperature}; it must be at least 0"
            )));
        }
        let mut best = 0;
        let mut largest = f32::NEG_INFINITY;
        for (token, &logit) in (0..).zip(logits) {
            if logit > largest {
                (best, largest) = (token, logit);
            }
        }
        if !largest.is_finite() {
            return Err(Error::Invalid(
                "typical acceptance met logits without a finite largest number".into(),
            ));
        }
        let mut posterior = TypicalPosterior {
            logits,
            temperature,
            largest,
            best,
            total: 1.0,
            entropy: 0.0,
            limit: 0.0,
        };
        let total = posterior.sum(
            #[inline(always)]
            |weight| weight,
        );
        posterior.total = total;
        posterior.entropy = -posterior.sum(
            #[inline(always)]
            |weight| {
                let p = weight / total;
                p * math::log(p + 1e-5)
            },
        );
        posterior.limit = params
            .posterior_threshold
            .min(params.posterior_alpha * math::exp(-posterior.entropy));
        Ok(posterior)
    }

    /// exp(score) of a token.
    #[inline(always)]
    fn weight(&self, token: usize, logit: f32) -> f32 {
        if self.temperature == 0.0 {
            return f32::from(token == self.best as usize);
        }
        // NaN is no weight.
        let weight = math::exp((logit - self.largest) / self.temperature);
        if weight >= 0.0 { weight } else { 0.0 }
    }

    /// The sum over tokens of a function of their weights.
    #[inline(always)]
    fn sum(&self, term: impl Fn(f32) -> f32) -> f32 {
        math::wide(
            #[inline(always)]
            || {
                let terms = self.logits.iter().enumerate();
                let sum: i64 = terms
                    .map(|(token, &logit)| (term(self.weight(token, logit)) * FIXED) as i64)
                    .sum();
                sum as f32 / FIXED
            },
        )
    }

    /// Entropy in nats, -sum of p ln(p + 1e-5).
    pub fn entropy(&self) -> f32 {
        self.entropy
    }

    /// What a token's probability must exceed.
    pub fn limit(&self) -> f32 {
        self.limit
    }

    /// Probability of a token; 0 past the vocabulary.
    pub fn probability(&self, token: u32) -> f32 {
        let logit = self.logits.get(token as usize);
        logit.map_or(0.0, |&l| self.weight(token as usize, l) / self.total)
    }

    /// Natural logarithm of a token's probability.
    pub fn logprob(&self, token: u32) -> f32 {
        math::log(self.probability(token))
    }

    /// Whether a draft's token is accepted.
    pub fn accepts(&self, token: u32) -> bool {
        self.probability(token) > self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// (p, entropy, limit) by the formula, in f64.
    fn formula(params: &TypicalParams, logits: &[f32], temperature: f32) -> (Vec<f64>, f64, f64) {
        let scores: Vec<f64> = logits
            .iter()
            .map(|&l| f64::from(l) / f64::from(temperature))
            .collect();
        let max = scores.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        let p: Vec<f64> = scores.iter().map(|s| (s - max).exp() / total).collect();
        let entropy = -p.iter().map(|p| p * (p + 1e-5).ln()).sum::<f64>();
        let limit = f64::from(params.posterior_alpha) * (-entropy).exp();
        (p, entropy, limit.min(f64::from(params.posterior_threshold)))
    }

    proptest! {
        #[test]
        fn agrees_with_f64(
            logits in prop::collection::vec(-12.0f32..12.0, 1..300),
            temperature in 0.2f32..3.0,
            posterior_threshold in 0.0f32..=1.0,
            posterior_alpha in 0.0f32..2.0,
        ) {
            let params = TypicalParams { posterior_threshold, posterior_alpha };
            let posterior = TypicalPosterior::new(&params, &logits, temperature).unwrap();
            let (p, entropy, limit) = formula(&params, &logits, temperature);
            prop_assert!((f64::from(posterior.entropy()) - entropy).abs() < 1e-4);
            prop_assert!((f64::from(posterior.limit()) - limit).abs() < 1e-5);
            for (token, &p) in (0..).zip(&p) {
                prop_assert!((f64::from(posterior.probability(token)) - p).abs() < 1e-5);
                if (p - limit).abs() > 1e-4 {
                    prop_assert_eq!(posterior.accepts(token), p > limit);
                }
            }
        }

        /// The rows of retrieve_indices judged one by one, as Medusa does.
        #[test]
        fn longest_then_likeliest_row(
            nodes in prop::collection::vec((any::<prop::sample::Index>(), 0u32..4), 0..24),
            logits in prop::collection::vec(prop::collection::vec((0u32..3).prop_map(|l| l as f32), 4), 25),
        ) {
            let mut tree = Tree::new(0);
            for (parent, token) in nodes {
                let _ = tree.push(parent.index(tree.len()), token, -1.0);
            }
            let params = TypicalParams { posterior_threshold: 0.3, posterior_alpha: 1.0 };
            let mut best = (0, 0.0, 0usize);
            for row in tree.retrieve_indices() {
                let path: Vec<usize> = row.iter().filter_map(|&n| usize::try_from(n).ok()).collect();
                let (mut length, mut sum) = (0, 0.0);
                for pair in path.windows(2) {
                    let posterior = TypicalPosterior::new(&params, &logits[pair[0]], 1.0).unwrap();
                    if !posterior.accepts(tree.token(pair[1])) {
                        break;
                    }
                    length += 1;
                    sum += posterior.logprob(tree.token(pair[1]));
                }
                if length > best.0 || length == best.0 && length > 0 && sum > best.1 {
                    best = (length, sum, path[length]);
                }
            }
            let accepted = params.accept(&tree, 1.0, |node| logits[node].as_slice()).unwrap();
            prop_assert_eq!(accepted.node, best.2);
            let row = &logits[accepted.node];
            let max = row.iter().copied().fold(f32::MIN, f32::max);
            prop_assert_eq!(accepted.bonus as usize, row.iter().position(|&l| l == max).unwrap());
        }
    }

    #[test]
    fn temperature_zero_is_greedy() {
        let logits = [1.0, 3.0, 3.0, f32::NAN];
        let params = TypicalParams::default();
        let posterior = TypicalPosterior::new(&params, &logits, 0.0).unwrap();
        let accepted: Vec<u32> = (0..6).filter(|&token| posterior.accepts(token)).collect();
        assert_eq!(accepted, [1]);
        let tree = Tree::chain(0, &[(1, -1.0), (1, -2.0), (2, -3.0)]).unwrap();
        let accepted = params.accept(&tree, 0.0, |_| &logits).unwrap();
        assert_eq!(accepted, Accepted { node: 2, bonus: 1 });
    }

    #[test]
    fn refusals() {
        let params = |posterior_threshold, posterior_alpha| TypicalParams {
            posterior_threshold,
            posterior_alpha,
        };
        let error = params(1.5, 0.3).validate().unwrap_err().to_string();
        assert_eq!(
            error,
            "posterior_threshold is 1.5; it must be between 0 and 1"
        );
        assert!(params(f32::NAN, 0.3).validate().is_err());
        assert!(params(0.1, -0.1).validate().is_err());
        assert!(params(0.1, f32::INFINITY).validate().is_err());
        let default = TypicalParams::default();
        default.validate().unwrap();
        assert!(TypicalPosterior::new(&default, &[1.0], -1.0).is_err());
        assert!(TypicalPosterior::new(&default, &[f32::NAN], 1.0).is_err());
        assert!(TypicalPosterior::new(&default, &[], 1.0).is_err());
        let tree = Tree::new(0);
        assert!(params(2.0, 0.0).accept(&tree, 1.0, |_| &[1.0][..]).is_err());
    }
}
