use super::isa::Kind;
use super::{Isa, LANES, prefetch, q8_portable};
use crate::checkpoint::{AffineMatrix, Scales};

/// Most rows of a [`Q8Block`].
pub const Q8_BLOCK: usize = 8;

/// 32 elements of a row of a linear op's input, rounded to 8 bits (see `InputDtype::Q8`), and what every tile of the op
/// needs to know of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Q8Group {
    /// The elements are `scale * quanta`.
    pub quanta: [i8; 32],
    /// See `quanta`.
    pub scale: f32,
    /// `scale` times the sum of all quanta.
    pub sum32: f32,
    /// `scale` times the sums of both halves.
    pub sums16: [f32; 2],
    /// Sums of both halves.
    pub sums: [i16; 2],
}

/// At most [`Q8_BLOCK`] rows of a linear op's input, which lie side by side group for group, so that a kernel walks all
/// of them with one pointer.
#[derive(Debug, Clone, Copy)]
pub struct Q8Block<'a> {
    /// Rows.
    pub rows: usize,
    /// [k / 32, rows].
    pub groups: &'a [Q8Group],
}

/// Products of the 16 outputs of `tile` with the rows of `x`, one of `out` for each.
///
/// Per output, over groups g in order from `acc = 0`: `acc = fma(s, weight_scale * x_scale, acc)` with `s` the integer
/// dot product of x with the quanta less their zero point; where groups have a minimum instead of a zero point, then
/// `acc = fma(min, x_scale * x_sum, acc)`. Integer sums are exact, so any instruction set gives these bits.
pub fn q8_tile(isa: Isa, w: &AffineMatrix, tile: usize, x: &Q8Block<'_>, out: &mut [[f32; LANES]]) {
    let shape = w.shape();
    assert!(tile * LANES < shape.n && x.rows == out.len() && x.rows <= Q8_BLOCK);
    assert!(x.groups.len() == shape.k / 32 * x.rows);
    match isa.kind() {
        Kind::Portable => q8_portable::tile(w, tile, x, out),
        // SAFETY: an `Isa` is made only where its features are; the bounds that the kernel relies on are those
        // asserted above and the sizes of planes that `AffineMatrix` guarantees.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { super::q8_avx2::tile(w, tile, x, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { super::q8_avx512::tile(w, tile, x, out) },
    }
}

/// Bytes of one run of a tile in the low and in the high plane.
#[cfg(target_arch = "x86_64")]
pub(super) const fn run_bytes(bits: u32) -> (usize, usize) {
    match bits {
        5 => (256, 64),
        6 => (256, 128),
        8 => (512, 0),
        _ => (256, 0),
    }
}

/// Runs that are asked for ahead of use: far enough that they arrive in time from memory, near enough that they are
/// still in the first-level cache. The processor's own prefetchers stop at every page and at every tile of a plane.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 8;

/// Asks for the run that is read [`AHEAD`] runs after this one, be it of the next tile or past the end of everything.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn prefetch_run<const BITS: u32, const GROUP: usize, const ZERO: bool>(
    run: usize,
    low: *const u8,
    high: *const u8,
    scales: &TileScales<'_>,
    mins: &TileScales<'_>,
) {
    let (low_run, high_run) = run_bytes(BITS);
    let ask = |plane: *const u8, run_bytes: usize| {
        for line in 0..run_bytes.div_ceil(64) {
            prefetch(plane.wrapping_add(AHEAD * run_bytes + 64 * line));
        }
    };
    ask(low, low_run);
    ask(high, high_run);
    ask(scales.at(run * (32 / GROUP)), 32);
    if !ZERO {
        ask(mins.at(run * (32 / GROUP)), 32);
    }
}

/// Scales (or minima) of one tile.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct TileScales<'a> {
    floats: &'a [[u16; LANES]],
    /// Empty where there is one level.
    subs: &'a [[i8; LANES]],
    /// Two to the power of it are the groups that share an entry of `floats`.
    shift: u32,
}

#[cfg(target_arch = "x86_64")]
impl<'a> TileScales<'a> {
    /// Of a matrix whose groups have `GROUP` elements, 16 or 32.
    #[inline(always)]
    pub fn new<const GROUP: usize>(w: &AffineMatrix, scales: &'a Scales, tile: usize) -> Self {
        let k = w.shape().k;
        let groups = k / GROUP;
        match scales {
            Scales::Direct(floats) => TileScales {
                floats: &floats.as_chunks().0[tile * groups..][..groups],
                subs: &[],
                shift: 0,
            },
            Scales::TwoLevel { supers, subs } => TileScales {
                floats: &supers.as_chunks().0[tile * (k / 256)..][..k / 256],
                subs: &subs.as_chunks().0[tile * groups..][..groups],
                shift: (256 / GROUP).ilog2(),
            },
        }
    }

    /// Where the innermost entries of a group lie.
    #[inline(always)]
    fn at(&self, group: usize) -> *const u8 {
        match self.subs {
            [] => self.floats.as_ptr().wrapping_add(group).cast(),
            subs => subs.as_ptr().wrapping_add(group).cast(),
        }
    }

    /// Bits of f16 of a group, and what multiplies them.
    #[inline(always)]
    pub fn group(&self, group: usize) -> (&'a [u16; LANES], Option<&'a [i8; LANES]>) {
        (&self.floats[group >> self.shift], self.subs.get(group))
    }
}

/// Calls a kernel `rows::<BITS, GROUP, ZERO, M>` for the form of `w`, with the M rows of `out`, `from` being the first.
/// What no format stores goes the portable way.
#[cfg(target_arch = "x86_64")]
macro_rules! by_form {
    ($rows:ident::<$m:literal>, $w:expr, $tile:expr, $x:expr, $from:expr, $out:expr) => {{
        use crate::checkpoint::Offsets;
        let shape = $w.shape();
        let zero = matches!($w.offsets(), Offsets::Zero(_));
        match (shape.bits, shape.group, zero) {
            (4, 32, true) => $rows::<4, 32, true, $m>($w, $tile, $x, $from, $out),
            (4, 32, false) => $rows::<4, 32, false, $m>($w, $tile, $x, $from, $out),
            (5, 32, true) => $rows::<5, 32, true, $m>($w, $tile, $x, $from, $out),
            (5, 32, false) => $rows::<5, 32, false, $m>($w, $tile, $x, $from, $out),
            (6, 16, true) => $rows::<6, 16, true, $m>($w, $tile, $x, $from, $out),
            (8, 32, true) => $rows::<8, 32, true, $m>($w, $tile, $x, $from, $out),
            _ => crate::host::kernels::q8_portable::rows($w, $tile, $x, $from, $out),
        }
    }};
}
#[cfg(target_arch = "x86_64")]
pub(super) use by_form;
