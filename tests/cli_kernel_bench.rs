//! `kernel-bench`, and models of random weights in `generate`, as a user meets them.

use serde_json::Value;
use std::process::{Command, Output};

fn kernel_bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kernel-bench"));
    command.args(arguments).output().unwrap()
}

fn generate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_generate"));
    command.env_remove("STHENO_MODEL");
    command.env("VIRTUAL_GPU_SMS", "4");
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn list_names_ops_shapes_and_formats() {
    let output = kernel_bench(&["list"]);
    assert!(output.status.success());
    let listed = text(&output.stdout);
    for name in [
        "gate-up",
        "choose-top-p",
        "llama-3.1-8b",
        "qwen3-8b",
        "NxK",
        "int4",
    ] {
        assert!(listed.contains(name), "{name} in {listed}");
    }
}

#[test]
fn every_byte_of_weights_is_fetched_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, plot) = (path("report.json"), path("plot.svg"));
    let output = kernel_bench(&[
        "run",
        "--shape",
        "96x320",
        "--format",
        "bf16,int4",
        "--rows",
        "1,8",
        "--op",
        "matmul,choose-greedy",
        "--sms",
        "4",
        "--device",
        "virtual",
        "--json",
        &json,
        "--plot",
        &plot,
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.starts_with("H100 (virtual), 4 multiprocessors"),
        "{table}"
    );
    assert!(table.contains("estimate"), "{table}");

    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(report["device"]["is_virtual"], true);
    let records = report["records"].as_array().unwrap();
    assert_eq!(records.len(), 8);
    for record in records {
        let number = |of: &Value| of.as_u64().unwrap();
        let counters = &record["counters"];
        // 96 rows are whole tiles, 320 columns whole slices: there is no padding. Groups of 128 columns: 3 a row.
        let expected = match (record["op"].as_str(), record["format"].as_str()) {
            (Some("matmul"), Some("bf16")) => 96 * 320 * 2,
            (Some("matmul"), Some("int4")) => 96 * 320 / 2 + 96 * 3 * 2,
            _ => 0,
        };
        assert_eq!(number(&record["format_bytes"]), expected, "{record}");
        assert_eq!(number(&record["streamed_bytes"]), expected, "{record}");
        // Each stage brings the record of another one, 16 bytes.
        for counter in ["weight_bytes", "unique_weight_bytes"] {
            let found = number(&counters[counter]);
            assert!((expected..=expected + 256).contains(&found), "{record}");
        }
        assert!(number(&counters["unique_read_bytes"]) >= expected);
        // One product for each 16 rows and 16 columns of weights and 8 rows.
        let products = if expected > 0 { 96 / 16 * 320 / 16 } else { 0 };
        assert_eq!(number(&counters["mma"]), products, "{record}");
        let estimate = &record["estimate"];
        let seconds = |name: &str| estimate[name].as_f64().unwrap();
        assert!(seconds("least") > 0.0 && seconds("least") <= seconds("most"));
        assert!(seconds("least") >= seconds("memory"));
        assert!(number(&record["compiler"]["registers"]) > 0);
        assert_eq!(record["time"], Value::Null);
    }
    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.contains("matmul, 96x320"),
        "{svg}"
    );
}

#[test]
fn mistakes_are_told_in_a_sentence() {
    for (arguments, told) in [
        (&["--rows", "65"][..], "1 to 64 rows"),
        (&["--rows", "0"], "1 to 64 rows"),
        (&["--layout", "12"], "8, 16, 32 or 64"),
        (&["--layout", "8", "--rows", "16"], "takes no more"),
        (&["--shape", "gpt-9"], "`gpt-9` is no model known by name"),
        (&["--shape", "0x64"], "`0x64` is no shape"),
        (&["--format", "q4"], "`q4` is no format"),
        (&["--op", "gemm"], "`gemm` is no op"),
        (&["--device", "host"], "--device host"),
        (&["--device", "gpu"], "`gpu` is no device"),
        (&["--sms", "0"], "--sms"),
        (&["--simulate-accept-len", "0.5"], "--simulate-accept-len"),
        (&["--all-small", "--shape", "tiny"], "cannot be used with"),
        (&["--layers", "0", "--shape", "tiny"], "num_hidden_layers"),
    ] {
        let output = kernel_bench(&[&["run"], arguments].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(told), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_model_of_random_weights_generates_ids() {
    let run = |device: &str| {
        generate(&[
            "--random", "tiny", "--layers", "1", "--format", "int8", "--tokens", "1,2,3", "-n",
            "4", "--temp", "0", "-c", "64", "--device", device,
        ])
    };
    let output = run("virtual");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let ids = text(&output.stdout);
    let ids: Vec<u32> = ids
        .trim()
        .split(',')
        .map(|id| id.parse().unwrap())
        .collect();
    assert!(ids.len() == 4 && ids.iter().all(|id| *id < 512), "{ids:?}");

    let output = run("host");
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("random weights on the host"), "{error}");
}
