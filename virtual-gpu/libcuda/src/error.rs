//! Error codes, their names and what they mean.

use crate::boundary::{Out, exports};
use cudarc::driver::sys::CUresult;
use std::ffi::CStr;

/// A code of the driver API other than success.
pub type Code = CUresult;

macro_rules! codes {
    ($($short:ident = $name:ident: $text:literal,)*) => {
        $(
            #[doc = $text]
            #[allow(dead_code)] // Some codes only have a name to be told.
            pub const $short: Code = CUresult::$name;
        )*

        /// Name and description of each code.
        fn describe(code: u32) -> Option<(&'static CStr, &'static CStr)> {
            $(
                if code == CUresult::$name as u32 {
                    let name = concat!(stringify!($name), "\0");
                    let text = concat!($text, "\0");
                    return CStr::from_bytes_with_nul(name.as_bytes())
                        .ok()
                        .zip(CStr::from_bytes_with_nul(text.as_bytes()).ok());
                }
            )*
            None
        }
    };
}

codes! {
    SUCCESS = CUDA_SUCCESS: "no error",
    INVALID_VALUE = CUDA_ERROR_INVALID_VALUE: "invalid argument",
    OUT_OF_MEMORY = CUDA_ERROR_OUT_OF_MEMORY: "out of memory",
    NOT_INITIALIZED = CUDA_ERROR_NOT_INITIALIZED: "initialization error: cuInit was not called",
    INVALID_DEVICE = CUDA_ERROR_INVALID_DEVICE: "invalid device ordinal",
    INVALID_IMAGE = CUDA_ERROR_INVALID_IMAGE: "the device kernel image is invalid",
    INVALID_CONTEXT = CUDA_ERROR_INVALID_CONTEXT: "invalid device context",
    NO_BINARY_FOR_GPU = CUDA_ERROR_NO_BINARY_FOR_GPU: "no kernel image is available for the device: give PTX",
    UNSUPPORTED_LIMIT = CUDA_ERROR_UNSUPPORTED_LIMIT: "the limit is not supported by the device",
    INVALID_PTX = CUDA_ERROR_INVALID_PTX: "the PTX text is not accepted",
    FILE_NOT_FOUND = CUDA_ERROR_FILE_NOT_FOUND: "file not found",
    INVALID_HANDLE = CUDA_ERROR_INVALID_HANDLE: "invalid resource handle",
    ILLEGAL_STATE = CUDA_ERROR_ILLEGAL_STATE: "the object is not in a state that permits the operation",
    NOT_FOUND = CUDA_ERROR_NOT_FOUND: "named symbol not found",
    NOT_READY = CUDA_ERROR_NOT_READY: "device not ready: work is still under way",
    ILLEGAL_ADDRESS = CUDA_ERROR_ILLEGAL_ADDRESS: "an illegal memory access was encountered",
    LAUNCH_OUT_OF_RESOURCES = CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: "too many resources requested for launch",
    INVALID_CLUSTER_SIZE = CUDA_ERROR_INVALID_CLUSTER_SIZE: "the size of the clusters is not one that the kernel and the device take",
    LAUNCH_TIMEOUT = CUDA_ERROR_LAUNCH_TIMEOUT: "the launch timed out: nobody in the grid could go on",
    CONTEXT_IS_DESTROYED = CUDA_ERROR_CONTEXT_IS_DESTROYED: "context is destroyed",
    ASSERT = CUDA_ERROR_ASSERT: "device-side assert triggered",
    HOST_MEMORY_ALREADY_REGISTERED = CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED:
        "part or all of the requested memory range is already mapped",
    HOST_MEMORY_NOT_REGISTERED = CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED:
        "pointer does not correspond to a registered memory region",
    ILLEGAL_INSTRUCTION = CUDA_ERROR_ILLEGAL_INSTRUCTION: "an illegal instruction was encountered",
    MISALIGNED_ADDRESS = CUDA_ERROR_MISALIGNED_ADDRESS: "misaligned address",
    LAUNCH_FAILED = CUDA_ERROR_LAUNCH_FAILED: "unspecified launch failure",
    COOPERATIVE_LAUNCH_TOO_LARGE = CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE:
        "too many blocks in cooperative launch",
    NOT_PERMITTED = CUDA_ERROR_NOT_PERMITTED: "operation not permitted",
    NOT_SUPPORTED = CUDA_ERROR_NOT_SUPPORTED: "operation not supported by the virtual GPU",
    PRIMARY_CONTEXT_ACTIVE = CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE: "the primary context is already active",
    CAPTURE_UNSUPPORTED = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: "operation not permitted when stream is capturing",
    CAPTURE_INVALIDATED = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
        "operation failed due to a previous error during capture",
    CAPTURE_MERGE = CUDA_ERROR_STREAM_CAPTURE_MERGE: "operation would result in a merge of separate capture sequences",
    CAPTURE_UNMATCHED = CUDA_ERROR_STREAM_CAPTURE_UNMATCHED: "capture was not ended in the same stream as it began",
    CAPTURE_UNJOINED = CUDA_ERROR_STREAM_CAPTURE_UNJOINED: "capturing stream has unjoined work",
    CAPTURE_ISOLATION = CUDA_ERROR_STREAM_CAPTURE_ISOLATION:
        "dependency created on uncaptured work in another stream",
    CAPTURE_IMPLICIT = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
        "operation would make the legacy stream depend on a capturing blocking stream",
    CAPTURED_EVENT = CUDA_ERROR_CAPTURED_EVENT: "operation not permitted on an event last recorded in a capturing stream",
    CAPTURE_WRONG_THREAD = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD:
        "attempt to terminate a thread-local capture sequence from another thread",
    GRAPH_EXEC_UPDATE_FAILURE = CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE:
        "the graph update was not performed because it included changes which violated constraints",
    UNKNOWN = CUDA_ERROR_UNKNOWN: "unknown error",
}

exports! {
    /// The name of an error code.
    fn cuGetErrorName(error: u32, text: Out<*const i8>) {
        let described = describe(error);
        text.set(described.map_or(std::ptr::null(), |(name, _)| name.as_ptr().cast()))?;
        described.map(|_| ()).ok_or(INVALID_VALUE)
    }

    /// What an error code means.
    fn cuGetErrorString(error: u32, text: Out<*const i8>) {
        let described = describe(error);
        text.set(described.map_or(std::ptr::null(), |(_, meaning)| meaning.as_ptr().cast()))?;
        described.map(|_| ()).ok_or(INVALID_VALUE)
    }
}
