//! The program as it is, against the virtual driver.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// The program, with nothing but what `folder` holds to be found as a driver.
fn program(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-probe"));
    for (name, _) in env::vars() {
        if name.starts_with("VIRTUAL_GPU_") {
            command.env_remove(name);
        }
    }
    command
        .env("LD_LIBRARY_PATH", folder.path())
        .env("VIRTUAL_GPU_SMS", "4")
        .env("VIRTUAL_GPU_STRICT", "1")
        .args(arguments)
        .output()
        .unwrap()
}

/// A folder with the virtual driver, which cargo puts beside the tests.
fn with_driver() -> TempDir {
    let folder = TempDir::new().unwrap();
    let library: PathBuf = env::current_exe()
        .unwrap()
        .with_file_name("libvirtual_cuda.so");
    assert!(library.exists(), "{} has not been built", library.display());
    symlink(&library, folder.path().join("libcuda.so.1")).unwrap();
    symlink(&library, folder.path().join("libcuda.so")).unwrap();
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn copy_ring_and_edges_run_end_to_end_and_are_marked_as_virtual() {
    let folder = with_driver();
    let json = folder.path().join("probe.json");
    let nvrtc = crate::nvrtc();
    let nvrtc = nvrtc.path().to_str().unwrap();
    let only = "copy,launch,ring,edge,load,drain,host";
    let output = program(
        &folder,
        &[
            "--quick",
            "--only",
            only,
            "--json",
            json.to_str().unwrap(),
            "--nvrtc",
            nvrtc,
        ],
    );
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("The device is virtual"), "{stdout}");
    assert_eq!(stdout.matches("no verdict: ").count(), 2, "{stdout}");
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report["virtual"], true);
    assert_eq!(report["multiprocessors"], 4);
    let rows = report["rows"].as_array().unwrap();
    for measurement in only.split(',') {
        let row = rows.iter().find(|row| row["measurement"] == measurement);
        let row = row.unwrap_or_else(|| panic!("{measurement} is missing"));
        assert!(
            row["median"].as_f64().unwrap() >= 0.0 && row["unit"].is_string(),
            "{row}"
        );
    }
    assert!(
        report["verdicts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|verdict| verdict["go"].is_null())
    );
}

#[test]
fn mistakes_are_told_in_one_sentence() {
    let folder = with_driver();
    let of = |arguments: &[&str]| {
        let output = program(&folder, arguments);
        assert!(!output.status.success());
        text(&output.stderr)
    };
    let told = of(&["--only", "ring,wind"]);
    assert!(
        told.contains("there is no measurement wind; there are copy, launch, ring"),
        "{told}"
    );
    let told = of(&["--device", "3"]);
    assert!(
        told.contains("there is no device 3: the driver shows 1"),
        "{told}"
    );
    let told = of(&["--cubin-dir", folder.path().to_str().unwrap()]);
    assert!(
        told.contains("runs PTX and no cubins") && told.contains("--cubin-dir"),
        "{told}"
    );
    let told = of(&["--nvrtc", "/nonexistent/libnvrtc.so"]);
    assert!(
        told.contains("/nonexistent/libnvrtc.so, which gives no NVRTC"),
        "{told}"
    );
}

#[test]
fn cubins_are_written_without_a_gpu() {
    let folder = TempDir::new().unwrap();
    let cubins = folder.path().join("cubins");
    let nvrtc = crate::nvrtc();
    let output = program(
        &folder,
        &[
            "--write-cubins",
            cubins.to_str().unwrap(),
            "--nvrtc",
            nvrtc.path().to_str().unwrap(),
        ],
    );
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with("sm_90a") && line.contains(" ring_bulk ")),
        "{stdout}"
    );
    assert_eq!(fs::read_dir(&cubins).unwrap().count(), 6 * 8);
}

#[test]
fn measurements_are_listed() {
    let folder = TempDir::new().unwrap();
    let output = program(&folder, &["--list"]);
    assert!(output.status.success());
    let listed = text(&output.stdout);
    assert_eq!(listed.lines().count(), gpu_probe::measure::ALL.len());
    assert!(listed.starts_with("copy "), "{listed}");
}
