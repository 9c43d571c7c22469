//! The suite for a GPU machine: `kernel-bench report` on what parts left, and `scripts/gpu-suite-run.sh` with programs that
//! stand in for those of a bundle.

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What parts left of a quick run on the virtual GPU, but for most of its records, and numbers of a GPU that are made up.
fn recorded(name: &str) -> PathBuf {
    root().join("tests/fixtures/gpu_suite").join(name)
}

/// A folder with the files of parts and their list.
fn results(files: &[&str], parts: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        fs::copy(recorded(file), folder.path().join(file)).unwrap();
    }
    fs::write(folder.path().join("parts.tsv"), parts).unwrap();
    folder
}

fn report(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kernel-bench"));
    command.arg("report").arg(folder.path()).args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

fn json(folder: &Path) -> Value {
    serde_json::from_str(&read(folder, "report.json")).unwrap()
}

/// The line of a table that begins with this.
fn row(markdown: &str, start: &str) -> String {
    let found = markdown.lines().find(|line| line.starts_with(start));
    found
        .unwrap_or_else(|| panic!("`{start}` begins no line of\n{markdown}"))
        .to_owned()
}

#[test]
fn a_good_run_on_the_virtual_gpu() {
    let files = [
        "probe.json",
        "ops-linear.log",
        "ops-linear.bits",
        "models-stepped.log",
        "bench-tiny.json",
        "engine-tiny-bf16.json",
    ];
    let parts = "probe\tprobe\t0\t12.5\t600\nops-linear\tops\t0\t30.1\t900\nmodels-stepped\ttests\t0\t9.0\t900\n\
                 bench-tiny\tbench\t0\t3.3\t900\nengine-tiny-bf16\ttokens\t0\t2.0\t900\n\
                 compare-pytorch\tcompare\tskipped\t0\tthere is no GPU to compare on\n";
    let folder = results(&files, parts);
    let output = report(&folder, &["--device", "virtual", "--quick"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let markdown = read(folder.path(), "report.md");
    assert_eq!(text(&output.stdout), markdown);
    for told in [
        "**The results are of a virtual GPU.",
        "**Passed.**",
        "(virtual)",
        "no verdict: not applicable: the device is virtual",
        "all are equal",
        "## Steps",
        "## Rounds",
    ] {
        assert!(markdown.contains(told), "{told} is not in\n{markdown}");
    }
    assert!(row(&markdown, "| ops-linear | passed |").contains("4 passed, 0 failed; 0 of "));
    assert!(row(&markdown, "| compare-pytorch | skipped |").contains("no GPU to compare on"));
    assert!(row(&markdown, "| tiny (2 layers) | bf16 | 1 |").contains("| ~"));
    let json = json(folder.path());
    assert_eq!(
        (&json["passed"], &json["is_virtual"], &json["quick"]),
        (&true.into(), &true.into(), &true.into())
    );
    // What a part wrote is there as it was.
    let probe: Value = serde_json::from_slice(&fs::read(recorded("probe.json")).unwrap()).unwrap();
    assert_eq!(json["parts"][0]["report"], probe);
    assert_eq!(json["parts"][5]["exit"], Value::Null);
}

#[test]
fn numbers_of_a_gpu_are_shares_of_its_copy_rate_and_stand_beside_others() {
    let files = ["bench-gpu.json", "compare-pytorch.json"];
    let parts = "bench-gpu\tbench\t0\t60\t900\ncompare-pytorch\tcompare\t0\t80\t900\n";
    let folder = results(&files, parts);
    let said = "name, driver_version\nMade-up GPU, 580.1\n";
    fs::write(folder.path().join("nvidia-smi.csv"), said).unwrap();
    let output = report(&folder, &["--device", "cuda:0"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let markdown = text(&output.stdout);
    assert!(!markdown.contains("virtual"), "{markdown}");
    row(&markdown, "nvidia-smi: Made-up GPU, 580.1");
    // 2.5 GB in 1 ms, where copies make 3 TB/s.
    let step = "| llama-3.2-1b (16 layers) | bf16 | 1 | 512 | 1000.0 ±10.0 | 2500 | 83.3 % |";
    row(&markdown, step);
    row(
        &markdown,
        "| step | llama-3.2-1b | 1 | 512 | 1000.0 ±10.0 | 1250.0 ±50.0 | 0.80 |",
    );
    // The same product after another context is the same work; other layers are another step.
    row(
        &markdown,
        "| qkv | llama-3.2-1b | 1 | 512 | 5.0 ±0.0 | 4.0 ±0.0 | 1.25 |",
    );
    row(&markdown, "| step | llama-3.2-1b | 1 | 4096 | - |");
    row(
        &markdown,
        "| llama-3.2-1b | bf16 | 8 | 512 | 4.0 | 3636 | 3.64 | 91 % |",
    );
    // Where only tests ran, none of them says whose they are.
    fs::write(
        folder.path().join("parts.tsv"),
        "corpus\ttests\t0\t8\t900\n",
    )
    .unwrap();
    fs::write(
        folder.path().join("corpus.log"),
        "test result: ok. 1 passed; 0 failed; 0 ignored",
    )
    .unwrap();
    let output = report(&folder, &["--device", "cuda:0"]);
    row(&text(&output.stdout), "# GPU suite: Made-up GPU");
}

#[test]
fn whatever_is_wrong_with_a_part_fails_it_and_is_told() {
    let files = [
        "probe.json",
        "ops-linear.log",
        "ops-linear.bits",
        "models-stepped.log",
    ];
    for (parts, device, told) in [
        // A GPU was asked for, and a virtual one answered.
        (
            "probe\tprobe\t0\t1\t600",
            "cuda:0",
            "its device is imitated",
        ),
        (
            "probe\tprobe\t1\t1\t600",
            "virtual",
            "exit 1: it said nothing",
        ),
        ("bench-1b\tbench\t0\t1\t600", "virtual", "bench-1b.json"),
        (
            "models-stepped\ttests\t124\t600\t600",
            "virtual",
            "it ran longer than 600 s",
        ),
        (
            "models-stepped\ttests\t137\t600\t600",
            "virtual",
            "it ran longer than 600 s",
        ),
        (
            "models-stepped\ttests\t134\t2\t600",
            "virtual",
            "exit 134: test result: ok",
        ),
        (
            "ops-choose\tops\t0\t1\t600",
            "virtual",
            "nothing was compared",
        ),
        ("models-rows\ttests\t0\t1\t600", "virtual", "it ran no test"),
    ] {
        let folder = results(&files, &format!("{parts}\nops-linear\tops\t0\t1\t9\n"));
        let output = report(&folder, &["--device", device]);
        assert_eq!(output.status.code(), Some(1), "{parts}");
        let name = parts.split('\t').next().unwrap();
        assert_eq!(
            text(&output.stderr).trim(),
            format!("kernel-bench: failed: {name}")
        );
        let line = row(&text(&output.stdout), &format!("| {name} | **"));
        assert!(line.contains(told), "{line}");
        // The others count all the same.
        row(&text(&output.stdout), "| ops-linear | passed |");
        assert_eq!(json(folder.path())["passed"], false);
    }
}

#[test]
fn tests_that_fail_and_bits_that_differ_are_named() {
    let folder = results(
        &["ops-linear.log"],
        "ops-linear\tops\t0\t1\t9\nmodels-rows\ttests\t101\t1\t9\n",
    );
    let bits = "{\"test\":\"a::b\",\"kernels\":\"linear.cu Int4<32, true>\",\"bytes\":64,\"differing\":3}\n";
    fs::write(folder.path().join("ops-linear.bits"), bits.repeat(2)).unwrap();
    let log = "running 2 tests\ntest rows::a ... ok\ntest rows::b ... \nthread 'rows::b' (9) panicked at tests/x.rs:1:2:\n\
               logits of row 3: target, 4 rows after 127\nFAILED\n\ntest result: FAILED. 1 passed; 1 failed\n";
    fs::write(folder.path().join("models-rows.log"), log).unwrap();
    let output = report(&folder, &["--device", "virtual"]);
    assert_eq!(output.status.code(), Some(1));
    let markdown = text(&output.stdout);
    assert!(
        markdown.contains("**Failed: ops-linear, models-rows.**"),
        "{markdown}"
    );
    let line = row(&markdown, "| ops-linear | **failed** |");
    assert!(
        line.contains("6 bytes are not those of the virtual GPU"),
        "{line}"
    );
    row(&markdown, "| linear.cu Int4<32, true> | a::b | 128 | 6 |");
    let line = row(&markdown, "| models-rows | **failed** |");
    assert!(
        line.contains("exit 101: rows::b failed: logits of row 3"),
        "{line}"
    );
    assert_eq!(
        json(folder.path())["parts"][1]["tests"]["failed"][0]["test"],
        "rows::b"
    );
}

#[test]
fn broken_files_are_told_in_a_sentence() {
    for (parts, told) in [
        ("", "the suite ran no part"),
        ("probe\tprobe\t0\n", "is not the line of a part"),
        ("probe\tprobe\tx\t1\t2\n", "is not the line of a part"),
        ("probe\tother\t0\t1\t2\n", "is not the line of a part"),
    ] {
        let output = report(&results(&[], parts), &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stderr).contains(told),
            "{}",
            text(&output.stderr)
        );
    }
    let output = report(&tempfile::tempdir().unwrap(), &[]);
    assert!(
        text(&output.stderr).contains("parts.tsv"),
        "{}",
        text(&output.stderr)
    );
    // Half of a file, and no JSON of the expected form at all.
    for content in [
        "{\"records\": [",
        "[1, null]",
        "{\"records\": [{\"op\": 3}], \"device\": 7}",
    ] {
        let folder = results(&[], "bench-1b\tbench\t0\t1\t9\n");
        fs::write(folder.path().join("bench-1b.json"), content).unwrap();
        let output = report(&folder, &[]);
        assert!(!text(&output.stderr).contains("panicked"), "{content}");
        let broken = content.ends_with('[');
        assert_eq!(output.status.success(), !broken, "{content}");
    }
}

/// A bundle whose programs are scripts.
fn bundle(test_program: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, body: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let run = fs::read_to_string(root().join("scripts/gpu-suite-run.sh")).unwrap();
    fs::write(folder.path().join("run.sh"), run).unwrap();
    script("bin/gpu-probe", "echo no driver >&2; exit 1");
    script(
        "bin/generate",
        "echo '{\"decode_tokens_per_second\": [7.0]}'",
    );
    // `run` writes what --json names; `report` is the real one.
    let real = env!("CARGO_BIN_EXE_kernel-bench");
    let body = "while [ \"$1\" != --json ]; do shift; done; echo '{\"records\": []}' > \"$2\"";
    script(
        "bin/kernel-bench",
        &format!("[ \"$1\" = run ] || exec {real} \"$@\"; {body}"),
    );
    for test in [
        "linear",
        "attention",
        "choose",
        "corpus",
        "device_engine",
        "device_behaviour",
        "device_choice",
        "device_growth",
    ] {
        script(&format!("tests/{test}"), test_program);
    }
    folder
}

fn run(bundle: &TempDir, out: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("bash");
    command
        .arg(bundle.path().join("run.sh"))
        .arg("--out")
        .arg(out);
    command.args(arguments).output().unwrap()
}

#[test]
fn a_part_that_fails_does_not_end_the_suite() {
    let test = "[ -z \"$STHENO_TEST_RECORD\" ] || echo '{\"kernels\":\"k\",\"bytes\":1,\"differing\":0}' > \"$STHENO_TEST_RECORD\"; \
                echo warned >&2; echo \"test on.$STHENO_TEST_DEVICE ... ok\"";
    let bundle = bundle(test);
    let out = bundle.path().join("out");
    let cache = bundle.path().join("cache");
    let output = run(&bundle, &out, &["--quick", "--device", "virtual"]);
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{told}");
    let line = row(&said, "| probe | **failed** |");
    assert!(line.contains("exit 1: no driver"), "{line}");
    for name in [
        "ops-linear",
        "ops-choose",
        "ops-growth",
        "corpus",
        "models-fixtures",
        "models-stepped",
        "models-tree_rounds",
        "bench-tiny",
        "engine-tiny-bf16",
    ] {
        row(&said, &format!("| {name} | passed |"));
    }
    // Programs that take the system's driver find the virtual one there; others are told.
    assert_eq!(
        read(&out, "ops-linear.log"),
        "warned\ntest on.cuda:0 ... ok\n"
    );
    assert!(read(&out, "models-calls.log").contains("on.virtual"));

    // A second run replaces the first; only what is asked for is run. Beside each other, parts end in any order.
    let output = run(
        &bundle,
        &out,
        &[
            "--device",
            "virtual",
            "--only",
            "corpus,models-rows,models-heads,engine",
            "--jobs",
            "2",
            "--cache",
            cache.to_str().unwrap(),
        ],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(cache.is_dir());
    let mut names: Vec<String> = read(&out, "parts.tsv")
        .lines()
        .map(|line| line.split('\t').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        names.pop().unwrap(),
        "engine-tiny-bf16",
        "what is measured runs alone"
    );
    names.sort();
    assert_eq!(names, ["corpus", "models-heads", "models-rows"]);
    assert!(!out.join("probe.log").exists());
}

/// Whether it comes true within ten seconds.
fn comes_true(condition: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(10) {
        if condition() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn a_suite_that_is_stopped_leaves_no_process_and_no_folder() {
    let bundle = bundle("echo $$ > \"$0.pid\"; exec sleep 60");
    let folder = bundle.path();
    let work = folder.join("work");
    fs::create_dir(&work).unwrap();
    for (jobs, running) in [("1", &["linear"][..]), ("2", &["linear", "attention"])] {
        let mut suite = Command::new("bash")
            .arg(folder.join("run.sh"))
            .arg("--out")
            .arg(folder.join("out"))
            .args(["--device", "virtual", "--quick", "--only", "ops"])
            .args(["--jobs", jobs])
            .env("TMPDIR", &work)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let file = |test: &&str| folder.join(format!("tests/{test}.pid"));
        let pid = |test| fs::read_to_string(file(test)).unwrap_or_default();
        let started = comes_true(|| running.iter().all(|test| pid(test).ends_with('\n')));
        assert!(started, "--jobs {jobs}");
        // Twice, as `timeout` does: to the process, and to its group.
        for _ in 0..2 {
            let kill = Command::new("kill").arg(suite.id().to_string()).status();
            assert!(kill.unwrap().success());
        }
        assert_eq!(suite.wait().unwrap().code(), Some(130), "--jobs {jobs}");
        for test in running {
            let process = Path::new("/proc").join(pid(test).trim());
            assert!(comes_true(|| !process.exists()), "{test} runs on");
            fs::remove_file(file(test)).unwrap();
        }
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0, "--jobs {jobs}");
    }
}

#[test]
fn mistakes_on_the_command_line_end_it_before_it_begins() {
    let bundle = bundle("exit 0");
    let full = bundle.path().join("bin");
    let out = bundle.path().join("out");
    for (out, arguments, told) in [
        (
            &out,
            &["--device", "gpu"][..],
            "there are cuda:N and virtual",
        ),
        (&out, &["--device"], "takes a value"),
        (&out, &["--fast"], "is no flag"),
        (
            &out,
            &["--stop-after", "soon"],
            "--stop-after soon: seconds",
        ),
        (&out, &["--jobs", "0"], "--jobs 0: how many parts"),
        (&out, &["--only", "probe,bits"], "--only bits"),
        (
            &out,
            &["--llama-cpp", "/nowhere"],
            "goes with --llama-model",
        ),
        (&full, &[], "holds other things"),
    ] {
        let output = run(&bundle, out, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            text(&output.stderr).contains(told),
            "{}",
            text(&output.stderr)
        );
    }
    assert!(!out.join("parts.tsv").exists());
}
