//! Where NVRTC may lie, and which of several to take.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::path::{self, Path, PathBuf};
use std::process::Command;

use crate::error::{LoadError, NvrtcError};
use crate::library::Library;

/// Environment: a libnvrtc or a directory that holds one; nothing else is searched then.
const NVRTC: &str = "STHENO_NVRTC";
/// Environment: roots of CUDA toolkits, as the toolkit's own installer and build systems set them.
const TOOLKITS: [&str; 2] = ["CUDA_HOME", "CUDA_PATH"];
/// Environment: the active Python virtual environment.
const VIRTUAL_ENV: &str = "VIRTUAL_ENV";
/// Environment: where cargo builds, if not in `target` of the workspace.
const CARGO_TARGET_DIR: &str = "CARGO_TARGET_DIR";

/// Names for the system's loader that cudarc's list lacks. The other names are cudarc's.
const SYSTEM_NAMES: [&str; 2] = ["libnvrtc.so.13", "libnvrtc.so.12"];
/// Library directories of a toolkit, relative to its root.
const TOOLKIT_LIBS: [&str; 3] = ["lib64", "targets/x86_64-linux/lib", "lib"];

/// Where to search. [`FindOptions::default`] reads the environment; every field may be changed afterwards.
#[derive(Clone, Debug)]
pub struct FindOptions {
    /// A libnvrtc or a directory with one, named by the user. Nothing else is searched then. Default: none.
    pub path: Option<PathBuf>,
    /// The same out of STHENO_NVRTC, which `path` overrides.
    pub environment: Option<PathBuf>,
    /// A folder of the project that may hold a libnvrtc (scripts/fetch-nvrtc.sh fills `target/nvrtc`). Default: none.
    pub project_dir: Option<PathBuf>,
    /// Roots of CUDA toolkits. Default: CUDA_HOME and CUDA_PATH, then every `/usr/local/cuda*`.
    pub toolkits: Vec<PathBuf>,
    /// Whether the system's loader is asked by name. Default: yes.
    pub system: bool,
    /// site-packages directories of Python. Default: those of VIRTUAL_ENV.
    pub site_packages: Vec<PathBuf>,
    /// Whether python3 is asked for its module path where nothing else has an NVRTC. Default: yes.
    pub python: bool,
    /// The highest major version to take. A driver runs the output of no NVRTC with a higher major version than its
    /// own: give cuDriverGetVersion() / 1000. Default: no limit.
    pub max_major: Option<u32>,
}

impl Default for FindOptions {
    fn default() -> FindOptions {
        let variable = |name: &str| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let mut toolkits: Vec<PathBuf> =
            TOOLKITS.iter().filter_map(|name| variable(name)).collect();
        toolkits.extend(entries(Path::new("/usr/local"), |name| {
            name.starts_with("cuda")
        }));
        FindOptions {
            path: None,
            environment: variable(NVRTC),
            project_dir: None,
            toolkits,
            system: true,
            site_packages: variable(VIRTUAL_ENV)
                .map(|root| site_packages_of(&root))
                .unwrap_or_default(),
            python: true,
            max_major: None,
        }
    }
}

impl FindOptions {
    /// The default, with the `nvrtc` folder in the build directory of the workspace that `manifest_dir` belongs to as
    /// the project's folder. For tests and tools of this workspace: `for_project(env!("CARGO_MANIFEST_DIR"))`.
    pub fn for_project(manifest_dir: impl AsRef<Path>) -> FindOptions {
        let target = match env::var_os(CARGO_TARGET_DIR).filter(|value| !value.is_empty()) {
            Some(target) => PathBuf::from(target),
            None => {
                let manifest_dir = manifest_dir.as_ref();
                let root = manifest_dir
                    .ancestors()
                    .filter(|folder| folder.join("Cargo.lock").is_file())
                    .last();
                root.unwrap_or(manifest_dir).join("target")
            }
        };
        FindOptions {
            project_dir: Some(target.join("nvrtc")),
            ..FindOptions::default()
        }
    }
}

/// Finds the library: the one that the user names, else the highest version that `max_major` allows, of equals the
/// first in the order project, toolkits, system, site-packages, and only then those of python3, whose start takes long.
pub(crate) fn find(options: &FindOptions) -> Result<Library, NvrtcError> {
    let max_major = options.max_major;
    let named = [("the caller", &options.path), (NVRTC, &options.environment)];
    if let Some((origin, path)) = named
        .into_iter()
        .find_map(|(origin, path)| Some((origin, path.as_ref()?)))
    {
        let mut search = Search::new(max_major);
        if path.is_dir() {
            search.directory(path);
            search.toolkit(path);
        } else {
            search.file(path);
        }
        let tried = search.tried;
        return search.best.ok_or_else(|| NvrtcError::Named {
            origin,
            path: path.clone(),
            tried,
            max_major,
        });
    }

    // Loaded before any file: a name that a loaded library bears already gives that library again, not the system's.
    let of_system = options.system.then(of_system);

    let mut search = Search::new(max_major);
    if let Some(folder) = &options.project_dir {
        search.directory(folder);
    }
    for root in &options.toolkits {
        search.toolkit(root);
    }
    if options.toolkits.is_empty() {
        let none = "no CUDA_HOME, no CUDA_PATH and no /usr/local/cuda*";
        search.tried.push(none.to_owned());
    }
    for (name, loaded) in of_system.into_iter().flatten() {
        search.named(name, loaded);
    }
    for site in &options.site_packages {
        search.site_packages(site);
    }
    if search.best.is_none() && options.python {
        search.python();
    }
    let tried = search.tried;
    search.best.ok_or(NvrtcError::Missing { tried, max_major })
}

/// A search under way.
struct Search {
    max_major: Option<u32>,
    best: Option<Library>,
    /// What was looked at and what came of it, for the error.
    tried: Vec<String>,
    /// Files that were opened already, under their real paths: toolkits are full of links.
    seen: HashSet<PathBuf>,
}

impl Search {
    fn new(max_major: Option<u32>) -> Search {
        Search {
            max_major,
            best: None,
            tried: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Takes `library` if it is allowed and newer than the best so far.
    fn consider(&mut self, library: Library) {
        let (major, minor) = library.version();
        if self.max_major.is_some_and(|max| major > max) {
            self.tried.push(format!(
                "{}: version {major}.{minor}, too new for the driver",
                library.path().display()
            ));
        } else if self
            .best
            .as_ref()
            .is_none_or(|best| best.version() < library.version())
        {
            self.best = Some(library);
        }
    }

    fn file(&mut self, path: &Path) {
        let opened = path::absolute(path).map(|path| {
            let is_new = fs::canonicalize(&path).map_or(true, |real| self.seen.insert(real));
            is_new.then(|| Library::open(&path))
        });
        match opened {
            Ok(Some(Ok(library))) => self.consider(library),
            Ok(Some(Err(error))) => self.tried.push(error.to_string()),
            Ok(None) => {}
            Err(error) => self.tried.push(format!("{}: {error}", path.display())),
        }
    }

    fn directory(&mut self, folder: &Path) {
        let files = entries(folder, |name| {
            name == "libnvrtc.so" || name.starts_with("libnvrtc.so.")
        });
        if files.is_empty() {
            self.tried
                .push(format!("{}: no libnvrtc.so", folder.display()));
        }
        files.iter().for_each(|file| self.file(file));
    }

    fn toolkit(&mut self, root: &Path) {
        TOOLKIT_LIBS
            .iter()
            .for_each(|lib| self.directory(&root.join(lib)));
    }

    fn site_packages(&mut self, site: &Path) {
        let folders = entries(&site.join("nvidia"), |name| name.starts_with("cu"));
        let folders: Vec<PathBuf> = folders
            .into_iter()
            .filter(|folder| folder.ends_with("cuda_nvrtc") || is_cuda_release(folder))
            .collect();
        if folders.is_empty() {
            self.tried.push(format!(
                "{}: no nvidia/cu13 and no nvidia/cuda_nvrtc",
                site.display()
            ));
        }
        folders
            .iter()
            .for_each(|folder| self.directory(&folder.join("lib")));
    }

    fn named(&mut self, name: &str, loaded: Option<Result<Library, LoadError>>) {
        match loaded {
            Some(Ok(library)) => self.consider(library),
            Some(Err(error)) => self.tried.push(error.to_string()),
            None => self
                .tried
                .push(format!("{name}: not known to the system's loader")),
        }
    }

    fn python(&mut self) {
        let output = Command::new("python3")
            .args(["-c", "import sys; print('\\n'.join(sys.path))"])
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let text = String::from_utf8_lossy(&output.stdout);
                let sites = text
                    .lines()
                    .map(Path::new)
                    .filter(|path| path.is_absolute() && path.is_dir());
                sites.for_each(|site| self.site_packages(site));
            }
            Ok(output) => self
                .tried
                .push(format!("python3: ended with {}", output.status)),
            Err(error) => self.tried.push(format!("python3: {error}")),
        }
    }
}

/// What the system's loader gives for each name.
fn of_system() -> Vec<(&'static str, Option<Result<Library, LoadError>>)> {
    let named = SYSTEM_NAMES.map(|name| (name, Library::of_system(name)));
    let others = ("libnvrtc.so and its other names", Library::of_cudarc());
    named.into_iter().chain([others]).collect()
}

/// Whether `folder` is `cu13` or a later release's.
fn is_cuda_release(folder: &Path) -> bool {
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    name.strip_prefix("cu").is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The site-packages directories of the Python installation at `root`.
fn site_packages_of(root: &Path) -> Vec<PathBuf> {
    let pythons = entries(&root.join("lib"), |name| name.starts_with("python3"));
    pythons
        .into_iter()
        .map(|python| python.join("site-packages"))
        .collect()
}

/// The entries of `folder` whose names pass, sorted so that a search does not depend on the file system's order.
fn entries(folder: &Path, passes: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&passes))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}
