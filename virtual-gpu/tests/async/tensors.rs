//! Tensor maps, and copies of boxes by them.

use crate::clusters::HELPERS;
use crate::machine::{as_words, assert_clean, bytes_of, compile, random_words};
use virtual_gpu::check::finding::FindingKind;
use virtual_gpu::num::ScalarType;
use virtual_gpu::tensor_map::{Fill, Swizzle, TensorMap};
use virtual_gpu::{Device, LaunchConfig, LaunchOptions, LaunchReport, Module, Profile};

const SEEDS: std::ops::Range<u64> = 0..4;

/// Words of the tensor and of the result; the box is copied to shared memory, and what lies there to the result; then
/// another box goes back into a second tensor.
const COPIES: &str = r#"
struct alignas(64) Map { char bytes[128]; };
__device__ __forceinline__ u64 generic(const Map& map) { return (u64)&map; }
extern "C" __global__ void load(const __grid_constant__ Map map, unsigned* y, int x0, int x1, int x2, int bytes) {
    extern __shared__ __align__(1024) unsigned tile[];
    __shared__ u64 full;
    if (threadIdx.x == 0) {
        init(&full, 1);
        asm volatile("fence.proxy.async;\nprefetch.tensormap [%0];" ::"l"(generic(map)) : "memory");
        expect(&full, bytes);
        asm volatile("cp.async.bulk.tensor.RANKd.shared::cta.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {COORDINATES}], [%2];"
                     ::"r"(at(tile)), "l"(generic(map)), "r"(at(&full)), "r"(x0), "r"(x1), "r"(x2) : "memory");
    }
    __syncthreads();
    wait(&full, 0);
    for (int i = threadIdx.x; i < bytes / 4; i += blockDim.x) y[i] = tile[i];
}
extern "C" __global__ void store(const __grid_constant__ Map map, const unsigned* x, int x0, int x1, int x2, int bytes) {
    extern __shared__ __align__(1024) unsigned tile[];
    for (int i = threadIdx.x; i < bytes / 4; i += blockDim.x) tile[i] = x[i];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("STORE.RANKd.global.shared::cta.OPERATION.bulk_group [%1, {COORDINATES}], [%0];"
                     ::"r"(at(tile)), "l"(generic(map)), "r"(0), "r"(x0), "r"(x1), "r"(x2) : "memory");
        asm volatile("cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;" ::: "memory");
    }
}
"#;

fn module(rank: usize, operation: &str) -> std::sync::Arc<Module> {
    let coordinates = ["%3", "%3, %4", "%3, %4, %5"][rank - 1];
    let store = if operation == "tile" {
        "cp.async.bulk.tensor"
    } else {
        "cp.reduce.async.bulk.tensor"
    };
    let source = format!("{HELPERS}{COPIES}")
        .replace("RANK", &rank.to_string())
        .replace("COORDINATES", coordinates)
        .replace("STORE", store)
        .replace("OPERATION", operation);
    Module::from_ptx(&compile("copies.cu", &source, 90)).unwrap()
}

/// Launches `kernel` with a map of `tensor`; gives the report, the tensor and the words.
fn launch(
    module: &Module,
    kernel: &str,
    make: &dyn Fn(u64) -> TensorMap,
    tensor: &[u8],
    words: &[u8],
    at: [i32; 3],
    seed: u64,
) -> (LaunchReport, Vec<u8>, Vec<u8>) {
    let mut device = Device::new(Profile::h100());
    let (x, y) = (
        device.alloc(tensor.len()).unwrap(),
        device.alloc(words.len()).unwrap(),
    );
    device.write(x, tensor).unwrap();
    device.write(y, words).unwrap();
    let map = make(x.0);
    let mut parameters = map.encode().unwrap().to_vec();
    parameters.extend(y.0.to_le_bytes());
    parameters.extend(at.iter().flat_map(|x| x.to_le_bytes()));
    parameters.extend(map.box_bytes().to_le_bytes());
    let config = LaunchConfig {
        dynamic_shared: map.box_bytes(),
        ..LaunchConfig::linear(1, 64)
    };
    let options = LaunchOptions {
        seed,
        ..LaunchOptions::default()
    };
    let report = device
        .launch(module, kernel, &config, &parameters, &options)
        .unwrap();
    let (mut tensor, mut words) = (tensor.to_vec(), words.to_vec());
    device.read(x, &mut tensor).unwrap();
    device.read(y, &mut words).unwrap();
    (report, tensor, words)
}

/// Where the element at a place of the box lies in shared memory: what the documentation draws, by plain arithmetic.
fn shared_byte(map: &TensorMap, place: [u32; 3], byte: u32) -> usize {
    let count = |d: usize| if d < map.rank() { map.count(d) } else { 1 };
    let row = place[1] + count(1) * place[2];
    let linear = row * map.row_bytes() + place[0] * map.element.bytes() + byte;
    let (chunk, line) = (linear / 16, linear / 128);
    let moved = match map.swizzle {
        Swizzle::None => chunk,
        Swizzle::Bytes32 => chunk ^ (line & 1),
        Swizzle::Bytes64 => chunk ^ (line & 3),
        Swizzle::Bytes128 => chunk ^ (line & 7),
    };
    (moved * 16 + linear % 16) as usize
}

/// Calls `visit` with each element of a box: its place in shared memory and in the tensor, if it is in it.
fn each(map: &TensorMap, at: [i32; 3], mut visit: impl FnMut(usize, Option<usize>)) {
    let count = |d: usize| if d < map.rank() { map.count(d) } else { 1 };
    for z in 0..count(2) {
        for y in 0..count(1) {
            for x in 0..count(0) {
                let place = [x, y, z];
                let mut offset = Some(0);
                for d in 0..map.rank() {
                    let step = if d == 0 { 1 } else { map.element_strides[d] };
                    let index = i64::from(at[d]) + i64::from(place[d] * step);
                    let stride = if d == 0 {
                        map.element.bytes().into()
                    } else {
                        map.strides[d - 1]
                    };
                    let inside = index >= 0 && index < map.sizes[d] as i64;
                    offset = offset
                        .filter(|_| inside)
                        .map(|o: u64| o + index as u64 * stride);
                }
                for byte in 0..map.element.bytes() {
                    let from = offset.map(|o| o as usize + byte as usize);
                    visit(shared_byte(map, place, byte), from);
                }
            }
        }
    }
}

type Make = Box<dyn Fn(u64) -> TensorMap>;

fn maps() -> Vec<(Make, Vec<[i32; 3]>)> {
    let swizzled = |swizzle, inner: u32| -> Make {
        Box::new(move |address| {
            let map = TensorMap::tiled(ScalarType::BF16, address, &[100, 40], &[208], &[inner, 16]);
            map.unwrap().swizzled(swizzle).unwrap()
        })
    };
    let places = vec![[0, 0, 0], [8, 3, 0], [-5, 30, 0], [90, -4, 0], [200, 0, 0]];
    let mut all = vec![
        (swizzled(Swizzle::None, 24), places.clone()),
        (swizzled(Swizzle::Bytes32, 16), places.clone()),
        (swizzled(Swizzle::Bytes64, 32), places.clone()),
        (swizzled(Swizzle::Bytes128, 64), places.clone()),
    ];
    all.push((
        Box::new(|address| {
            TensorMap::tiled(ScalarType::U8, address, &[1000], &[], &[256]).unwrap()
        }),
        vec![[7, 0, 0], [900, 0, 0], [-1, 0, 0]],
    ));
    all.push((
        Box::new(|address| TensorMap {
            element_strides: vec![1, 2, 3],
            fill: Fill::NaN,
            ..TensorMap::tiled(
                ScalarType::F32,
                address,
                &[8, 9, 10],
                &[48, 448],
                &[8, 5, 7],
            )
            .unwrap()
        }),
        vec![[0, 0, 0], [2, 1, 1], [-2, 5, -1]],
    ));
    all
}

#[test]
fn boxes_come_in_as_they_are_drawn() {
    let tensor = bytes_of(random_words(5, 40 * 208 / 4));
    let modules = [module(1, "tile"), module(2, "tile"), module(3, "tile")];
    for (make, places) in maps() {
        let map = make(0x7000_0000_0000);
        for (at, seed) in places.into_iter().zip(SEEDS.cycle()) {
            let words = vec![0xaa; map.box_bytes() as usize];
            let module = &modules[map.rank() - 1];
            let (report, _, found) = launch(module, "load", &make, &tensor, &words, at, seed);
            assert_clean(&report);
            assert_eq!(
                report.counters.memory.async_bytes,
                u64::from(map.box_bytes())
            );
            let nan = if map.fill == Fill::NaN {
                0x7fff_ffff_u32.to_le_bytes()
            } else {
                [0; 4]
            };
            each(&map, at, |to, from| {
                let expected = from.map_or(nan[to % 4], |from| tensor[from]);
                assert_eq!(found[to], expected, "{map:?} at {at:?}: byte {to}");
            });
        }
    }
}

#[test]
fn boxes_go_out_and_leave_the_rest() {
    let tensor = bytes_of(random_words(5, 40 * 208 / 4));
    let modules = [module(1, "tile"), module(2, "tile"), module(3, "tile")];
    for (make, places) in maps() {
        let map = make(0x7000_0000_0000);
        for (at, seed) in places.into_iter().zip(SEEDS.cycle()) {
            let words = bytes_of(random_words(9, map.box_bytes() as usize / 4));
            let module = &modules[map.rank() - 1];
            let (report, found, _) = launch(module, "store", &make, &tensor, &words, at, seed);
            assert_clean(&report);
            let mut expected = tensor.clone();
            each(&map, at, |from, to| {
                if let Some(to) = to {
                    expected[to] = words[from];
                }
            });
            assert!(found == expected, "{map:?} at {at:?}");
        }
    }
}

#[test]
fn boxes_are_combined_with_the_tensor() {
    let make =
        |address| TensorMap::tiled(ScalarType::U32, address, &[20, 4], &[96], &[8, 4]).unwrap();
    let (tensor, words) = (random_words(1, 96), random_words(2, 32));
    let module = module(2, "add.tile");
    for seed in SEEDS {
        let (tensor, words) = (bytes_of(tensor.clone()), bytes_of(words.clone()));
        let (report, found, _) = launch(&module, "store", &make, &tensor, &words, [16, 1, 0], seed);
        assert_clean(&report);
        let (old, new, found) = (as_words(&tensor), as_words(&words), as_words(&found));
        for (i, word) in found.into_iter().enumerate() {
            let (x, y) = (i % 24, i / 24);
            let added = (16..20).contains(&x) && y >= 1;
            let by = if added { new[(y - 1) * 8 + x - 16] } else { 0 };
            assert_eq!(word, old[i].wrapping_add(by), "word {i}");
        }
    }
}

#[test]
fn boxes_that_cannot_be_copied_are_found() {
    let tensor = vec![0; 4096];
    let module = module(2, "tile");
    let cases: [(Make, FindingKind); 3] = [
        // More rows than memory.
        (
            Box::new(|a| {
                TensorMap::tiled(ScalarType::U32, a, &[16, 100], &[64], &[16, 16]).unwrap()
            }),
            FindingKind::OutOfBounds,
        ),
        (
            Box::new(|a| {
                TensorMap::tiled(ScalarType::U32, a, &[16, 16, 4], &[64, 1024], &[16, 16, 1])
                    .unwrap()
            }),
            FindingKind::OutOfBounds,
        ),
        (
            Box::new(|a| {
                TensorMap::tiled(ScalarType::U32, a + (1 << 40), &[16, 100], &[64], &[16, 16])
                    .unwrap()
            }),
            FindingKind::OutOfBounds,
        ),
    ];
    for (make, kind) in cases {
        for kernel in ["load", "store"] {
            let words = vec![0; 1024];
            let (report, _, _) = launch(&module, kernel, &make, &tensor, &words, [0, 60, 0], 0);
            assert_eq!(report.first_kind(), Some(kind), "{kernel}");
        }
    }
}
