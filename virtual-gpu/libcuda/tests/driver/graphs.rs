//! Graphs: captured from streams by unmodified cudarc, built by hand, launched, changed, copied; what a capture forbids.

use crate::harness::{isolated, kernel, ptx, this_test};
use crate::raw::Driver;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode, CUstreamCaptureStatus};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use std::ffi::CString;

const INVALID_VALUE: u32 = 1;
const INVALID_HANDLE: u32 = 400;
const ILLEGAL_STATE: u32 = 401;
const NOT_SUPPORTED: u32 = 801;
const UNSUPPORTED: u32 = 900;
const INVALIDATED: u32 = 901;
const MERGE: u32 = 902;
const UNMATCHED: u32 = 903;
const UNJOINED: u32 = 904;
const ISOLATION: u32 = 905;
const IMPLICIT: u32 = 906;
const CAPTURED_EVENT: u32 = 907;
const WRONG_THREAD: u32 = 908;
const UPDATE_FAILURE: u32 = 910;

/// `x[i] = a x[i] + b`: the order of two of them shows.
const AFFINE: &str = r#"extern "C" __global__ void affine(unsigned* x, unsigned a, unsigned b) { x[threadIdx.x] = a * x[threadIdx.x] + b; }"#;

const FOUR: LaunchConfig = LaunchConfig {
    grid_dim: (1, 1, 1),
    block_dim: (4, 1, 1),
    shared_mem_bytes: 0,
};

#[test]
fn cudarc_captures_a_stream_and_replays_it() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        // SAFETY: all that is done here is in one stream.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().unwrap();
        let affine = kernel(&context, AFFINE, "affine");
        let mut x = stream.clone_htod(&[1u32, 2, 3, 4]).unwrap();
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).unwrap();
        assert_eq!(
            stream.capture_status().unwrap(),
            CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE
        );
        for (a, b) in [(2u32, 1u32), (3, 0)] {
            let mut launch = stream.launch_builder(&affine);
            launch.arg(&mut x).arg(&a).arg(&b);
            // SAFETY: the arguments are those that the kernel takes.
            unsafe { launch.launch(FOUR) }.unwrap();
        }
        let mut copy = stream.alloc_zeros::<u32>(4).unwrap();
        stream.memcpy_dtod(&x, &mut copy).unwrap();
        let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = stream.end_capture(flags).unwrap().unwrap();
        // Nothing has run yet.
        assert_eq!(stream.clone_dtoh(&x).unwrap(), [1, 2, 3, 4]);
        graph.upload().unwrap();
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&x).unwrap(), [9, 15, 21, 27]);
        assert_eq!(stream.clone_dtoh(&copy).unwrap(), [9, 15, 21, 27]);
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&x).unwrap(), [57, 93, 129, 165]);
        assert_eq!(stream.clone_dtoh(&copy).unwrap(), [57, 93, 129, 165]);
    });
}

/// A context, two streams that block nobody, four words of memory and the kernel above, by raw calls.
struct Scene {
    driver: Driver,
    context: usize,
    function: usize,
    module: usize,
    x: usize,
    streams: [usize; 2],
}

impl Scene {
    fn new() -> Self {
        let driver = Driver::load();
        driver.ok("cuInit", [0]);
        let context = driver.value("cuDevicePrimaryCtxRetain", [0]);
        driver.ok("cuCtxSetCurrent", [context]);
        let source = CString::new(ptx(AFFINE)).unwrap();
        let module = driver.value("cuModuleLoadData", [source.as_ptr() as usize]);
        let name = c"affine".as_ptr() as usize;
        let function = driver.value("cuModuleGetFunction", [module, name]);
        let x = driver.value("cuMemAlloc_v2", [16]);
        let streams = [1, 1].map(|flags| driver.value("cuStreamCreate", [flags]));
        let scene = Self {
            driver,
            context,
            function,
            module,
            x,
            streams,
        };
        scene.set([1, 2, 3, 4]);
        scene
    }

    fn set(&self, values: [u32; 4]) {
        let values = &raw const values as usize;
        self.driver.ok("cuMemcpyHtoD_v2", [self.x, values, 16]);
    }

    fn get(&self) -> [u32; 4] {
        self.driver.ok("cuCtxSynchronize", []);
        let mut values = [0; 4];
        let place = &raw mut values as usize;
        self.driver.ok("cuMemcpyDtoH_v2", [place, self.x, 16]);
        values
    }

    fn affine(&self, stream: usize, a: u32, b: u32) -> u32 {
        let values = [
            &raw const self.x as usize,
            &raw const a as usize,
            &raw const b as usize,
        ];
        let values = &raw const values as usize;
        let shape = [self.function, 1, 1, 1, 4, 1, 1, 0, stream, values, 0];
        self.driver.call("cuLaunchKernel", shape)
    }

    /// Adds a node to a graph, after others.
    fn node(&self, graph: usize, needs: &[usize], a: u32, b: u32) -> usize {
        self.with_params(a, b, |params| {
            let needed = [graph, needs.as_ptr() as usize, needs.len(), params];
            self.driver.value("cuGraphAddKernelNode_v2", needed)
        })
    }

    /// Calls with the parameters of a kernel node.
    fn with_params<T>(&self, a: u32, b: u32, call: impl FnOnce(usize) -> T) -> T {
        let values = [
            &raw const self.x as usize,
            &raw const a as usize,
            &raw const b as usize,
        ];
        let one = 1usize | 1 << 32;
        // Function, grid and block, shared memory, parameters, extra, kernel, context.
        let params = [
            self.function,
            one,
            1 | 4 << 32,
            one,
            0,
            &raw const values as usize,
            0,
            0,
            0,
        ];
        call(&raw const params as usize)
    }

    fn capture(&self, stream: usize) {
        self.driver.ok("cuStreamBeginCapture_v2", [stream, 0]);
    }

    /// Ends a capture: its code and its graph.
    fn end(&self, stream: usize) -> (u32, usize) {
        let mut graph = 7usize;
        let place = &raw mut graph as usize;
        let code = self.driver.call("cuStreamEndCapture", [stream, place]);
        (code, graph)
    }

    fn instantiate(&self, graph: usize) -> usize {
        self.driver.value("cuGraphInstantiateWithFlags", [graph, 0])
    }

    fn status(&self, stream: usize) -> u32 {
        let mut status = 9u32;
        let place = &raw mut status as usize;
        self.driver.ok("cuStreamIsCapturing", [stream, place]);
        status
    }
}

#[test]
fn forks_and_joins_become_edges() {
    isolated(this_test!(), &[], || {
        let scene = Scene::new();
        let (driver, [first, second]) = (&scene.driver, scene.streams);
        let [fork, join] = [0, 0].map(|flags| driver.value("cuEventCreate", [flags]));
        scene.capture(first);
        assert_eq!(scene.affine(first, 2, 0), 0);
        driver.ok("cuEventRecord", [fork, first]);
        assert_eq!(scene.status(second), 0);
        driver.ok("cuStreamWaitEvent", [second, fork, 0]);
        assert_eq!(scene.status(second), 1);
        assert_eq!(scene.affine(second, 1, 1), 0);
        driver.ok("cuMemsetD32Async", [scene.x, 5, 1, second]);
        driver.ok("cuEventRecord", [join, second]);
        driver.ok("cuStreamWaitEvent", [first, join, 0]);
        let mut told = [0usize; 4];
        let place = |index: usize| &raw const told[index] as usize;
        let mut status = 0u32;
        let info = [
            first,
            &raw mut status as usize,
            place(0),
            place(1),
            place(2),
            place(3),
        ];
        driver.ok("cuStreamGetCaptureInfo_v2", info);
        // SAFETY: the driver has written to it.
        let [_, graph, nodes, count] = unsafe { (&raw mut told).read_volatile() };
        assert_eq!((status, count), (1, 2));
        // SAFETY: the driver keeps so many handles there until the next call.
        let nodes = unsafe { std::slice::from_raw_parts(nodes as *const usize, 2) }.to_vec();
        assert_eq!(scene.affine(first, 10, 0), 0);
        let (code, ended) = scene.end(first);
        assert_eq!((code, ended), (0, graph));
        assert_eq!(scene.status(second), 0);
        let mut count = 0usize;
        let place = &raw mut count as usize;
        driver.ok("cuGraphGetNodes", [graph, 0, place]);
        assert_eq!(count, 4);
        driver.ok("cuGraphGetEdges", [graph, 0, 0, place]);
        assert_eq!(count, 4);
        let mut kind = 9u32;
        driver.ok("cuGraphNodeGetType", [nodes[1], &raw mut kind as usize]);
        assert_eq!(kind, 2);
        let executable = scene.instantiate(graph);
        driver.ok("cuGraphDestroy", [graph]);
        driver.ok("cuGraphLaunch", [executable, second]);
        assert_eq!(scene.get(), [50, 50, 70, 90]);
        // A launch in a stream that is captured is a node of that graph.
        scene.capture(second);
        driver.ok("cuGraphLaunch", [executable, second]);
        let (code, outer) = scene.end(second);
        assert_eq!(code, 0);
        driver.ok("cuGraphExecDestroy", [executable]);
        let executable = scene.instantiate(outer);
        driver.ok("cuGraphLaunch", [executable, first]);
        assert_eq!(scene.get(), [50, 1010, 1410, 1810]);
    });
}

/// Captures, does `wrong` and ends: the codes of both, and that streams are usable afterwards.
fn spoilt(scene: &Scene, wrong: impl FnOnce() -> u32) -> (u32, u32) {
    let stream = scene.streams[0];
    scene.capture(stream);
    assert_eq!(scene.affine(stream, 1, 0), 0);
    let code = wrong();
    let (ended, graph) = scene.end(stream);
    assert_eq!(graph == 0, ended != 0);
    assert_eq!(scene.status(stream), 0);
    scene.driver.ok("cuStreamSynchronize", [stream]);
    (code, ended)
}

#[test]
fn what_a_capture_forbids_spoils_it_with_the_drivers_errors() {
    isolated(this_test!(), &[], || {
        let scene = Scene::new();
        let (driver, [first, second]) = (&scene.driver, scene.streams);
        let event = driver.value("cuEventCreate", [0]);
        let call = |name: &str, arguments: [usize; 3]| driver.call(name, arguments);
        let mut place = 0usize;
        let out = &raw mut place as usize;
        assert_eq!(scene.end(first).0, ILLEGAL_STATE);
        assert_eq!(call("cuStreamBeginCapture_v2", [0, 0, 0]), UNSUPPORTED);
        assert_eq!(call("cuStreamBeginCapture_v2", [2, 0, 0]), NOT_SUPPORTED);
        assert_eq!(
            call("cuStreamBeginCapture_v2", [first, 3, 0]),
            INVALID_VALUE
        );
        let again = || call("cuStreamBeginCapture_v2", [first, 0, 0]);
        assert_eq!(spoilt(&scene, again), (ILLEGAL_STATE, 0));
        for (name, arguments) in [
            ("cuStreamSynchronize", [first, 0, 0]),
            ("cuStreamQuery", [first, 0, 0]),
            ("cuCtxSynchronize", [0, 0, 0]),
            ("cuMemAlloc_v2", [out, 16, 0]),
            ("cuMemAllocHost_v2", [out, 16, 0]),
            ("cuMemcpyDtoH_v2", [out, scene.x, 4]),
            ("cuEventQuery", [event, 0, 0]),
        ] {
            let codes = spoilt(&scene, || call(name, arguments));
            assert_eq!(codes, (UNSUPPORTED, INVALIDATED), "{name}");
        }
        let captured = |ask: &'static str| {
            move || {
                driver.ok("cuEventRecord", [event, first]);
                driver.call(ask, [event])
            }
        };
        for ask in ["cuEventQuery", "cuEventSynchronize"] {
            assert_eq!(spoilt(&scene, captured(ask)), (CAPTURED_EVENT, INVALIDATED));
        }
        driver.ok("cuEventRecord", [event, second]);
        let outside = || driver.call("cuStreamWaitEvent", [first, event, 0]);
        assert_eq!(spoilt(&scene, outside), (ISOLATION, INVALIDATED));
        let external = || driver.call("cuStreamWaitEvent", [first, event, 1]);
        assert_eq!(spoilt(&scene, external), (0, 0));
        let fork = || {
            driver.ok("cuEventRecord", [event, first]);
            driver.ok("cuStreamWaitEvent", [second, event, 0]);
            scene.affine(second, 1, 0)
        };
        assert_eq!(spoilt(&scene, fork), (0, UNJOINED));
        let elsewhere = || {
            fork();
            scene.end(second).0
        };
        assert_eq!(spoilt(&scene, elsewhere), (UNMATCHED, INVALIDATED));
        let merge = || {
            scene.capture(second);
            driver.ok("cuEventRecord", [event, second]);
            let code = driver.call("cuStreamWaitEvent", [first, event, 0]);
            assert_eq!(scene.end(second).0, INVALIDATED);
            code
        };
        assert_eq!(spoilt(&scene, merge), (MERGE, INVALIDATED));
        let gone = || {
            let third = driver.value("cuStreamCreate", [1]);
            driver.ok("cuEventRecord", [event, first]);
            driver.ok("cuStreamWaitEvent", [third, event, 0]);
            driver.call("cuStreamDestroy_v2", [third])
        };
        assert_eq!(spoilt(&scene, gone), (0, INVALIDATED));
        // With the mode of the thread relaxed, what might disturb is allowed.
        let mut mode = 2u32;
        driver.ok(
            "cuThreadExchangeStreamCaptureMode",
            [&raw mut mode as usize],
        );
        let relaxed = || call("cuMemAlloc_v2", [out, 16, 0]);
        assert_eq!(spoilt(&scene, relaxed), (0, 0));
        driver.ok(
            "cuThreadExchangeStreamCaptureMode",
            [&raw mut mode as usize],
        );
        assert_eq!(mode, 2);
        // A stream that blocks the legacy one, and that one.
        let blocking = driver.value("cuStreamCreate", [0]);
        scene.capture(blocking);
        assert_eq!(scene.affine(0, 1, 0), IMPLICIT);
        assert_eq!(scene.affine(blocking, 1, 0), INVALIDATED);
        assert_eq!(scene.end(blocking), (INVALIDATED, 0));
        scene.capture(first);
        assert_eq!(scene.affine(0, 1, 0), 0);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                driver.ok("cuCtxSetCurrent", [scene.context]);
                assert_eq!(scene.end(first).0, WRONG_THREAD);
            });
        });
        assert_eq!(scene.end(first), (INVALIDATED, 0));
        assert_eq!(scene.get(), [1, 2, 3, 4]);
    });
}

/// `CUDA_MEMSET_NODE_PARAMS`: one word, 6.
fn params_of_fill(to: usize) -> [usize; 5] {
    [to, 0, 6 | 4 << 32, 1, 1]
}

#[test]
fn graphs_are_built_by_hand_and_changed() {
    isolated(this_test!(), &[], || {
        let scene = Scene::new();
        let (driver, stream) = (&scene.driver, scene.streams[0]);
        let graph = driver.value("cuGraphCreate", [0]);
        // The last of them is added first.
        let last = scene.node(graph, &[], 3, 0);
        let params = params_of_fill(scene.x);
        let params = &raw const params as usize;
        let mut fill = 0usize;
        let place = &raw mut fill as usize;
        let arguments = [place, graph, 0, 0, params, scene.context];
        driver.ok("cuGraphAddMemsetNode", arguments);
        let early = [fill];
        let middle = scene.node(graph, &early, 1, 1);
        let (from, to) = ([middle], [last]);
        let edge = [graph, from.as_ptr() as usize, to.as_ptr() as usize, 1];
        driver.ok("cuGraphAddDependencies", edge);
        assert_eq!(driver.call("cuGraphAddDependencies", edge), INVALID_VALUE);
        let executable = scene.instantiate(graph);
        driver.ok("cuGraphLaunch", [executable, stream]);
        assert_eq!(scene.get(), [21, 9, 12, 15]);

        // Another factor, in the executable alone.
        scene.with_params(2, 0, |params| {
            driver.ok(
                "cuGraphExecKernelNodeSetParams_v2",
                [executable, last, params],
            );
            let wrong = [executable, fill, params];
            let code = driver.call("cuGraphExecKernelNodeSetParams_v2", wrong);
            assert_eq!(code, INVALID_VALUE);
        });
        driver.ok("cuGraphLaunch", [executable, stream]);
        assert_eq!(scene.get(), [14, 20, 26, 32]);
        driver.ok("cuGraphNodeSetEnabled", [executable, fill, 0]);
        driver.ok("cuGraphLaunch", [executable, stream]);
        assert_eq!(scene.get(), [30, 42, 54, 66]);

        // A copy of the graph, whose nodes can be found, gives its factors back.
        let copy = driver.value("cuGraphClone", [graph]);
        let twin = driver.value("cuGraphNodeFindInClone", [last, copy]);
        assert_ne!(twin, last);
        let mut told = [0usize; 9];
        let place = &raw mut told as usize;
        driver.ok("cuGraphKernelNodeGetParams_v2", [twin, place]);
        // SAFETY: the driver keeps the addresses of three parameters there.
        let factor = unsafe { *((told[5] as *const *const u32).add(1)) };
        // SAFETY: and the second is of four bytes.
        assert_eq!((told[0], unsafe { *factor }), (scene.function, 3));
        let mut info = [9usize; 3];
        let place = &raw mut info as usize;
        driver.ok("cuGraphExecUpdate_v2", [executable, copy, place]);
        assert_eq!(info[0] as u32, 0);
        driver.ok("cuGraphDestroyNode", [twin]);
        let code = driver.call("cuGraphExecUpdate_v2", [executable, copy, place]);
        assert_eq!((code, info[0] as u32), (UPDATE_FAILURE, 2));
        scene.set([1, 2, 3, 4]);
        driver.ok("cuGraphLaunch", [executable, stream]);
        assert_eq!(scene.get(), [6, 9, 12, 15]);

        // A graph inside of another, a function of the host after it, an event at the end.
        extern "C" fn note(place: *mut u32) {
            // SAFETY: the test gives the address of a number that outlives the launch.
            unsafe { place.write_volatile(77) };
        }
        let mut noted = 0u32;
        let outer = driver.value("cuGraphCreate", [0]);
        let child = driver.value("cuGraphAddChildGraphNode", [outer, 0, 0, graph]);
        let call = [note as *const () as usize, &raw mut noted as usize];
        let needs = [child];
        let arguments = [outer, needs.as_ptr() as usize, 1, &raw const call as usize];
        let host = driver.value("cuGraphAddHostNode", arguments);
        let needs = [host];
        let event = driver.value("cuEventCreate", [0]);
        let arguments = [outer, needs.as_ptr() as usize, 1, event];
        driver.value("cuGraphAddEventRecordNode", arguments);
        driver.ok("cuGraphDestroy", [graph]);
        let executable = scene.instantiate(outer);
        driver.ok("cuGraphLaunch", [executable, stream]);
        driver.ok("cuEventSynchronize", [event]);
        // SAFETY: the launch has ended.
        assert_eq!(unsafe { (&raw const noted).read_volatile() }, 77);
        assert_eq!(scene.get(), [21, 30, 39, 48]);

        // A circle, a node of another graph, and handles that are none.
        let circle = driver.value("cuGraphCreate", [0]);
        let one = driver.value("cuGraphAddEmptyNode", [circle, 0, 0]);
        let needs = [one];
        let two = driver.value("cuGraphAddEmptyNode", [circle, needs.as_ptr() as usize, 1]);
        let (from, to) = ([two, two], [one, child]);
        let (from, to) = (from.as_ptr() as usize, to.as_ptr() as usize);
        assert_eq!(
            driver.call("cuGraphAddDependencies", [circle, from, to, 2]),
            INVALID_VALUE
        );
        let mut made = 0usize;
        let place = &raw mut made as usize;
        let code = driver.call("cuGraphInstantiateWithFlags", [place, circle, 0]);
        assert_eq!(code, INVALID_VALUE);
        assert_eq!(
            driver.call("cuGraphLaunch", [circle, stream]),
            INVALID_HANDLE
        );
        assert_eq!(driver.call("cuGraphDestroy", [graph]), INVALID_HANDLE);
        // By the structure for all kinds: its kind, three words, and what the kind has.
        assert_eq!(
            driver.call("cuGraphAddNode", [place, circle, 0, 0, 0]),
            INVALID_VALUE
        );
        let mut any = [0u64; 32];
        any[0] = 13;
        let given = any.as_ptr() as usize;
        assert_eq!(
            driver.call("cuGraphAddNode", [place, circle, 0, 0, given]),
            NOT_SUPPORTED
        );
        let graph = driver.value("cuGraphCreate", [0]);
        any[0] = 2;
        for (word, value) in any[2..].iter_mut().zip(params_of_fill(scene.x)) {
            *word = value as u64;
        }
        let given = any.as_ptr() as usize;
        driver.ok("cuGraphAddNode_v2", [place, graph, 0, 0, 0, given]);
        // SAFETY: the driver has written the node there.
        let needs = [unsafe { (&raw const made).read_volatile() }];
        let mut any = [0u64; 32];
        scene.with_params(5, 1, |params| {
            // SAFETY: nine words.
            let words = unsafe { std::slice::from_raw_parts(params as *const u64, 9) };
            any[2..11].copy_from_slice(words);
            let given = any.as_ptr() as usize;
            let arguments = [place, graph, needs.as_ptr() as usize, 0, 1, given];
            driver.ok("cuGraphAddNode_v2", arguments);
        });
        let hand = scene.instantiate(graph);
        driver.ok("cuGraphLaunch", [hand, stream]);
        assert_eq!(scene.get()[0], 31);
        // A graph whose kernel's module is gone.
        driver.ok("cuModuleUnload", [scene.module]);
        assert_eq!(
            driver.call("cuGraphLaunch", [executable, stream]),
            INVALID_HANDLE
        );
    });
}

/// Two nodes that nothing orders run in either order, as the seed wants.
#[test]
fn a_missing_dependency_shows_with_another_seed() {
    let mut results = Vec::new();
    for seed in ["0", "1", "2", "3", "4", "5"] {
        let run = isolated(this_test!(), &[("VIRTUAL_GPU_SEED", seed)], || {
            let scene = Scene::new();
            let graph = scene.driver.value("cuGraphCreate", [0]);
            scene.node(graph, &[], 2, 0);
            scene.node(graph, &[], 1, 1);
            let executable = scene.instantiate(graph);
            scene
                .driver
                .ok("cuGraphLaunch", [executable, scene.streams[0]]);
            println!("x={}", scene.get()[0]);
        });
        let at = run.stdout.find("x=").unwrap();
        results.push(run.stdout[at + 2..at + 3].to_string());
    }
    assert_eq!(results[0], "3");
    assert!(results.contains(&"4".to_string()), "{results:?}");
}
