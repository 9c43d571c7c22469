//! What a device has no words for, by the virtual GPU itself: how much memory a kernel moves, and what it does wrong.

use cuda_crate::{KERNELS, saxpy_shape, sum_shape};
use virtual_gpu::check::finding::{Finding, FindingKind};
use virtual_gpu::{Device, LaunchConfig, LaunchOptions, LaunchReport, Module, Profile};

/// Launches a kernel of `ptx` on `arrays`, each an allocation of its own; gives the report and the arrays after it.
fn launch(
    ptx: &str,
    kernel: &str,
    shape: cudarc::driver::LaunchConfig,
    arrays: &mut [Vec<f32>],
    parameters: impl Fn(&[u64]) -> Vec<u8>,
    seed: u64,
) -> LaunchReport {
    let module = Module::from_ptx(ptx).unwrap();
    let mut device = Device::new(Profile::a100());
    let mut pointers = Vec::new();
    for array in &*arrays {
        let pointer = device.alloc(4 * array.len()).unwrap();
        let bytes: Vec<u8> = array.iter().flat_map(|x| x.to_le_bytes()).collect();
        device.write(pointer, &bytes).unwrap();
        pointers.push(pointer);
    }
    let config = LaunchConfig::linear(shape.grid_dim.0, shape.block_dim.0);
    let addresses: Vec<u64> = pointers.iter().map(|pointer| pointer.0).collect();
    let options = LaunchOptions {
        seed,
        ..LaunchOptions::default()
    };
    let report = device
        .launch(&module, kernel, &config, &parameters(&addresses), &options)
        .unwrap();
    for (array, pointer) in arrays.iter_mut().zip(pointers) {
        let mut bytes = vec![0; 4 * array.len()];
        device.read(pointer, &mut bytes).unwrap();
        let words = bytes.chunks_exact(4);
        *array = words
            .map(|word| f32::from_le_bytes(word.try_into().unwrap()))
            .collect();
    }
    report
}

fn saxpy(n: usize) -> LaunchReport {
    let mut arrays = [vec![1.0; n], vec![2.0; n]];
    let parameters = |at: &[u64]| {
        // a, then x at the next multiple of 8, y, n.
        let mut bytes = [2.0f32.to_le_bytes(), [0; 4]].concat();
        bytes.extend([at[0].to_le_bytes(), at[1].to_le_bytes()].concat());
        bytes.extend((n as i32).to_le_bytes());
        bytes
    };
    launch(
        KERNELS,
        "saxpy",
        saxpy_shape(n as u32),
        &mut arrays,
        parameters,
        0,
    )
}

fn sum(ptx: &str, n: usize, seed: u64) -> (LaunchReport, f32) {
    let mut arrays = [vec![1.0; n], vec![0.0]];
    let parameters = |at: &[u64]| {
        let mut bytes = [at[0].to_le_bytes(), at[1].to_le_bytes()].concat();
        bytes.extend((n as i32).to_le_bytes());
        bytes
    };
    let report = launch(
        ptx,
        "sum",
        sum_shape(n as u32),
        &mut arrays,
        parameters,
        seed,
    );
    (report, arrays[1][0])
}

#[test]
fn saxpy_moves_each_byte_once() {
    let n = 1000;
    let report = saxpy(n);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let memory = report.counters.memory;
    assert_eq!(memory.global_read_bytes, 2 * 4 * n as u64);
    assert_eq!(memory.global_written_bytes, 4 * n as u64);
    assert_eq!(memory.global_reread_bytes(), 0);
    // 1000 floats are 125 sectors of 32 bytes: two reads and a write of each, and none of them twice.
    assert_eq!(memory.global_sectors, 3 * 125);
}

#[test]
fn a_sum_is_free_of_conflicts_and_uses_an_atomic_for_a_block() {
    let (report, sum) = sum(KERNELS, 20_000, 0);
    assert_eq!(sum, 20_000.0);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.counters.memory.bank_conflicts(), 0);
    assert_eq!(report.counters.memory.atomics, 64);
}

#[test]
fn a_missing_barrier_is_found_whatever_the_order() {
    // The kernel without its barriers, as if they had been forgotten.
    let planted = KERNELS.replace("bar.sync", "// bar.sync");
    assert_ne!(planted, KERNELS);
    for seed in 0..4 {
        let (report, _) = sum(&planted, 20_000, seed);
        let races = |finding: &&Finding| finding.kind == FindingKind::RaceShared;
        let race = report
            .findings
            .iter()
            .find(races)
            .expect("the race is found");
        // The finding names the line of the source, not that of the PTX alone.
        assert!(race.to_string().contains("vector.cu:"), "{race}");
    }
}
