//! Memory that host and device share.

use crate::harness::{isolated, kernel, sleep_in, this_test};
use cudarc::driver::sys::{CUmemAttach_flags, CUresult};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg, result};
use std::sync::atomic::{AtomicU32, Ordering};

const ONE: LaunchConfig = LaunchConfig {
    grid_dim: (1, 1, 1),
    block_dim: (32, 1, 1),
    shared_mem_bytes: 0,
};

/// A kernel that answers requests until it is told to stop, as a decoder that stays on the device does.
const SERVER: &str = r#"
extern "C" __global__ void serve(volatile unsigned* mailbox, unsigned* counter) {
    if (threadIdx.x != 0) return;
    for (unsigned served = 0;; served++) {
        unsigned request;
        while ((request = mailbox[0]) == served) {}
        if (request == 0xffffffffu) break;
        mailbox[1] = request * request;
        __threadfence_system();
        mailbox[2] = served + 1;
        atomicAdd_system(counter, 1u);
    }
}
"#;

#[test]
fn a_kernel_that_stays_talks_to_the_host_through_pinned_memory() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        let serve = kernel(&context, SERVER, "serve");
        // SAFETY: memory is asked for; its bits are not read before they are written, or are integers.
        let words = unsafe { result::malloc_host(16, 0) }
            .unwrap()
            .cast::<AtomicU32>();
        // SAFETY: inside of the block allocated above, which outlives the use; words that both sides touch are atomics.
        let word = |index: usize| unsafe { &*words.add(index) };
        let (mailbox, counter) = (words as u64, word(3) as *const AtomicU32 as u64);
        // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
        unsafe {
            stream
                .launch_builder(&serve)
                .arg(&mailbox)
                .arg(&counter)
                .launch(ONE)
        }
        .unwrap();
        for request in 1..=20u32 {
            // Memory can be had while the kernel runs.
            // SAFETY: memory is asked for; its bits are not read before they are written, or are integers.
            let address = unsafe { result::malloc_sync(64) }.unwrap();
            word(0).store(request, Ordering::Release);
            while word(2).load(Ordering::Acquire) != request {
                std::hint::spin_loop();
            }
            assert_eq!(word(1).load(Ordering::Relaxed), request * request);
            word(3).fetch_add(1000, Ordering::SeqCst);
            // SAFETY: nothing uses the memory after this.
            unsafe { result::free_sync(address) }.unwrap();
        }
        word(0).store(u32::MAX, Ordering::Release);
        stream.synchronize().unwrap();
        assert_eq!(word(3).load(Ordering::Relaxed), 20_020);
        // SAFETY: nothing uses the memory after this.
        unsafe { result::free_host(words.cast()) }.unwrap();
        context.check_err().unwrap();
    });
}

#[test]
fn a_kernel_that_waits_for_a_host_that_does_nothing_is_ended() {
    let settings = [("VIRTUAL_GPU_HOST_WAIT", "1")];
    let run = isolated(this_test!(), &settings, || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let serve = kernel(&context, SERVER, "serve");
        // SAFETY: memory is asked for; its bits are not read before they are written, or are integers.
        let words = unsafe { result::malloc_host(16, 0) }.unwrap() as u64;
        // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
        unsafe {
            stream
                .launch_builder(&serve)
                .arg(&words)
                .arg(&words)
                .launch(ONE)
        }
        .unwrap();
        assert_eq!(
            stream.synchronize().unwrap_err().0,
            CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        );
    });
    assert!(run.stderr.contains("deadlock in serve"), "{}", run.stderr);
}

#[test]
fn managed_and_registered_memory_have_one_address() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let source = r#"extern "C" __global__ void add(int* x, const int* y) { x[threadIdx.x] += y[threadIdx.x]; }"#;
        let add = kernel(&context, source, "add");
        let attach = CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL;
        // SAFETY: memory is asked for; its bits are not read before they are written, or are integers.
        let managed = unsafe { result::malloc_managed(128, attach) }.unwrap();
        // SAFETY: inside of the block allocated above, which outlives the use; words that both sides touch are atomics.
        let x = unsafe { std::slice::from_raw_parts_mut(managed as *mut i32, 32) };
        x.iter_mut().zip(0..).for_each(|(x, i)| *x = i);
        let mut y: Vec<i32> = (0..32).map(|i| 1000 * i).collect();
        let registered = y.as_mut_ptr() as u64;
        let register =
            // SAFETY: the call gets handles and pointers that live until it has returned, or until the stream is waited for.
            || unsafe { cudarc::driver::sys::cuMemHostRegister_v2(registered as *mut _, 128, 0) };
        assert_eq!(register(), CUresult::CUDA_SUCCESS);
        assert_eq!(
            register(),
            CUresult::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED
        );
        // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
        unsafe {
            stream
                .launch_builder(&add)
                .arg(&managed)
                .arg(&registered)
                .launch(ONE)
        }
        .unwrap();
        stream.synchronize().unwrap();
        assert!(x.iter().zip(0..).all(|(x, i)| *x == 1001 * i), "{x:?}");
        let unregister =
            // SAFETY: the call gets handles and pointers that live until it has returned, or until the stream is waited for.
            || unsafe { cudarc::driver::sys::cuMemHostUnregister(registered as *mut _) };
        assert_eq!(unregister(), CUresult::CUDA_SUCCESS);
        assert_eq!(
            unregister(),
            CUresult::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED
        );
        // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
        unsafe {
            stream
                .launch_builder(&add)
                .arg(&managed)
                .arg(&registered)
                .launch(ONE)
        }
        .unwrap();
        assert_eq!(
            stream.synchronize().unwrap_err().0,
            CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        );
    });
}

#[test]
fn copies_to_pinned_memory_come_back_at_once() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        // SAFETY: the call gets handles and pointers that live until it has returned, or until the stream is waited for.
        let mut pinned = unsafe { context.alloc_pinned::<u32>(4) }.unwrap();
        pinned
            .as_mut_slice()
            .unwrap()
            .copy_from_slice(&[1, 2, 3, 4]);
        let device = stream.clone_htod(&pinned).unwrap();
        sleep_in(&stream, 20);
        // SAFETY: the call gets handles and pointers that live until it has returned, or until the stream is waited for.
        let mut back = unsafe { context.alloc_pinned::<u32>(4) }.unwrap();
        stream.memcpy_dtoh(&device, &mut back).unwrap();
        assert_eq!(back.as_slice().unwrap(), [1, 2, 3, 4]);
    });
}
