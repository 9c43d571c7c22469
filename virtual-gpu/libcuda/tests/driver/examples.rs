//! cudarc's own examples, from the sources of the published crate, compiled and run as they are. Left out are those
//! that need other libraries (CUPTI, cuFile) or a second device.

use crate::harness::{Run, command, folder, succeeded};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn rustc() -> Command {
    Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// Folder of cudarc's sources.
fn sources() -> PathBuf {
    let version = String::from_utf8(rustc().arg("-vV").output().unwrap().stdout).unwrap();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    // Only what this platform needs is sure to be there.
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            host,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata = succeeded("cargo metadata", output).stdout;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let cudarc = packages
        .iter()
        .find(|package| package["name"] == "cudarc")
        .unwrap();
    Path::new(cudarc["manifest_path"].as_str().unwrap())
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Compiles an example against the cudarc that this test was built with: one of those that lie beside it.
fn compile(source: &Path, to: &Path) {
    let deps = env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let mut libraries: Vec<PathBuf> = fs::read_dir(&deps)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("libcudarc-") && name.ends_with(".rlib")
        })
        .collect();
    libraries
        .sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().modified().unwrap()));
    let mut messages = String::new();
    for library in libraries {
        let output = rustc()
            .args(["--edition", "2021", "-L"])
            .arg(format!("dependency={}", deps.display()))
            .arg("--extern")
            .arg(format!("cudarc={}", library.display()))
            .arg("-o")
            .arg(to)
            .arg(source)
            .output()
            .unwrap();
        if output.status.success() {
            return;
        }
        messages += &String::from_utf8_lossy(&output.stderr);
    }
    panic!("{} was not compiled:\n{messages}", source.display());
}

fn example(name: &str) -> Run {
    let sources = sources();
    let built = TempDir::new().unwrap();
    let program = built.path().join("example");
    compile(
        &sources.join("examples").join(format!("{name}.rs")),
        &program,
    );
    let folder = folder();
    succeeded(
        name,
        command(&program, folder.path(), &[])
            .current_dir(&sources)
            .output()
            .unwrap(),
    )
}

macro_rules! examples {
    ($($test:ident: $name:literal $(says $($text:literal),*)?;)*) => {
        $(
            #[test]
            fn $test() {
                let run = example($name);
                for text in [$($($text),*)?] {
                    let text: &str = text;
                    assert!(run.stdout.contains(text), "`{text}` is not in:\n{}\n{}", run.stdout, run.stderr);
                }
            }
        )*
    };
}

examples! {
    allocate: "01-allocate";
    copy: "02-copy";
    launch_kernel: "03-launch-kernel" says "Found [0.841471, 0.909297";
    streams: "04-streams" says "Found [0.841471, 0.909297";
    device_repr: "05-device-repr";
    threading: "06-threading" says "Hello from the cuda kernel in thread 0", "Hello from the cuda kernel in thread 9";
    constant_memory: "09-constant-memory" says "f(2.0) = 49.0 (expected 49.0)";
    function_attributes: "10-function-attributes" says "Max threads per block:    1024";
    context_config: "12-context-config" says "Updated stack size: 2048 bytes";
    matmul_kernel: "matmul-kernel";
    nvrtc_compile: "nvrtc-compile" says "Compilation succeeded!";
}
