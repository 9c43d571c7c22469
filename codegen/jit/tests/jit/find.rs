//! Where NVRTC is found, which of several is taken, and what is said if there is none.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use stheno_jit::{CompileError, FindOptions, Nvrtc, Request, Target};
use tempfile::TempDir;

use crate::fake;
use crate::{AXPY, nvrtc};

/// A search that looks nowhere.
fn nowhere() -> FindOptions {
    FindOptions {
        path: None,
        environment: None,
        project_dir: None,
        toolkits: Vec::new(),
        system: false,
        site_packages: Vec::new(),
        python: false,
        max_major: None,
    }
}

fn found(options: &FindOptions) -> (u32, u32) {
    Nvrtc::find(options).unwrap().version()
}

fn message(options: &FindOptions) -> String {
    Nvrtc::find(options).unwrap_err().to_string()
}

/// Stand-ins for 41.0 in a project, 42.1 in a toolkit, 42.9 in site-packages: higher than any real version.
fn installations(root: &Path) -> FindOptions {
    fake::library(&root.join("project"), "libnvrtc.so.41", (41, 0));
    fake::library(&root.join("toolkit/lib64"), "libnvrtc.so.42", (42, 1));
    fake::library(
        &root.join("site/nvidia/cu42/lib"),
        "libnvrtc.so.42",
        (42, 9),
    );
    FindOptions {
        project_dir: Some(root.join("project")),
        toolkits: vec![root.join("toolkit")],
        site_packages: vec![root.join("site")],
        ..nowhere()
    }
}

#[test]
fn the_highest_version_that_the_driver_allows_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let options = installations(root.path());
    assert_eq!(found(&options), (42, 9));
    assert_eq!(
        found(&FindOptions {
            max_major: Some(42),
            ..options.clone()
        }),
        (42, 9)
    );
    assert_eq!(
        found(&FindOptions {
            max_major: Some(41),
            ..options.clone()
        }),
        (41, 0)
    );
    let message = message(&FindOptions {
        max_major: Some(12),
        ..options
    });
    assert!(
        message.starts_with(
            "found no NVRTC of version 12 or lower, the newest that the driver runs: run scripts/"
        ),
        "{message}"
    );
    assert!(
        message.contains("toolkit/lib64/libnvrtc.so.42: version 42.1, too new for the driver"),
        "{message}"
    );
}

#[test]
fn of_equal_versions_the_first_place_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let folders = [
        "project",
        "toolkit/targets/x86_64-linux/lib",
        "site/nvidia/cuda_nvrtc/lib",
    ];
    for (index, folder) in folders.iter().enumerate() {
        // Earlier places are added later: the place decides and not the age of the file.
        fake::library(
            &root.path().join(folders[folders.len() - 1 - index]),
            "libnvrtc.so.40",
            (40, 0),
        );
        let options = FindOptions {
            project_dir: Some(root.path().join("project")),
            toolkits: vec![root.path().join("toolkit")],
            site_packages: vec![root.path().join("site")],
            ..nowhere()
        };
        let path = root
            .path()
            .join(folders[folders.len() - 1 - index])
            .join("libnvrtc.so.40");
        assert_eq!(Nvrtc::find(&options).unwrap().path(), path, "{folder}");
    }
}

#[test]
fn a_named_library_is_the_only_one() {
    let root = tempfile::tempdir().unwrap();
    let options = installations(root.path());
    let file = root.path().join("toolkit/lib64/libnvrtc.so.42");
    assert_eq!(
        found(&FindOptions {
            environment: Some(file),
            ..options.clone()
        }),
        (42, 1)
    );
    let folder = root.path().join("toolkit");
    assert_eq!(
        found(&FindOptions {
            environment: Some(folder.clone()),
            ..options.clone()
        }),
        (42, 1)
    );
    let project = root.path().join("project");
    let both = FindOptions {
        path: Some(project),
        environment: Some(folder.clone()),
        ..options.clone()
    };
    assert_eq!(found(&both), (41, 0));

    let refused = FindOptions {
        environment: Some(folder),
        max_major: Some(41),
        ..options.clone()
    };
    assert!(
        message(&refused).starts_with("STHENO_NVRTC names "),
        "{}",
        message(&refused)
    );
    let absent = FindOptions {
        path: Some(root.path().join("absent.so")),
        ..options
    };
    let message = message(&absent);
    assert!(
        message.starts_with("the caller names ") && message.contains("absent.so does not load"),
        "{message}"
    );
}

#[test]
fn files_that_are_no_nvrtc_are_passed_over_and_named() {
    let root = tempfile::tempdir().unwrap();
    let project = root.path().join("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("libnvrtc.so.13"), "not a library").unwrap();
    fs::write(project.join("libnvrtc.alt.so.13"), "not looked at").unwrap();
    let options = FindOptions {
        project_dir: Some(project.clone()),
        ..nowhere()
    };
    let text = message(&options);
    assert!(
        text.contains("project/libnvrtc.so.13 does not load") && !text.contains("alt"),
        "{text}"
    );

    // A library, but not NVRTC.
    let source = project.join("empty.c");
    fs::write(&source, "int nothing;").unwrap();
    let library = project.join("libnvrtc.so.13");
    assert!(
        Command::new("cc")
            .args(["-shared", "-o"])
            .args([&library, &source])
            .status()
            .unwrap()
            .success()
    );
    assert!(
        message(&options).contains("libnvrtc.so.13 is no NVRTC of version 11.2 or newer"),
        "{}",
        message(&options)
    );

    fake::library(&project, "libnvrtc.so.40", (40, 2));
    assert_eq!(found(&options), (40, 2));
}

#[test]
fn a_missing_nvrtc_says_what_was_tried_and_what_to_run() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("nvrtc");
    let text = message(&FindOptions {
        project_dir: Some(folder.clone()),
        ..nowhere()
    });
    assert!(
        text.starts_with("found no NVRTC: run scripts/fetch-nvrtc.sh, "),
        "{text}"
    );
    assert!(
        text.contains(&format!("\n  {}: no libnvrtc.so", folder.display())),
        "{text}"
    );
}

#[test]
fn several_versions_live_side_by_side() {
    let root = tempfile::tempdir().unwrap();
    fake::library(root.path(), "libnvrtc.so.43", (43, 0));
    let request = Request::new("axpy.cu", AXPY, Target::Virtual(80));
    let real = nvrtc();
    let before = real.compile(&request).unwrap();
    let fake = Nvrtc::find(&FindOptions {
        path: Some(root.path().to_path_buf()),
        ..nowhere()
    })
    .unwrap();
    assert_eq!(
        (fake.version(), fake.supported_architectures()),
        ((43, 0), &[80, 90][..])
    );
    assert_eq!(real.version(), nvrtc().version());
    assert_ne!(real.version(), fake.version());
    assert!(real.supported_architectures().contains(&120));
    assert_eq!(real.compile(&request).unwrap(), before);

    // A result code that no binding knows is an error like any other.
    match fake.compile(&request) {
        Err(CompileError::Call { cause, .. }) => {
            assert_eq!(
                cause.to_string(),
                "nvrtcCompileProgram failed: FAKE_UNKNOWN (code 77)"
            );
        }
        other => panic!("{other:?}"),
    }
}

/// Runs this test once more in a process with `variables`, where it prints what the default search finds.
fn in_process(role: &str, variables: &[(&str, &OsStr)]) -> String {
    let test = "find::the_environment_and_the_system_are_searched";
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, role);
    for name in [
        "STHENO_NVRTC",
        "CUDA_HOME",
        "CUDA_PATH",
        "VIRTUAL_ENV",
        "LD_LIBRARY_PATH",
    ] {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.lines()
        .find_map(|line| line.split_once("found "))
        .map(|(_, found)| found.to_owned())
        .unwrap_or(text)
}

/// Set in the second process, to one of the roles below.
const CHILD: &str = "STHENO_JIT_TEST_CHILD";
/// The folder of the project in the second process.
const PROJECT: &str = "STHENO_JIT_TEST_PROJECT";
/// The default search.
const DEFAULT: &str = "default";
/// The default search less the names for the system's loader.
const WITHOUT_SYSTEM: &str = "without system";

#[test]
fn the_environment_and_the_system_are_searched() {
    if let Some(role) = env::var_os(CHILD) {
        let mut options = FindOptions {
            system: role != WITHOUT_SYSTEM,
            project_dir: env::var_os(PROJECT).map(PathBuf::from),
            ..FindOptions::default()
        };
        // Installations of this machine stay out: python3 is asked only where nothing else is found.
        options
            .toolkits
            .retain(|root| !root.starts_with("/usr/local"));
        let nvrtc = Nvrtc::find(&options).unwrap();
        println!("\nfound {:?} {}", nvrtc.version(), nvrtc.path().display());
        return;
    }
    let root: TempDir = tempfile::tempdir().unwrap();
    let at = |folder: &str| -> PathBuf { root.path().join(folder) };
    fake::library(&at("named"), "libnvrtc.so", (50, 1));
    fake::library(&at("toolkit/lib64"), "libnvrtc.so.50", (50, 2));
    fake::library(
        &at("venv/lib/python3.12/site-packages/nvidia/cu13/lib"),
        "libnvrtc.so.13",
        (50, 3),
    );
    fake::library(&at("thirteen"), "libnvrtc.so.13", (50, 4));
    fake::library(&at("cudarc"), "libnvrtc.so.11", (50, 5));
    fake::library(&at("python/nvidia/cu13/lib"), "libnvrtc.so.13", (50, 6));

    let (named, toolkit, venv) = (at("named"), at("toolkit"), at("venv"));
    let path_of = |folder: &str, name: &str| at(folder).join(name).display().to_string();
    assert_eq!(
        in_process(
            DEFAULT,
            &[
                ("STHENO_NVRTC", named.as_os_str()),
                ("CUDA_HOME", toolkit.as_os_str())
            ]
        ),
        format!("(50, 1) {}", path_of("named", "libnvrtc.so"))
    );
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
        let expected = format!("(50, 2) {}", path_of("toolkit/lib64", "libnvrtc.so.50"));
        assert_eq!(
            in_process(DEFAULT, &[(variable, toolkit.as_os_str())]),
            expected
        );
    }
    assert!(in_process(DEFAULT, &[("VIRTUAL_ENV", venv.as_os_str())]).starts_with("(50, 3) "));
    let both = [
        ("VIRTUAL_ENV", venv.as_os_str()),
        ("CUDA_HOME", toolkit.as_os_str()),
    ];
    assert!(in_process(DEFAULT, &both).starts_with("(50, 3) "));

    // By name through the system's loader: 13 is a name that cudarc would not try, 11 one that only cudarc tries.
    let thirteen = at("thirteen");
    assert_eq!(
        in_process(DEFAULT, &[("LD_LIBRARY_PATH", thirteen.as_os_str())]),
        "(50, 4) libnvrtc.so.13"
    );
    let cudarc = at("cudarc");
    assert!(
        in_process(DEFAULT, &[("LD_LIBRARY_PATH", cudarc.as_os_str())]).starts_with("(50, 5) ")
    );

    // A library of the project that bears a name of the system's does not hide a newer one there.
    fake::library(&at("older"), "libnvrtc.so.13", (50, 0));
    let older = at("older");
    let both = [
        ("LD_LIBRARY_PATH", thirteen.as_os_str()),
        (PROJECT, older.as_os_str()),
    ];
    assert!(in_process(DEFAULT, &both).starts_with("(50, 4) "));

    // A python3 whose module path has a wheel.
    let bin = at("bin");
    fs::create_dir(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\necho\necho relative\necho {}\n",
        at("python").display()
    );
    fs::write(bin.join("python3"), script).unwrap();
    fs::set_permissions(bin.join("python3"), fs::Permissions::from_mode(0o755)).unwrap();
    let asked = in_process(WITHOUT_SYSTEM, &[("PATH", bin.as_os_str())]);
    assert!(asked.starts_with("(50, 6) "), "{asked}");
}

#[test]
fn a_workspace_finds_its_own_build_directory() {
    let root = tempfile::tempdir().unwrap();
    let options = FindOptions::for_project(env!("CARGO_MANIFEST_DIR"));
    let project = options.project_dir.unwrap();
    assert!(project.ends_with("nvrtc"), "{}", project.display());
    assert!(
        project.join("libnvrtc.so.13").is_file(),
        "run scripts/fetch-nvrtc.sh first"
    );
    // A link to the library alone: the builtins lie beside the file that it leads to.
    symlink(
        project.join("libnvrtc.so.13"),
        root.path().join("libnvrtc.so"),
    )
    .unwrap();
    let linked = Nvrtc::find(&FindOptions {
        path: Some(root.path().to_path_buf()),
        ..nowhere()
    })
    .unwrap();
    linked
        .compile(&Request::new("axpy.cu", AXPY, Target::Virtual(80)))
        .unwrap();
}
