use super::DriverKind;
use cudarc::driver::result::DriverError;
use std::fmt::Write;
use std::path::PathBuf;

/// What goes wrong between a request for a device and the end of its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The system has no CUDA driver.
    #[error(
        "found no NVIDIA driver (libcuda.so.1); on a machine with an NVIDIA GPU, install its driver"
    )]
    MissingDriver,
    /// The library of the virtual GPU is nowhere.
    #[error(
        "found no driver of the virtual GPU: run `cargo build --release -p virtual-gpu-cuda`, or set \
         STHENO_VIRTUAL_CUDA to its libvirtual_cuda.so; looked for{}",
        list(tried)
    )]
    MissingVirtualDriver {
        /// The files that were looked for, in order.
        tried: Vec<PathBuf>,
    },
    /// A library that is there cannot be used as a driver.
    #[error("{path} is no driver that can be used: {reason}", path = path.display())]
    UnusableDriver {
        /// The library.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A process has one driver, and this one has another already.
    #[error(
        "this process has loaded {loaded}, it cannot have {asked} as well; use one of them in a process"
    )]
    OtherDriver {
        /// What it has.
        loaded: DriverKind,
        /// What was asked for.
        asked: DriverKind,
    },
    /// The driver lacks a function.
    #[error("the CUDA driver has no {function}; it is older than CUDA 11.2, update it")]
    OldDriver {
        /// The function.
        function: &'static str,
    },
    /// The driver shows no device.
    #[error(
        "the CUDA driver shows no device; does nvidia-smi, and does CUDA_VISIBLE_DEVICES hide it?"
    )]
    NoDevice,
    /// There are fewer devices.
    #[error(
        "there is no device {ordinal}: the driver shows {count}; CUDA_VISIBLE_DEVICES may hide others"
    )]
    Ordinal {
        /// The device asked for.
        ordinal: u32,
        /// Devices that there are.
        count: u32,
    },
    /// Memory does not suffice.
    #[error(
        "{what} takes {needed} bytes of memory for the device, {free} of {total} bytes on it are free"
    )]
    OutOfMemory {
        /// What it is for.
        what: String,
        /// Bytes asked for.
        needed: u64,
        /// Bytes of device memory that are free.
        free: u64,
        /// Bytes of device memory.
        total: u64,
    },
    /// A model, or the context that was asked for, does not fit; nothing was allocated.
    #[error("{}", too_large(*weights, *buffers, *kv, *context_length, (*free, *total), *fits))]
    TooLarge {
        /// Bytes of weights.
        weights: u64,
        /// Bytes of vectors, tables and buffers of a call.
        buffers: u64,
        /// Bytes of K and V of one session that fills the context.
        kv: u64,
        /// Positions of the context.
        context_length: u64,
        /// Bytes of device memory that are free.
        free: u64,
        /// Bytes of device memory.
        total: u64,
        /// Positions of a context that fits; 0 if none does.
        fits: u64,
    },
    /// A kernel does not start.
    #[error(
        "kernel {kernel} does not start with {grid} blocks of {block} threads and {shared_bytes} bytes: {name} ({text})"
    )]
    Launch {
        /// The kernel.
        kernel: String,
        /// Blocks.
        grid: u32,
        /// Threads of a block.
        block: u32,
        /// Dynamic shared memory of a block.
        shared_bytes: u32,
        /// The driver's name of the failure, such as `CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE`.
        name: String,
        /// What the driver says of it.
        text: String,
    },
    /// Compiled kernels do not load.
    #[error("the driver does not load the kernels of {module}: {reason}")]
    Module {
        /// The module.
        module: String,
        /// Why, with the driver's log.
        reason: String,
    },
    /// A module has no such kernel.
    #[error("the kernels of {module} have no {kernel}")]
    MissingKernel {
        /// The module.
        module: String,
        /// The kernel.
        kernel: String,
    },
    /// Bytes that a buffer does not have.
    #[error("bytes {offset} to {offset} + {bytes} of {what}, which has {length}")]
    Range {
        /// The buffer.
        what: String,
        /// First byte.
        offset: u64,
        /// Bytes from there.
        bytes: u64,
        /// Bytes that there are.
        length: u64,
    },
    /// Two things that belong to different contexts were used together.
    #[error("{what} belongs to another context")]
    OtherContext {
        /// Which of them.
        what: String,
    },
    /// The model has no device program.
    #[error("the model cannot be run on this device: {reason}; the device host can")]
    Program {
        /// What is in the way.
        reason: String,
    },
    /// The kernel made no progress and gave up.
    #[error(
        "the decode program stopped: block {block} waited in {place} for {what} in vain (it saw {seen}, wanted {wanted}); is \
         another program using the GPU?"
    )]
    Stuck {
        /// The block that gave up first.
        block: u32,
        /// Where in the program: phase, segment, op and layer.
        place: String,
        /// What it waited for: an edge is named with the phase that arrives at it.
        what: String,
        /// What it saw.
        seen: u32,
        /// What it waited for, as a number.
        wanted: u32,
    },
    /// Any other call failed. A kernel's fault is told by the first call after it that waits, and by all later ones.
    #[error("{call} failed: {name} ({text})")]
    Call {
        /// The driver's function.
        call: &'static str,
        /// The driver's name of the failure, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
        name: String,
        /// What the driver says of it.
        text: String,
    },
}

impl DeviceError {
    pub(super) fn call(call: &'static str, error: DriverError) -> Self {
        let (name, text) = describe(error);
        DeviceError::Call { call, name, text }
    }
}

/// The driver's name of a failure and what it says of it.
pub(super) fn describe(error: DriverError) -> (String, String) {
    let text = |text: Result<&std::ffi::CStr, DriverError>| {
        text.map_or_else(
            |_| format!("code {}", error.0 as u32),
            |text| text.to_string_lossy().into_owned(),
        )
    };
    (text(error.error_name()), text(error.error_string()))
}

fn too_large(
    weights: u64,
    buffers: u64,
    kv: u64,
    context_length: u64,
    (free, total): (u64, u64),
    fits: u64,
) -> String {
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64);
    let needed = weights.saturating_add(buffers).saturating_add(kv);
    let mut text = format!(
        "the model needs {} of device memory (weights {}, buffers and tables {}, K and V of {context_length} positions {}), \
         {} of {} are free; ",
        gib(needed),
        gib(weights),
        gib(buffers),
        gib(kv),
        gib(free),
        gib(total)
    );
    text += &match fits {
        0 => {
            "no context is short enough: take a smaller model or one of fewer bits, or another GPU"
                .to_owned()
        }
        fits => format!("--ctx-size {fits} would fit"),
    };
    text
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().fold(String::new(), |mut text, path| {
        let _ = write!(text, "\n  {}", path.display());
        text
    })
}
