//! Libraries that stand in for versions of NVRTC.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Builds `folder/name`, which says it is NVRTC `version`, with the C compiler that links Rust programs.
pub fn library(folder: &Path, name: &str, version: (u32, u32)) {
    fs::create_dir_all(folder).unwrap();
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(folder.join(name))
        // The name that the loader knows it by once it is loaded, as in the real library.
        .arg(format!("-Wl,-soname,{name}"))
        .arg(format!("-DMAJOR={}", version.0))
        .arg(format!("-DMINOR={}", version.1))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jit/fake.c"))
        .output()
        .expect("cc must be on the path: it links Rust programs too");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
