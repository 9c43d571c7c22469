use crate::learner::Measure;
use crate::parameters::{matrix, read};
use crate::product::Precision;
use crate::{Error, Result};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

/// Rows whose logits are in memory at a time.
const ROWS: usize = 512;

/// What rows of logits should have been.
pub(crate) enum Goals<'a> {
    /// Distributions `[m, vocabulary]` and the row of each that a row of logits should match. The token to guess is their
    /// best.
    Soft {
        probabilities: &'a Tensor<2>,
        best: &'a [u32],
        rows: &'a [usize],
    },
    /// Tokens, as ids of the draft.
    Hard(&'a [u32]),
}

/// What is asked besides the loss.
pub(crate) enum Asked {
    /// Gradients of the sum of losses times a factor for each row, with that of the head if it is learnt.
    Gradients { factors: Vec<f32>, head: bool },
    /// Ranks of the tokens to guess.
    Ranks,
}

/// Loss of a head's logits.
pub(crate) struct Scored {
    /// What the head was fed, in its graph.
    pub outputs: Tensor<2>,
    /// Of each row.
    pub losses: Vec<f32>,
    /// Rank of the right token of each row: exact if ranks were asked for, else 0 or as far down as can be.
    pub ranks: Vec<usize>,
    /// Gradient of what it was fed `[n, h]`.
    pub known: Option<Tensor<2>>,
    /// Gradient of the head `[vocabulary, h]`.
    pub head: Option<Tensor<2>>,
}

impl Scored {
    /// Adds what rows found to a measure.
    pub fn measure(&self, rows: std::ops::Range<usize>, measure: &mut Measure) {
        let losses = self.losses.get(rows.clone()).unwrap_or_default();
        let ranks = self.ranks.get(rows).unwrap_or_default();
        measure.counted += losses.len();
        measure.loss += losses.iter().copied().map(f64::from).sum::<f64>();
        for &rank in ranks {
            measure.right += usize::from(rank == 0);
            if let Some(count) = measure.ranks.get_mut(rank) {
                *count += 1;
            }
        }
    }
}

/// Cross-entropy of `softmax(outputs head^T)` against `goals`, for `outputs` `[n, h]` and `head` `[vocabulary, h]`. The
/// gradient of logits is known in closed form, so that no graph need hold them: chunks of rows come and go.
pub(crate) fn cross_entropy(
    outputs: Tensor<2>,
    head: &Tensor<2>,
    goals: &Goals<'_>,
    asked: &Asked,
    precision: Precision,
) -> Result<Scored> {
    let all = outputs.clone().inner();
    let head = head.clone().inner();
    let device = all.device();
    let [n, _] = all.dims();
    let mut scored = Scored {
        outputs,
        losses: Vec::with_capacity(n),
        ranks: Vec::with_capacity(n),
        known: None,
        head: None,
    };
    let mut known = Vec::new();
    for start in (0..n).step_by(ROWS) {
        let rows = start..(start + ROWS).min(n);
        let x = all.clone().narrow(0, start, rows.len());
        let logits = precision.product(x.clone(), head.clone().transpose());
        let q = softmax(logits.clone(), 1);
        let (largest, guesses) = logits.clone().max_dim_with_indices(1);
        // log(sum of exp) by way of the largest probability.
        let normaliser = largest - q.clone().max_dim(1).log();
        let (expected, wanted, surplus) = match goals {
            Goals::Soft {
                probabilities,
                best,
                rows: of,
            } => {
                let of = &of[rows.clone()];
                let p = (*probabilities).clone().select(0, indices(of, &device));
                let expected = (logits.clone() * p.clone()).sum_dim(1);
                let wanted: Vec<u32> = of.iter().map(|&row| best[row]).collect();
                (expected, wanted, q - p)
            }
            Goals::Hard(tokens) => {
                let wanted = tokens[rows.clone()].to_vec();
                let at = column(&wanted, &device);
                let expected = logits.clone().gather(1, at.clone());
                let minus = matrix(vec![-1.0; wanted.len()], [wanted.len(), 1], &device);
                let surplus = q.scatter(1, at, minus, IndexingUpdateOp::Add);
                (expected, wanted, surplus)
            }
        };
        scored.losses.extend(read(normaliser - expected)?);
        match asked {
            Asked::Ranks => {
                let at = column(&wanted, &device);
                let better = logits.clone().greater(logits.gather(1, at));
                let ranks = read(better.float().sum_dim(1))?;
                scored.ranks.extend(ranks.into_iter().map(|r| r as usize));
            }
            Asked::Gradients {
                factors,
                head: learnt,
            } => {
                let guesses = guesses.try_into_vec_as::<i64>();
                let guesses = guesses.map_err(|e| Error::Invalid(e.to_string()))?;
                let right = |(guess, &wanted): (&i64, &u32)| *guess == i64::from(wanted);
                let ranks = guesses
                    .iter()
                    .zip(&wanted)
                    .map(|g| if right(g) { 0 } else { usize::MAX });
                scored.ranks.extend(ranks);
                let factors = factors[rows.clone()].to_vec();
                let gradient = surplus * matrix(factors, [rows.len(), 1], &device);
                if *learnt {
                    let part = precision.product(gradient.clone().transpose(), x);
                    scored.head = Some(match scored.head.take() {
                        Some(sum) => sum + part,
                        None => part,
                    });
                }
                known.push(precision.product(gradient, head.clone()));
            }
        }
    }
    if !known.is_empty() {
        scored.known = Some(Tensor::cat(known, 0));
    }
    Ok(scored)
}

/// Distributions of the target at rows of its last hidden states `[m, h]`, over the rows of `head`, and their best.
pub(crate) fn distributions(
    last: Tensor<2>,
    head: &Tensor<2>,
    precision: Precision,
) -> Result<(Tensor<2>, Vec<u32>)> {
    let [m, _] = last.dims();
    let (mut parts, mut best) = (Vec::new(), Vec::with_capacity(m));
    for start in (0..m).step_by(ROWS) {
        let rows = last.clone().narrow(0, start, ROWS.min(m - start));
        let logits = precision.product(rows, head.clone().transpose());
        let ids = logits.clone().argmax(1).try_into_vec_as::<i64>();
        let ids = ids.map_err(|e| Error::Invalid(e.to_string()))?;
        best.extend(ids.into_iter().map(|id| id as u32));
        parts.push(softmax(logits, 1));
    }
    Ok((Tensor::cat(parts, 0), best))
}

/// Row numbers for `select`.
pub(crate) fn indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

fn column(ids: &[u32], device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count, 1]), device)
}
