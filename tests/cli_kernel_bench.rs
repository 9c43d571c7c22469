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
        "tree-verify",
        "draft-heads-own",
        "draft-layer",
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
fn rounds_count_what_guessing_costs() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = kernel_bench(&[
        "run",
        "--shape",
        "tiny",
        "--format",
        "int4",
        "--rows",
        "1,8",
        "--op",
        "step,tree-verify,draft",
        "--context",
        "64",
        "--sms",
        "4",
        "--device",
        "virtual",
        "--simulate-accept-len",
        "4,6",
        "--json",
        json.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("rounds of tiny"), "{table}");
    assert!(table.contains("estimate for an H100 SXM"), "{table}");

    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let records = report["records"].as_array().unwrap();
    let find = |op: &str, rows: u64| {
        let mut found = records
            .iter()
            .filter(|r| r["op"] == op && r["rows"] == rows);
        let record = found.next();
        assert!(found.next().is_none(), "{op} of {rows} rows comes twice");
        record.unwrap_or_else(|| panic!("no {op} of {rows} rows"))
    };
    let coded = |n: u64, k: u64| n * k / 2 + 2 * n * (k / 128);
    // 256 columns, 512 in the feed-forward, 4 heads of 64 and 2 KV heads, 512 tokens.
    let layer = coded(512, 512) + coded(256, 256) + 2 * coded(512, 256) + coded(256, 512);
    let layer = layer + coded(512, 256);
    let heads = 4 * (coded(256, 256) + coded(512, 256));
    for (op, rows, expected) in [
        ("draft-heads", 1, heads),
        ("draft-heads-own", 1, heads),
        ("draft-layer", 1, layer),
        ("draft-layer", 8, layer),
        ("draft-extend", 8, layer + coded(256, 768)),
    ] {
        let record = find(op, rows);
        let number = |of: &Value| of.as_u64().unwrap();
        assert_eq!(number(&record["format_bytes"]), expected, "{record}");
        // Each stage brings the record of another one, 16 bytes.
        let fetched = number(&record["counters"]["weight_bytes"]);
        assert!(
            (expected..expected + expected / 100).contains(&fetched),
            "{record}"
        );
        assert!(number(&record["compiler"]["registers"]) > 0);
    }
    // The chain of as many rows reads the same weights as the tree.
    let (chain, tree) = (find("step", 8), find("tree-verify", 8));
    assert_eq!(chain["streamed_bytes"], tree["streamed_bytes"]);
    assert_ne!(chain["counters"], tree["counters"]);

    let seconds = |record: &Value| record["estimate"]["least"].as_f64().unwrap();
    let rounds = report["acceptance"].as_array().unwrap();
    let drafts: Vec<_> = rounds.iter().map(|round| round["draft"].as_str()).collect();
    let (shared, own) = (Some("draft-heads"), Some("draft-heads-own"));
    let layer = Some("draft-layer");
    // Four heads do not give six tokens.
    assert_eq!(drafts, [None, shared, own, layer, None, layer]);
    for round in rounds {
        let number = |key: &str| round[key].as_f64().unwrap();
        let drafting = match round["draft"].as_str() {
            None => 0.0,
            Some("draft-layer") => {
                let levels = number("levels");
                let level = seconds(find("draft-layer", 8));
                seconds(find("draft-extend", 8)) + (levels - 1.0) * level
            }
            Some(heads) => seconds(find(heads, 1)),
        };
        let expected = drafting + seconds(tree);
        assert!((number("round") - expected).abs() < 1e-12, "{round}");
        let speed_up = number("accept_len") * seconds(find("step", 1)) / expected;
        assert!((number("speed_up") - speed_up).abs() < 1e-6, "{round}");
        assert!((number("share") * number("accept_len") - speed_up).abs() < 1e-6);
        assert_eq!(round["is_estimate"], true);
        assert_eq!(round["verify"], "tree-verify");
    }
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
