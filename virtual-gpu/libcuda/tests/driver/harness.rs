//! Runs the body of a test in a child process that finds the virtual driver and NVRTC.

use cudarc::driver::{CudaContext, CudaFunction, CudaStream, sys};
use cudarc::nvrtc::Ptx;
use std::env;
use std::ffi::c_void;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use stheno_jit::{FindOptions, Nvrtc, Request, Target};
use tempfile::TempDir;

const CHILD: &str = "VIRTUAL_GPU_TEST_CHILD";

/// The project's NVRTC.
fn nvrtc() -> Nvrtc {
    Nvrtc::find(&FindOptions::for_project(env!("CARGO_MANIFEST_DIR")))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The library under test, which cargo puts beside the tests.
pub fn library() -> PathBuf {
    let path = env::current_exe()
        .unwrap()
        .with_file_name("libvirtual_cuda.so");
    assert!(path.exists(), "{} has not been built", path.display());
    path
}

/// A folder with the library and NVRTC under the names that programs look for.
pub fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    symlink(library(), folder.path().join("libcuda.so.1")).unwrap();
    symlink(library(), folder.path().join("libcuda.so")).unwrap();
    let nvrtc = nvrtc().path().canonicalize().unwrap();
    symlink(&nvrtc, folder.path().join("libnvrtc.so")).unwrap();
    for entry in nvrtc.parent().unwrap().read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name.to_string_lossy().starts_with("libnvrtc") && !folder.path().join(name).exists() {
            symlink(&path, folder.path().join(name)).unwrap();
        }
    }
    folder
}

/// What a child process wrote.
pub struct Run {
    pub stdout: String,
    pub stderr: String,
}

/// A command that finds what is in `folder`, and no settings of the virtual GPU but those given.
pub fn command(program: &Path, folder: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars() {
        if name.starts_with("VIRTUAL_GPU_") {
            command.env_remove(name);
        }
    }
    command
        .env("LD_LIBRARY_PATH", folder)
        .envs(settings.iter().copied());
    command
}

/// What a process wrote, if it ended well.
pub fn succeeded(what: &str, output: Output) -> Run {
    let run = Run {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(
        output.status.success(),
        "{what}: {}\n{}\n{}",
        output.status,
        run.stdout,
        run.stderr
    );
    run
}

/// In the test's own process: runs `body` in a child and gives what it wrote. In the child: runs it and ends.
pub fn isolated(test: &str, settings: &[(&str, &str)], body: impl FnOnce()) -> Run {
    if env::var_os(CHILD).is_some() {
        body();
        std::process::exit(0);
    }
    // `crate::part::test` is `part::test` to the test runner.
    let name = test.split_once("::").unwrap().1;
    let folder = folder();
    let output = command(&env::current_exe().unwrap(), folder.path(), settings)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    succeeded(name, output)
}

/// Name of the test function that uses it.
macro_rules! this_test {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        name.strip_suffix("::here").unwrap()
    }};
}
pub(crate) use this_test;

/// PTX of CUDA source, by the project's NVRTC.
pub fn ptx(source: &str) -> String {
    ptx_for(source, 80)
}

/// The same for another architecture.
pub fn ptx_for(source: &str, arch: u32) -> String {
    let mut request = Request::new("test.cu", source, Target::Virtual(arch));
    request.line_info = true;
    nvrtc()
        .compile(&request)
        .unwrap_or_else(|error| panic!("{error}"))
        .ptx
        .unwrap()
}

/// A kernel of CUDA source.
pub fn kernel(context: &Arc<CudaContext>, source: &str, name: &str) -> CudaFunction {
    let module = context.load_module(Ptx::from_src(ptx(source))).unwrap();
    module.load_function(name).unwrap()
}

/// Makes a stream sleep, in a function of the host.
pub fn sleep_in(stream: &CudaStream, milliseconds: u64) {
    unsafe extern "C" fn sleep(milliseconds: *mut c_void) {
        std::thread::sleep(Duration::from_millis(milliseconds as u64));
    }
    // SAFETY: the function has this prototype; wrong arguments are what is tested, and it must refuse them.
    let called = unsafe {
        sys::cuLaunchHostFunc(stream.cu_stream(), Some(sleep), milliseconds as *mut c_void)
    };
    called.result().unwrap();
}
