//! What sources of instructions are: their width, their type and the values that they are tried with.

/// Width of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    H,
    W,
    D,
    P,
}

impl Kind {
    pub fn mask(self) -> u64 {
        match self {
            Kind::H => 0xffff,
            Kind::W => 0xffff_ffff,
            Kind::D => u64::MAX,
            Kind::P => 1,
        }
    }

    pub fn letter(self) -> &'static str {
        match self {
            Kind::H => "h",
            Kind::W => "w",
            Kind::D => "d",
            Kind::P => "p",
        }
    }

    pub fn ty(self) -> &'static str {
        match self {
            Kind::H => "b16",
            Kind::W => "b32",
            Kind::D => "b64",
            Kind::P => "pred",
        }
    }
}

/// What values a source takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    I16,
    I32,
    I64,
    /// A shift amount or a bit position in 32 bits.
    Small,
    F16,
    Bf16,
    F16x2,
    Bf16x2,
    F32,
    F64,
    Bool,
}

impl Class {
    pub fn kind(self) -> Kind {
        match self {
            Class::I16 | Class::F16 | Class::Bf16 => Kind::H,
            Class::I64 | Class::F64 => Kind::D,
            Class::Bool => Kind::P,
            _ => Kind::W,
        }
    }

    pub fn edges(self) -> Vec<u64> {
        const F16: [u64; 18] = [
            0, 0x8000, 1, 0x83ff, 0x0400, 0x3c00, 0xbc00, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00,
            0x7c01, 0xfe01, 0x3800, 0x3c01, 0x5640, 0xb555,
        ];
        const BF16: [u64; 18] = [
            0, 0x8000, 1, 0x807f, 0x0080, 0x3f80, 0xbf80, 0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0,
            0x7f81, 0xffc1, 0x3f00, 0x3f81, 0x42c8, 0xbeab,
        ];
        let pairs = |halves: &[u64]| {
            let n = halves.len();
            (0..n)
                .map(|i| halves[i] | halves[(i * 7 + 3) % n] << 16)
                .collect()
        };
        match self {
            Class::I16 => vec![
                0, 1, 2, 3, 7, 0x7f, 0x80, 0xff, 0x100, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xfffe,
                0xffff,
            ],
            Class::I32 => vec![
                0,
                1,
                2,
                3,
                31,
                0x7f80,
                0xffff,
                0x1_0000,
                0xff_ffff,
                0x80_0000,
                0x7fff_fffe,
                0x7fff_ffff,
                0x8000_0000,
                0x8000_0001,
                0xffff_fffe,
                0xffff_ffff,
                0x8180_7f01,
            ],
            Class::I64 => vec![
                0,
                1,
                2,
                3,
                63,
                0xffff_ffff,
                0x1_0000_0000,
                i64::MAX as u64,
                1 << 63,
                (1 << 63) + 1,
                u64::MAX - 1,
                u64::MAX,
                0x8000_0000,
                0xffff_ffff_8000_0000,
                0x0123_4567_89ab_cdef,
            ],
            Class::Small => vec![
                0,
                1,
                2,
                7,
                8,
                15,
                16,
                17,
                31,
                32,
                33,
                47,
                63,
                64,
                65,
                127,
                128,
                255,
                256,
                257,
                0x7fff_ffff,
                0x8000_0000,
                0xffff_ffff,
                0x110,
            ],
            Class::F16 => F16.to_vec(),
            Class::Bf16 => BF16.to_vec(),
            Class::F16x2 => pairs(&F16),
            Class::Bf16x2 => pairs(&BF16),
            Class::F32 => vec![
                0,
                0x8000_0000,
                1,
                0x8000_0001,
                0x007f_ffff,
                0x0080_0000,
                0x8080_0000,
                0x3f80_0000,
                0xbf80_0000,
                0x7f7f_ffff,
                0xff7f_ffff,
                0x7f80_0000,
                0xff80_0000,
                0x7fc0_0000,
                0xffc0_0001,
                0x7f80_0001,
                0x3f00_0000,
                0x3f80_0001,
                0x4b80_0001,
                0xbdcc_cccd,
                0x4f00_0000,
                0xcf00_0000,
                0x5f00_0000,
                0x3fc0_0000,
                0xc020_0000,
            ],
            Class::F64 => vec![
                0,
                1 << 63,
                1,
                0x000f_ffff_ffff_ffff,
                0x0010_0000_0000_0000,
                0x3ff0_0000_0000_0000,
                0xbff0_0000_0000_0000,
                0x7fef_ffff_ffff_ffff,
                0xffef_ffff_ffff_ffff,
                0x7ff0_0000_0000_0000,
                0xfff0_0000_0000_0000,
                0x7ff8_0000_0000_0000,
                0xfff8_0000_0000_0001,
                0x7ff0_0000_0000_0001,
                0x3fe0_0000_0000_0000,
                0x3ff0_0000_0000_0001,
                0x47ef_ffff_f000_0000,
                0x36a0_0000_0000_0000,
                0x41e0_0000_0000_0000,
                0xc3e0_0000_0000_0000,
                0xc004_0000_0000_0000,
            ],
            Class::Bool => vec![0, 1],
        }
    }

    pub fn random(self, rng: &mut Rng) -> u64 {
        let bits = rng.next();
        // Half of the floats have exponents near each other.
        let near = bits >> 60 & 1 == 0;
        let half = |bits: u64| {
            if near {
                bits & 0x83ff | (13 + (bits >> 10 & 3)) << 10
            } else {
                bits & 0xffff
            }
        };
        let brain = |bits: u64| {
            if near {
                bits & 0x807f | (125 + (bits >> 7 & 3)) << 7
            } else {
                bits & 0xffff
            }
        };
        match self {
            Class::I16 => bits & 0xffff,
            Class::I32 => bits >> 8 & 0xffff_ffff,
            Class::I64 => bits,
            Class::Small => bits & 0x7f,
            Class::F16 => half(bits),
            Class::Bf16 => brain(bits),
            Class::F16x2 => half(bits) | half(bits >> 20) << 16,
            Class::Bf16x2 => brain(bits) | brain(bits >> 20) << 16,
            Class::F32 if near => bits & 0x807f_ffff | (117 + (bits >> 40) % 20) << 23,
            Class::F32 => bits & 0xffff_ffff,
            Class::F64 if near => {
                bits & 0x800f_ffff_ffff_ffff | (1010 + (rng.next() >> 40) % 26) << 52
            }
            Class::F64 => bits,
            Class::Bool => bits & 1,
        }
    }

    /// A constant operand and its bits.
    pub fn constant(self) -> Option<(&'static str, u64)> {
        Some(match self {
            Class::I16 => ("-3", 0xfffd),
            Class::I32 => ("-3", 0xffff_fffd),
            Class::I64 => ("-3", u64::MAX - 2),
            Class::Small => ("5", 5),
            Class::F32 => ("0fBFC00000", 0xbfc0_0000),
            Class::F64 => ("0d3FF8000000000000", 0x3ff8_0000_0000_0000),
            _ => return None,
        })
    }
}

/// A generator of numbers that are the same in every run.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}
