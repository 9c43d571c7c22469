use std::fmt;
use std::sync::OnceLock;

/// Instruction set that the inner loops are compiled for.
///
/// There is none that this processor lacks: values come from [`Isa::detect`] and [`Isa::available`] alone, which is what
/// makes running on one sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Kind);

/// What an [`Isa`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the target guarantees.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// What the target guarantees.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    pub(super) fn kind(self) -> Kind {
        self.0
    }

    /// Whether there are 32 registers of 16 lanes; otherwise there are 16 of fewer.
    pub(super) fn has_32_vectors(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        let has = self.0 == Kind::Avx512;
        #[cfg(not(target_arch = "x86_64"))]
        let has = false;
        has
    }

    /// The best one that this processor has.
    pub fn detect() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::available().pop().unwrap_or(Isa::PORTABLE))
    }

    /// All that this processor has, the best one last.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut)]
        let mut list = vec![Isa::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            if avx2 {
                list.push(Isa(Kind::Avx2));
            }
            let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512vl");
            if avx2 && avx512 && has!("avx512vnni") {
                list.push(Isa(Kind::Avx512));
            }
        }
        list
    }

    /// Runs `body` compiled for this instruction set; see `on_isa`.
    #[inline(always)]
    pub fn run<R>(self, body: impl FnOnce() -> R) -> R {
        match self.0 {
            Kind::Portable => body(),
            // SAFETY: this value is made by `available` only, which saw the features.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { with_avx2(body) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { with_avx512(body) },
        }
    }
}

/// Evaluates an expression compiled for an instruction set. The functions that it calls must be
/// `#[inline(always)]` to take part: otherwise they are compiled for the target's minimum, where every FMA is a library
/// call.
macro_rules! on_isa {
    ($isa:expr, $body:expr) => {
        $isa.run(
            #[inline(always)]
            || $body,
        )
    };
}
pub(in crate::host) use on_isa;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn with_avx2<R>(body: impl FnOnce() -> R) -> R {
    body()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn with_avx512<R>(body: impl FnOnce() -> R) -> R {
    body()
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512-vnni",
        })
    }
}
