//! Kernels with one planted defect each, and kernels that look suspicious but are right. The name of a file says what
//! must be found: `KIND_name.cu` has a defect of that kind at a line marked `// BUG` (a race or a meeting of lanes has
//! several such lines, and either may be named), `clean_name.cu` has none.

mod run;

use std::fs;
use std::path::{Path, PathBuf};

use virtual_gpu::case::{Case, contents};

/// The kinds of findings. A case is one launch, in which only shared memory of a cluster can be used after its end.
const KINDS: [&str; 15] = [
    "out_of_bounds",
    "use_after_free",
    "misaligned",
    "uninitialized_read",
    "race_shared",
    "race_global",
    "pending_async_read",
    "missing_proxy_fence",
    "divergent_barrier",
    "membermask",
    "deadlock",
    "mbarrier_misuse",
    "grid_not_resident",
    "write_to_const_or_param",
    "trap",
];

/// One kernel of the corpus.
struct Kernel {
    name: String,
    source: String,
    case: Case,
    expected: Expected,
}

/// What the checks must say about a kernel.
enum Expected {
    Clean,
    Defect {
        kind: &'static str,
        /// Lines of the source, counted from 1, of which the first finding must name one.
        lines: Vec<u32>,
    },
}

/// Every kernel, ordered by name.
fn corpus() -> Vec<Kernel> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bugs/kernels");
    let mut sources: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "cu"))
        .collect();
    sources.sort();
    sources.iter().map(|path| Kernel::read(path)).collect()
}

impl Kernel {
    fn read(path: &Path) -> Self {
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let source = fs::read_to_string(path).unwrap();
        let json = path.with_extension("json");
        let text = fs::read_to_string(&json).unwrap_or_else(|e| panic!("{}: {e}", json.display()));
        let case = Case::from_json(&text, &json).unwrap_or_else(|e| panic!("{e}"));
        let marked = (1..)
            .zip(source.lines())
            .filter(|(_, line)| line.ends_with("// BUG"));
        let lines: Vec<u32> = marked.map(|(number, _)| number).collect();
        let expected = if name.starts_with("clean_") {
            assert!(
                lines.is_empty(),
                "{name}: a clean kernel has a line marked BUG"
            );
            Expected::Clean
        } else {
            let kind = KINDS
                .into_iter()
                .find(|kind| name.starts_with(&format!("{kind}_")));
            let kind =
                kind.unwrap_or_else(|| panic!("{name}: the name begins with no kind of defect"));
            assert!(!lines.is_empty(), "{name}: no line is marked BUG");
            Expected::Defect { kind, lines }
        };
        Self {
            name,
            source,
            case,
            expected,
        }
    }
}

#[test]
fn cases_fit_their_sources() {
    for kernel in corpus() {
        let Kernel {
            name, source, case, ..
        } = &kernel;
        let entry = source
            .split("__global__ void ")
            .nth(1)
            .and_then(|rest| rest.split_once('('));
        let (entry, rest) = entry.unwrap_or_else(|| panic!("{name}: no __global__ function"));
        case.require_kernel_in([entry])
            .unwrap_or_else(|e| panic!("{e}"));
        let parameters = rest.split_once(')').unwrap().0.split(',').count();
        assert_eq!(
            case.args.len(),
            parameters,
            "{name}: arguments and parameters"
        );
        for (index, buffer) in case.buffers() {
            let made = contents(index, buffer);
            assert!(
                made.is_none_or(|bytes| bytes.len() == buffer.bytes()),
                "{name}: argument {index}"
            );
        }
    }
}

#[test]
fn every_kind_is_planted_more_than_once() {
    let corpus = corpus();
    for wanted in KINDS {
        let planted = corpus
            .iter()
            .filter(|k| matches!(k.expected, Expected::Defect { kind, .. } if kind == wanted));
        assert!(planted.count() >= 2, "{wanted}");
    }
    let defects = corpus
        .iter()
        .filter(|k| matches!(&k.expected, Expected::Defect { lines, .. } if !lines.is_empty()));
    assert!(defects.count() >= 90);
    assert!(
        corpus
            .iter()
            .filter(|k| matches!(k.expected, Expected::Clean))
            .count()
            >= 15
    );
}
