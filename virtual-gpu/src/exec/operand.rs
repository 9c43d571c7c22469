//! Matrices in shared memory, as `wgmma` descriptors tell of them (PTX ISA, "Matrix Descriptor Format" and "Shared Memory
//! Matrix Layout").

use crate::tensor_map::Swizzle;
use std::ops::Range;

/// Bytes of the chunks that swizzles move.
const CHUNK: u32 = 16;

/// A matrix of which rows (of A) or columns (of B) are counted by `mn`, and products are summed over `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    start: u32,
    /// "Leading dimension byte offset".
    leading: u32,
    /// "Stride dimension byte offset".
    stride: u32,
    /// "Matrix base offset".
    base: u32,
    swizzle: Swizzle,
    /// Whether neighbours in `mn` follow each other, and not those in `k`.
    mn_major: bool,
    /// Bytes of an element.
    element: u32,
}

impl Matrix {
    /// Takes a descriptor apart.
    pub fn new(descriptor: u64, mn_major: bool, element: u32) -> Self {
        let field = |low: u32| ((descriptor >> low) as u32 & 0x3fff) << 4;
        Self {
            start: field(0),
            leading: field(16),
            stride: field(32),
            base: (descriptor >> 49) as u32 & 7,
            swizzle: match descriptor >> 62 {
                0 => Swizzle::None,
                1 => Swizzle::Bytes128,
                2 => Swizzle::Bytes64,
                _ => Swizzle::Bytes32,
            },
            mn_major,
            element,
        }
    }

    /// What keeps the matrix from being read, if something does. Swizzles move chunks by bits of their addresses, so that
    /// patterns start at multiples of eight spans.
    pub fn fault(&self) -> Option<String> {
        if self.base != 0 {
            return Some(format!(
                "a matrix with the base offset {}: only patterns that start at a multiple of their size are supported",
                self.base
            ));
        }
        let (span, size) = (self.swizzle.span(), 8 * self.swizzle.span());
        (self.swizzle != Swizzle::None && self.start % size >= span).then(|| {
            format!(
                "a matrix at shared offset {} with a swizzle of {span} bytes, whose pattern starts at a multiple of {size}",
                self.start
            )
        })
    }

    /// Where element (`mn`, `k`) is in shared memory.
    #[inline(always)]
    pub fn place(&self, mn: u32, k: u32) -> u32 {
        let (per_chunk, span) = (CHUNK / self.element, self.swizzle.span());
        let plain = self.swizzle == Swizzle::None;
        let linear = if self.mn_major {
            let (chunk, byte) = (mn / per_chunk, mn % per_chunk * self.element);
            if plain {
                chunk * self.stride + k % 8 * CHUNK + k / 8 * self.leading + byte
            } else {
                let chunks = span / CHUNK;
                let row = k % 8 * span + k / 8 * self.stride;
                row + chunk % chunks * CHUNK + chunk / chunks * self.leading + byte
            }
        } else {
            let (chunk, byte) = (k / per_chunk, k % per_chunk * self.element);
            let step = if plain { self.leading } else { CHUNK };
            mn % 8 * span + mn / 8 * self.stride + chunk * step + byte
        };
        self.swizzle.place(self.start.wrapping_add(linear))
    }

    /// The bytes of `mn` and all of the `count` in `k`, neighbours as one.
    pub fn runs(&self, mn: Range<u32>, count: u32) -> Vec<Range<u32>> {
        let per_chunk = CHUNK / self.element;
        let mut chunks: Vec<u32> = match self.mn_major {
            true => {
                let groups = mn.start / per_chunk..mn.end.div_ceil(per_chunk);
                groups
                    .flat_map(|group| (0..count).map(move |k| self.place(group * per_chunk, k)))
                    .collect()
            }
            false => mn
                .flat_map(|mn| {
                    (0..count / per_chunk).map(move |chunk| self.place(mn, chunk * per_chunk))
                })
                .collect(),
        };
        chunks.sort_unstable();
        chunks.dedup();
        let mut runs: Vec<Range<u32>> = Vec::new();
        for chunk in chunks {
            match runs.last_mut() {
                Some(run) if run.end == chunk => run.end += CHUNK,
                _ => runs.push(chunk..chunk + CHUNK),
            }
        }
        runs
    }

    /// The 32 bits that hold elements (`mn`, `k`) and those after it in `k`.
    #[inline(always)]
    pub fn word(&self, shared: &[u8], mn: u32, k: u32) -> u32 {
        if !self.mn_major {
            let at = self.place(mn, k) as usize;
            return u32::from_le_bytes([
                shared[at],
                shared[at + 1],
                shared[at + 2],
                shared[at + 3],
            ]);
        }
        let half = |k: u32| {
            let at = self.place(mn, k) as usize;
            u32::from(u16::from_le_bytes([shared[at], shared[at + 1]]))
        };
        half(k) | half(k + 1) << 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(start: u64, leading: u64, stride: u64, mode: u64) -> u64 {
        start >> 4 | leading >> 4 << 16 | stride >> 4 << 32 | mode << 62
    }

    #[test]
    fn layouts_are_those_of_the_documentation() {
        let plain = Matrix::new(descriptor(0x400, 128, 256, 0), false, 2);
        assert_eq!(plain.place(3, 5), 0x400 + 3 * 16 + 5 * 2);
        assert_eq!(plain.place(11, 13), 0x400 + 256 + 3 * 16 + 128 + 5 * 2);
        let runs = plain.runs(0..8, 16);
        assert_eq!((runs.len(), &runs[0]), (1, &(0x400..0x500)));
        let wide = Matrix::new(descriptor(0x400, 16, 1024, 1), false, 2);
        assert_eq!(wide.place(0, 5), 0x400 + 10);
        assert_eq!(wide.place(3, 9), 0x400 + 3 * 128 + (1 ^ 3) * 16 + 2);
        assert_eq!(wide.place(8, 0), 0x800);
        let later = Matrix::new(descriptor(0x420, 16, 1024, 1), false, 2);
        assert_eq!(later.place(3, 0), 0x400 + 3 * 128 + 16);
        assert_eq!((wide.fault(), later.fault()), (None, None));
        // A row of 128 bytes holds 64 elements of 16 bits; 8 rows of k, then the next.
        let turned = Matrix::new(descriptor(0, 4096, 1024, 1), true, 2);
        assert_eq!(turned.place(9, 2), 2 * 128 + (1 ^ 2) * 16 + 2);
        assert_eq!(turned.place(64, 8), 4096 + 1024);
        let loose = Matrix::new(descriptor(0, 512, 128, 0), true, 2);
        assert_eq!(loose.place(9, 2), 128 + 2 * 16 + 2);
        assert_eq!(loose.place(0, 8), 512);
    }

    #[test]
    fn patterns_start_where_they_can() {
        assert!(
            Matrix::new(descriptor(0x80, 16, 1024, 1), false, 2)
                .fault()
                .is_some()
        );
        assert!(
            Matrix::new(descriptor(0x40, 16, 512, 2), false, 2)
                .fault()
                .is_some()
        );
        assert!(
            Matrix::new(descriptor(0x20, 16, 256, 3), false, 2)
                .fault()
                .is_some()
        );
        assert!(
            Matrix::new(descriptor(0x80, 16, 256, 0), false, 2)
                .fault()
                .is_none()
        );
        assert!(
            Matrix::new(descriptor(0x400, 16, 1024, 1) | 1 << 49, false, 2)
                .fault()
                .is_some()
        );
    }
}
