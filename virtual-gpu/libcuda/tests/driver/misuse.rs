//! Calls that are wrong: each answers with a code, none crashes.

use crate::harness::{isolated, ptx, this_test};
use crate::raw::Driver;
use std::ffi::{CStr, CString};

const INVALID_VALUE: u32 = 1;
const NOT_INITIALIZED: u32 = 3;
const INVALID_DEVICE: u32 = 101;
const INVALID_CONTEXT: u32 = 201;
const NO_BINARY_FOR_GPU: u32 = 209;
const INVALID_PTX: u32 = 218;
const INVALID_HANDLE: u32 = 400;
const NOT_FOUND: u32 = 500;
const NOT_SUPPORTED: u32 = 801;

fn with_context() -> Driver {
    let driver = Driver::load();
    driver.ok("cuInit", [0]);
    let context = driver.value("cuDevicePrimaryCtxRetain", [0]);
    driver.ok("cuCtxSetCurrent", [context]);
    driver
}

fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

#[test]
fn calls_out_of_order_are_refused() {
    isolated(this_test!(), &[], || {
        let driver = Driver::load();
        let mut value = 0usize;
        let out = &raw mut value as usize;
        assert_eq!(driver.call("cuDeviceGet", [out, 0]), NOT_INITIALIZED);
        assert_eq!(driver.call("cuMemAlloc_v2", [out, 16]), NOT_INITIALIZED);
        assert_eq!(driver.call("cuInit", [1]), INVALID_VALUE);
        driver.ok("cuInit", [0]);
        assert_eq!(driver.value("cuDriverGetVersion", []), 12080);
        assert_eq!(driver.call("cuDeviceGet", [out, 1]), INVALID_DEVICE);
        assert_eq!(
            driver.call("cuDeviceGet", [out, usize::MAX]),
            INVALID_DEVICE
        );
        assert_eq!(driver.call("cuMemAlloc_v2", [out, 16]), INVALID_CONTEXT);
        assert_eq!(driver.call("cuCtxSynchronize", []), INVALID_CONTEXT);
        assert_eq!(driver.call("cuCtxPopCurrent_v2", [out]), INVALID_CONTEXT);
        assert_eq!(driver.call("cuCtxSetCurrent", [0xdead]), INVALID_CONTEXT);
        assert_eq!(
            driver.call("cuDevicePrimaryCtxRelease_v2", [0]),
            INVALID_CONTEXT
        );
        let context = driver.value("cuCtxCreate_v2", [0, 0]);
        driver.ok("cuCtxSynchronize", []);
        driver.ok("cuCtxDestroy_v2", [context]);
        assert_eq!(driver.call("cuCtxDestroy_v2", [context]), INVALID_CONTEXT);
        assert_eq!(driver.call("cuCtxSynchronize", []), INVALID_CONTEXT);
    });
}

#[test]
fn wrong_settings_fail_the_start_and_say_so() {
    let settings = [("VIRTUAL_GPU_PROFILE", "voodoo2")];
    let run = isolated(this_test!(), &settings, || {
        assert_eq!(Driver::load().call("cuInit", [0]), INVALID_VALUE);
    });
    let told =
        "VIRTUAL_GPU_PROFILE is `voodoo2`; it can be: a100, l4, rtx4090, h100, h200, rtx5090, b200";
    assert!(run.stderr.contains(told), "{}", run.stderr);
}

#[test]
fn memory_that_is_not_there_is_not_touched() {
    isolated(this_test!(), &[], || {
        let driver = with_context();
        assert_eq!(driver.call("cuMemAlloc_v2", [0, 16]), INVALID_VALUE);
        assert_eq!(driver.call("cuMemAlloc_v2", [0x1001, 16]), INVALID_VALUE);
        let address = driver.value("cuMemAlloc_v2", [1000]);
        let mut host = [7u8; 2000];
        let bytes = &raw mut host as usize;
        assert_eq!(
            driver.call("cuMemcpyHtoD_v2", [address, bytes, 1001]),
            INVALID_VALUE
        );
        assert_eq!(
            driver.call("cuMemcpyHtoD_v2", [address + 500, bytes, 501]),
            INVALID_VALUE
        );
        assert_eq!(
            driver.call("cuMemcpyHtoD_v2", [address - 1, bytes, 1]),
            INVALID_VALUE
        );
        assert_eq!(
            driver.call("cuMemcpyHtoD_v2", [address, 0, 1]),
            INVALID_VALUE
        );
        assert_eq!(
            driver.call("cuMemcpyDtoH_v2", [0, address, 1]),
            INVALID_VALUE
        );
        assert_eq!(
            driver.call("cuMemcpyDtoH_v2", [bytes, address, usize::MAX]),
            INVALID_VALUE
        );
        assert_eq!(
            driver.call("cuMemcpyDtoD_v2", [address, address + 999, 2]),
            INVALID_VALUE
        );
        assert_eq!(
            driver.call("cuMemcpyHtoDAsync_v2", [address, bytes, 8, 0x1234]),
            INVALID_HANDLE
        );
        assert_eq!(
            driver.call("cuMemsetD8_v2", [address, 1, 1001]),
            INVALID_VALUE
        );
        assert_eq!(
            driver.call("cuMemsetD32_v2", [address, 1, usize::MAX / 2]),
            INVALID_VALUE
        );
        assert_eq!(
            driver.call("cuMemsetD32_v2", [address + 2, 1, 1]),
            INVALID_VALUE
        );
        assert_eq!(driver.call("cuMemFree_v2", [address + 16]), INVALID_VALUE);
        driver.ok("cuMemcpyHtoD_v2", [address, bytes, 1000]);
        driver.ok("cuMemFree_v2", [address]);
        assert_eq!(driver.call("cuMemFree_v2", [address]), INVALID_VALUE);
        assert_eq!(
            driver.call("cuMemcpyDtoH_v2", [bytes, address, 4]),
            INVALID_VALUE
        );
        driver.ok("cuMemFree_v2", [0]);
        assert_eq!(driver.call("cuMemFreeHost", [bytes]), INVALID_VALUE);
        let pinned = driver.value("cuMemHostAlloc", [64, 0]);
        assert_eq!(driver.call("cuMemFree_v2", [pinned]), INVALID_VALUE);
        driver.ok("cuMemFreeHost", [pinned]);
        assert_eq!(driver.call("cuMemFreeHost", [pinned]), INVALID_VALUE);
        assert_eq!(
            driver.call("cuMemHostRegister_v2", [0, 16, 0]),
            INVALID_VALUE
        );
        assert_eq!(
            driver.call("cuMemHostRegister_v2", [usize::MAX - 4, 16, 0]),
            INVALID_VALUE
        );
    });
}

#[test]
fn rectangles_are_checked_and_copied() {
    isolated(this_test!(), &[], || {
        let driver = with_context();
        let device = driver.value("cuMemAlloc_v2", [4 * 64]);
        driver.ok("cuMemsetD32_v2", [device, 0, 64]);
        driver.ok("cuMemsetD2D16_v2", [device + 8, 32, 0xabcd, 2, 3]);
        let host = [1u8, 2, 3, 4, 5, 6, 7, 8];
        // From 2 rows of 3 bytes at pitch 4 of the host to (4, 1) at pitch 64.
        let mut copy = [0usize; 16];
        (copy[2], copy[3], copy[6]) = (1, &raw const host as usize, 4);
        (copy[7], copy[8], copy[9], copy[11], copy[13]) = (4, 1, 2, device, 64);
        (copy[14], copy[15]) = (3, 2);
        let copies = &raw const copy as usize;
        driver.ok("cuMemcpy2D_v2", [copies]);
        let mut back = [0u8; 256];
        driver.ok("cuMemcpyDtoH_v2", [&raw mut back as usize, device, 256]);
        assert_eq!(back[68..71], [1, 2, 3]);
        assert_eq!(back[132..135], [5, 6, 7]);
        assert_eq!(back[8..12], [0xcd, 0xab, 0xcd, 0xab]);
        assert_eq!(back[40..44], [0xcd, 0xab, 0xcd, 0xab]);
        assert_eq!(back.iter().filter(|byte| **byte != 0).count(), 6 + 12);
        copy[15] = 5;
        assert_eq!(
            driver.call("cuMemcpy2D_v2", [&raw const copy as usize]),
            INVALID_VALUE
        );
        copy[15] = usize::MAX;
        assert_eq!(
            driver.call("cuMemcpy2D_v2", [&raw const copy as usize]),
            INVALID_VALUE
        );
        (copy[15], copy[9]) = (1, 3);
        assert_eq!(
            driver.call("cuMemcpy2D_v2", [&raw const copy as usize]),
            NOT_SUPPORTED
        );
        assert_eq!(driver.call("cuMemcpy2D_v2", [0]), INVALID_VALUE);
    });
}

#[test]
fn handles_that_are_none_or_of_another_kind_are_refused() {
    isolated(this_test!(), &[], || {
        let driver = with_context();
        let stream = driver.value("cuStreamCreate", [0]);
        let event = driver.value("cuEventCreate", [0]);
        for wrong in [0xdeadusize, usize::MAX, event, 8] {
            assert_eq!(driver.call("cuStreamSynchronize", [wrong]), INVALID_HANDLE);
            assert_eq!(driver.call("cuStreamDestroy_v2", [wrong]), INVALID_HANDLE);
            assert_eq!(
                driver.call("cuStreamWaitEvent", [wrong, event, 0]),
                INVALID_HANDLE
            );
        }
        let mut value = 0usize;
        let place = &raw mut value as usize;
        for wrong in [0usize, 0xdead, stream] {
            assert_eq!(
                driver.call("cuEventRecord", [wrong, stream]),
                INVALID_HANDLE
            );
            assert_eq!(driver.call("cuEventQuery", [wrong]), INVALID_HANDLE);
            assert_eq!(driver.call("cuEventDestroy_v2", [wrong]), INVALID_HANDLE);
            assert_eq!(driver.call("cuModuleUnload", [wrong]), INVALID_HANDLE);
            assert_eq!(
                driver.call("cuFuncGetAttribute", [place, 0, wrong]),
                INVALID_HANDLE
            );
            assert_eq!(
                driver.call("cuLaunchKernel", [wrong, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]),
                INVALID_HANDLE
            );
            assert_eq!(
                driver.call("cuLaunchHostFunc", [stream, 0, 0]),
                INVALID_VALUE
            );
        }
        driver.ok("cuStreamDestroy_v2", [stream]);
        assert_eq!(driver.call("cuStreamDestroy_v2", [stream]), INVALID_HANDLE);
        assert_eq!(
            driver.call("cuEventRecord", [event, stream]),
            INVALID_HANDLE
        );
        assert_eq!(
            driver.call("cuStreamBeginCapture_v2", [stream, 0]),
            INVALID_HANDLE
        );
        assert_eq!(driver.call("cuStreamCreate", [0, 0]), INVALID_VALUE);
    });
}

#[test]
fn images_that_are_none_are_refused_with_a_log() {
    let run = isolated(this_test!(), &[], || {
        let driver = with_context();
        let mut module = 0usize;
        let out = &raw mut module as usize;
        assert_eq!(driver.call("cuModuleLoadData", [out, 0]), INVALID_VALUE);
        let elf = b"\x7fELF\x02\x01\x01\0";
        assert_eq!(
            driver.call("cuModuleLoadData", [out, elf.as_ptr() as usize]),
            NO_BINARY_FOR_GPU
        );
        let path = text("/nonexistent/module.ptx");
        assert_eq!(
            driver.call("cuModuleLoad", [out, path.as_ptr() as usize]),
            301
        );
        let nonsense =
            text(".version 8.0\n.target sm_80\n.address_size 64\n.entry k() { blub; }\n");
        let mut log = [1u8; 300];
        let options = [5u32, 6];
        let mut values = [&raw mut log as usize, log.len()];
        let (names, places) = (&raw const options as usize, &raw mut values as usize);
        let code = driver.call(
            "cuModuleLoadDataEx",
            [out, nonsense.as_ptr() as usize, 2, names, places],
        );
        assert_eq!(code, INVALID_PTX);
        let told = CStr::from_bytes_until_nul(&log).unwrap().to_str().unwrap();
        assert!(told.contains("blub"), "{told}");
        assert_eq!(values[1], told.len());
    });
    assert!(
        run.stderr.contains("machine code (a cubin)"),
        "{}",
        run.stderr
    );
}

#[test]
fn launches_are_checked_before_they_are_queued() {
    isolated(this_test!(), &[], || {
        let driver = with_context();
        let source = text(&ptx(
            r#"extern "C" __global__ void __launch_bounds__(128) k(char a, int* x, short b) { *x = a + b; }"#,
        ));
        let module = driver.value("cuModuleLoadData", [source.as_ptr() as usize]);
        let name = text("k");
        let function = driver.value("cuModuleGetFunction", [module, name.as_ptr() as usize]);
        let missing = text("l");
        let mut out = 0usize;
        let place = &raw mut out as usize;
        assert_eq!(
            driver.call(
                "cuModuleGetFunction",
                [place, module, missing.as_ptr() as usize]
            ),
            NOT_FOUND
        );
        assert_eq!(
            driver.call(
                "cuModuleGetGlobal_v2",
                [place, 0, module, name.as_ptr() as usize]
            ),
            NOT_FOUND
        );
        let x = driver.value("cuMemAlloc_v2", [4]);
        let (a, b) = (5i8, 600i16);
        let values = [
            &raw const a as usize,
            &raw const x as usize,
            &raw const b as usize,
        ];
        let values = &raw const values as usize;
        let launch = |shape: [usize; 6], shared: usize, values: usize, extra: usize| {
            let [gx, gy, gz, bx, by, bz] = shape;
            driver.call(
                "cuLaunchKernel",
                [function, gx, gy, gz, bx, by, bz, shared, 0, values, extra],
            )
        };
        assert_eq!(launch([0, 1, 1, 1, 1, 1], 0, values, 0), INVALID_VALUE);
        assert_eq!(launch([1, 1, 1, 1, 0, 1], 0, values, 0), INVALID_VALUE);
        assert_eq!(launch([1, 65_536, 1, 1, 1, 1], 0, values, 0), INVALID_VALUE);
        assert_eq!(launch([1, 1, 1, 1025, 1, 1], 0, values, 0), INVALID_VALUE);
        assert_eq!(
            launch([1, 1, 1, 65_536, 65_536, 1], 0, values, 0),
            INVALID_VALUE
        );
        assert_eq!(launch([1, 1, 1, 129, 1, 1], 0, values, 0), 701);
        assert_eq!(launch([1, 1, 1, 1, 1, 1], 49_153, values, 0), INVALID_VALUE);
        assert_eq!(launch([1, 1, 1, 1, 1, 1], 0, 0, 0), INVALID_VALUE);
        assert_eq!(launch([1, 1, 1, 1, 1, 1], 0, values, 0), 0);
        let mut result = 0i32;
        driver.ok("cuMemcpyDtoH_v2", [&raw mut result as usize, x, 4]);
        assert_eq!(result, 605);
        // The same by a buffer: a at 0, x at 8, b at 16.
        let mut buffer = [0u8; 18];
        buffer[0] = 1;
        buffer[8..16].copy_from_slice(&x.to_le_bytes());
        buffer[16..].copy_from_slice(&2i16.to_le_bytes());
        let mut size = 18usize;
        let extra = [1, buffer.as_ptr() as usize, 2, &raw const size as usize, 0];
        assert_eq!(
            launch([1, 1, 1, 1, 1, 1], 0, 0, &raw const extra as usize),
            0
        );
        driver.ok("cuMemcpyDtoH_v2", [&raw mut result as usize, x, 4]);
        assert_eq!(result, 3);
        size = 17;
        let extra = [1, buffer.as_ptr() as usize, 2, &raw const size as usize, 0];
        assert_eq!(
            launch([1, 1, 1, 1, 1, 1], 0, 0, &raw const extra as usize),
            INVALID_VALUE
        );
        let mut offset = 0usize;
        let mut bytes = 0usize;
        let (at, of) = (&raw mut offset as usize, &raw mut bytes as usize);
        driver.ok("cuFuncGetParamInfo", [function, 2, at, of]);
        assert_eq!((offset, bytes), (16, 2));
        assert_eq!(
            driver.call("cuFuncGetParamInfo", [function, 3, at, of]),
            INVALID_VALUE
        );
        driver.ok("cuModuleUnload", [module]);
        assert_eq!(launch([1, 1, 1, 1, 1, 1], 0, values, 0), INVALID_HANDLE);
    });
}

#[test]
fn extended_launches_take_attributes_that_mean_something_and_refuse_unknown_ones() {
    let run = isolated(this_test!(), &[], || {
        let driver = with_context();
        let source = text(&ptx(
            r#"extern "C" __global__ void k(int* x) { *x = gridDim.x; }"#,
        ));
        let module = driver.value("cuLibraryLoadData", [source.as_ptr() as usize]);
        let name = text("k");
        let kernel = driver.value("cuLibraryGetKernel", [module, name.as_ptr() as usize]);
        let function = driver.value("cuKernelGetFunction", [kernel]);
        let x = driver.value("cuMemAlloc_v2", [4]);
        let values = [&raw const x as usize];
        let attribute = |id: u32, words: [u32; 3]| {
            let mut attribute = [0u32; 18];
            attribute[0] = id;
            attribute[2..5].copy_from_slice(&words);
            attribute
        };
        let launch = |blocks: u32, attributes: &[[u32; 18]]| {
            let shape = [blocks, 1, 1, 32, 1, 1, 0, 0];
            let mut config = [0usize; 7];
            for (word, pair) in config.iter_mut().zip(shape.chunks(2)) {
                *word = pair[0] as usize | (pair[1] as usize) << 32;
            }
            (config[5], config[6]) = (attributes.as_ptr() as usize, attributes.len());
            let config = &raw const config as usize;
            driver.call(
                "cuLaunchKernelEx",
                [config, function, &raw const values as usize, 0],
            )
        };
        assert_eq!(launch(3, &[]), 0);
        assert_eq!(
            launch(5, &[attribute(2, [1, 0, 0]), attribute(6, [1, 0, 0])]),
            0
        );
        let mut result = 0i32;
        driver.ok("cuMemcpyDtoH_v2", [&raw mut result as usize, x, 4]);
        assert_eq!(result, 5);
        assert_eq!(launch(1_000_000, &[attribute(2, [1, 0, 0])]), 720);
        assert_eq!(launch(4, &[attribute(4, [2, 1, 1])]), 0);
        assert_eq!(launch(3, &[attribute(4, [2, 1, 1])]), INVALID_VALUE);
        assert_eq!(launch(4, &[attribute(99, [2, 1, 1])]), NOT_SUPPORTED);
        driver.ok("cuLibraryUnload", [module]);
        // A kernel that waits for the one before may be launched early.
        let source = text(&ptx(
            r#"extern "C" __global__ void waits(int* x) { asm volatile("griddepcontrol.wait;" ::: "memory"); *x = 1; }"#,
        )
        .replace(".target sm_80", ".target sm_90"));
        let module = driver.value("cuLibraryLoadData", [source.as_ptr() as usize]);
        let name = text("waits");
        let kernel = driver.value("cuLibraryGetKernel", [module, name.as_ptr() as usize]);
        let waits = driver.value("cuKernelGetFunction", [kernel]);
        let early = [attribute(6, [1, 0, 0])];
        let one = 1usize | 1 << 32;
        let config = [one, one, one, 0, 0, early.as_ptr() as usize, 1];
        let config = &raw const config as usize;
        driver.ok(
            "cuLaunchKernelEx",
            [config, waits, &raw const values as usize, 0],
        );
    });
    let warning =
        "k is launched with programmatic stream serialization but has no griddepcontrol.wait";
    assert_eq!(
        run.stderr.matches("programmatic stream").count(),
        1,
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains(warning), "{}", run.stderr);
}

#[test]
fn functions_are_found_by_name_and_errors_have_names() {
    isolated(this_test!(), &[], || {
        let driver = Driver::load();
        let mut address = 0usize;
        let mut status = 9u32;
        let mut look_up = |name: &str| {
            let name = text(name);
            let place = &raw mut address as usize;
            let told = &raw mut status as usize;
            let code = driver.call(
                "cuGetProcAddress_v2",
                [name.as_ptr() as usize, place, 12080, 0, told],
            );
            (code, address, status)
        };
        let (code, address, status) = look_up("cuDriverGetVersion");
        assert_eq!((code, status), (0, 0));
        // SAFETY: the function has this prototype; wrong arguments are what is tested, and it must refuse them.
        let version: extern "C" fn(*mut i32) -> u32 = unsafe { std::mem::transmute(address) };
        let mut number = 0;
        assert_eq!((version(&mut number), number), (0, 12080));
        assert_ne!(look_up("cuMemAlloc").1, 0);
        assert_eq!(look_up("cuMemAlloc").1, look_up("cuMemAlloc_v2").1);
        // What CUDA 13 calls by the plain name is another function before.
        for (name, meant) in [
            ("cuCtxCreate", "cuCtxCreate_v2"),
            ("cuStreamGetCaptureInfo", "cuStreamGetCaptureInfo_v2"),
            (
                "cuGraphKernelNodeGetParams",
                "cuGraphKernelNodeGetParams_v2",
            ),
        ] {
            assert_ne!(look_up(meant).1, 0);
            assert_eq!(look_up(name).1, look_up(meant).1, "{name}");
        }
        for name in ["cuGraphAddNode", "cuGraphGetEdges", "cuMemAdvise"] {
            assert_ne!(look_up(name).1, look_up(&format!("{name}_v2")).1, "{name}");
        }
        assert_eq!(look_up("cuFrobnicate"), (NOT_FOUND, 0, 1));
        let named = |function: &str, code: usize| {
            let mut told = std::ptr::null::<i8>();
            let answer = driver.call(function, [code, &raw mut told as usize]);
            // SAFETY: the function has this prototype; wrong arguments are what is tested, and it must refuse them.
            (answer == 0).then(|| unsafe { CStr::from_ptr(told) }.to_str().unwrap())
        };
        assert_eq!(
            named("cuGetErrorName", 700),
            Some("CUDA_ERROR_ILLEGAL_ADDRESS")
        );
        assert_eq!(named("cuGetErrorString", 0), Some("no error"));
        assert_eq!(named("cuGetErrorName", 123_456), None);
    });
}

#[test]
fn waiting_in_a_host_function_is_refused_and_does_not_hang() {
    isolated(this_test!(), &[], || {
        let driver = with_context();
        let context = driver.value("cuCtxGetCurrent", []);
        extern "C" fn wait(place: *mut [usize; 2]) {
            let driver = Driver::load();
            // SAFETY: the function has this prototype; wrong arguments are what is tested, and it must refuse them.
            let context = unsafe { (*place)[0] };
            driver.ok("cuCtxSetCurrent", [context]);
            // SAFETY: the function has this prototype; wrong arguments are what is tested, and it must refuse them.
            unsafe { (*place)[1] = driver.call("cuCtxSynchronize", []) as usize };
        }
        let mut place = [context, 0];
        driver.ok(
            "cuLaunchHostFunc",
            [0, wait as *const () as usize, &raw mut place as usize],
        );
        driver.ok("cuCtxSynchronize", []);
        // SAFETY: the function has this prototype; wrong arguments are what is tested, and it must refuse them.
        assert_eq!(unsafe { (&raw const place).read_volatile() }[1], 800);
    });
}
