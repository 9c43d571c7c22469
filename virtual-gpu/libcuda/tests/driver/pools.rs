//! Memory pools: accounts, policies, memory in graphs, and uses after a free in the order of a stream.

use crate::harness::{isolated, ptx, this_test};
use crate::raw::Driver;
use std::ffi::CString;

const INVALID_VALUE: u32 = 1;
const OUT_OF_MEMORY: u32 = 2;
const ILLEGAL_ADDRESS: u32 = 700;
const NOT_SUPPORTED: u32 = 801;

/// `CUmemPool_attribute`.
const THRESHOLD: usize = 4;
const RESERVED: usize = 5;
const RESERVED_HIGH: usize = 6;
const USED: usize = 7;
const USED_HIGH: usize = 8;

fn with_context() -> Driver {
    let driver = Driver::load();
    driver.ok("cuInit", [0]);
    let context = driver.value("cuDevicePrimaryCtxRetain", [0]);
    driver.ok("cuCtxSetCurrent", [context]);
    driver
}

/// `CUmemPoolProps` of device memory, at most `limit` bytes.
fn properties(limit: u64) -> [u64; 11] {
    let mut words = [0; 11];
    (words[0], words[1], words[3]) = (1, 1, limit);
    words
}

fn attribute(driver: &Driver, pool: usize, which: usize) -> u64 {
    let mut value = 0u64;
    driver.ok(
        "cuMemPoolGetAttribute",
        [pool, which, &raw mut value as usize],
    );
    value
}

#[test]
fn pools_keep_accounts() {
    isolated(this_test!(), &[], || {
        let driver = with_context();
        let stream = driver.value("cuStreamCreate", [1]);
        let words = properties(10_000);
        let pool = driver.value("cuMemPoolCreate", [&raw const words as usize]);
        let all = || {
            [RESERVED, RESERVED_HIGH, USED, USED_HIGH].map(|which| attribute(&driver, pool, which))
        };
        let take = |bytes: usize| driver.value("cuMemAllocFromPoolAsync", [bytes, pool, stream]);
        let (first, second) = (take(4000), take(2000));
        assert_eq!(all(), [6000, 6000, 6000, 6000]);
        let mut out = 0usize;
        let place = &raw mut out as usize;
        let too_much = [place, 4001, pool, stream];
        assert_eq!(
            driver.call("cuMemAllocFromPoolAsync", too_much),
            OUT_OF_MEMORY
        );
        let (mut free, mut total) = (0usize, 0usize);
        let mut left = || {
            driver.ok(
                "cuMemGetInfo_v2",
                [&raw mut free as usize, &raw mut total as usize],
            );
            total - free
        };
        assert_eq!(left(), 6000);
        driver.ok("cuMemFreeAsync", [first, stream]);
        // Held until the host waits; then what is above the threshold is given back.
        assert_eq!((all(), left()), ([6000, 6000, 2000, 6000], 6000));
        let threshold = 3000u64;
        let threshold = &raw const threshold as usize;
        driver.ok("cuMemPoolSetAttribute", [pool, THRESHOLD, threshold]);
        assert_eq!(attribute(&driver, pool, THRESHOLD), 3000);
        driver.ok("cuStreamSynchronize", [stream]);
        assert_eq!((all(), left()), ([3000, 6000, 2000, 6000], 3000));
        // What is held is given out again, at another address.
        assert_ne!(take(1000), first);
        assert_eq!(all(), [3000, 6000, 3000, 6000]);
        driver.ok("cuMemFreeAsync", [second, stream]);
        driver.ok("cuMemPoolTrimTo", [pool, 0]);
        let zero = 0u64;
        for which in [RESERVED_HIGH, USED_HIGH] {
            driver.ok(
                "cuMemPoolSetAttribute",
                [pool, which, &raw const zero as usize],
            );
            let wrong = driver.call("cuMemPoolSetAttribute", [pool, which, threshold]);
            assert_eq!(wrong, INVALID_VALUE);
        }
        assert_eq!((all(), left()), ([1000, 1000, 1000, 1000], 1000));

        // The pool of the device.
        driver.ok("cuDeviceSetMemPool", [0, pool]);
        assert_eq!(driver.value("cuDeviceGetMemPool", [0]), pool);
        driver.value("cuMemAllocAsync", [500, stream]);
        assert_eq!(attribute(&driver, pool, USED), 1500);
        driver.ok("cuMemPoolDestroy", [pool]);
        assert_eq!(driver.call("cuMemPoolTrimTo", [pool, 0]), INVALID_VALUE);
        let default = driver.value("cuDeviceGetDefaultMemPool", [0]);
        assert_eq!(driver.value("cuDeviceGetMemPool", [0]), default);
        assert_eq!(driver.call("cuMemPoolDestroy", [default]), INVALID_VALUE);
        assert_eq!(
            driver.call("cuMemPoolExportToShareableHandle", [place, default, 1, 0]),
            NOT_SUPPORTED
        );
    });
}

const WRITE: &str =
    r#"extern "C" __global__ void write(unsigned* x) { x[threadIdx.x] = threadIdx.x; }"#;

fn function(driver: &Driver) -> usize {
    let source = CString::new(ptx(WRITE)).unwrap();
    let module = driver.value("cuModuleLoadData", [source.as_ptr() as usize]);
    driver.value("cuModuleGetFunction", [module, c"write".as_ptr() as usize])
}

fn write(driver: &Driver, function: usize, x: usize, stream: usize) -> u32 {
    let values = [&raw const x as usize];
    let values = &raw const values as usize;
    driver.call(
        "cuLaunchKernel",
        [function, 1, 1, 1, 4, 1, 1, 0, stream, values, 0],
    )
}

#[test]
fn a_use_after_a_free_in_the_order_of_the_stream_is_found() {
    let run = isolated(this_test!(), &[], || {
        let driver = with_context();
        let stream = driver.value("cuStreamCreate", [1]);
        let function = function(&driver);
        let x = driver.value("cuMemAllocAsync", [16, stream]);
        assert_eq!(write(&driver, function, x, stream), 0);
        driver.ok("cuMemFreeAsync", [x, stream]);
        // A GPU's pool would give the same memory to the next who asks.
        let y = driver.value("cuMemAllocAsync", [16, stream]);
        assert_eq!(write(&driver, function, y, stream), 0);
        driver.ok("cuStreamSynchronize", [stream]);
        assert_eq!(write(&driver, function, x, stream), 0);
        assert_eq!(
            driver.call("cuStreamSynchronize", [stream]),
            ILLEGAL_ADDRESS
        );
    });
    assert!(
        run.stderr.contains("use_after_free in write at "),
        "{}",
        run.stderr
    );
}

/// Two streams, with and without an event between them.
#[test]
fn uses_that_no_event_orders_with_allocation_and_free_are_told() {
    let body = |ordered: bool| {
        move || {
            let driver = with_context();
            let [owner, user] = [1, 1].map(|flags| driver.value("cuStreamCreate", [flags]));
            let function = function(&driver);
            let event = driver.value("cuEventCreate", [0]);
            let wait = |first: usize, then: usize| {
                if ordered {
                    driver.ok("cuEventRecord", [event, first]);
                    driver.ok("cuStreamWaitEvent", [then, event, 0]);
                }
            };
            let x = driver.value("cuMemAllocAsync", [16, owner]);
            wait(owner, user);
            assert_eq!(write(&driver, function, x, user), 0);
            wait(user, owner);
            driver.ok("cuMemFreeAsync", [x, owner]);
            // What the host waits for orders as well, and so does the stream itself.
            let y = driver.value("cuMemAllocAsync", [16, owner]);
            assert_eq!(write(&driver, function, y, owner), 0);
            driver.ok("cuStreamSynchronize", [owner]);
            assert_eq!(write(&driver, function, y, user), 0);
            driver.ok("cuStreamSynchronize", [user]);
            driver.ok("cuMemFreeAsync", [y, owner]);
            driver.ok("cuCtxSynchronize", []);
        }
    };
    // The bodies run in processes of their own, which the name of the test and the settings tell apart.
    let ordered = isolated(this_test!(), &[("ORDERED", "1")], || {
        body(std::env::var_os("ORDERED").is_some())()
    });
    assert!(
        !ordered.stderr.contains("nothing orders"),
        "{}",
        ordered.stderr
    );
    let loose = isolated(this_test!(), &[], || body(false)());
    for told in [
        "kernel write in stream ",
        "nothing orders the one after the other",
        "nothing orders the free after it",
    ] {
        assert_eq!(
            loose.stderr.matches(told).count(),
            if told.starts_with('k') { 2 } else { 1 },
            "{}",
            loose.stderr
        );
    }
}

#[test]
fn graphs_allocate_at_the_same_address_each_time() {
    let run = isolated(this_test!(), &[], || {
        let driver = with_context();
        let stream = driver.value("cuStreamCreate", [1]);
        let function = function(&driver);
        let mut host = [0u32; 4];
        driver.ok("cuStreamBeginCapture_v2", [stream, 0]);
        let x = driver.value("cuMemAllocAsync", [16, stream]);
        driver.ok("cuMemsetD32Async", [x, 9, 4, stream]);
        assert_eq!(write(&driver, function, x, stream), 0);
        let place = &raw mut host as usize;
        driver.ok("cuMemcpyDtoHAsync_v2", [place, x, 12, stream]);
        let mut graph = 0usize;
        driver.ok("cuStreamEndCapture", [stream, &raw mut graph as usize]);
        // Not there before the graph has run.
        assert_eq!(
            driver.call("cuMemcpyDtoH_v2", [place, x, 16]),
            INVALID_VALUE
        );
        let executable = driver.value("cuGraphInstantiateWithFlags", [graph, 0]);
        driver.ok("cuGraphLaunch", [executable, stream]);
        driver.ok("cuStreamSynchronize", [stream]);
        assert_eq!(host, [0, 1, 2, 0]);
        let mut used = 0u64;
        let place = &raw mut used as usize;
        driver.ok("cuDeviceGetGraphMemAttribute", [0, 0, place]);
        assert_eq!(used, 16);
        assert_eq!(
            driver.call("cuGraphLaunch", [executable, stream]),
            INVALID_VALUE
        );
        driver.ok("cuMemFreeAsync", [x, stream]);
        driver.ok("cuGraphLaunch", [executable, stream]);
        let again = driver.value("cuGraphInstantiateWithFlags", [graph, 1]);
        driver.ok("cuGraphLaunch", [again, stream]);
        driver.ok("cuMemFreeAsync", [x, stream]);
        driver.ok("cuStreamSynchronize", [stream]);
        let mut copy = 0usize;
        let code = driver.call("cuGraphClone", [&raw mut copy as usize, graph]);
        assert_eq!(code, NOT_SUPPORTED);
    });
    let told = "to copy a graph whose nodes allocate or free is not supported";
    assert!(run.stderr.contains(told), "{}", run.stderr);
    assert!(
        run.stderr
            .contains("has not been freed since its last launch"),
        "{}",
        run.stderr
    );
}
