//! The case file: strict reading into checked values.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::number;
use super::tensor::RawTensorMap;
use super::{CaseError, Dtype, TensorMapArg};

/// Largest buffer that a case may ask for: generated contents are made in memory.
const MAX_BUFFER_BYTES: u64 = 4 << 30;

/// One launch of one kernel.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name of the entry point.
    pub kernel: String,
    /// Target to compile for, as NVRTC writes it: `compute_80`, `compute_90a`.
    pub arch: String,
    /// Blocks in x, y, z; each at least 1.
    pub grid: [u32; 3],
    /// Threads in x, y, z; each at least 1, at most 1024 together.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory per block.
    pub dynamic_shared: u32,
    /// Whether all blocks must be resident at the same time.
    pub cooperative: bool,
    /// Blocks of a cluster in x, y, z, if the launch says so.
    pub cluster: Option<[u32; 3]>,
    /// The arguments in the order of the kernel's parameters.
    pub args: Vec<Arg>,
    path: std::path::PathBuf,
}

/// One argument of the launch.
#[derive(Clone, Debug)]
pub enum Arg {
    /// The address of a buffer of its own.
    Buffer(BufferArg),
    /// A value, or a struct by value.
    Scalar(ScalarArg),
    /// A tensor map of a buffer.
    TensorMap(TensorMapArg),
}

/// A buffer: its own allocation of exactly `elements` elements.
#[derive(Clone, Debug)]
pub struct BufferArg {
    dtype: Dtype,
    elements: usize,
    init: Init,
    role: Role,
}

/// What a buffer holds before the launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Init {
    /// A function of the element's position that looks random.
    Random {
        /// For integers, the lowest value and the first value beyond the highest.
        range: Option<(i128, i128)>,
    },
    /// Zeros.
    Zeros,
    /// 0, 1, 2, ...
    Iota,
    /// Nothing: reading it before it is written is a defect (`uninit` and `none` in the file).
    Uninit,
    /// The little-endian bytes of the listed values.
    Values(Vec<u8>),
}

/// What the kernel does with a buffer. Results are taken from `out` and `inout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // The names are the document's own.
pub enum Role {
    In,
    Out,
    Inout,
}

/// A scalar, or a struct of several members of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalarArg {
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl BufferArg {
    /// Type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Size of the allocation.
    pub fn bytes(&self) -> usize {
        self.elements * self.dtype.size()
    }

    /// What it holds before the launch.
    pub fn init(&self) -> &Init {
        &self.init
    }

    /// What the kernel does with it.
    pub fn role(&self) -> Role {
        self.role
    }
}

impl ScalarArg {
    /// Type of the members.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The members one after the other, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Case {
    /// Reads a case; `path` is named in errors only. Unknown fields and types, and values that no launch can have, are
    /// errors.
    pub fn from_json(text: &str, path: impl AsRef<Path>) -> Result<Self, CaseError> {
        let path = path.as_ref().to_path_buf();
        let raw: RawCase = serde_json::from_str(text).map_err(|cause| CaseError::Json {
            path: path.clone(),
            cause,
        })?;
        raw.check().map_err(|message| CaseError::Field {
            path: path.clone(),
            message,
        })?;
        let bad = |index, message| CaseError::Arg {
            path: path.clone(),
            index,
            message,
        };
        let args = raw.args.into_iter().enumerate();
        let args: Vec<Arg> = args
            .map(|(index, arg)| Arg::from_value(arg).map_err(|message| bad(index, message)))
            .collect::<Result<_, _>>()?;
        TensorMapArg::check_all(&args).map_err(|(index, message)| bad(index, message))?;
        Ok(Self {
            args,
            kernel: raw.kernel,
            arch: raw.arch,
            grid: raw.grid,
            block: raw.block,
            dynamic_shared: raw.dynamic_shared,
            cooperative: raw.cooperative,
            cluster: raw.cluster,
            path,
        })
    }

    /// The buffers with their positions among the arguments.
    pub fn buffers(&self) -> impl Iterator<Item = (usize, &BufferArg)> {
        let args = self.args.iter().enumerate();
        args.filter_map(|(index, arg)| match arg {
            Arg::Buffer(buffer) => Some((index, buffer)),
            Arg::Scalar(_) | Arg::TensorMap(_) => None,
        })
    }

    /// Checks that the kernel is one of the module's entry points.
    pub fn require_kernel_in<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), CaseError> {
        let entries: Vec<&str> = entries.into_iter().collect();
        if entries.contains(&self.kernel.as_str()) {
            return Ok(());
        }
        let available = if entries.is_empty() {
            "no kernel at all".to_string()
        } else {
            entries.join(", ")
        };
        Err(CaseError::UnknownKernel {
            path: self.path.clone(),
            kernel: self.kernel.clone(),
            available,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    kernel: String,
    arch: String,
    grid: [u32; 3],
    block: [u32; 3],
    #[serde(default)]
    dynamic_shared: u32,
    #[serde(default)]
    cooperative: bool,
    #[serde(default)]
    cluster: Option<[u32; 3]>,
    args: Vec<Value>,
}

impl RawCase {
    fn check(&self) -> Result<(), String> {
        if self.kernel.is_empty() {
            return Err("`kernel` is empty; name an extern \"C\" entry point".into());
        }
        let number = self
            .arch
            .strip_prefix("compute_")
            .map(|n| n.strip_suffix(['a', 'f']).unwrap_or(n));
        if !number
            .is_some_and(|n| (2..=3).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(format!(
                "`arch` is \"{}\"; write it like \"compute_80\" or \"compute_90a\"",
                self.arch
            ));
        }
        within("grid", self.grid, [i32::MAX as u32, 65535, 65535])?;
        within("block", self.block, [1024, 1024, 64])?;
        let threads: u32 = self.block.iter().product();
        if threads > 1024 {
            return Err(format!(
                "`block` has {threads} threads; at most 1024 are allowed"
            ));
        }
        Ok(())
    }
}

fn within(field: &str, extent: [u32; 3], most: [u32; 3]) -> Result<(), String> {
    if extent
        .iter()
        .zip(most)
        .all(|(&n, most)| (1..=most).contains(&n))
    {
        return Ok(());
    }
    Err(format!(
        "`{field}` is {extent:?}; each number must be at least 1 and at most {most:?}"
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBuffer {
    buffer: Dtype,
    elements: u64,
    init: RawInit,
    role: Role,
    lo: Option<Number>,
    hi: Option<Number>,
    values: Option<Vec<Number>>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawInit {
    Random,
    Zeros,
    Iota,
    Uninit,
    None,
    Values,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScalar {
    scalar: Dtype,
    value: OneOrMany,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`value` must be a number or a list of numbers")]
enum OneOrMany {
    One(Number),
    Many(Vec<Number>),
}

impl Arg {
    fn from_value(value: Value) -> Result<Self, String> {
        if value.get("buffer").is_some() {
            let raw: RawBuffer = serde_json::from_value(value).map_err(|e| e.to_string())?;
            Ok(Self::Buffer(raw.checked()?))
        } else if value.get("scalar").is_some() {
            let raw: RawScalar = serde_json::from_value(value).map_err(|e| e.to_string())?;
            Ok(Self::Scalar(raw.checked()?))
        } else if value.get("tensor_map").is_some() {
            let raw: RawTensorMap = serde_json::from_value(value).map_err(|e| e.to_string())?;
            Ok(Self::TensorMap(raw.checked()?))
        } else {
            Err("it has neither `buffer` nor `scalar` nor `tensor_map`; one of them must give its type".into())
        }
    }
}

impl RawBuffer {
    fn checked(self) -> Result<BufferArg, String> {
        let bytes = self.elements.checked_mul(self.buffer.size() as u64);
        let elements = match bytes {
            Some(bytes) if bytes <= MAX_BUFFER_BYTES => self.elements as usize,
            _ => {
                return Err(format!(
                    "{} elements are more than the {MAX_BUFFER_BYTES} bytes allowed",
                    self.elements
                ));
            }
        };
        if self.init != RawInit::Random && (self.lo.is_some() || self.hi.is_some()) {
            return Err("`lo` and `hi` belong to \"init\": \"random\" only".into());
        }
        if self.init != RawInit::Values && self.values.is_some() {
            return Err("`values` belongs to \"init\": \"values\" only".into());
        }
        let init = match self.init {
            RawInit::Random => Init::Random {
                range: self.random_range()?,
            },
            RawInit::Zeros => Init::Zeros,
            RawInit::Iota => Init::Iota,
            RawInit::Uninit | RawInit::None => Init::Uninit,
            RawInit::Values => Init::Values(self.listed_values(elements)?),
        };
        Ok(BufferArg {
            dtype: self.buffer,
            elements,
            init,
            role: self.role,
        })
    }

    fn random_range(&self) -> Result<Option<(i128, i128)>, String> {
        let Some((lowest, highest)) = self.buffer.integer_range() else {
            if self.lo.is_some() || self.hi.is_some() {
                return Err(format!(
                    "`lo` and `hi` are for integers; random {} lies in [-1, 1)",
                    self.buffer.name()
                ));
            }
            return Ok(None);
        };
        let default_hi = if self.buffer == Dtype::U8 { 256 } else { 128 };
        let bound = |name: &str, given: &Option<Number>, default: i128| match given {
            None => Ok(default),
            Some(n) => n
                .as_i128()
                .ok_or_else(|| format!("`{name}` is {n}, which is not an integer of 64 bits")),
        };
        let (lo, hi) = (
            bound("lo", &self.lo, 0)?,
            bound("hi", &self.hi, default_hi)?,
        );
        if lo >= hi {
            return Err(format!(
                "`lo` is {lo} and `hi` is {hi}; `hi` is exclusive and must be larger"
            ));
        }
        if lo < lowest || hi - 1 > highest {
            let name = self.buffer.name();
            return Err(format!(
                "random values from {lo} to {} do not fit {name} ({lowest} to {highest})",
                hi - 1
            ));
        }
        Ok(Some((lo, hi)))
    }

    fn listed_values(&self, elements: usize) -> Result<Vec<u8>, String> {
        let values = self
            .values
            .as_deref()
            .ok_or("\"init\": \"values\" needs the list `values`")?;
        if values.len() != elements {
            return Err(format!(
                "`values` lists {} numbers, but `elements` is {elements}",
                values.len()
            ));
        }
        let mut bytes = Vec::with_capacity(elements * self.buffer.size());
        values
            .iter()
            .try_for_each(|value| number::append(&mut bytes, self.buffer, value))?;
        Ok(bytes)
    }
}

impl RawScalar {
    fn checked(self) -> Result<ScalarArg, String> {
        let members = match self.value {
            OneOrMany::One(value) => vec![value],
            OneOrMany::Many(values) if values.is_empty() => {
                return Err("a struct needs at least one member".into());
            }
            OneOrMany::Many(values) => values,
        };
        let mut bytes = Vec::with_capacity(members.len() * self.scalar.size());
        members
            .iter()
            .try_for_each(|value| number::append(&mut bytes, self.scalar, value))?;
        Ok(ScalarArg {
            dtype: self.scalar,
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        r#""kernel": "axpy", "arch": "compute_80", "grid": [4, 1, 1], "block": [256, 1, 1]"#;

    fn case(head: &str, args: &str) -> Result<Case, String> {
        Case::from_json(&format!(r#"{{{head}, "args": [{args}]}}"#), "axpy.json")
            .map_err(|e| e.to_string())
    }

    #[test]
    fn reads_a_case() {
        let case = case(
            &format!(r#"{HEAD}, "dynamic_shared": 512, "cooperative": true"#),
            r#"{"scalar": "f32", "value": 2},
               {"buffer": "i32", "elements": 5, "init": "random", "role": "in", "lo": -1, "hi": 3},
               {"buffer": "f32", "elements": 7, "init": "none", "role": "out"},
               {"scalar": "u16", "value": [1, 2, 3]}"#,
        )
        .unwrap();
        assert_eq!(
            (case.kernel.as_str(), case.arch.as_str()),
            ("axpy", "compute_80")
        );
        assert_eq!((case.grid, case.block), ([4, 1, 1], [256, 1, 1]));
        assert_eq!((case.dynamic_shared, case.cooperative), (512, true));
        let buffers: Vec<_> = case
            .buffers()
            .map(|(i, b)| (i, b.dtype(), b.bytes(), b.init(), b.role()))
            .collect();
        let random = Init::Random {
            range: Some((-1, 3)),
        };
        let wanted = [
            (1, Dtype::I32, 20, &random, Role::In),
            (2, Dtype::F32, 28, &Init::Uninit, Role::Out),
        ];
        assert_eq!(buffers, wanted);
        let Arg::Scalar(triple) = &case.args[3] else {
            panic!("not a scalar")
        };
        assert_eq!(
            (triple.dtype(), triple.bytes()),
            (Dtype::U16, &[1, 0, 2, 0, 3, 0][..])
        );
    }

    #[test]
    fn names_the_file_and_the_argument() {
        let good = r#"{"scalar": "f32", "value": 2}"#;
        let error = case(HEAD, &format!(r#"{good}, {{"scalar": "f16", "value": 2}}"#)).unwrap_err();
        assert!(
            error
                .starts_with("axpy.json: argument 1: unknown variant `f16`, expected one of `f32`"),
            "{error}"
        );
    }

    #[test]
    fn refuses_what_no_launch_can_have() {
        let with = |from: &str, to: &str| HEAD.replace(from, to);
        for (head, part) in [
            (format!(r#"{HEAD}, "sms": 4"#), "unknown field `sms`"),
            (with(r#""kernel": "axpy", "#, ""), "missing field `kernel`"),
            (with("axpy", ""), "`kernel` is empty"),
            (with("compute_80", "sm_80"), "`arch` is \"sm_80\""),
            (with("[4, 1, 1]", "[4, 0, 1]"), "`grid` is [4, 0, 1]"),
            (
                with("[4, 1, 1]", "[4, 1, 65536]"),
                "`grid` is [4, 1, 65536]",
            ),
            (
                with("[256, 1, 1]", "[256, 8, 1]"),
                "`block` has 2048 threads",
            ),
            (with("[256, 1, 1]", "[1, 1, 65]"), "`block` is [1, 1, 65]"),
            (with("[256, 1, 1]", "[256]"), "invalid length 1"),
        ] {
            let error = case(&head, "").unwrap_err();
            assert!(
                error.starts_with("axpy.json: ") && error.contains(part),
                "{error}"
            );
        }
    }

    #[test]
    fn refuses_wrong_arguments() {
        for (arg, part) in [
            (r#"{"value": 1}"#, "neither `buffer` nor `scalar`"),
            (r#"7"#, "neither `buffer` nor `scalar`"),
            (
                r#"{"scalar": "i32", "value": 1, "role": "in"}"#,
                "unknown field `role`",
            ),
            (
                r#"{"scalar": "i32", "value": "1"}"#,
                "`value` must be a number or a list of numbers",
            ),
            (r#"{"scalar": "i32", "value": []}"#, "at least one member"),
            (
                r#"{"scalar": "i32", "value": 1.5}"#,
                "1.5 is not an integer",
            ),
            (
                r#"{"scalar": "u8", "value": [1, 300]}"#,
                "300 does not fit u8",
            ),
            (
                r#"{"buffer": "f32", "elements": 1, "init": "ones", "role": "in"}"#,
                "unknown variant `ones`",
            ),
            (
                r#"{"buffer": "f32", "elements": 1, "init": "zeros"}"#,
                "missing field `role`",
            ),
            (
                r#"{"buffer": "f32", "elements": -1, "init": "zeros", "role": "in"}"#,
                "invalid value: integer `-1`",
            ),
            (
                r#"{"buffer": "f64", "elements": 2305843009213693952, "init": "zeros", "role": "in"}"#,
                "bytes allowed",
            ),
            (
                r#"{"buffer": "i32", "elements": 1, "init": "zeros", "role": "in", "lo": 1}"#,
                "belong to",
            ),
            (
                r#"{"buffer": "f32", "elements": 1, "init": "random", "role": "in", "hi": 2}"#,
                "are for integers",
            ),
            (
                r#"{"buffer": "i32", "elements": 1, "init": "random", "role": "in", "lo": 128}"#,
                "must be larger",
            ),
            (
                r#"{"buffer": "u8", "elements": 1, "init": "random", "role": "in", "hi": 257}"#,
                "do not fit u8",
            ),
            (
                r#"{"buffer": "i32", "elements": 1, "init": "random", "role": "in", "hi": 1.5}"#,
                "`hi` is 1.5",
            ),
            (
                r#"{"buffer": "i32", "elements": 2, "init": "values", "role": "in", "values": [1]}"#,
                "lists 1 numbers",
            ),
            (
                r#"{"buffer": "i32", "elements": 2, "init": "values", "role": "in"}"#,
                "needs the list `values`",
            ),
            (
                r#"{"buffer": "i32", "elements": 1, "init": "iota", "role": "in", "values": [1]}"#,
                "belongs to",
            ),
        ] {
            let error = case(HEAD, arg).unwrap_err();
            assert!(
                error.starts_with("axpy.json: argument 0: ") && error.contains(part),
                "{arg}: {error}"
            );
        }
    }

    #[test]
    fn the_kernel_must_be_in_the_module() {
        let case = case(HEAD, "").unwrap();
        case.require_kernel_in(["scale", "axpy"]).unwrap();
        let error = case
            .require_kernel_in(["scale", "axpy2"])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "axpy.json: there is no kernel `axpy`; the module has: scale, axpy2"
        );
    }
}
