use crate::product::Precision;
use crate::random::Random;
use crate::rounding::Rounding;
use crate::{Error, Result};
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::OnceLock;

/// How a parameter lies in memory, and so how it is written into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `[n]` in a file, `[1, n]` here.
    Vector,
    /// `[out, in]` in a file, `[in, out]` here: a product with rows of inputs then transposes nothing.
    Linear,
    /// `[rows, columns]` in both.
    Rows,
}

/// One tensor that is learnt.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name in the checkpoint.
    pub name: String,
    /// How it lies.
    pub form: Form,
    /// Its value, outside of any graph.
    pub value: Tensor<2>,
}

impl Parameter {
    /// Shape in a file.
    pub fn shape(&self) -> Vec<usize> {
        let [a, b] = self.value.dims();
        match self.form {
            Form::Vector => vec![b],
            Form::Linear => vec![b, a],
            Form::Rows => vec![a, b],
        }
    }

    /// Values in the order of a file.
    ///
    /// # Errors
    /// If the device does not give them.
    pub fn values(&self) -> Result<Vec<f32>> {
        let value = self.value.clone();
        read(match self.form {
            Form::Linear => value.transpose(),
            Form::Vector | Form::Rows => value,
        })
    }
}

/// All that a draft learns, in the order of [`Gradients`].
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    all: Vec<Parameter>,
    rounding: Option<Rounding>,
    precision: Precision,
    /// Rounded values, until a value changes.
    rounded: OnceLock<Vec<Tensor<2>>>,
}

impl Parameters {
    /// In order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.all.iter()
    }

    /// In order.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Parameter> {
        self.rounded.take();
        self.all.iter_mut()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Replaces a value by `values` in the order of a file.
    ///
    /// # Errors
    /// If there is no such parameter or it has another number of elements.
    pub fn set(&mut self, name: &str, values: Vec<f32>) -> Result<()> {
        let parameter = self.iter_mut().find(|p| p.name == name);
        let parameter =
            parameter.ok_or_else(|| Error::Invalid(format!("no parameter is named `{name}`")))?;
        let [a, b] = parameter.value.dims();
        if values.len() != a * b {
            return Err(Error::Invalid(format!(
                "`{name}` has {} elements, got {}",
                a * b,
                values.len()
            )));
        }
        let device = parameter.value.device();
        parameter.value = match parameter.form {
            Form::Linear => {
                let [out, inner] = [b, a];
                matrix(transposed(&values, out, inner), [inner, out], &device)
            }
            Form::Vector | Form::Rows => matrix(values, [a, b], &device),
        };
        Ok(())
    }

    pub(crate) fn push(&mut self, name: String, form: Form, value: Tensor<2>) {
        self.all.push(Parameter { name, form, value });
    }

    /// A linear map as PyTorch starts one: even within `1 / sqrt(inputs)`.
    pub(crate) fn linear(
        &mut self,
        name: &str,
        [out, inner]: [usize; 2],
        random: &mut Random,
        device: &Device,
    ) {
        let bound = 1.0 / (inner as f32).sqrt();
        let values = random.uniform(out * inner, bound);
        let value = matrix(values, [inner, out], device);
        self.push(name.to_owned(), Form::Linear, value);
    }

    pub(crate) fn vector(&mut self, name: &str, values: Vec<f32>, device: &Device) {
        let n = values.len();
        self.push(
            name.to_owned(),
            Form::Vector,
            matrix(values, [1, n], device),
        );
    }

    /// What matrices are rounded to wherever they are used; what is learnt stays as it is, and gradients pass as if nothing
    /// was rounded.
    pub fn set_rounding(&mut self, rounding: Option<Rounding>) {
        self.rounding = rounding;
        self.rounded.take();
    }

    /// What matrices are rounded to.
    pub fn rounding(&self) -> Option<Rounding> {
        self.rounding
    }

    /// What products with them are computed in.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// What products with them are computed in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The values as leaves of a new graph, and as they are used in it.
    pub(crate) fn leaves(&self) -> (Vec<Tensor<2>>, Vec<Tensor<2>>) {
        let leaf = |p: &Parameter| p.value.clone().autodiff().require_grad();
        let leaves: Vec<_> = self.all.iter().map(leaf).collect();
        if self.rounding.is_none() {
            return (leaves.clone(), leaves);
        }
        let all = leaves.iter().zip(&self.all).zip(self.constants());
        let used = all.map(|((leaf, p), rounded)| leaf.clone() + (rounded - p.value.clone()));
        let used = used.collect();
        (leaves, used)
    }

    /// The values as they are used, outside of any graph.
    pub(crate) fn constants(&self) -> Vec<Tensor<2>> {
        let Some(rounding) = self.rounding else {
            return self.all.iter().map(|p| p.value.clone()).collect();
        };
        let round = || self.all.iter().map(|p| rounding.apply(p)).collect();
        self.rounded.get_or_init(round).clone()
    }
}

/// A gradient for each parameter, in the same form.
#[derive(Debug, Clone)]
pub struct Gradients(pub(crate) Vec<Tensor<2>>);

impl Gradients {
    /// In the order of the parameters.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Tensor<2>> {
        self.0.iter()
    }

    /// Adds those of another example.
    pub(crate) fn add(&mut self, other: Gradients) {
        for (sum, gradient) in self.0.iter_mut().zip(other.0) {
            sum.inplace(|sum| sum + gradient);
        }
    }

    pub(crate) fn scale(&mut self, factor: f32) {
        for gradient in &mut self.0 {
            gradient.inplace(|gradient| gradient * factor);
        }
    }

    /// Euclidean norm of all of them together. Rows are summed on the device in f32, the rest in f64, always in the same
    /// order: the device's sum over everything depends on how threads happen to share it.
    ///
    /// # Errors
    /// If the device does not give them.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in &self.0 {
            let squares = gradient.clone() * gradient.clone();
            sum += read(squares.sum_dim(1))?
                .into_iter()
                .map(f64::from)
                .sum::<f64>();
        }
        Ok(sum.sqrt())
    }
}

/// Gradients of the leaves of a graph that ends in `outputs`, whose own gradient is known. The last leaves are in no graph;
/// their gradients are `heads`.
pub(crate) fn backward(
    outputs: Tensor<2>,
    known: Option<Tensor<2>>,
    leaves: Vec<Tensor<2>>,
    heads: Vec<Tensor<2>>,
) -> Result<Gradients> {
    let known = known.ok_or_else(|| Error::Invalid("no gradient was asked for".to_owned()))?;
    // A sum whose gradient at the outputs is the known one.
    let mut all = (outputs * known).sum().backward();
    let in_graph = leaves.len().saturating_sub(heads.len());
    let gradients = leaves[..in_graph].iter().map(|leaf| {
        let gradient = leaf.grad_remove(&mut all);
        gradient.unwrap_or_else(|| leaf.clone().inner().zeros_like())
    });
    Ok(Gradients(gradients.chain(heads).collect()))
}

/// A tensor out of numbers that are known to be as many as its shape says.
pub(crate) fn matrix(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The numbers of a tensor, row by row.
pub(crate) fn read(tensor: Tensor<2>) -> Result<Vec<f32>> {
    let values = tensor.try_into_vec_as::<f32>();
    values.map_err(|e| Error::Invalid(format!("the device does not give a tensor: {e}")))
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
    out
}
