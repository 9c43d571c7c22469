//! What to compile and what comes out.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::resources::KernelResources;

/// Makes ptxas report what each kernel takes.
pub(crate) const REPORT: &str = "--ptxas-options=-v";

/// What to compile for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// PTX only, for a virtual architecture: 80 is compute_80.
    Virtual(u32),
    /// A cubin for one architecture, with its PTX: `sm_80`, `sm_90a`. The letters `a` and `f` admit the instructions
    /// that only this architecture, or only its family, has.
    Real(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Virtual(number) => write!(f, "compute_{number}"),
            Target::Real(name) => f.write_str(name),
        }
    }
}

impl Target {
    /// The number of the architecture, 90 for `sm_90a`; nothing if this is not the name of one.
    pub(crate) fn number(&self) -> Option<u32> {
        match self {
            Target::Virtual(number) => Some(*number),
            Target::Real(name) => {
                let number = name.strip_prefix("sm_")?;
                number
                    .strip_suffix(['a', 'f'])
                    .unwrap_or(number)
                    .parse()
                    .ok()
            }
        }
    }
}

/// One source to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What diagnostics and debug information call the source.
    pub name: String,
    /// CUDA C++.
    pub source: String,
    /// Headers as (name in `#include`, text). Nothing is read from disk unless an option says so.
    pub headers: Vec<(String, String)>,
    /// What to compile for.
    pub target: Target,
    /// Further options of NVRTC, such as `--fmad=false` or `-DHEADS=8`.
    pub options: Vec<String>,
    /// Whether the output relates instructions to source lines.
    pub line_info: bool,
    /// Expressions such as `kernel<8>`, of which to instantiate the template and tell the lowered name.
    pub name_expressions: Vec<String>,
}

impl Request {
    /// A request for `source` with no headers, options, line information or name expressions.
    pub fn new(name: impl Into<String>, source: impl Into<String>, target: Target) -> Request {
        Request {
            name: name.into(),
            source: source.into(),
            headers: Vec::new(),
            target,
            options: Vec::new(),
            line_info: false,
            name_expressions: Vec::new(),
        }
    }

    /// Every option that NVRTC gets. The target's come last: of two architectures NVRTC takes the later, so that none
    /// among the request's options contradicts the target.
    pub(crate) fn all_options(&self) -> Vec<String> {
        let mut options = self.options.clone();
        if self.line_info {
            options.push("--generate-line-info".to_owned());
        }
        if matches!(self.target, Target::Real(_)) {
            options.push(REPORT.to_owned());
        }
        options.push(format!("--gpu-architecture={}", self.target));
        options
    }
}

/// What came out of a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiled {
    /// PTX.
    pub ptx: Option<String>,
    /// An ELF file for the driver; none for a virtual target.
    pub cubin: Option<Vec<u8>>,
    /// Warnings, and for a real target the report of ptxas.
    pub log: String,
    /// Registers, memory and barriers of every kernel, and the spills of device functions that were not inlined, out
    /// of the report; empty for a virtual target.
    pub resources: Vec<KernelResources>,
    /// The lowered name of each name expression.
    pub lowered_names: BTreeMap<String, String>,
}

impl Compiled {
    /// What the kernel with this lowered name takes; nothing for a virtual target or an unknown name.
    pub fn kernel(&self, name: &str) -> Option<&KernelResources> {
        self.resources
            .iter()
            .find(|function| function.kernel && function.name == name)
    }
}
