//! Kernels that do wrong: the code at the next call that waits, and the story on stderr.

use crate::harness::{Run, isolated, kernel, ptx, this_test};
use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};

const SOURCE: &str = r#"
#include <assert.h>
extern "C" __global__ void wrong(int* x, int what) {
    __shared__ int shared[32];
    if (what == 0) x[1 << 20] = 1;
    if (what == 1) *(int*)((char*)x + 1) = 1;
    if (what == 2) asm volatile("trap;");
    if (what == 3) assert(x == 0);
    if (what == 4) while (*(volatile int*)x == 0) {}
    if (what == 5 && threadIdx.x < 40) __syncthreads();
    if (what == 6) { shared[threadIdx.x % 32] = threadIdx.x; x[threadIdx.x] = shared[0]; }
    if (what == 7) asm volatile("st.global.u32 [%0], 1;" :: "l"(0x7100000000000000ull));
}
"#;

/// Runs the kernel and gives the code of the call that waits; it must be that of every later call too.
fn code(what: i32) -> CUresult {
    let context = CudaContext::new(0).unwrap();
    let stream = context.default_stream();
    let source = SOURCE.replace("#include <assert.h>", "");
    let wrong = kernel(&context, &source, "wrong");
    let mut x = stream.alloc_zeros::<i32>(64).unwrap();
    let config = LaunchConfig {
        grid_dim: (1, 1, 1),
        block_dim: (64, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
    let launch = unsafe {
        stream
            .launch_builder(&wrong)
            .arg(&mut x)
            .arg(&what)
            .launch(config)
    };
    assert!(
        launch.is_ok(),
        "a launch does not wait for its kernel: {launch:?}"
    );
    let Err(error) = stream.synchronize() else {
        return CUresult::CUDA_SUCCESS;
    };
    assert_eq!(context.synchronize().unwrap_err(), error);
    assert_eq!(stream.clone_dtoh(&x).unwrap_err(), error);
    // SAFETY: memory is asked for; its bits are not read before they are written, or are integers.
    assert_eq!(unsafe { stream.alloc::<u8>(1) }.unwrap_err(), error);
    drop((x, wrong, stream, context));
    // A new context begins anew.
    let context = CudaContext::new(0).unwrap();
    context.synchronize().unwrap();
    error.0
}

fn says(run: &Run, parts: &[&str]) {
    for part in parts {
        assert!(
            run.stderr.contains(part),
            "`{part}` is not in:\n{}",
            run.stderr
        );
    }
}

macro_rules! fault {
    ($name:ident, $what:literal, $code:ident, [$($text:literal),*]) => {
        #[test]
        fn $name() {
            let run = isolated(this_test!(), &[], || assert_eq!(code($what), CUresult::$code));
            says(&run, &[$($text),*]);
        }
    };
}

fault!(
    a_store_out_of_bounds_is_an_illegal_address,
    0,
    CUDA_ERROR_ILLEGAL_ADDRESS,
    [
        "out_of_bounds in wrong at ",
        "test.cu:5",
        "past the end of the allocation",
        "of 256 bytes"
    ]
);
fault!(
    a_crooked_address_is_misaligned,
    1,
    CUDA_ERROR_MISALIGNED_ADDRESS,
    ["misaligned in wrong", "test.cu:6"]
);
fault!(
    a_trap_is_an_illegal_instruction,
    2,
    CUDA_ERROR_ILLEGAL_INSTRUCTION,
    ["trap in wrong", "test.cu:7"]
);
fault!(
    a_failed_assertion_is_an_assert,
    3,
    CUDA_ERROR_ASSERT,
    ["assertion `x == 0` failed", "trap in wrong"]
);
fault!(
    a_deadlock_is_a_timeout,
    4,
    CUDA_ERROR_LAUNCH_TIMEOUT,
    ["deadlock in wrong", "polls"]
);
fault!(
    a_barrier_that_not_all_reach_fails_the_launch,
    5,
    CUDA_ERROR_LAUNCH_FAILED,
    ["divergent_barrier in wrong"]
);
fault!(
    a_wild_address_is_an_illegal_address,
    7,
    CUDA_ERROR_ILLEGAL_ADDRESS,
    ["out_of_bounds in wrong"]
);

#[test]
fn a_finding_that_a_gpu_would_not_notice_is_only_told() {
    let run = isolated(this_test!(), &[("VIRTUAL_GPU_CHECKS", "all")], || {
        assert_eq!(uninitialised(), CUresult::CUDA_SUCCESS);
    });
    says(&run, &["uninitialized_read in reader"]);
}

#[test]
fn strictness_makes_any_finding_fail() {
    let settings = [("VIRTUAL_GPU_CHECKS", "all"), ("VIRTUAL_GPU_STRICT", "1")];
    let run = isolated(this_test!(), &settings, || {
        assert_eq!(uninitialised(), CUresult::CUDA_ERROR_LAUNCH_FAILED);
    });
    says(&run, &["uninitialized_read in reader"]);
}

/// Reads memory that nobody has written, also after it was copied; what was written is not told of.
fn uninitialised() -> CUresult {
    let context = CudaContext::new(0).unwrap();
    let stream = context.default_stream();
    let source = r#"extern "C" __global__ void reader(const int* x, int* y) { y[threadIdx.x] = x[threadIdx.x]; }"#;
    let reader = kernel(&context, source, "reader");
    let config = LaunchConfig {
        grid_dim: (1, 1, 1),
        block_dim: (64, 1, 1),
        shared_mem_bytes: 0,
    };
    let written = stream.clone_htod(&[1i32; 64]).unwrap();
    let mut y = stream.alloc_zeros::<i32>(64).unwrap();
    // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
    unsafe {
        stream
            .launch_builder(&reader)
            .arg(&written)
            .arg(&mut y)
            .launch(config)
    }
    .unwrap();
    stream.synchronize().unwrap();
    // SAFETY: memory is asked for; its bits are not read before they are written, or are integers.
    let raw = unsafe { stream.alloc::<i32>(64) }.unwrap();
    let copied = stream.clone_dtod(&raw).unwrap();
    // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
    unsafe {
        stream
            .launch_builder(&reader)
            .arg(&copied)
            .arg(&mut y)
            .launch(config)
    }
    .unwrap();
    stream
        .synchronize()
        .err()
        .map_or(CUresult::CUDA_SUCCESS, |error| error.0)
}

#[test]
fn ptx_that_is_not_understood_is_refused_with_its_line() {
    let run = isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        let text = ptx(SOURCE.replace("#include <assert.h>", "").as_str())
            .replace("trap;", "frobnicate.u32 ;");
        let error = context
            .load_module(cudarc::nvrtc::Ptx::from_src(text))
            .unwrap_err();
        assert_eq!(error.0, CUresult::CUDA_ERROR_INVALID_PTX);
    });
    says(&run, &["the module was not loaded", "frobnicate"]);
}
