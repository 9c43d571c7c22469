//! The driver layer against the virtual GPU's driver, which cargo puts beside the tests.

use bytemuck::{Pod, Zeroable};
use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use stheno::device::{
    Context, DeviceBuffer, DeviceError, Driver, DriverKind, Event, Function, Image, LaunchShape,
    MappedBuffer, Module, VIRTUAL_DRIVER_VARIABLE, find_nvrtc, find_virtual_driver,
};
use stheno_jit::{Compiled, FindOptions, Nvrtc, Request};

const KERNELS: &str = r#"
struct Parameters {
    unsigned long long counter;
    unsigned long long words;
    unsigned int step;
    unsigned int threads;
};

// Every block adds its step, and waits until all have: only blocks that are resident together get through.
extern "C" __global__ void meet(Parameters p) {
    extern __shared__ unsigned int scratch[];
    unsigned int* counter = reinterpret_cast<unsigned int*>(p.counter);
    scratch[threadIdx.x] = threadIdx.x;
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicAdd(counter, scratch[p.threads - 1] + p.step);
        __threadfence();
        while (*reinterpret_cast<volatile unsigned int*>(counter) < gridDim.x * (p.threads - 1 + p.step)) {}
        atomicAdd(counter + 1, 1);
    }
}

// Waits for the host's word, then answers in the next one.
extern "C" __global__ void answer(Parameters p) {
    volatile unsigned int* words = reinterpret_cast<volatile unsigned int*>(p.words);
    unsigned int asked;
    while ((asked = words[0]) == 0) {}
    words[1] = asked + p.step;
    __threadfence_system();
}

extern "C" __global__ void fault(Parameters p) {
    *reinterpret_cast<unsigned int*>(p.counter) = p.step;
}
"#;

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    counter: u64,
    words: u64,
    step: u32,
    threads: u32,
}

const ALONE: LaunchShape = LaunchShape {
    grid: 1,
    block: 1,
    shared_bytes: 0,
    cooperative: false,
};

/// Set in a process that a test has started.
const CHILD: &str = "STHENO_DEVICE_CHILD";

fn driver() -> Driver {
    Driver::load(DriverKind::Virtual).unwrap_or_else(|error| panic!("{error}"))
}

fn context() -> Context {
    Context::new(&driver(), 0).unwrap()
}

fn compiled(context: &Context) -> &'static Compiled {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let nvrtc = Nvrtc::find(&FindOptions::for_project(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let request = Request::new("kernels.cu", KERNELS, context.facts().target());
        nvrtc
            .compile(&request)
            .unwrap_or_else(|error| panic!("{error}"))
    })
}

fn function(context: &Context, name: &str) -> Function {
    let image = Image::of(compiled(context)).unwrap();
    let module = Module::load(context, "kernels", image).unwrap();
    module.function(name).unwrap()
}

/// This test in a process of its own, whose driver nobody else uses. Gives whether this is that process.
fn in_child(test: &str, variables: &[(&str, &str)]) -> bool {
    if env::var_os(CHILD).is_some() {
        return true;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("1 passed"), "{out}");
    false
}

#[test]
fn a_device_says_what_it_is() {
    let driver = driver();
    assert_eq!(driver.kind(), DriverKind::Virtual);
    assert!(driver.version().unwrap() >= 12_000);
    assert_eq!(driver.device_count().unwrap(), 1);
    let context = context();
    let facts = context.facts();
    assert_eq!(facts, &driver.facts(0).unwrap());
    assert!(facts.is_virtual && facts.cooperative_launch, "{facts:?}");
    assert!(facts.compute_capability >= (8, 0), "{facts:?}");
    assert!(facts.shared_memory_per_block > 48 << 10, "{facts:?}");
    assert_eq!(
        (facts.registers_per_sm, facts.max_threads_per_block),
        (65_536, 1024)
    );
    assert!(
        facts.sm_count > 0 && facts.l2_bytes > 1 << 20 && facts.bandwidth > 1e11,
        "{facts:?}"
    );
    let (free, total) = context.memory().unwrap();
    assert!(
        free <= total && total == facts.memory_bytes,
        "{free} of {total}"
    );
    let architecture = facts.architecture();
    assert_eq!(architecture.name, facts.name);
    assert_eq!(architecture.sm_count, facts.sm_count);
}

#[test]
fn a_wrong_ordinal_is_told() {
    let error = Context::new(&driver(), 3).unwrap_err();
    assert_eq!(
        error,
        DeviceError::Ordinal {
            ordinal: 3,
            count: 1
        }
    );
    assert!(
        error
            .to_string()
            .contains("there is no device 3: the driver shows 1")
    );
    assert!(driver().facts(u32::MAX).is_err());
}

#[test]
fn bytes_go_in_and_out() {
    let context = context();
    let buffer = DeviceBuffer::zeroed(&context, 1000, "some").unwrap();
    assert_eq!(buffer.address() % 256, 0);
    let mut bytes = vec![0xff; 1000];
    buffer.read(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
    buffer.write(990, &[1, 2, 3]).unwrap();
    buffer.fill_async(0..2, 7).unwrap();
    let other = DeviceBuffer::zeroed(&context, 16, "other").unwrap();
    other.copy_async(3, &buffer, 988..1000).unwrap();
    let mut some = [9; 16];
    other.read(0, &mut some).unwrap();
    assert_eq!(some, [0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
    buffer.read(0, &mut some[..3]).unwrap();
    assert_eq!(some[..3], [7, 7, 0]);

    let mapped = MappedBuffer::zeroed(&context, 4, "mapped").unwrap();
    assert_eq!(
        (mapped.len(), mapped.words32().len(), mapped.words64().len()),
        (32, 8, 4)
    );
    mapped.words32()[1].store(0x0403_0201, Ordering::Relaxed);
    buffer.write_async(100, &mapped, 4..8).unwrap();
    buffer.read_async(99, &mapped, 8..16).unwrap();
    context.synchronize().unwrap();
    assert!(context.is_idle().unwrap());
    assert_eq!(mapped.words64()[1].load(Ordering::Relaxed), 0x04_0302_0100);
}

#[test]
fn what_is_not_in_a_buffer_is_refused() {
    let context = context();
    let buffer = DeviceBuffer::zeroed(&context, 8, "eight").unwrap();
    let error = buffer.write(6, &[0; 3]).unwrap_err();
    assert_eq!(error.to_string(), "bytes 6 to 6 + 3 of eight, which has 8");
    assert!(buffer.read(u64::MAX, &mut [0]).is_err());
    assert!(buffer.fill_async(0..9, 0).is_err());
    let mapped = MappedBuffer::zeroed(&context, 1, "mapped").unwrap();
    assert!(buffer.write_async(0, &mapped, 4..9).is_err());
    assert!(buffer.read_async(4, &mapped, 0..8).is_err());
    assert!(buffer.copy_async(0, &buffer, 8..9).is_err());
    let strange = MappedBuffer::zeroed(&self::context(), 1, "strange").unwrap();
    let error = buffer.write_async(0, &strange, 0..8).unwrap_err();
    assert_eq!(error.to_string(), "strange belongs to another context");

    let none = DeviceBuffer::zeroed(&context, 0, "none").unwrap();
    assert!(none.is_empty() && none.write(0, &[]).is_ok() && none.write(0, &[1]).is_err());
    let none = MappedBuffer::zeroed(&context, 0, "none").unwrap();
    assert!(none.is_empty() && none.words32().is_empty());
}

#[test]
fn memory_that_there_is_not_is_told_with_what_there_is() {
    let context = context();
    let (_, total) = context.memory().unwrap();
    let error = DeviceBuffer::zeroed(&context, total + 1, "the arena").unwrap_err();
    let DeviceError::OutOfMemory {
        what,
        needed,
        free,
        total: of,
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (what.as_str(), *needed, *of),
        ("the arena", total + 1, total)
    );
    assert!(*free > 0 && *free <= total);
    assert!(error.to_string().starts_with("the arena takes "), "{error}");
    assert!(DeviceBuffer::zeroed(&context, u64::MAX, "all").is_err());
    assert!(MappedBuffer::zeroed(&context, usize::MAX, "all").is_err());
    context.synchronize().unwrap();
}

#[test]
fn a_cooperative_launch_has_all_its_blocks_together() {
    let context = context();
    let meet = function(&context, "meet");
    let counter = DeviceBuffer::zeroed(&context, 8, "counter").unwrap();
    let shared_bytes = context.facts().shared_memory_per_block;
    let (grid, threads) = (context.facts().sm_count, 32);
    let shape = LaunchShape {
        grid,
        block: threads,
        shared_bytes,
        cooperative: true,
    };
    let parameters = Parameters {
        counter: counter.address(),
        words: 0,
        step: 3,
        threads,
    };
    // SAFETY: the kernels take `Parameters`; the counter lives until after the read, which waits.
    let launch = |shape| unsafe { meet.launch(shape, &parameters) };

    let error = launch(shape).unwrap_err();
    assert!(
        matches!(&error, DeviceError::Launch { kernel, .. } if kernel == "meet"),
        "{error}"
    );
    meet.set_dynamic_shared(shared_bytes).unwrap();
    assert_eq!(meet.blocks_per_sm(threads, shared_bytes).unwrap(), 1);
    assert!(meet.blocks_per_sm(threads, 0).unwrap() > 1);
    let error = launch(LaunchShape {
        grid: grid + 1,
        ..shape
    })
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE"),
        "{error}"
    );
    assert!(meet.set_dynamic_shared(shared_bytes + 1).is_err());
    assert_eq!(meet.name(), "meet");
    assert_eq!(meet.static_shared().unwrap(), 0);
    assert!(meet.registers().unwrap() > 0 && meet.max_threads().unwrap() >= threads);

    launch(shape).unwrap();
    let mut counts = [0; 8];
    counter.read(0, &mut counts).unwrap();
    assert_eq!(counts[..4], (grid * (threads + 2)).to_le_bytes());
    assert_eq!(counts[4..], grid.to_le_bytes());
}

#[test]
fn a_kernel_and_the_host_talk_through_mapped_memory() {
    let context = context();
    let answer = function(&context, "answer");
    let words = MappedBuffer::zeroed(&context, 1, "words").unwrap();
    let parameters = Parameters {
        counter: 0,
        words: words.address(),
        step: 5,
        threads: 0,
    };
    let (first, last) = (Event::new(&context).unwrap(), Event::new(&context).unwrap());
    first.record().unwrap();
    let before = context.calls();
    // SAFETY: the kernel takes `Parameters`; the words are dropped after the work of the stream.
    unsafe { answer.launch(ALONE, &parameters) }.unwrap();
    last.record().unwrap();
    assert!(!last.is_done().unwrap() && !context.is_idle().unwrap());
    words.words32()[0].store(37, Ordering::Release);
    let patience = Instant::now() + Duration::from_secs(60);
    while words.words32()[1].load(Ordering::Acquire) == 0 {
        assert!(Instant::now() < patience, "the kernel does not answer");
        std::thread::yield_now();
    }
    assert_eq!(words.words32()[1].load(Ordering::Acquire), 42);

    // What a decode loop is judged by: the answer is here, and nobody has waited for the device.
    let calls = context.calls() - before;
    assert_eq!(
        (calls.launches, calls.synchronous, calls.async_copies),
        (1, 0, 0)
    );
    assert_eq!((calls.events, calls.queries), (1, 2));
    last.synchronize().unwrap();
    assert!(last.is_done().unwrap());
    assert!(last.since(&first).unwrap() > Duration::ZERO);
    assert_eq!((context.calls() - before).synchronous, 1);
}

#[test]
fn any_thread_may_use_a_context() {
    let context = context();
    let buffer = DeviceBuffer::zeroed(&context, 64, "shared").unwrap();
    std::thread::scope(|scope| {
        for i in 0..4_u8 {
            let buffer = &buffer;
            scope.spawn(move || buffer.write(16 * u64::from(i), &[i; 16]).unwrap());
        }
    });
    let read = move || {
        let mut bytes = [0; 64];
        buffer.read(0, &mut bytes).unwrap();
        bytes
    };
    let bytes = std::thread::spawn(read).join().unwrap();
    assert!(
        bytes
            .iter()
            .enumerate()
            .all(|(i, byte)| usize::from(*byte) == i / 16)
    );
}

#[test]
fn kernels_that_do_not_load_are_told() {
    let context = context();
    let load = |image| {
        Module::load(&context, "mine", image)
            .unwrap_err()
            .to_string()
    };
    let error = load(Image::Ptx(".version 8.0\n.target sm_80\nnonsense"));
    assert!(
        error.starts_with("the driver does not load the kernels of mine: "),
        "{error}"
    );
    assert!(
        error.contains("CUDA_ERROR_INVALID_PTX") && error.contains('\n'),
        "{error}"
    );
    assert!(load(Image::Ptx("a\0b")).contains("zero byte"));
    assert!(load(Image::Cubin(b"\x7fELF")).contains("no whole ELF"));
    let module = Module::load(&context, "mine", Image::of(compiled(&context)).unwrap()).unwrap();
    let error = module.function("other").unwrap_err();
    assert_eq!(error.to_string(), "the kernels of mine have no other");
    assert!(module.function("a\0b").is_err());
}

#[test]
fn a_context_of_the_callers_is_used_and_kept() {
    use cudarc::driver::result;
    let driver = driver();
    let device = result::device::get(0).unwrap();
    // SAFETY: retained here and released below.
    let raw = unsafe { result::primary_ctx::retain(device) }.unwrap();
    // SAFETY: the context is retained; a null stream is its default one.
    let context = unsafe { Context::from_raw(&driver, raw.cast(), std::ptr::null_mut()) }.unwrap();
    assert_eq!(result::ctx::get_current().unwrap(), None);
    let buffer = DeviceBuffer::zeroed(&context, 4, "word").unwrap();
    buffer.write(0, &[1, 2, 3, 4]).unwrap();
    let other = self::context();
    drop((buffer, context));
    // SAFETY: retained above.
    unsafe { result::ctx::set_current(raw) }.unwrap();
    other.synchronize().unwrap();
    assert_eq!(result::ctx::get_current().unwrap(), Some(raw));
    assert!(result::mem_get_info().is_ok());
    // SAFETY: retained above.
    unsafe { result::primary_ctx::release(device) }.unwrap();
}

#[test]
fn a_kernels_fault_is_told_by_the_call_that_waits() {
    if !in_child("a_kernels_fault_is_told_by_the_call_that_waits", &[]) {
        return;
    }
    let context = context();
    let parameters = Parameters {
        counter: 64,
        words: 0,
        step: 1,
        threads: 0,
    };
    // SAFETY: the kernel takes `Parameters`; the address is nobody's, which is what is tested.
    unsafe { function(&context, "fault").launch(ALONE, &parameters) }.unwrap();
    let error = context.synchronize().unwrap_err();
    let DeviceError::Call { call, name, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (*call, name.as_str()),
        ("cuStreamSynchronize", "CUDA_ERROR_ILLEGAL_ADDRESS")
    );
    assert!(context.is_idle().is_err());
}

#[test]
fn a_process_has_one_driver() {
    driver();
    driver();
    let error = Driver::load(DriverKind::Cuda).unwrap_err();
    let (loaded, asked) = (DriverKind::Virtual, DriverKind::Cuda);
    assert_eq!(error, DeviceError::OtherDriver { loaded, asked });
}

#[test]
fn the_library_lies_beside_the_test() {
    let beside = env::current_exe()
        .unwrap()
        .with_file_name(libloading::library_filename("virtual_cuda"));
    assert_eq!(find_virtual_driver().unwrap(), beside);
}

/// Neither the loader's path nor the file's name is needed: `cargo test` sets the former.
#[test]
fn a_library_that_is_named_is_loaded_by_its_path() {
    let test = "a_library_that_is_named_is_loaded_by_its_path";
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("some.so");
    std::fs::copy(find_virtual_driver().unwrap(), &copy).unwrap();
    let variables = [
        ("LD_LIBRARY_PATH", ""),
        (VIRTUAL_DRIVER_VARIABLE, copy.to_str().unwrap()),
    ];
    if !in_child(test, &variables) {
        return;
    }
    let named = env::var_os(VIRTUAL_DRIVER_VARIABLE).unwrap();
    assert_eq!(find_virtual_driver().unwrap(), PathBuf::from(named));
    assert!(context().facts().is_virtual);
}

#[test]
fn a_library_that_is_not_there_is_told_with_what_to_build() {
    let test = "a_library_that_is_not_there_is_told_with_what_to_build";
    if !in_child(
        test,
        &[(VIRTUAL_DRIVER_VARIABLE, "/nonexistent/libcuda.so")],
    ) {
        return;
    }
    let error = Driver::load(DriverKind::Virtual).unwrap_err();
    let tried = vec![PathBuf::from("/nonexistent/libcuda.so")];
    assert_eq!(error, DeviceError::MissingVirtualDriver { tried });
    let text = error.to_string();
    assert!(
        text.contains("cargo build --release -p virtual-gpu-cuda"),
        "{text}"
    );
    assert!(
        text.contains("STHENO_VIRTUAL_CUDA") && text.contains("/nonexistent"),
        "{text}"
    );
}

#[test]
fn another_library_is_not_taken_for_the_drivers() {
    let test = "another_library_is_not_taken_for_the_drivers";
    let nvrtc = find_nvrtc(None).unwrap();
    if !in_child(
        test,
        &[(VIRTUAL_DRIVER_VARIABLE, nvrtc.path().to_str().unwrap())],
    ) {
        return;
    }
    let error = Driver::load(DriverKind::Virtual).unwrap_err();
    assert!(
        matches!(&error, DeviceError::UnusableDriver { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("it is not the virtual GPU's"),
        "{error}"
    );
}
