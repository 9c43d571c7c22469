//! Contents in, results out, and the device that a kernel sees.

use std::fs;

use virtual_gpu::case::{Arg, Case, contents};

use crate::{DOUBLE, Folder, twice};

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

#[test]
fn results_are_written_and_contents_read() {
    let folder = Folder::new(DOUBLE, &twice(100));
    let outcome = folder.run(&["--outputs", "out"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let first = fs::read(folder.path("out/arg1.out.bin")).unwrap();
    let wanted: Vec<f32> = (0..100).map(|i| 2.0 * i as f32).collect();
    assert_eq!(floats(&first), wanted);
    assert!(!folder.path("out/arg0.out.bin").exists());

    fs::create_dir(folder.path("in")).unwrap();
    fs::write(folder.path("in/arg0.in.bin"), &first).unwrap();
    let outcome = folder.run(&["--inputs", "in", "--outputs", "out"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let second = fs::read(folder.path("out/arg1.out.bin")).unwrap();
    let wanted: Vec<f32> = (0..100).map(|i| 4.0 * i as f32).collect();
    assert_eq!(floats(&second), wanted);

    fs::write(folder.path("in/arg0.in.bin"), &first[4..]).unwrap();
    let outcome = folder.run(&["--inputs", "in"]);
    assert_eq!(outcome.code, 2);
    assert!(
        outcome.err.contains("396 bytes, but argument 0 has 400"),
        "{}",
        outcome.err
    );
}

/// Writes the number of multiprocessors to y[0].
const SMS: &str = r#"extern "C" __global__ void twice(const float* x, float* y, int n) {
    unsigned count;
    asm("mov.u32 %0, %%nsmid;" : "=r"(count));
    if (threadIdx.x + blockIdx.x == 0) y[0] = (float)count;
}
"#;

#[test]
fn the_device_has_as_many_multiprocessors_as_asked_for() {
    let folder = Folder::new(SMS, &twice(100));
    for (arguments, wanted) in [
        (&["--profile", "h100"][..], 132.0),
        (&["--profile", "a100"], 108.0),
        (&["--profile", "rtx4090"], 128.0),
        (&["--sms", "3"], 3.0),
    ] {
        let outcome = folder.run(&[arguments, &["--outputs", "out"]].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        let y = floats(&fs::read(folder.path("out/arg1.out.bin")).unwrap());
        assert_eq!(y[0], wanted, "{arguments:?}");
    }
}

#[test]
fn a_cooperative_grid_must_fit_the_device() {
    let case = twice(100).replace(r#""cooperative": false"#, r#""cooperative": true"#);
    let folder = Folder::new(DOUBLE, &case.replace("[32, 1, 1]", "[1024, 1, 1]"));
    assert_eq!(folder.run(&["--sms", "2"]).code, 0);
    let outcome = folder.run(&["--sms", "1", "--json"]);
    assert_eq!(outcome.code, 3, "{}", outcome.err);
    assert_eq!(outcome.json()["findings"][0]["kind"], "grid_not_resident");
    // A thread of the RTX 4090 shares a multiprocessor with 1535 others: one block of 1024 fits.
    assert_eq!(folder.run(&["--sms", "3", "--profile", "rtx4090"]).code, 3);
}

#[test]
fn registers_limit_a_cooperative_grid() {
    let body: String = (0..120)
        .map(|i| format!("    float v{i} = x[(n * {i}) & 63];\n"))
        .collect();
    let sum: Vec<String> = (0..120)
        .map(|i| format!("v{i} * v{}", (i * 7 + 1) % 120))
        .collect();
    let source = format!(
        "extern \"C\" __global__ void twice(const float* x, float* y, int n) {{\n{body}    __syncthreads();\n    \
         if (threadIdx.x + blockIdx.x == 0) y[0] = {};\n}}\n",
        sum.join(" + ")
    );
    let case = twice(100).replace(r#""cooperative": false"#, r#""cooperative": true"#);
    let folder = Folder::new(&source, &case.replace("[32, 1, 1]", "[512, 1, 1]"));
    // By threads alone a multiprocessor would hold all four blocks.
    let outcome = folder.run(&["--sms", "1", "--json"]);
    assert_eq!(outcome.code, 3, "{}{}", outcome.out, outcome.err);
    assert_eq!(outcome.json()["findings"][0]["kind"], "grid_not_resident");
    assert_eq!(folder.run(&["--sms", "4"]).code, 0);
}

#[test]
fn a_source_may_include_the_headers_of_cuda() {
    let source = "#include <cuda_fp16.h>\n".to_string() + DOUBLE;
    let outcome = Folder::new(&source, &twice(100)).run(&[]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
}

#[test]
fn a_cooperative_grid_meets_at_its_barrier() {
    let source = r#"
#include <cooperative_groups.h>
extern "C" __global__ void twice(const float* x, float* y, int n) {
    auto grid = cooperative_groups::this_grid();
    int i = grid.thread_rank();
    if (i < n) y[i] = x[i];
    grid.sync();
    float other = i < n ? y[n - 1 - i] : 0.0f;  // written by another block
    grid.sync();
    if (i < n) y[i] = other;
}
"#;
    let case = twice(100).replace("\"cooperative\": false", "\"cooperative\": true");
    assert!(case.contains("\"cooperative\": true"), "{case}");
    let folder = Folder::new(source, &case);
    for seed in ["0", "1"] {
        let outcome = folder.run(&["--seed", seed, "--outputs", "out"]);
        assert_eq!(outcome.code, 0, "{}{}", outcome.out, outcome.err);
        let result = fs::read(folder.path("out/arg1.out.bin")).unwrap();
        let wanted: Vec<f32> = (0..100).rev().map(|i| i as f32).collect();
        assert_eq!(floats(&result), wanted);
    }
}

/// Lines 3 and 4 of the kernel: a branch that the last block's lanes take differently, and what is behind it.
#[test]
fn coverage_is_written_for_editors_and_for_people() {
    let source = "extern \"C\" __global__ void k(const int* x, int* y, int n) {\n    int i = blockIdx.x * 32 + threadIdx.x;\n    \
                  if (i >= n) return;\n    int v = x[i];\n    if (v < 0) {\n        asm volatile(\"nanosleep.u32 1;\");\n        return;\n    }\n    \
                  y[i] = v;\n}\n";
    let case = twice(100)
        .replace("\"twice\"", "\"k\"")
        .replace("f32", "i32");
    let folder = Folder::new(source, &case);
    let outcome = folder.run(&["--coverage", "k.info", "--annotate", "k.txt"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    let read = |name: &str| std::fs::read_to_string(folder.path(name)).unwrap();
    let (info, text) = (read("k.info"), read("k.txt"));
    let place = folder.path("k.cu").canonicalize().unwrap();
    let lines: Vec<&str> = info.lines().collect();
    assert_eq!(
        lines[..2],
        ["TN:".to_string(), format!("SF:{}", place.display())]
    );
    for line in [
        "FNDA:128,k",
        "FNF:1",
        "FNH:1",
        "DA:3,128",
        "DA:4,100",
        "DA:6,0",
        "DA:9,100",
    ] {
        assert!(lines.contains(&line), "{line}\n{info}");
    }
    assert_eq!(lines.last(), Some(&"end_of_record"));
    // 28 threads went one way and 100 the other at line 3; none was below zero at line 5.
    let mut sides: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("BRDA:3,0,"))
        .collect();
    sides.sort_unstable();
    assert!(
        sides == ["0,28", "1,100"] || sides == ["0,100", "1,28"],
        "{info}"
    );
    let mut sides: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("BRDA:5,0,"))
        .collect();
    sides.sort_unstable();
    assert!(
        sides == ["0,0", "1,100"] || sides == ["0,100", "1,0"],
        "{info}"
    );
    for line in [
        "         #####     6 |         asm volatile(\"nanosleep.u32 1;\");",
        "           100     9 |     y[i] = v;",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.contains("branch of k, PTX line "), "{text}");
}

#[test]
fn tensor_maps_and_clusters_are_those_of_the_case() {
    let source = include_str!("../bugs/kernels/clean_tensor_move.cu");
    let case = include_str!("../bugs/kernels/clean_tensor_move.json");
    let with = |cluster: &str| {
        case.replace(
            "\"cooperative\": false,",
            &format!("\"cluster\": {cluster},"),
        )
    };
    let folder = Folder::new(source, &with("[2, 1, 1]"));
    let outcome = folder.run(&["--outputs", "out"]);
    assert_eq!(outcome.code, 0, "{}{}", outcome.out, outcome.err);
    let read = Case::from_json(case, "k.json").unwrap();
    let Arg::Buffer(tensor) = &read.args[2] else {
        panic!("argument 2 is the tensor")
    };
    let words = |bytes: &[u8]| {
        let (words, _) = bytes.as_chunks::<4>();
        words
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect::<Vec<u32>>()
    };
    let before = words(&contents(2, tensor).unwrap());
    let after = words(&fs::read(folder.path("out/arg3.out.bin")).unwrap());
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(x, y)| x.wrapping_add(1) == *y)
    );

    let folder = Folder::new(source, &with("[3, 1, 1]"));
    let outcome = folder.run(&[]);
    assert_eq!(outcome.code, 2, "{}", outcome.out);
    assert!(outcome.err.contains("divide"), "{}", outcome.err);
}
