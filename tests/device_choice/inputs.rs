//! Numbers to choose from.

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Between 0 and 1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// Between -1 and 1, denser in the middle.
    pub fn bell(&mut self) -> f32 {
        (0..4).map(|_| self.unit() - 0.5).sum::<f32>() / 2.0
    }
}

/// What logits are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A bell with some tokens that stand out.
    Model,
    /// A handful of values, both zeros among them.
    Ties,
    /// NaN, infinities, subnormals and the largest numbers among others.
    Wild,
    /// One value.
    Equal,
    /// One number among NaN and -inf.
    OneFinite,
    /// Exponents from one end to the other.
    Huge,
    /// Neighbouring floats.
    Close,
    /// Neighbouring floats about 0: subnormals.
    Tiny,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::Model,
        Kind::Ties,
        Kind::Wild,
        Kind::Equal,
        Kind::OneFinite,
        Kind::Huge,
        Kind::Close,
        Kind::Tiny,
    ];

    pub fn logits(self, random: &mut Random, count: usize) -> Vec<f32> {
        let one = random.below(count);
        let equal = random.pick(&[0.0, -3.5, 12.25, 1e-40, f32::MIN]);
        (0..count)
            .map(|i| match self {
                Kind::Model => {
                    let outstanding = if random.one_in(300) { 12.0 } else { 0.0 };
                    random.bell() * 16.0 + outstanding - 3.0
                }
                Kind::Ties => random.pick(&[-1.0, 0.0, -0.0, 1.0, 2.5, 2.5]),
                Kind::Wild => random.pick(&[
                    f32::NAN,
                    f32::INFINITY,
                    f32::NEG_INFINITY,
                    f32::MAX,
                    f32::MIN,
                    1e-45,
                    -1e-45,
                    f32::MIN_POSITIVE,
                    0.5,
                    -7.0,
                ]),
                Kind::Equal => equal,
                Kind::OneFinite if i == one => -2.0,
                Kind::OneFinite => random.pick(&[f32::NAN, f32::NEG_INFINITY]),
                Kind::Huge => random.bell() * 10f32.powi(random.below(77) as i32 - 38),
                Kind::Close => f32::from_bits(15f32.to_bits() + random.below(40) as u32),
                Kind::Tiny => f32::from_bits(random.below(8) as u32) - f32::from_bits(3),
            })
            .collect()
    }
}
