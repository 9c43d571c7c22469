//! NVRTC without its builtins, in a process of its own: once one test has loaded them every other has them.

use std::fs;
use std::os::unix::fs::symlink;

use stheno_jit::{FindOptions, Nvrtc, Request, Target};

const SOURCE: &str = r#"extern "C" __global__ void one(float* x) { x[threadIdx.x] = 1.0f; }"#;

#[test]
fn missing_builtins_are_an_error_that_names_them_and_a_link_needs_none_beside_it() {
    let project = FindOptions::for_project(env!("CARGO_MANIFEST_DIR"))
        .project_dir
        .unwrap();
    let library = project.join("libnvrtc.so.13");
    assert!(library.is_file(), "run scripts/fetch-nvrtc.sh first");
    let request = Request::new("one.cu", SOURCE, Target::Virtual(80));

    // A hard link is the same file in a folder without builtins.
    let lone = tempfile::tempdir_in(&project).unwrap();
    fs::hard_link(&library, lone.path().join("libnvrtc.so.13")).unwrap();
    let options = FindOptions {
        path: Some(lone.path().to_path_buf()),
        ..FindOptions::default()
    };
    let message = Nvrtc::find(&options)
        .unwrap()
        .compile(&request)
        .unwrap_err()
        .to_string();
    assert!(message.contains("BUILTIN_OPERATION_FAILURE"), "{message}");
    assert!(
        message.ends_with("must lie beside libnvrtc or on the system's library path"),
        "{message}"
    );

    let linked = tempfile::tempdir().unwrap();
    symlink(&library, linked.path().join("libnvrtc.so")).unwrap();
    let options = FindOptions {
        path: Some(linked.path().to_path_buf()),
        ..FindOptions::default()
    };
    let compiled = Nvrtc::find(&options).unwrap().compile(&request).unwrap();
    assert!(compiled.ptx.unwrap().contains(".entry one("));
}
