use super::DeviceFacts;
use crate::{Error, Result};
use std::env;
use std::path::{Path, PathBuf};
use stheno_codegen::jit::{FindOptions, Nvrtc, NvrtcError, Request, Target};
use stheno_codegen::program::Source;

/// Finds NVRTC, of a version whose output the device's driver runs if one is given. Besides the places of
/// [`FindOptions::default`], `STHENO_NVRTC` first, it looks into the folder that `scripts/fetch-nvrtc.sh` fills in the build
/// directory that the executable lies in.
///
/// # Errors
/// There is none; the error lists the places.
pub fn find_nvrtc(facts: Option<&DeviceFacts>) -> Result<Nvrtc, NvrtcError> {
    let executable = env::current_exe().ok();
    Nvrtc::find(&FindOptions {
        project_dir: executable.as_deref().and_then(project_folder),
        max_major: facts.and_then(DeviceFacts::nvrtc_limit),
        ..FindOptions::default()
    })
}

/// The folder `nvrtc` in the build directory of an executable: `target/release/generate`, `target/debug/deps/test-1`.
fn project_folder(executable: &Path) -> Option<PathBuf> {
    let folders = executable.ancestors().skip(2).take(2);
    let mut folders = folders.map(|folder| folder.join("nvrtc"));
    folders.find(|folder| folder.is_dir())
}

/// What to compile for a program, for a `target`. Two variables of the environment are for who works on kernels:
///
/// - `STHENO_KERNELS=DIR`: a header that lies in the folder is taken from there instead of from the library, so that a change is
///   tried without building anything. `generate plan --emit DIR` writes all of them; `sizes.cuh` is always the program's own.
/// - `STHENO_LINE_INFO=1`: the code says which lines it comes from, for profilers.
///
/// # Errors
/// The folder does not exist, or a header in it cannot be read.
pub fn program_request(source: &Source, target: Target) -> Result<Request> {
    let mut request = Request::new("decode.cu", &*source.program, target);
    request.headers = source.headers();
    request.options = vec!["--std=c++17".to_owned()];
    request.line_info = env::var_os("STHENO_LINE_INFO").is_some_and(|value| value == "1");
    if let Some(folder) = env::var_os("STHENO_KERNELS").filter(|folder| !folder.is_empty()) {
        take_headers(&mut request, Path::new(&folder))?;
    }
    Ok(request)
}

/// Puts the headers that lie in a folder in place of those of the same names.
fn take_headers(request: &mut Request, folder: &Path) -> Result<()> {
    let io = |path: &Path, cause| Error::Io {
        path: path.to_owned(),
        cause,
    };
    std::fs::read_dir(folder).map_err(|error| io(folder, error))?;
    for (name, text) in &mut request.headers {
        let path = folder.join(&*name);
        if name == "sizes.cuh" || !path.is_file() {
            continue;
        }
        *text = std::fs::read_to_string(&path).map_err(|error| io(&path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_directory_of_programs_and_tests_is_found() {
        let target = tempfile::tempdir().unwrap();
        let at = |path: &str| project_folder(&target.path().join(path));
        assert_eq!(at("release/generate"), None);
        let nvrtc = target.path().join("nvrtc");
        std::fs::create_dir(&nvrtc).unwrap();
        assert_eq!(at("release/generate").as_ref(), Some(&nvrtc));
        assert_eq!(at("debug/deps/test-1").as_ref(), Some(&nvrtc));
        assert_eq!(at("generate"), None);
    }

    #[test]
    fn headers_of_a_folder_take_the_place_of_the_librarys() {
        let folder = tempfile::tempdir().unwrap();
        let mut request = Request::new("decode.cu", "", Target::Virtual(80));
        let header = |name: &str| (name.to_owned(), "built in".to_owned());
        request.headers = vec![
            header("formats/fp8.cuh"),
            header("mma.cuh"),
            header("sizes.cuh"),
        ];
        std::fs::create_dir(folder.path().join("formats")).unwrap();
        for name in ["formats/fp8.cuh", "sizes.cuh"] {
            std::fs::write(folder.path().join(name), "changed").unwrap();
        }
        take_headers(&mut request, folder.path()).unwrap();
        let texts: Vec<&str> = request.headers.iter().map(|(_, text)| &**text).collect();
        assert_eq!(texts, ["changed", "built in", "built in"]);
        let missing = folder.path().join("missing");
        let error = take_headers(&mut request, &missing).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
