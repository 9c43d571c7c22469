//! Products of warpgroups under way: `wgmma`.
//!
//! A product is one of four warps together: it can begin when all of them have issued it, and is done when one of them
//! has waited for it. Here it is computed at that wait, or at random before it in runs with a seed, so that whoever reads
//! its registers too early sees old sums.

use super::block::Block;
use super::grid::Grid;
use super::machine::Machine;
use super::operand::Matrix;
use super::ops::mma::multiply_in_warpgroup;
use super::program::{Extra, Product};
use super::row::{LANES, Row, Slot};
use crate::num::mma::Mma;
use std::collections::VecDeque;

/// Warps of a warpgroup.
pub const WARPS: u32 = 4;

/// A product that a warpgroup has issued, in part at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The instruction.
    pub pc: u32,
    /// Descriptor of A, if A is in shared memory.
    pub a: u64,
    /// Descriptor of B.
    pub b: u64,
    /// Whether the product is added to the accumulators.
    pub adds: bool,
}

/// A product in the queue of its warpgroup.
#[derive(Clone, Copy, Debug)]
struct Entry {
    issued: Issued,
    ext: u32,
    done: bool,
}

/// The products of a warpgroup.
#[derive(Clone, Debug, Default)]
pub struct Warpgroup {
    queue: VecDeque<Entry>,
    /// Products that are no longer in the queue.
    passed: u64,
    /// Products that each warp has issued.
    issued: [u64; WARPS as usize],
    /// Products that each warp had issued when it closed its groups.
    ends: [Vec<u64>; WARPS as usize],
    /// Products that each warp has waited for.
    waited: [u64; WARPS as usize],
}

impl Warpgroup {
    /// Products of which all warps have issued their part.
    fn whole(&self) -> u64 {
        self.issued.iter().copied().min().unwrap_or(0)
    }

    /// Whether all warps have issued the first `count` products.
    pub fn has_issued(&self, count: u64) -> bool {
        self.whole() >= count
    }

    /// Warps of the group that lack some of the first `count` products, one bit each.
    pub fn missing(&self, count: u64) -> u32 {
        let lacks = |warp: &usize| self.issued[*warp] < count;
        (0..WARPS as usize)
            .filter(lacks)
            .fold(0, |warps, warp| warps | 1 << warp)
    }

    /// A warp issues its next product. An error is what the others of its group issued in its place.
    pub fn issue(&mut self, warp: usize, issued: Issued, ext: u32) -> Result<(), Issued> {
        let at = (self.issued[warp] - self.passed) as usize;
        match self.queue.get(at) {
            Some(entry) if entry.issued != issued => return Err(entry.issued),
            Some(_) => {}
            None => self.queue.push_back(Entry {
                issued,
                ext,
                done: false,
            }),
        }
        self.issued[warp] += 1;
        Ok(())
    }

    /// A warp closes a group.
    pub fn close(&mut self, warp: usize) {
        self.ends[warp].push(self.issued[warp]);
    }

    /// Groups that a warp waits for if it lets `keep` go on, and products in them.
    pub fn due(&self, warp: usize, keep: u32) -> (u32, u64) {
        let groups = self.ends[warp].len().saturating_sub(keep as usize);
        let products = groups
            .checked_sub(1)
            .map_or(0, |last| self.ends[warp][last]);
        (groups as u32, products)
    }

    /// A warp has waited for the first `count` products. Gives the products that it has still under way.
    pub fn wait(&mut self, warp: usize, count: u64) -> impl Iterator<Item = u32> {
        self.waited[warp] = self.waited[warp].max(count);
        let all = self.waited.iter().copied().min().unwrap_or(0);
        while self.passed < all && self.queue.front().is_some_and(|entry| entry.done) {
            self.queue.pop_front();
            self.passed += 1;
        }
        let (first, last) = (
            self.waited[warp] - self.passed,
            self.issued[warp] - self.passed,
        );
        self.queue
            .range(first as usize..last as usize)
            .map(|entry| entry.ext)
    }
}

impl Machine<'_> {
    /// The warpgroup of the running warp, and the warp's place in it.
    pub fn warpgroup(&mut self) -> (&mut Warpgroup, usize) {
        let (group, place) = (self.warp.index / WARPS, self.warp.index % WARPS);
        let groups = &mut self.block.products;
        if groups.len() <= group as usize {
            groups.resize_with(group as usize + 1, Warpgroup::default);
        }
        (&mut groups[group as usize], place as usize)
    }

    /// Computes the products of the running warp's group that all of its warps have issued, up to `count` of them.
    pub fn compute_products(&mut self, count: u64) {
        let (group, _) = self.warpgroup();
        let due = group.whole().min(count).saturating_sub(group.passed) as usize;
        for index in 0..due {
            let entry = &mut self.warpgroup().0.queue[index];
            if std::mem::replace(&mut entry.done, true) {
                continue;
            }
            let (issued, ext) = (entry.issued, entry.ext);
            self.compute_product(&issued, ext);
        }
    }

    fn compute_product(&mut self, issued: &Issued, ext: u32) {
        let program = std::sync::Arc::clone(&self.grid.program);
        let Extra::Product(product) = &program.extras[ext as usize] else {
            unreachable!("products are lowered with their form");
        };
        let first = self.warp.index / WARPS * WARPS;
        let b = Matrix::new(issued.b, product.b_transposed, product.mma.b.bytes());
        let columns: Vec<[[u32; LANES]; 2]> = (0..product.n / 8)
            .map(|block| columns(&product.mma, &b, self.block, 8 * block, product.b_sign()))
            .collect();
        for place in 0..WARPS {
            let a = match &product.a {
                Some(slots) => {
                    let rows = self.rows_of(first + place);
                    let sign = product.a_sign();
                    // SAFETY: slots of the program, of which the warp has all.
                    std::array::from_fn(|r| unsafe {
                        (*at(rows, slots[r])).0.map(|word| word ^ sign)
                    })
                }
                None => {
                    let a = Matrix::new(issued.a, product.a_transposed, product.mma.a.bytes());
                    rows(&product.mma, &a, self.block, 16 * place, product.a_sign())
                }
            };
            self.add_products(product, issued.adds, first + place, &a, &columns);
        }
    }

    fn add_products(
        &mut self,
        product: &Product,
        adds: bool,
        warp: u32,
        a: &[[u32; LANES]; 4],
        columns: &[[[u32; LANES]; 2]],
    ) {
        let (mode, each) = (self.grid.options.mma, product.mma.registers().2);
        let registers = self.rows_of(warp);
        for (b, slots) in columns.iter().zip(product.d.chunks_exact(each)) {
            let (mut c, mut d) = ([[0; LANES]; 4], [[0; LANES]; 4]);
            if adds {
                for (c, slot) in c.iter_mut().zip(slots) {
                    // SAFETY: slots of the program, of which the warp has all.
                    *c = unsafe { (*at(registers, *slot)).0 };
                }
            }
            multiply_in_warpgroup(&product.mma, mode, a, b, &c, &mut d);
            for (d, slot) in d.iter().zip(slots) {
                // SAFETY: as above; accumulators are no constants.
                unsafe { at(registers, *slot).write(Row(*d)) };
            }
        }
    }

    /// The first register of a warp of the block, behind the constants.
    fn rows_of(&mut self, warp: u32) -> *mut Row {
        if warp == self.warp.index {
            return self.registers.rows;
        }
        let constants = self.grid.constants.len();
        let registers = &mut self.block.warps[warp as usize].registers;
        registers.as_mut_ptr().wrapping_add(constants)
    }
}

fn at(rows: *mut Row, slot: Slot) -> *mut Row {
    rows.wrapping_byte_offset(slot.bytes())
}

/// Registers of A: rows `first` to `first + 16`, as `mma` has them.
fn rows(mma: &Mma, a: &Matrix, block: &Block, first: u32, sign: u32) -> [[u32; LANES]; 4] {
    let each = 4 / mma.a.bytes();
    let shared = block.shared.as_slice();
    std::array::from_fn(|register| {
        let (half, quarter) = (register as u32 % 2, register as u32 / 2);
        std::array::from_fn(|lane| {
            let (g, t) = (lane as u32 / 4, lane as u32 % 4);
            a.word(shared, first + g + 8 * half, each * (4 * quarter + t)) ^ sign
        })
    })
}

/// Registers of B: columns `first` to `first + 8`.
fn columns(mma: &Mma, b: &Matrix, block: &Block, first: u32, sign: u32) -> [[u32; LANES]; 2] {
    let each = 4 / mma.b.bytes();
    let shared = block.shared.as_slice();
    std::array::from_fn(|register| {
        std::array::from_fn(|lane| {
            let (g, t) = (lane as u32 / 4, lane as u32 % 4);
            b.word(shared, first + g, each * (4 * register as u32 + t)) ^ sign
        })
    })
}

/// What a warp waits for that waits for products, for people.
pub fn describe(block: &Block, warp: u32, count: u64) -> String {
    let group = block.products.get((warp / WARPS) as usize);
    let missing = group.map_or(0, |group| group.missing(count));
    format!("waits for products that warps {missing:#06b} of its warpgroup have not issued")
}

impl Grid {
    /// Whether all warps of a warp's group have issued the first `count` products.
    pub fn products_are_issued(&self, block: &Block, warp: usize, count: u64) -> bool {
        let group = block.products.get(warp / WARPS as usize);
        group.is_none_or(|group| group.has_issued(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(pc: u32) -> Issued {
        Issued {
            pc,
            a: 1,
            b: 2,
            adds: true,
        }
    }

    #[test]
    fn warps_of_a_group_issue_the_same() {
        let mut group = Warpgroup::default();
        for warp in 0..3 {
            group.issue(warp, product(5), 0).unwrap();
            group.close(warp);
        }
        assert_eq!(group.issue(3, product(6), 0), Err(product(5)));
        assert_eq!((group.has_issued(1), group.missing(1)), (false, 0b1000));
        group.issue(3, product(5), 0).unwrap();
        assert!(group.has_issued(1));
    }

    #[test]
    fn groups_are_waited_for_in_order() {
        let mut group = Warpgroup::default();
        for ext in 0..3 {
            group.issue(0, product(ext), ext).unwrap();
            group.close(0);
        }
        assert_eq!(
            (group.due(0, 3), group.due(0, 1), group.due(0, 0)),
            ((0, 0), (2, 2), (3, 3))
        );
        assert_eq!(group.wait(0, 2).collect::<Vec<_>>(), [2]);
        assert_eq!(group.wait(0, 3).count(), 0);
    }
}
