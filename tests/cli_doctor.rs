//! `generate doctor`: what it finds, and what it says of what is not there.

use std::process::Command;

/// The virtual GPU's driver in the place of the system's, which may have none, and no NVRTC.
#[test]
fn doctor_tells_what_was_found() {
    let library = libloading::library_filename("virtual_cuda");
    let library = std::env::current_exe().unwrap().with_file_name(library);
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&library, folder.path().join("libcuda.so")).unwrap();
    let doctor = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_generate"));
        command.arg("doctor").env("XDG_CACHE_HOME", folder.path());
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{messages}");
        String::from_utf8(output.stdout).unwrap()
    };
    let line = |text: &str, name: &str| {
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
            .to_owned()
    };

    let text = doctor(&[
        ("LD_LIBRARY_PATH", folder.path().to_str().unwrap()),
        ("VIRTUAL_GPU_PROFILE", "a100"),
        ("VIRTUAL_GPU_SMS", "7"),
    ]);
    assert!(line(&text, "driver").contains("CUDA 12.8"), "{text}");
    let gpu = line(&text, "gpu");
    for fact in [
        "cuda:0 is A100",
        "imitated on the CPU",
        "capability 8.0",
        "7 multiprocessors",
        "163 KiB",
    ] {
        assert!(gpu.contains(fact), "{fact}: {text}");
    }
    assert!(line(&text, "NVRTC").contains("libnvrtc"), "{text}");
    let beside = line(&text, "virtual gpu");
    let name = library.file_name().unwrap().to_str().unwrap();
    assert!(beside.contains(name), "{text}");
    let cache = folder.path().join("stheno/kernels");
    assert!(
        line(&text, "kernel cache").ends_with(cache.to_str().unwrap()),
        "{text}"
    );
    let device = line(&text, "device");
    assert!(
        device.contains("host: ") && device.contains("is imitated on the CPU"),
        "{text}"
    );

    let text = doctor(&[
        ("STHENO_NVRTC", "/nonexistent/libnvrtc.so"),
        ("STHENO_VIRTUAL_CUDA", "/nonexistent"),
    ]);
    assert!(
        line(&text, "NVRTC").contains("STHENO_NVRTC names /nonexistent/libnvrtc.so"),
        "{text}"
    );
    let missing = line(&text, "virtual gpu");
    assert!(
        missing.contains("cargo build --release -p virtual-gpu-cuda"),
        "{text}"
    );
    assert!(text.contains("\n                /nonexistent\n"), "{text}");
    // Whether there is a driver depends on the machine; that it was looked for does not.
    assert!(!line(&text, "driver").is_empty());
    assert!(line(&text, "device").contains("host: "), "{text}");
}
