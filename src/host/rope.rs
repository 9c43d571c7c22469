use rayon::prelude::*;
use std::ops::Range;
use stheno_codegen::plan::{RopeDecl, Row};

/// Cosine and sine of each pair at each position, [positions, pairs, 2].
pub(crate) fn rotations(decl: &RopeDecl, positions: Range<u32>) -> Vec<f32> {
    let rotate = |position: u32| {
        let frequencies = decl.inv_freq_at(position).into_owned().into_iter();
        frequencies.flat_map(move |inv_freq| rotation(decl, position, inv_freq))
    };
    positions.into_par_iter().flat_map_iter(rotate).collect()
}

fn rotation(decl: &RopeDecl, position: u32, inv_freq: f32) -> [f32; 2] {
    let angle = f64::from(position as f32 * inv_freq);
    [
        angle.cos() as f32 * decl.attention_factor,
        angle.sin() as f32 * decl.attention_factor,
    ]
}

/// Cosines and sines of the rows of a call, [rows, pairs] each.
///
/// Angles are the f32 product of position and inverse frequency; cosine and sine are taken in f64 and rounded once,
/// so that they do not depend on a platform's f32 library.
#[derive(Debug, Default)]
pub(super) struct RopeTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    pairs: usize,
}

impl RopeTable {
    /// Fills the table for rows.
    pub fn fill(&mut self, decl: &RopeDecl, rows: &[Row]) {
        self.pairs = decl.inv_freq.len();
        self.cos.clear();
        self.sin.clear();
        for row in rows {
            for inv_freq in decl.inv_freq_at(row.position).iter() {
                let [cos, sin] = rotation(decl, row.position, *inv_freq);
                self.cos.push(cos);
                self.sin.push(sin);
            }
        }
    }

    /// Cosines and sines of a row, [pairs] each.
    pub fn row(&self, row: usize) -> (&[f32], &[f32]) {
        let range = row * self.pairs..(row + 1) * self.pairs;
        (&self.cos[range.clone()], &self.sin[range])
    }
}
