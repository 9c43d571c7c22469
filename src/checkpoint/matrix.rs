use super::AffineMatrix;
use half::{bf16, f16};
use stheno_codegen::plan::Dtype;

/// A weight matrix W [n, k] as it lies in memory; a linear op computes `y = x W^T`.
#[derive(Debug)]
pub enum Matrix {
    /// One floating-point number an element.
    Dense(DenseMatrix),
    /// Integers with a scale and an offset per group.
    Affine(AffineMatrix),
}

impl Matrix {
    /// Outputs.
    pub fn n(&self) -> usize {
        match self {
            Matrix::Dense(m) => m.n,
            Matrix::Affine(m) => m.shape().n,
        }
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        match self {
            Matrix::Dense(m) => m.k,
            Matrix::Affine(m) => m.shape().k,
        }
    }

    /// Bytes that one pass over the matrix reads.
    pub fn bytes(&self) -> usize {
        match self {
            Matrix::Dense(m) => m.n * m.k * m.dtype.size(),
            Matrix::Affine(m) => m.bytes(),
        }
    }

    /// Writes row `row` (of [n, k]) in f32.
    ///
    /// # Panics
    /// If `row` is not below n or `out` has not k elements.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        match self {
            Matrix::Dense(m) => m.widen_row(row, out),
            Matrix::Affine(m) => m.dequantize_row(row, out),
        }
    }
}

/// Row-major [n, k] little-endian elements, as safetensors and GGUF store them: usually a view of the
/// memory-mapped file. The start need not be aligned.
pub struct DenseMatrix {
    n: usize,
    k: usize,
    dtype: Dtype,
    data: Box<dyn AsRef<[u8]> + Send + Sync>,
}

impl DenseMatrix {
    /// Takes bytes that hold exactly n * k elements; `None` if they do not.
    pub fn new(
        n: usize,
        k: usize,
        dtype: Dtype,
        data: Box<dyn AsRef<[u8]> + Send + Sync>,
    ) -> Option<Self> {
        let bytes = n.checked_mul(k)?.checked_mul(dtype.size())?;
        let fits = (*data).as_ref().len() == bytes;
        fits.then_some(DenseMatrix { n, k, dtype, data })
    }

    /// Outputs and inputs, (n, k).
    pub fn shape(&self) -> (usize, usize) {
        (self.n, self.k)
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// All elements, row-major.
    pub fn bytes(&self) -> &[u8] {
        (*self.data).as_ref()
    }

    /// Writes row `row` in f32.
    ///
    /// # Panics
    /// If `row` is not below n or `out` has not k elements.
    pub(super) fn widen_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n && out.len() == self.k);
        let size = self.dtype.size();
        let bytes = &self.bytes()[row * self.k * size..][..self.k * size];
        match self.dtype {
            Dtype::F32 => widen(bytes, out, f32::from_le_bytes),
            Dtype::F16 => widen(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => widen(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        }
    }
}

impl std::fmt::Debug for DenseMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DenseMatrix({} [{}, {}])", self.dtype, self.n, self.k)
    }
}

fn widen<const SIZE: usize>(bytes: &[u8], out: &mut [f32], f: impl Fn([u8; SIZE]) -> f32) {
    for (x, element) in out.iter_mut().zip(bytes.as_chunks::<SIZE>().0) {
        *x = f(*element);
    }
}
