//! 8 x 8 matrices of 16-bit elements between shared memory and the registers of a warp: `ldmatrix`, `stmatrix`,
//! `movmatrix`.
//!
//! Lane l holds, of each matrix, elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4 in one register: a register's 128
//! bytes are the rows one after the other. The address of row r of matrix j comes from lane 8 j + r.

use super::load_store::access_of;
use crate::check::finding::{FindingKind, MemorySpace};
use crate::exec::address::{Use, space};
use crate::exec::inst::{Flow, Handler, Inst};
use crate::exec::isa::{Code, handler};
use crate::exec::machine::Machine;
use crate::exec::program::Access;
use crate::exec::row::{LANES, Row};
use crate::memory::Window;

/// Bytes of a row of a matrix.
const ROW_BYTES: usize = 16;

/// Flag of instructions whose addresses are generic.
pub const GENERIC: u8 = 1;

struct LoadMatrix<const COUNT: usize, const TRANSPOSED: bool>;
struct StoreMatrix<const COUNT: usize, const TRANSPOSED: bool>;

macro_rules! by_count {
    ($code:ident, $count:expr, $transposed:expr) => {
        match ($count, $transposed) {
            (1, false) => handler::<$code<1, false>>(),
            (1, true) => handler::<$code<1, true>>(),
            (2, false) => handler::<$code<2, false>>(),
            (2, true) => handler::<$code<2, true>>(),
            (4, false) => handler::<$code<4, false>>(),
            (4, true) => handler::<$code<4, true>>(),
            _ => return None,
        }
    };
}

/// The handler of `ldmatrix` for `count` matrices: the address is in `a`, the registers are those of the access.
pub fn load_matrix(count: usize, transposed: bool) -> Option<Handler> {
    Some(by_count!(LoadMatrix, count, transposed))
}

/// The handler of `stmatrix`, with operands like those of [`load_matrix`].
pub fn store_matrix(count: usize, transposed: bool) -> Option<Handler> {
    Some(by_count!(StoreMatrix, count, transposed))
}

impl<const COUNT: usize, const TRANSPOSED: bool> Code for LoadMatrix<COUNT, TRANSPOSED> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        if let Err(flow) = machine.whole_warp() {
            return flow;
        }
        // SAFETY: the handler's contract; the pointers of the first 8 * COUNT lanes are good for a row each, and the
        // instruction has COUNT registers.
        unsafe {
            let access = access_of(machine, inst);
            let rows = match machine.matrix_rows::<COUNT>(inst, access, Use::Read) {
                Ok(rows) => rows,
                Err(flow) => return flow,
            };
            for (register, rows) in access.registers.iter().zip(rows.as_chunks::<8>().0) {
                let mut matrix = Row::ZERO;
                let to = matrix.0.as_mut_ptr().cast::<u8>();
                for row in 0..8 {
                    std::ptr::copy_nonoverlapping(rows[row], to.add(row * ROW_BYTES), ROW_BYTES);
                }
                if TRANSPOSED {
                    matrix = transpose(&matrix);
                }
                if let Some((slot, _)) = register {
                    machine.pointer(*slot).write(matrix);
                }
            }
        }
        Flow::Next
    }
}

impl<const COUNT: usize, const TRANSPOSED: bool> Code for StoreMatrix<COUNT, TRANSPOSED> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        if let Err(flow) = machine.whole_warp() {
            return flow;
        }
        // SAFETY: as for loads.
        unsafe {
            let access = access_of(machine, inst);
            let rows = match machine.matrix_rows::<COUNT>(inst, access, Use::Write) {
                Ok(rows) => rows,
                Err(flow) => return flow,
            };
            machine.warp.stores += 1;
            for (register, rows) in access.registers.iter().zip(rows.as_chunks::<8>().0) {
                let Some((slot, _)) = register else {
                    continue;
                };
                let mut matrix = *machine.pointer(*slot);
                if TRANSPOSED {
                    matrix = transpose(&matrix);
                }
                let from = matrix.0.as_ptr().cast::<u8>();
                for row in 0..8 {
                    std::ptr::copy_nonoverlapping(from.add(row * ROW_BYTES), rows[row], ROW_BYTES);
                }
            }
        }
        Flow::Next
    }
}

/// `movmatrix`: the matrix in `a`, transposed, goes to `d`.
pub struct MoveMatrix;

impl Code for MoveMatrix {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        if let Err(flow) = machine.whole_warp() {
            return flow;
        }
        // SAFETY: the handler's contract.
        unsafe {
            let matrix = *machine.pointer(inst.a);
            machine.pointer(inst.d).write(transpose(&matrix));
        }
        Flow::Next
    }
}

/// Rows become columns.
#[inline(always)]
fn transpose(matrix: &Row) -> Row {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: every processor of this kind has the instructions; a row of the matrix is 16 plain bytes.
        unsafe {
            let [a, b, c, d, e, f, g, h]: [__m128i; 8] = std::mem::transmute(*matrix);
            let (ab, cd) = (_mm_unpacklo_epi16(a, b), _mm_unpacklo_epi16(c, d));
            let (ef, gh) = (_mm_unpacklo_epi16(e, f), _mm_unpacklo_epi16(g, h));
            let (ab_end, cd_end) = (_mm_unpackhi_epi16(a, b), _mm_unpackhi_epi16(c, d));
            let (ef_end, gh_end) = (_mm_unpackhi_epi16(e, f), _mm_unpackhi_epi16(g, h));
            let mut columns = [_mm_setzero_si128(); 8];
            let halves = [(ab, cd, ef, gh), (ab_end, cd_end, ef_end, gh_end)];
            for (columns, (ab, cd, ef, gh)) in columns.as_chunks_mut::<4>().0.iter_mut().zip(halves)
            {
                let (low, high) = (_mm_unpacklo_epi32(ab, cd), _mm_unpackhi_epi32(ab, cd));
                let (low_end, high_end) = (_mm_unpacklo_epi32(ef, gh), _mm_unpackhi_epi32(ef, gh));
                columns[0] = _mm_unpacklo_epi64(low, low_end);
                columns[1] = _mm_unpackhi_epi64(low, low_end);
                columns[2] = _mm_unpacklo_epi64(high, high_end);
                columns[3] = _mm_unpackhi_epi64(high, high_end);
            }
            std::mem::transmute(columns)
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut out = Row::ZERO;
        for row in 0..8 {
            for pair in 0..4 {
                // Elements `row` of rows 2 pair and 2 pair + 1.
                let half = |word: u32| word >> (16 * (row % 2)) & 0xffff;
                let low = half(matrix.0[8 * pair + row / 2]);
                let high = half(matrix.0[8 * pair + 4 + row / 2]);
                out.0[4 * row + pair] = low | high << 16;
            }
        }
        out
    }
}

impl Machine<'_> {
    /// Finds, checks and counts the rows of `COUNT` matrices.
    ///
    /// # Safety
    /// As for [`Handler`].
    #[inline(always)]
    unsafe fn matrix_rows<const COUNT: usize>(
        &mut self,
        inst: &Inst,
        access: &Access,
        kind: Use,
    ) -> Result<[*mut u8; LANES], Flow> {
        let lanes = 8 * COUNT;
        // SAFETY: passed on.
        let addresses = unsafe {
            if inst.flags & GENERIC == 0 {
                self.addresses::<{ space::SHARED }>(inst.a, access)
            } else {
                let addresses = self.addresses::<{ space::GENERIC }>(inst.a, access);
                self.all_shared(&addresses, lanes)?
            }
        };
        let everybody = self.mask;
        self.mask = u32::MAX >> (LANES - lanes);
        let located = self.locate::<{ space::SHARED }>(&addresses, ROW_BYTES, ROW_BYTES, kind)?;
        let mut rows = [std::ptr::null_mut(); LANES];
        for lane in 0..lanes {
            rows[lane] = located.lane(lane, ROW_BYTES);
        }
        if self.is_watched() {
            self.observe::<{ space::SHARED }>(&addresses, access, ROW_BYTES, kind, None);
        }
        self.mask = everybody;
        Ok(rows)
    }

    /// Offsets of generic addresses that must all be in shared memory.
    fn all_shared(&mut self, addresses: &[u64; LANES], lanes: usize) -> Result<[u64; LANES], Flow> {
        let mut offsets = [0; LANES];
        for lane in 0..lanes {
            let Window::Shared(offset) = Window::of(addresses[lane]) else {
                let message = format!(
                    "address {:#x} is not in shared memory, where the matrices must be",
                    addresses[lane]
                );
                return Err(self.fault(
                    FindingKind::OutOfBounds,
                    MemorySpace::Shared,
                    lane,
                    message,
                ));
            };
            offsets[lane] = u64::from(offset);
        }
        Ok(offsets)
    }
}
