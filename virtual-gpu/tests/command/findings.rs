//! Verdicts, reports and their exit codes.

use serde_json::{Value, json};

use crate::{DOUBLE, Folder, twice};

#[test]
fn a_clean_case_exits_with_0() {
    let folder = Folder::new(DOUBLE, &twice(100));
    let plain = folder.run(&[]);
    assert_eq!((plain.code, plain.err.as_str()), (0, ""));
    assert_eq!(plain.out, "twice ran to its end: no finding\n");
    for level in ["none", "bounds", "all"] {
        let outcome = folder.run(&["--json", "--checks", level, "--seed", "7"]);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        let wanted = json!({"completed": true, "findings": [], "warnings": []});
        assert_eq!(outcome.json(), wanted);
    }
}

#[test]
fn a_finding_exits_with_3_and_names_its_line() {
    let folder = Folder::new(DOUBLE, &twice(101));
    let outcome = folder.run(&["--json"]);
    assert_eq!(outcome.code, 3, "{}", outcome.err);
    let report = outcome.json();
    let fields: Vec<&str> = report
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(fields, ["completed", "findings", "warnings"]);
    assert_eq!(report["completed"], json!(false));
    let finding = &report["findings"][0];
    assert_eq!(finding["kind"], "out_of_bounds");
    assert_eq!(finding["space"], "global");
    assert_eq!(finding["source"], json!({"file": "k.cu", "line": 4}));
    assert_eq!(finding["inlined_at"], Value::Null);
    assert_eq!(finding["block"], json!([3, 0, 0]));
    assert_eq!((&finding["warp"], &finding["lane"]), (&json!(0), &json!(4)));
    assert_eq!(finding["other"], Value::Null);
    assert!(finding["ptx_line"].as_u64().unwrap() > 0);
    let message = finding["message"].as_str().unwrap();
    assert!(message.contains("arg0 of 400 bytes"), "{message}");

    let plain = folder.run(&[]);
    assert_eq!(plain.code, 3);
    assert!(
        plain
            .out
            .starts_with("out_of_bounds in twice at k.cu:4, PTX line "),
        "{}",
        plain.out
    );
    assert!(
        plain
            .out
            .ends_with("twice did not come to its end: 1 finding\n"),
        "{}",
        plain.out
    );
}

#[test]
fn checks_that_are_off_find_nothing() {
    let source = DOUBLE.replace("x[i];", "y[i];");
    let folder = Folder::new(&source, &twice(100));
    let found = folder.run(&["--json"]);
    assert_eq!(found.code, 3);
    assert_eq!(found.json()["findings"][0]["kind"], "uninitialized_read");
    assert_eq!(folder.run(&["--json", "--checks", "bounds"]).code, 0);
}

#[test]
fn a_race_names_both_accesses() {
    let source = r#"extern "C" __global__ void twice(const float* x, float* y, int n) {
    y[threadIdx.x] = x[blockIdx.x];
}
"#;
    let folder = Folder::new(source, &twice(100));
    let outcome = folder.run(&["--json"]);
    assert_eq!(outcome.code, 3, "{}", outcome.err);
    let finding = &outcome.json()["findings"][0];
    assert_eq!(finding["kind"], "race_global");
    let other = &finding["other"];
    assert_eq!(other["access"], "write");
    assert_eq!(other["source"], json!({"file": "k.cu", "line": 2}));
    assert_ne!(other["block"], finding["block"]);
    let plain = folder.run(&[]).out;
    assert!(
        plain.contains("\n  the other access: write at k.cu:2, PTX line "),
        "{plain}"
    );
}

#[test]
fn counters_come_when_asked_for_and_do_not_change() {
    let folder = Folder::new(DOUBLE, &twice(100));
    let run = || {
        folder
            .run(&["--json", "--include-counters", "--seed", "3"])
            .json()
    };
    let report = run();
    assert_eq!(report, run());
    let counters = &report["counters"];
    assert_eq!(counters["kernel"], "twice");
    assert_eq!(
        (&counters["blocks"], &counters["threads"]),
        (&json!(4), &json!(32))
    );
    let memory = &counters["memory"];
    assert_eq!(memory["global_read_bytes"], 400);
    assert_eq!(memory["global_written_bytes"], 400);
    assert_eq!(memory["global_unique_read_bytes"], 400);
    // Three warps of 128 bytes and one of 16, read and written.
    assert_eq!(
        (&memory["global_requests"], &memory["global_sectors"]),
        (&json!(8), &json!(26))
    );
    let lines = counters["lines"].as_array().unwrap();
    let line = lines.iter().find(|line| line["line"] == 4).unwrap();
    assert_eq!(
        (&line["file"], &line["memory"]["global_sectors"]),
        (&json!("k.cu"), &json!(26))
    );

    let table = folder.run(&["--include-counters"]).out;
    assert!(
        table.contains("twice on H100 (virtual): 4 blocks of 32 threads"),
        "{table}"
    );
    assert!(table.contains("k.cu:4"), "{table}");
}

#[test]
fn what_a_kernel_prints_is_no_part_of_the_json() {
    let source = r#"extern "C" __device__ int printf(const char*, ...);
extern "C" __global__ void twice(const float* x, float* y, int n) {
    if (threadIdx.x + blockIdx.x == 0) printf("n is %d\n", n);
}
"#;
    let folder = Folder::new(source, &twice(100));
    let plain = folder.run(&[]);
    assert_eq!(
        plain.out, "n is 100\ntwice ran to its end: no finding\n",
        "{}",
        plain.err
    );
    let outcome = folder.run(&["--json"]);
    assert_eq!(outcome.json()["completed"], json!(true));
    assert_eq!(outcome.err, "n is 100\n");
}

#[test]
fn a_kernel_that_hangs_ends_when_its_fuel_does() {
    let source = r#"extern "C" __global__ void twice(const float* x, float* y, volatile int n) {
    while (n == 100) {}
}
"#;
    let folder = Folder::new(source, &twice(100));
    let outcome = folder.run(&["--json", "--fuel", "100000"]);
    assert_eq!(outcome.code, 3, "{}", outcome.err);
    let finding = &outcome.json()["findings"][0];
    assert_eq!(
        (&finding["kind"], &finding["source"]["line"]),
        (&json!("deadlock"), &json!(2))
    );
    assert_eq!(
        Folder::new(source, &twice(99))
            .run(&["--fuel", "100000"])
            .code,
        0
    );
}

#[test]
fn a_kernel_for_a_newer_device_is_warned_of() {
    let folder = Folder::new(DOUBLE, &twice(100).replace("compute_80", "compute_90"));
    assert_eq!(folder.run(&["--json"]).json()["warnings"], json!([]));
    let outcome = folder.run(&["--json", "--profile", "a100"]);
    assert_eq!(outcome.code, 0);
    let warning = outcome.json()["warnings"][0].as_str().unwrap().to_string();
    assert!(warning.contains("the kernel is for sm_90"), "{warning}");
}

#[test]
fn reports_look_like_those_of_known_tools() {
    let folder = Folder::new(DOUBLE, &twice(101));
    let outcome = folder.run(&["--report", "sanitizer"]);
    assert_eq!(outcome.code, 3, "{}", outcome.err);
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert_eq!(
        lines[1],
        "========= Invalid __global__ read of size 4 bytes"
    );
    assert!(
        lines[2].starts_with("=========     at twice+PTX:"),
        "{}",
        lines[2]
    );
    assert!(lines[2].ends_with(" in k.cu:4"), "{}", lines[2]);
    assert_eq!(lines[3], "=========     by thread (4,0,0) in block (3,0,0)");
    assert!(
        lines[4].starts_with("=========     Address 0x"),
        "{}",
        lines[4]
    );
    assert!(lines[4].ends_with(" is out of bounds"), "{}", lines[4]);
    let end = "=========     and is 0 bytes past the end of the allocation arg0 of 400 bytes";
    assert_eq!(
        lines[5..],
        [end, "=========", "========= ERROR SUMMARY: 1 error"]
    );

    let folder = Folder::new(DOUBLE, &twice(100));
    let outcome = folder.run(&["--report", "ncu"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let value = |name: &str| {
        let line = outcome
            .out
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name} is missing\n{}", outcome.out));
        line.split_whitespace().last().unwrap().to_string()
    };
    for (name, wanted) in [
        ("Grid Size", "4"),
        ("Block Size", "32"),
        ("Global Bytes Read", "400"),
        ("Global Bytes Written", "400"),
        ("Sectors/Request", "3.25"),
        ("Shared Wavefronts", "0"),
        ("Block Limit Warps", "64"),
        ("Block Limit SM", "32"),
        ("Theoretical Occupancy", "50.0"),
        ("Divergent Branches", "1"),
    ] {
        assert_eq!(value(name), wanted, "{name}\n{}", outcome.out);
    }
    assert!(value("Registers Per Thread").parse::<u32>().unwrap() > 0);
    assert_eq!(folder.run(&["--report", "ncu", "--json"]).code, 2);
    let report = folder.run(&["--include-counters", "--json"]).json();
    assert_eq!(report["estimate"]["profile"], "H100 (virtual)");
    let bounds = report["estimate"]["bounds"].as_array().unwrap();
    assert_eq!(bounds[0]["seconds"], report["estimate"]["least"]);
    let plain = folder.run(&["--include-counters"]);
    assert!(plain.out.contains("estimate (no clock)"), "{}", plain.out);
}
