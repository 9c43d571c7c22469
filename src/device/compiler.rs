use super::DeviceFacts;
use std::env;
use std::path::{Path, PathBuf};
use stheno_jit::{FindOptions, Nvrtc, NvrtcError};

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
}
