//! What can go wrong between a search for NVRTC and a compiled kernel.

use std::fmt::{self, Write};
use std::path::PathBuf;

use cudarc::nvrtc::sys::nvrtcResult;

use crate::diagnostic::Excerpt;

/// No NVRTC that can be used.
#[derive(Debug, thiserror::Error)]
pub enum NvrtcError {
    /// No place that was searched has one that the limit allows.
    #[error(
        "found no NVRTC{}: run scripts/fetch-nvrtc.sh, install a CUDA toolkit or `pip install nvidia-cuda-nvrtc`, or \
         set STHENO_NVRTC to libnvrtc.so or its directory; tried:{}",
        limit(*.max_major), list(.tried)
    )]
    Missing {
        /// The places, in order, each with what was found there.
        tried: Vec<String>,
        /// The highest major version that was allowed.
        max_major: Option<u32>,
    },
    /// The file or directory that the caller or STHENO_NVRTC names has no usable NVRTC.
    #[error("{origin} names {}, which gives no NVRTC{}:{}", .path.display(), limit(*.max_major), list(.tried))]
    Named {
        /// Who named it.
        origin: &'static str,
        /// What was named.
        path: PathBuf,
        /// What was found there.
        tried: Vec<String>,
        /// The highest major version that was allowed.
        max_major: Option<u32>,
    },
}

fn limit(max_major: Option<u32>) -> String {
    max_major
        .map(|major| format!(" of version {major} or lower, the newest that the driver runs"))
        .unwrap_or_default()
}

fn list(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = write!(text, "\n  {line}");
        text
    })
}

/// A library that is there but cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("{} does not load: {cause}", .path.display())]
    Open {
        path: PathBuf,
        cause: libloading::Error,
    },
    #[error("{} is no NVRTC of version 11.2 or newer: {cause}", .path.display())]
    Symbol {
        path: PathBuf,
        cause: libloading::Error,
    },
    #[error("{} does not tell what it is: {cause}", .path.display())]
    Call { path: PathBuf, cause: CallError },
}

/// A call of NVRTC that failed for a reason other than the program it was given.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed: {text} (code {code})")]
pub struct CallError {
    /// The function.
    pub call: &'static str,
    /// Its result, an `nvrtcResult`.
    pub code: i32,
    /// What NVRTC says of this code.
    pub text: String,
}

/// Why CUDA's headers could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// The directory cannot be made.
    #[error("cannot make {} for CUDA's headers: {cause}", .directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// NVRTC does not unpack them.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A kernel source that did not become a kernel.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// NVRTC or its ptxas rejected the source or an option.
    #[error("{0}")]
    Rejected(Box<Rejection>),
    /// The target is no architecture, or this NVRTC does not know it.
    #[error("NVRTC {}.{} does not compile for {target}; it knows {}", .version.0, .version.1, architectures(.known))]
    Architecture {
        /// The target as asked for.
        target: String,
        /// The version of NVRTC.
        version: (u32, u32),
        /// The architectures it knows, as 80 for compute_80 and sm_80.
        known: Vec<u32>,
    },
    /// A text that holds a NUL byte, which C strings cannot.
    #[error("{what} of the kernel source {name} holds a NUL byte; NVRTC takes text only")]
    Nul {
        /// The name of the source.
        name: String,
        /// Which text.
        what: String,
    },
    /// NVRTC itself failed.
    #[error("compiling {name} with {}: {cause}{}", .path.display(), hint(.cause))]
    Call {
        /// The name of the source.
        name: String,
        /// The NVRTC that was used.
        path: PathBuf,
        /// The call and its result.
        cause: CallError,
    },
}

/// The one failure with a known cause.
fn hint(error: &CallError) -> &'static str {
    if error.code == nvrtcResult::NVRTC_ERROR_BUILTIN_OPERATION_FAILURE as i32 {
        "; libnvrtc-builtins of the same version must lie beside libnvrtc or on the system's library path"
    } else {
        ""
    }
}

fn architectures(known: &[u32]) -> String {
    known
        .iter()
        .map(|number| format!("sm_{number}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Why a source was rejected: the log and the source around every error in it.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// The name of the source.
    pub name: String,
    /// What it was compiled for.
    pub target: String,
    /// The version of NVRTC.
    pub version: (u32, u32),
    /// The log as NVRTC wrote it.
    pub log: String,
    /// The lines around each error, in the order of the log.
    pub excerpts: Vec<Excerpt>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rejection {
            name,
            target,
            version,
            log,
            excerpts,
        } = self;
        write!(
            f,
            "NVRTC {}.{} rejected {name} for {target}:\n{}",
            version.0,
            version.1,
            log.trim_end()
        )?;
        excerpts
            .iter()
            .try_for_each(|excerpt| write!(f, "\n{excerpt}"))
    }
}
