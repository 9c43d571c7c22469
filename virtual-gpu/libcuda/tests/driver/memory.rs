//! Memory, streams and events through cudarc.

use crate::harness::{isolated, kernel, sleep_in, this_test};
use cudarc::driver::sys::{CUevent_flags, CUresult};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg, result};

#[test]
fn bytes_come_back_as_they_were_sent() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        let data: Vec<u64> = (0..10_000).map(|i| i * i).collect();
        let first = stream.clone_htod(&data).unwrap();
        let second = stream.clone_dtod(&first).unwrap();
        let mut third = stream.alloc_zeros::<u64>(10_000).unwrap();
        assert!(
            stream
                .clone_dtoh(&third)
                .unwrap()
                .iter()
                .all(|value| *value == 0)
        );
        stream
            .memcpy_dtod(&second.slice(5000..), &mut third.slice_mut(..5000))
            .unwrap();
        drop((first, second));
        let third = stream.clone_dtoh(&third).unwrap();
        assert_eq!(third[..5000], data[5000..]);
        assert!(third[5000..].iter().all(|value| *value == 0));
    });
}

#[test]
fn the_books_of_memory_are_right() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let (free, total) = context.mem_get_info().unwrap();
        assert_eq!(free, total);
        let slice = stream.alloc_zeros::<u8>(1 << 20).unwrap();
        assert_eq!(context.mem_get_info().unwrap().0, total - (1 << 20));
        drop(slice);
        stream.synchronize().unwrap();
        assert_eq!(context.mem_get_info().unwrap().0, total);
        // SAFETY: memory is asked for; its bits are not read before they are written, or are integers.
        let too_much = unsafe { stream.alloc::<u8>(total + 1) }.unwrap_err();
        assert_eq!(too_much.0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        assert_eq!(
            // SAFETY: memory is asked for; its bits are not read before they are written, or are integers.
            unsafe { result::malloc_sync(0) }.unwrap_err().0,
            CUresult::CUDA_ERROR_INVALID_VALUE
        );
    });
}

#[test]
fn streams_keep_their_order_and_wait_for_each_other() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        let first = context.new_stream().unwrap();
        let second = first.fork().unwrap();
        let source = r#"extern "C" __global__ void twice(unsigned* x) { x[threadIdx.x] = 2 * x[threadIdx.x] + 1; }"#;
        let twice = kernel(&context, source, "twice");
        let mut x = first.clone_htod(&[1u32, 2, 3, 4]).unwrap();
        let config = LaunchConfig {
            grid_dim: (1, 1, 1),
            block_dim: (4, 1, 1),
            shared_mem_bytes: 0,
        };
        for stream in [&first, &second, &first, &second] {
            // SAFETY: the arguments are those that the kernel takes; what it does wrong meets the virtual device alone.
            unsafe { stream.launch_builder(&twice).arg(&mut x).launch(config) }.unwrap();
        }
        assert_eq!(first.clone_dtoh(&x).unwrap(), [31, 47, 63, 79]);
        second.join(&first).unwrap();
        second.synchronize().unwrap();
    });
}

#[test]
fn events_measure_time_and_host_functions_run_in_order() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        let timed = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let start = stream.record_event(timed).unwrap();
        sleep_in(&stream, 30);
        let end = stream.record_event(timed).unwrap();
        assert!(
            !end.is_complete(),
            "the host went on while the stream slept"
        );
        end.synchronize().unwrap();
        assert!(end.is_complete());
        let elapsed = start.elapsed_ms(&end).unwrap();
        assert!((30.0..3000.0).contains(&elapsed), "{elapsed}");
        let untimed = stream.record_event(None).unwrap();
        assert!(start.elapsed_ms(&untimed).is_err());
    });
}

#[test]
fn a_context_that_ends_takes_its_memory_along() {
    isolated(this_test!(), &[], || {
        let context = CudaContext::new(0).unwrap();
        // SAFETY: memory is asked for; its bits are not read before they are written, or are integers.
        let address = unsafe { result::malloc_sync(1000) }.unwrap();
        drop(context);
        let context = CudaContext::new(0).unwrap();
        let (free, total) = context.mem_get_info().unwrap();
        assert_eq!(free, total);
        // SAFETY: nothing uses the memory after this.
        assert!(unsafe { result::free_sync(address) }.is_err());
        let other = CudaContext::new_non_primary(0, 0).unwrap();
        let stream = other.default_stream();
        assert_eq!(
            stream
                .clone_dtoh(&stream.clone_htod(&[5u8]).unwrap())
                .unwrap(),
            [5]
        );
    });
}
