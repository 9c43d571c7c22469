//! Kernels through cudarc: modules, launches, cooperation, occupancy, functions, output and counters.

use crate::harness::{isolated, kernel, ptx, this_test};
use cudarc::driver::sys::CUfunction_attribute as FunctionAttribute;
use cudarc::driver::sys::CUresult::{
    CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, CUDA_ERROR_INVALID_VALUE,
};
use cudarc::driver::{CudaContext, DriverError, LaunchConfig, PushKernelArg, sys};
use cudarc::nvrtc::{Ptx, compile_ptx};

const AXPY: &str = r#"
extern "C" __global__ void axpy(float a, const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += a * x[i];
}
"#;

/// PTX by hand: out[i] = 3 i + bias, with a variable of the module.
const BY_HAND: &str = "
.version 7.0
.target sm_80
.address_size 64
.global .align 4 .u32 bias = 7;
.visible .entry triple(.param .u64 out)
{
    .reg .u32 %r<4>;
    .reg .u64 %rd<4>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x;
    mul.lo.u32 %r2, %r1, 3;
    ld.global.u32 %r3, [bias];
    add.u32 %r2, %r2, %r3;
    mul.wide.u32 %rd2, %r1, 4;
    add.u64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r2;
    ret;
}
";

fn axpy_gives_the_right_numbers(ptx: Ptx) {
    let context = CudaContext::new(0).unwrap();
    let stream = context.default_stream();
    let function = context
        .load_module(ptx)
        .unwrap()
        .load_function("axpy")
        .unwrap();
    let x: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let x = stream.clone_htod(&x).unwrap();
    let mut y = stream.clone_htod(&vec![1f32; 1000]).unwrap();
    let (a, n) = (2f32, 1000i32);
    let mut launch = stream.launch_builder(&function);
    launch.arg(&a).arg(&x).arg(&mut y).arg(&n);
    // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
    unsafe { launch.launch(LaunchConfig::for_num_elems(1000)) }.unwrap();
    let y = stream.clone_dtoh(&y).unwrap();
    for (i, y) in y.iter().enumerate() {
        assert_eq!(*y, 1.0 + 2.0 * i as f32, "element {i}");
    }
}

#[test]
fn a_kernel_of_the_projects_nvrtc_runs() {
    isolated(this_test!(), &[], || {
        axpy_gives_the_right_numbers(Ptx::from_src(ptx(AXPY)))
    });
}

#[test]
fn a_kernel_of_cudarcs_nvrtc_runs() {
    isolated(this_test!(), &[], || {
        axpy_gives_the_right_numbers(compile_ptx(AXPY).unwrap())
    });
}

#[test]
fn ptx_text_and_its_variables_can_be_used() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let module = context.load_module(Ptx::from_src(BY_HAND)).unwrap();
        let triple = module.load_function("triple").unwrap();
        let mut out = stream.alloc_zeros::<u32>(8).unwrap();
        let config = LaunchConfig {
            grid_dim: (1, 1, 1),
            block_dim: (8, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
        unsafe { stream.launch_builder(&triple).arg(&mut out).launch(config) }.unwrap();
        assert_eq!(
            stream.clone_dtoh(&out).unwrap(),
            [7, 10, 13, 16, 19, 22, 25, 28]
        );
        let mut bias = module.get_global("bias", &stream).unwrap();
        assert_eq!(bias.len(), 4);
        stream
            .memcpy_htod(&100u32.to_le_bytes(), &mut bias)
            .unwrap();
        // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
        unsafe { stream.launch_builder(&triple).arg(&mut out).launch(config) }.unwrap();
        assert_eq!(stream.clone_dtoh(&out).unwrap()[..3], [100, 103, 106]);
        assert!(module.load_function("quadruple").is_err());
    });
}

#[test]
fn a_cooperative_grid_meets_at_a_barrier_and_one_that_does_not_fit_is_refused() {
    let settings = [("VIRTUAL_GPU_SMS", "4")];
    isolated(this_test!(), &settings, || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let sum = kernel(
            &context,
            r#"
extern "C" __global__ void sum(unsigned* arrived, unsigned* parts, unsigned* total) {
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = blockIdx.x + 1;
        __threadfence();
        atomicAdd(arrived, 1);
        while (*(volatile unsigned*)arrived < gridDim.x) {}
        __threadfence();
        unsigned all = 0;
        for (unsigned i = 0; i < gridDim.x; i++) all += ((volatile unsigned*)parts)[i];
        total[blockIdx.x] = all;
    }
}
"#,
            "sum",
        );
        let mut arrived = stream.alloc_zeros::<u32>(1).unwrap();
        let mut parts = stream.alloc_zeros::<u32>(200).unwrap();
        let mut totals = stream.alloc_zeros::<u32>(200).unwrap();
        let mut run = |blocks: u32| -> Result<(), DriverError> {
            let config = LaunchConfig {
                grid_dim: (blocks, 1, 1),
                block_dim: (64, 1, 1),
                shared_mem_bytes: 0,
            };
            stream.memset_zeros(&mut arrived)?;
            let mut launch = stream.launch_builder(&sum);
            launch.arg(&mut arrived).arg(&mut parts).arg(&mut totals);
            // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
            unsafe { launch.launch_cooperative(config) }.map(|_| ())
        };
        let held = 4 * sum
            .occupancy_max_active_blocks_per_multiprocessor(64, 0, None)
            .unwrap();
        assert_eq!(held, 4 * 32);
        run(held).unwrap();
        assert_eq!(
            run(held + 1).unwrap_err().0,
            CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE
        );
        let totals = stream.clone_dtoh(&totals).unwrap();
        assert!(
            totals[..128].iter().all(|total| *total == 128 * 129 / 2),
            "{totals:?}"
        );
    });
}

#[test]
fn attributes_are_those_of_the_profile() {
    let body = |name: &'static str, capability: (i32, i32), count: i32| {
        move || {
            let context = CudaContext::new(0).unwrap();
            assert_eq!(CudaContext::device_count().unwrap(), 1);
            assert_eq!(context.name().unwrap(), name);
            assert_eq!(context.compute_capability().unwrap(), capability);
            let attribute = |which| context.attribute(which).unwrap();
            use sys::CUdevice_attribute::*;
            assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), count);
            assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE), 32);
            assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH), 1);
            assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_INTEGRATED), 0);
            assert!(context.uuid().unwrap().bytes.iter().any(|byte| *byte != 0));
            assert!(context.total_mem().unwrap() >= 24 << 30);
        }
    };
    isolated(
        this_test!(),
        &[("VIRTUAL_GPU_PROFILE", "a100")],
        body("A100 (virtual)", (8, 0), 108),
    );
}

#[test]
fn functions_tell_what_they_need_and_shared_memory_is_opt_in() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let reverse = kernel(
            &context,
            r#"
extern "C" __global__ void __launch_bounds__(256) reverse(int* data, int n) {
    extern __shared__ int dynamic[];
    __shared__ int fixed[16];
    fixed[threadIdx.x % 16] = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) dynamic[i] = data[i];
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) data[i] = dynamic[n - 1 - i] + fixed[i % 16];
}
"#,
            "reverse",
        );
        assert_eq!(reverse.max_threads_per_block().unwrap(), 256);
        assert_eq!(reverse.shared_size_bytes().unwrap(), 64);
        assert!((1..=255).contains(&reverse.num_regs().unwrap()));
        assert_eq!(reverse.binary_version().unwrap(), 80);
        let n = 20_000i32;
        let mut data = stream.clone_htod(&(0..n).collect::<Vec<_>>()).unwrap();
        let mut run = || {
            let config = LaunchConfig {
                grid_dim: (1, 1, 1),
                block_dim: (256, 1, 1),
                shared_mem_bytes: 4 * n as u32,
            };
            // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
            unsafe {
                stream
                    .launch_builder(&reverse)
                    .arg(&mut data)
                    .arg(&n)
                    .launch(config)
            }
            .map(|_| ())
        };
        assert_eq!(run().unwrap_err().0, CUDA_ERROR_INVALID_VALUE);
        let dynamic = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        assert!(reverse.set_attribute(dynamic, 232_448 - 64 + 1).is_err());
        reverse.set_attribute(dynamic, 4 * n).unwrap();
        run().unwrap();
        assert!(
            stream
                .clone_dtoh(&data)
                .unwrap()
                .into_iter()
                .eq((0..n).rev())
        );
        let two = reverse
            .occupancy_max_active_blocks_per_multiprocessor(256, 80_000, None)
            .unwrap();
        assert_eq!(two, 2);
        let left = reverse
            .occupancy_available_dynamic_smem_per_block(2, 256)
            .unwrap();
        assert_eq!(left, 233_472 / 2 / 128 * 128 - 1024 - 64);
        extern "C" fn shared(threads: i32) -> usize {
            4 * threads as usize
        }
        let (grid, block) = reverse
            .occupancy_max_potential_block_size(shared, 0, 0, None)
            .unwrap();
        assert_eq!((grid, block), (132 * 8, 256));
    });
}

#[test]
fn what_a_kernel_prints_is_on_stdout_and_counters_are_in_the_file() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("counters.jsonl");
    let settings = [("VIRTUAL_GPU_COUNTERS", file.to_str().unwrap())];
    let run = isolated(this_test!(), &settings, || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let source = r#"
extern "C" __global__ void hello(int i) { printf("hello %d from %d\n", i, (int)threadIdx.x); }"#;
        let hello = kernel(&context, source, "hello");
        for i in 0..2 {
            let config = LaunchConfig {
                grid_dim: (1, 1, 1),
                block_dim: (2, 1, 1),
                shared_mem_bytes: 0,
            };
            // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
            unsafe { stream.launch_builder(&hello).arg(&i).launch(config) }.unwrap();
        }
        stream.synchronize().unwrap();
    });
    let text = "hello 0 from 0\nhello 0 from 1\nhello 1 from 0\nhello 1 from 1\n";
    assert!(run.stdout.contains(text), "{}", run.stdout);
    let lines = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert_eq!(line["kernel"], "hello");
        assert_eq!(line["block"], serde_json::json!([2, 1, 1]));
        assert!(
            line["counters"]["warp_instructions"].as_u64().unwrap() > 5,
            "{line}"
        );
    }
}
