//! One launch of one kernel: shapes, arguments and what must come out.

use std::path::PathBuf;

use crate::data::{Dtype, Init, Values};
use crate::expect::Expect;

/// Two sizes of every case: `Full` fills tiles, rings and several blocks; `Small` is for runs under many schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Full,
    Small,
}

impl Size {
    pub const ALL: [Size; 2] = [Size::Full, Size::Small];

    pub fn pick<T>(self, full: T, small: T) -> T {
        match self {
            Size::Full => full,
            Size::Small => small,
        }
    }
}

/// The oldest architecture that a kernel's instructions need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Ampere,
    /// fp8 operands of mma.sync: compute_89.
    Ada,
    /// mbarrier transactions and bulk copies: compute_90.
    Hopper,
    /// setmaxnreg: an architecture-specific target.
    HopperSpecific,
}

impl Target {
    /// Whether a device of a compute capability has them.
    pub fn runs_on(self, capability: (u32, u32)) -> bool {
        match self {
            Target::Ampere => capability >= (8, 0),
            Target::Ada => capability >= (8, 9),
            Target::Hopper | Target::HopperSpecific => capability >= (9, 0),
        }
    }

    /// Virtual architectures whose PTX the corpus runs.
    pub const fn virtual_archs(self) -> &'static [&'static str] {
        match self {
            Target::Ampere => &["compute_80", "compute_90", "compute_120"],
            Target::Ada | Target::Hopper => &["compute_90", "compute_120"],
            Target::HopperSpecific => &["compute_90a"],
        }
    }

    /// Real architectures whose registers and spills `resources.txt` records.
    pub const fn real_archs(self) -> &'static [&'static str] {
        match self {
            Target::Ampere => &["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"],
            Target::Ada => &["sm_89", "sm_90a", "sm_100a", "sm_120a"],
            Target::Hopper | Target::HopperSpecific => &["sm_90a", "sm_100a", "sm_120a"],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    In,
    Out,
    InOut,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    U32(u32),
    I32(i32),
    U64(u64),
    F32(f32),
}

impl Scalar {
    fn bytes(self) -> Vec<u8> {
        match self {
            Scalar::U32(value) => value.to_le_bytes().to_vec(),
            Scalar::I32(value) => value.to_le_bytes().to_vec(),
            Scalar::U64(value) => value.to_le_bytes().to_vec(),
            Scalar::F32(value) => value.to_le_bytes().to_vec(),
        }
    }
}

pub enum Arg {
    Buffer {
        dtype: Dtype,
        elements: usize,
        init: Init,
        role: Role,
        expect: Expect,
    },
    Scalar(Scalar),
}

/// One launch of the kernel `kernel` of `kernels/<kernel>.cu`. Arguments are added in the kernel's order.
pub struct Case {
    pub kernel: &'static str,
    pub target: Target,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: u32,
    pub cooperative: bool,
    pub args: Vec<Arg>,
}

impl Case {
    pub fn new(kernel: &'static str, grid: [usize; 2], block: [usize; 2]) -> Self {
        Case {
            kernel,
            target: Target::Ampere,
            grid: [grid[0] as u32, grid[1] as u32, 1],
            block: [block[0] as u32, block[1] as u32, 1],
            dynamic_shared: 0,
            cooperative: false,
            args: Vec::new(),
        }
    }

    /// Adds a buffer that the kernel must leave as it is.
    pub fn input(&mut self, dtype: Dtype, elements: usize, init: Init) -> Values {
        let values = self.next(dtype, elements, init);
        let expect = Expect::Exact(values.bytes.clone());
        self.buffer(dtype, elements, init, Role::In, expect);
        values
    }

    /// Adds a buffer that the kernel fills: not written before the launch.
    pub fn output(&mut self, dtype: Dtype, elements: usize, expect: Expect) {
        self.buffer(dtype, elements, Init::Uninit, Role::Out, expect);
    }

    /// Adds a buffer that the kernel changes.
    pub fn update(&mut self, dtype: Dtype, elements: usize, init: Init, expect: Expect) {
        self.buffer(dtype, elements, init, Role::InOut, expect);
    }

    /// What a buffer will hold at the start if it is the next argument.
    pub fn next(&self, dtype: Dtype, elements: usize, init: Init) -> Values {
        Values::generate(self.args.len(), dtype, elements, init)
    }

    pub fn scalar(&mut self, scalar: Scalar) {
        self.args.push(Arg::Scalar(scalar));
    }

    /// Adds sizes as the kernel's `unsigned` or `int` parameters.
    pub fn sizes<const N: usize>(&mut self, sizes: [usize; N]) {
        for size in sizes {
            self.scalar(Scalar::U32(size as u32));
        }
    }

    fn buffer(&mut self, dtype: Dtype, elements: usize, init: Init, role: Role, expect: Expect) {
        self.args.push(Arg::Buffer {
            dtype,
            elements,
            init,
            role,
            expect,
        });
    }

    pub fn source(&self) -> PathBuf {
        kernels().join(format!("{}.cu", self.kernel))
    }

    /// For every buffer its size in bytes and, unless it starts unwritten, its contents.
    pub fn buffers(&self) -> Vec<(usize, Option<Vec<u8>>)> {
        let buffer = |(i, arg): (usize, &Arg)| match *arg {
            Arg::Scalar(_) => None,
            Arg::Buffer {
                dtype,
                elements,
                init,
                ..
            } => {
                let written = init != Init::Uninit;
                let contents = written.then(|| Values::generate(i, dtype, elements, init).bytes);
                Some((elements * dtype.bytes(), contents))
            }
        };
        self.args.iter().enumerate().filter_map(buffer).collect()
    }

    /// Every argument's bytes, buffers as the addresses given in their order.
    pub fn arguments(&self, addresses: &[u64]) -> Vec<Vec<u8>> {
        let mut addresses = addresses.iter();
        let mut next = || addresses.next().expect("one address a buffer");
        let bytes = |arg: &Arg| match arg {
            Arg::Scalar(scalar) => scalar.bytes(),
            Arg::Buffer { .. } => next().to_le_bytes().to_vec(),
        };
        self.args.iter().map(bytes).collect()
    }

    /// The parameter block: every argument at its natural alignment.
    pub fn params(&self, addresses: &[u64]) -> Vec<u8> {
        let mut params = Vec::new();
        for bytes in self.arguments(addresses) {
            params.resize(params.len().next_multiple_of(bytes.len()), 0);
            params.extend(bytes);
        }
        params
    }

    /// Compares the contents of all buffers after the launch, inputs included.
    pub fn check(&self, outputs: &[Vec<u8>]) -> Result<(), String> {
        let mut outputs = outputs.iter();
        for (i, arg) in self.args.iter().enumerate() {
            if let Arg::Buffer { dtype, expect, .. } = arg {
                let output = outputs
                    .next()
                    .ok_or_else(|| format!("argument {i} did not come back"))?;
                expect
                    .check(*dtype, output)
                    .map_err(|error| format!("{}: argument {i}: {error}", self.kernel))?;
            }
        }
        Ok(())
    }

    /// Compares the buffers of two launches bit for bit, but for working memory.
    pub fn same(&self, first: &[Vec<u8>], second: &[Vec<u8>]) -> Result<(), String> {
        let buffers = self
            .args
            .iter()
            .enumerate()
            .filter_map(|(i, arg)| match arg {
                Arg::Buffer { expect, .. } => Some((i, expect)),
                Arg::Scalar(_) => None,
            });
        for ((i, expect), (first, second)) in buffers.zip(first.iter().zip(second)) {
            if !matches!(expect, Expect::Any) && first != second {
                return Err(format!(
                    "argument {i} has other bits under another schedule"
                ));
            }
        }
        Ok(())
    }

    /// Runs the case for one virtual architecture: `launch` gets the case, the CUDA source and the architecture, and
    /// returns the contents of all buffers in order.
    pub fn run(
        &self,
        arch: &str,
        launch: impl FnOnce(&Case, &str, &str) -> Result<Vec<Vec<u8>>, String>,
    ) -> Result<(), String> {
        let path = self.source();
        let source = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        self.check(&launch(self, &source, arch)?)
    }
}

/// The folder of sources and case files: in the package that tests run in, or where they are run without it.
pub fn kernels() -> PathBuf {
    let moved = std::env::var_os("STHENO_TEST_ROOT").map(PathBuf::from);
    let package = moved.map(|root| root.join("virtual-gpu"));
    let package = package.unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    package.join("tests/corpus/kernels")
}
