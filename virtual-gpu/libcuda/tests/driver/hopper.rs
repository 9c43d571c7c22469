//! What compute capability 9.0 has: clusters and tensor maps, through the driver's own functions.

use crate::harness::{isolated, ptx_for, this_test};
use cudarc::driver::{CudaContext, DevicePtr, DevicePtrMut, sys};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use sys::{CUfunction_attribute as Attribute, CUresult as Code};

const RANKS: &str = r#"
extern "C" __global__ void ranks(unsigned* y) {
    unsigned rank, count;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(count));
    y[blockIdx.x] = rank + 100 * count;
}
"#;

/// Launches with clusters of `size` blocks along x.
///
/// # Safety
/// The parameters are those of the function.
unsafe fn launch(
    function: sys::CUfunction,
    blocks: u32,
    size: u32,
    parameters: &mut [*mut c_void],
) -> Code {
    // SAFETY: zeros are a structure without attributes.
    let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
    attribute.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attribute.value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 {
        x: size,
        y: 1,
        z: 1,
    };
    let config = sys::CUlaunchConfig {
        gridDimX: blocks,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 1,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: null_mut(),
        attrs: &raw mut attribute,
        numAttrs: 1,
    };
    // SAFETY: the structures live through the call; the parameters are the caller's promise.
    unsafe {
        sys::cuLaunchKernelEx(
            &raw const config,
            function,
            parameters.as_mut_ptr(),
            null_mut(),
        )
    }
}

/// The handle of a function in the current context, which cudarc would keep to itself.
fn function(source: &str, name: &str) -> sys::CUfunction {
    let image = std::ffi::CString::new(ptx_for(source, 90)).unwrap();
    let name = std::ffi::CString::new(name).unwrap();
    let (mut module, mut function) = (null_mut(), null_mut());
    // SAFETY: the text ends with a NUL, and the names with theirs; both live through the calls.
    unsafe {
        sys::cuModuleLoadData(&raw mut module, image.as_ptr().cast())
            .result()
            .unwrap();
        sys::cuModuleGetFunction(&raw mut function, module, name.as_ptr())
            .result()
            .unwrap();
    }
    function
}

#[test]
fn clusters_are_launched_within_their_limits() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let ranks = function(RANKS, "ranks");
        let mut out = stream.alloc_zeros::<u32>(16).unwrap();
        let mut pointer = out.device_ptr_mut(&stream).0;
        let mut parameters = [(&raw mut pointer).cast::<c_void>()];
        // SAFETY: the kernel takes one pointer.
        let mut start = |blocks, size| unsafe { launch(ranks, blocks, size, &mut parameters) };
        assert_eq!(start(16, 4), Code::CUDA_SUCCESS);
        assert_eq!(start(16, 16), Code::CUDA_ERROR_INVALID_CLUSTER_SIZE);
        assert_eq!(start(14, 4), Code::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(start(16, 0), Code::CUDA_ERROR_INVALID_VALUE);
        let words = stream.clone_dtoh(&out).unwrap();
        assert!((0..16).all(|i| words[i] == i as u32 % 4 + 400), "{words:?}");
        let allowed = Attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
        // SAFETY: the function is one of the driver's.
        unsafe { sys::cuFuncSetAttribute(ranks, allowed, 1) }
            .result()
            .unwrap();
        assert_eq!(start(16, 16), Code::CUDA_SUCCESS);
        let words = stream.clone_dtoh(&out).unwrap();
        assert!((0..16).all(|i| words[i] == i as u32 + 1600), "{words:?}");
    });
}

#[test]
fn a_device_without_clusters_refuses_them() {
    isolated(this_test!(), &[("VIRTUAL_GPU_PROFILE", "a100")], || {
        let _context = CudaContext::new(0).unwrap();
        let source = "extern \"C\" __global__ void nothing() {}";
        let nothing = function(source, "nothing");
        // SAFETY: the kernel takes nothing.
        let code = unsafe { launch(nothing, 4, 2, &mut []) };
        let mut has = -1;
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH;
        // SAFETY: the driver writes one integer.
        unsafe { sys::cuDeviceGetAttribute(&raw mut has, attribute, 0) }
            .result()
            .unwrap();
        assert_eq!(has, 0);
        assert_eq!(code, Code::CUDA_ERROR_INVALID_CLUSTER_SIZE);
    });
}

const TILE: &str = r#"
struct alignas(64) Map { char bytes[128]; };
extern "C" __global__ void tile(const __grid_constant__ Map map, unsigned* y) {
    __shared__ __align__(128) unsigned tile[64];
    __shared__ unsigned long long full;
    unsigned bar = (unsigned)__cvta_generic_to_shared(&full);
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\nfence.proxy.async;" ::"r"(bar) : "memory");
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 256;" ::"r"(bar) : "memory");
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
                     ::"r"((unsigned)__cvta_generic_to_shared(tile)), "l"(&map), "r"(4), "r"(1), "r"(bar) : "memory");
    }
    __syncthreads();
    asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], 0;\n@!p bra again; }" ::"r"(bar) : "memory");
    y[threadIdx.x] = tile[threadIdx.x];
}
"#;

/// A map of 16 by 10 words in boxes of 8 by 8, with one of the numbers changed: its code.
fn encode(to: &mut sys::CUtensorMap, address: u64, change: impl FnOnce(&mut [u64; 9])) -> Code {
    // Rank, both sizes, stride, both sizes of the box, an element stride, interleave, swizzle.
    let mut numbers = [2, 16, 10, 64, 8, 8, 1, 0, 0];
    change(&mut numbers);
    let [rank, x, y, stride, width, height, step, interleave, swizzle] = numbers;
    let (sizes, strides) = ([x, y], [stride]);
    let (boxes, steps) = ([width as u32, height as u32], [1, step as u32]);
    // SAFETY: the lists have as many numbers as the rank asks for; enumerations are numbers of the range that they have.
    unsafe {
        sys::cuTensorMapEncodeTiled(
            to,
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_UINT32,
            rank as u32,
            address as *mut c_void,
            sizes.as_ptr(),
            if rank > 1 { strides.as_ptr() } else { null() },
            boxes.as_ptr(),
            steps.as_ptr(),
            match interleave {
                0 => sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                _ => sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_16B,
            },
            match swizzle {
                0 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
                32 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_32B,
                _ => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            },
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    }
}

#[test]
fn tensor_maps_are_made_and_used() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let tile = function(TILE, "tile");
        let words: Vec<u32> = (0..160).collect();
        let x = stream.clone_htod(&words).unwrap();
        let mut out = stream.alloc_zeros::<u32>(64).unwrap();
        let address = x.device_ptr(&stream).0;
        // SAFETY: zeros are bytes like others.
        let mut map: sys::CUtensorMap = unsafe { std::mem::zeroed() };
        assert_eq!(encode(&mut map, address, |_| {}), Code::CUDA_SUCCESS);
        let mut pointer = out.device_ptr_mut(&stream).0;
        let mut parameters = [(&raw mut map).cast::<c_void>(), (&raw mut pointer).cast()];
        // SAFETY: the kernel takes a map and a pointer.
        unsafe {
            let none = null_mut();
            sys::cuLaunchKernel(
                tile,
                1,
                1,
                1,
                64,
                1,
                1,
                0,
                none,
                parameters.as_mut_ptr(),
                none.cast(),
            )
        }
        .result()
        .unwrap();
        let found = stream.clone_dtoh(&out).unwrap();
        let expected: Vec<u32> = (0..64).map(|i| 16 * (1 + i / 8) + 4 + i % 8).collect();
        assert_eq!(found, expected);
        let mut refused = |change: fn(&mut [u64; 9])| encode(&mut map, address, change);
        for change in [
            (|n| n[0] = 0) as fn(&mut [u64; 9]),
            |n| n[0] = 6,
            |n| n[1] = 0,
            |n| n[2] = 1 << 33,
            |n| n[3] = 72,
            |n| n[3] = 1 << 40,
            |n| n[4] = 0,
            |n| n[4] = 6,
            |n| n[5] = 257,
            |n| n[6] = 0,
            |n| n[6] = 9,
            |n| (n[4], n[8]) = (16, 32),
        ] {
            assert_eq!(refused(change), Code::CUDA_ERROR_INVALID_VALUE);
        }
        assert_eq!(refused(|n| n[7] = 1), Code::CUDA_ERROR_NOT_SUPPORTED);
        assert_eq!(
            encode(&mut map, address + 8, |_| {}),
            Code::CUDA_ERROR_INVALID_VALUE
        );
    });
}
