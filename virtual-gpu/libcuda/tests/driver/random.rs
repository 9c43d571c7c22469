//! Calls at random: handles of the wrong kind, of objects that are gone, or of none; sizes at the edges; orders that nobody
//! would choose. Pointers are null or good, as the driver API demands. No call may panic inside or crash, and a launch at
//! the end must still give the right numbers.

use crate::harness::{isolated, ptx, this_test};
use crate::raw::Driver;
use std::ffi::CString;

/// A panic inside the library is answered so.
const UNKNOWN: u32 = 999;
const INVALID_CONTEXT: u32 = 201;
const ILLEGAL_ADDRESS: u32 = 700;
const MISALIGNED_ADDRESS: u32 = 716;

/// Names, and what each argument is: `h` a handle, `d` a device address, `o` a place for results, `i` zeros and good pointers
/// to read, `s` a size, `n` a number of things that `i` has room for, `f` flags, `k` the kernel's parameters, `l` few bytes,
/// `g` a dimension of a launch, `c` a place with a count, `D` what is copied to the host, `z` null.
const CALLS: &[(&str, &str)] = &[
    ("cuStreamCreate", "of"),
    ("cuStreamCreateWithPriority", "off"),
    ("cuStreamDestroy_v2", "h"),
    ("cuStreamQuery", "h"),
    ("cuStreamSynchronize", "h"),
    ("cuStreamWaitEvent", "hhf"),
    ("cuStreamGetFlags", "ho"),
    ("cuStreamBeginCapture_v2", "hf"),
    ("cuStreamBeginCaptureToGraph", "hhiinf"),
    ("cuStreamEndCapture", "ho"),
    ("cuStreamIsCapturing", "ho"),
    ("cuStreamGetCaptureInfo_v2", "hooooo"),
    ("cuStreamGetCaptureInfo_v3", "hoooooo"),
    ("cuStreamUpdateCaptureDependencies", "hinf"),
    ("cuThreadExchangeStreamCaptureMode", "o"),
    ("cuEventCreate", "of"),
    ("cuEventDestroy_v2", "h"),
    ("cuEventRecord", "hh"),
    ("cuEventRecordWithFlags", "hhf"),
    ("cuEventQuery", "h"),
    ("cuEventSynchronize", "h"),
    ("cuEventElapsedTime", "ohh"),
    ("cuMemAlloc_v2", "os"),
    ("cuMemFree_v2", "d"),
    ("cuMemAllocAsync", "osh"),
    ("cuMemAllocFromPoolAsync", "oshh"),
    ("cuMemFreeAsync", "dh"),
    ("cuMemHostAlloc", "osf"),
    ("cuMemFreeHost", "d"),
    ("cuMemPoolCreate", "oi"),
    ("cuMemPoolDestroy", "h"),
    ("cuMemPoolTrimTo", "hs"),
    ("cuMemPoolSetAttribute", "hfi"),
    ("cuMemPoolGetAttribute", "hfo"),
    ("cuDeviceSetMemPool", "fh"),
    ("cuDeviceGetGraphMemAttribute", "ffo"),
    ("cuDeviceGraphMemTrim", "f"),
    ("cuMemcpyHtoDAsync_v2", "dilh"),
    ("cuMemcpyDtoHAsync_v2", "oDlh"),
    ("cuMemcpyDtoDAsync_v2", "ddsh"),
    ("cuMemcpyDtoD_v2", "dds"),
    ("cuMemsetD8_v2", "dfs"),
    ("cuMemsetD32Async", "dfsh"),
    ("cuMemsetD2D16Async", "dsfssh"),
    ("cuMemGetInfo_v2", "oo"),
    ("cuMemGetAddressRange_v2", "ood"),
    ("cuPointerGetAttribute", "ofd"),
    ("cuModuleGetFunction", "ohi"),
    ("cuModuleGetFunctionCount", "oh"),
    ("cuFuncGetAttribute", "ofh"),
    ("cuFuncSetAttribute", "hfs"),
    ("cuFuncGetParamInfo", "hsoo"),
    ("cuLaunchKernel", "hggggggfhkz"),
    ("cuOccupancyMaxActiveBlocksPerMultiprocessor", "ohfs"),
    ("cuGraphCreate", "of"),
    ("cuGraphDestroy", "h"),
    ("cuGraphClone", "oh"),
    ("cuGraphNodeFindInClone", "ohh"),
    ("cuGraphAddEmptyNode", "ohin"),
    ("cuGraphAddChildGraphNode", "ohinh"),
    ("cuGraphAddEventRecordNode", "ohinh"),
    ("cuGraphAddEventWaitNode", "ohinh"),
    ("cuGraphAddKernelNode_v2", "ohini"),
    ("cuGraphAddMemcpyNode", "ohinih"),
    ("cuGraphAddMemsetNode", "ohinih"),
    ("cuGraphAddHostNode", "ohinz"),
    ("cuGraphAddMemAllocNode", "ohino"),
    ("cuGraphAddMemFreeNode", "ohind"),
    ("cuGraphAddDependencies", "hiin"),
    ("cuGraphRemoveDependencies", "hiin"),
    ("cuGraphDestroyNode", "h"),
    ("cuGraphNodeGetType", "ho"),
    ("cuGraphGetNodes", "hoc"),
    ("cuGraphGetRootNodes", "hoc"),
    ("cuGraphGetEdges_v2", "hoooc"),
    ("cuGraphNodeGetDependencies_v2", "hooc"),
    ("cuGraphNodeGetDependentNodes", "hoc"),
    ("cuGraphChildGraphNodeGetGraph", "ho"),
    ("cuGraphKernelNodeGetParams_v2", "ho"),
    ("cuGraphMemsetNodeGetParams", "ho"),
    ("cuGraphInstantiateWithFlags", "ohf"),
    ("cuGraphInstantiateWithParams", "oho"),
    ("cuGraphExecDestroy", "h"),
    ("cuGraphLaunch", "hh"),
    ("cuGraphUpload", "hh"),
    ("cuGraphExecUpdate_v2", "hho"),
    ("cuGraphExecMemsetNodeSetParams", "hhih"),
    ("cuGraphNodeSetEnabled", "hhf"),
    ("cuGraphNodeGetEnabled", "hho"),
    ("cuCtxGetLimit", "of"),
    ("cuCtxSetLimit", "fs"),
    ("cuCtxSynchronize", ""),
    ("cuCtxPushCurrent_v2", "h"),
    ("cuCtxPopCurrent_v2", "o"),
    ("virtualGpuGetFindingCount", "o"),
    ("virtualGpuGetReport", "folo"),
    ("virtualGpuResetFindings", ""),
];

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) as usize % below
    }

    fn of(&mut self, list: &[usize]) -> usize {
        list[self.next(list.len())]
    }
}

const STORE: &str =
    r#"extern "C" __global__ void store(unsigned* x) { x[threadIdx.x & 3] = threadIdx.x; }"#;

fn round(driver: &Driver, seed: u64, calls: usize) {
    let mut random = Random(seed);
    let context = driver.value("cuDevicePrimaryCtxRetain", [0]);
    driver.ok("cuCtxSetCurrent", [context]);
    let source = CString::new(ptx(STORE)).unwrap();
    let module = driver.value("cuModuleLoadData", [source.as_ptr() as usize]);
    let function = driver.value("cuModuleGetFunction", [module, c"store".as_ptr() as usize]);
    let first = driver.value("cuMemAlloc_v2", [4096]);
    // Room for the results of each argument, and what can be read: zeros, handles where a count says so, pointers.
    let mut results = vec![0usize; 1 << 13];
    let zeros = vec![0usize; 1 << 10];
    let mut handles = vec![
        0,
        1,
        2,
        0x700,
        0xdead,
        usize::MAX,
        context,
        module,
        function,
    ];
    let mut addresses = vec![0, 1, usize::MAX, first, first + 16, first + 4095];
    for step in 0..calls {
        let (name, kinds) = CALLS[random.next(CALLS.len())];
        let mut arguments = [0usize; 11];
        let lists: Vec<usize> = (0..4).map(|_| random.of(&handles)).collect();
        for (index, kind) in kinds.chars().enumerate() {
            let good = random.next(8) != 0;
            arguments[index] = match kind {
                'h' => random.of(&handles),
                'd' => random.of(&addresses),
                // Copies to the host have room for 4096 bytes and take no address of it.
                'D' => random.of(&[0, first, first + 16]),
                'o' if good => &raw mut results[index << 9] as usize,
                'c' if good => {
                    results[6000] = random.next(5);
                    &raw mut results[6000] as usize
                }
                'i' if good && kinds.find('n').is_some_and(|at| index < at) => {
                    lists.as_ptr() as usize
                }
                'i' if good => zeros.as_ptr() as usize,
                'o' | 'c' | 'i' | 'z' => 0,
                's' => random.of(&[
                    0,
                    1,
                    3,
                    4,
                    16,
                    100,
                    4096,
                    1 << 39,
                    usize::MAX / 2,
                    usize::MAX,
                ]),
                'l' => random.of(&[0, 1, 4, 16, 4096]),
                'n' => random.of(&[0, 0, 1, 2, 4]),
                'f' => random.of(&[0, 0, 1, 1, 2, 3, 4, 7, 8, 1 << 20, u32::MAX as usize]),
                // No grid that would run for minutes.
                'g' => random.of(&[0, 1, 1, 2, 3, 8, 1 << 31, u32::MAX as usize]),
                'k' => {
                    // Most are good, or little else would come after the first fault.
                    results[5000] = match random.next(64) {
                        0 => random.of(&addresses),
                        _ => first,
                    };
                    results[5001] = &raw const results[5000] as usize;
                    &raw const results[5001] as usize
                }
                other => panic!("{other}"),
            };
        }
        // A list that is null has no members.
        if kinds.contains('n') && arguments.iter().take(5).any(|argument| *argument == 0) {
            let at = kinds.find('n').unwrap();
            arguments[at] = 0;
        }
        if name.starts_with("cuMemFree") && arguments[0] == first {
            continue;
        }
        results
            .iter_mut()
            .take(4096)
            .step_by(512)
            .for_each(|place| *place = 0);
        let code = driver.call(name, arguments);
        assert_ne!(
            code, UNKNOWN,
            "seed {seed}, step {step}: {name}{arguments:x?}"
        );
        match code {
            // The device has a fault, which stays.
            ILLEGAL_ADDRESS | MISALIGNED_ADDRESS => break,
            INVALID_CONTEXT => driver.ok("cuCtxSetCurrent", [context]),
            _ => {}
        }
        // SAFETY: the driver may have written there.
        let made = unsafe { (&raw const results[0]).read_volatile() };
        if code == 0 && kinds.starts_with('o') && made != 0 {
            match name {
                "cuMemAlloc_v2"
                | "cuMemAllocAsync"
                | "cuMemAllocFromPoolAsync"
                | "cuMemHostAlloc" => addresses.push(made),
                _ => handles.push(made),
            }
        }
        if code == 0 && name == "cuStreamEndCapture" {
            handles.push(results[1 << 9]);
        }
        if handles.len() > 60 {
            handles.remove(9 + random.next(40));
        }
        if addresses.len() > 30 {
            addresses.remove(6 + random.next(20));
        }
    }
    // Whatever has happened: with a new context everything works.
    driver.call("cuCtxSetCurrent", [context]);
    driver.ok("cuDevicePrimaryCtxReset_v2", [0]);
    let context = driver.value("cuDevicePrimaryCtxRetain", [0]);
    driver.ok("cuCtxSetCurrent", [context]);
    let mut relaxed = 0u32;
    driver.ok(
        "cuThreadExchangeStreamCaptureMode",
        [&raw mut relaxed as usize],
    );
    let module = driver.value("cuModuleLoadData", [source.as_ptr() as usize]);
    let function = driver.value("cuModuleGetFunction", [module, c"store".as_ptr() as usize]);
    let x = driver.value("cuMemAlloc_v2", [16]);
    let values = [&raw const x as usize];
    let values = &raw const values as usize;
    driver.ok(
        "cuLaunchKernel",
        [function, 1, 1, 1, 4, 1, 1, 0, 0, values, 0],
    );
    let mut found = [9u32; 4];
    driver.ok("cuMemcpyDtoH_v2", [&raw mut found as usize, x, 16]);
    assert_eq!(found, [0, 1, 2, 3], "seed {seed}");
    driver.ok("cuDevicePrimaryCtxReset_v2", [0]);
}

/// `RANDOM_ROUNDS` of the environment makes more of it than CI does, and `RANDOM_SEED` begins elsewhere.
#[test]
fn no_order_of_calls_breaks_the_library() {
    let number = |name: &str, otherwise: u64| {
        let text = std::env::var(name).ok();
        text.map_or(otherwise, |text| text.parse().unwrap())
    };
    isolated(this_test!(), &[], || {
        let driver = Driver::load();
        driver.ok("cuInit", [0]);
        let first = number("RANDOM_SEED", 1);
        for seed in first..first + number("RANDOM_ROUNDS", 3) {
            round(&driver, seed, 4000);
        }
    });
}
