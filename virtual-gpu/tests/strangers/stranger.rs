//! One kernel of another project: a launch of it, and how it ended.

use std::fmt;
use std::path::Path;

use virtual_gpu::case::{Arg, Case, PackedArg, Role, contents, pack};
use virtual_gpu::check::finding::FindingKind;
use virtual_gpu::{Device, DevicePointer, LaunchConfig, LaunchOptions, Module, Profile};

use super::expected::Expected;

/// A kernel with a launch and the contents of its buffers after it.
#[derive(Clone)]
pub struct Stranger {
    /// Name of its files.
    pub name: String,
    /// Its module.
    pub ptx: String,
    /// Its launch.
    pub case: Case,
    /// What its buffers hold after it.
    pub expected: Vec<Expected>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The expected results and no finding.
    Right,
    /// The expected results, but with findings: the first one's kind, and its text.
    Found(FindingKind, String),
    /// It did not come to its end, or a buffer holds something else.
    Wrong(String),
    /// An instruction that is not supported, by its name and line.
    Refused(String),
}

impl Outcome {
    /// The same kind of end; the first finding's kind counts, its text does not.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Right, Self::Right) => true,
            (Self::Found(kind, _), Self::Found(other, _)) => kind == other,
            // Of what is refused the instruction counts, not its line.
            (Self::Refused(message), Self::Refused(part)) => message.contains(part.as_str()),
            (Self::Right | Self::Found(..) | Self::Wrong(_) | Self::Refused(_), _) => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right => write!(f, "right"),
            Self::Found(_, text) => write!(f, "found {text}"),
            Self::Wrong(text) => write!(f, "wrong: {text}"),
            Self::Refused(text) => write!(f, "refused: {text}"),
        }
    }
}

impl Stranger {
    /// The kernels of a folder in the order of their names.
    pub fn all_in(folder: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut names: Vec<String> = entries
            .filter_map(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                name.strip_suffix(".ptx").map(str::to_owned)
            })
            .collect();
        names.sort();
        names
            .into_iter()
            .map(|name| Self::read(folder, name))
            .collect()
    }

    fn read(folder: &Path, name: String) -> Self {
        let text = |ending: &str| {
            let path = folder.join(format!("{name}.{ending}"));
            std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let case = Case::from_json(&text("json"), format!("{name}.json"));
        let expected = Expected::all_from_json(&text("expected.json"));
        Self {
            case: case.unwrap_or_else(|error| panic!("{error}")),
            expected: expected.unwrap_or_else(|error| panic!("{name}: {error}")),
            ptx: text("ptx"),
            name,
        }
    }

    /// Runs it on a device of its own.
    pub fn run(&self, options: &LaunchOptions) -> Outcome {
        let module = match Module::from_ptx(&self.ptx) {
            Ok(module) => module,
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        let mut device = Device::new(Profile::h100());
        let mut buffers: Vec<(usize, DevicePointer, usize)> = Vec::new();
        let mut arguments = Vec::new();
        for (index, arg) in self.case.args.iter().enumerate() {
            match arg {
                Arg::Scalar(scalar) => arguments.push(PackedArg::from(scalar)),
                Arg::Buffer(buffer) => {
                    let named = format!("arg{index}");
                    let pointer = device.alloc_named(buffer.bytes(), named).unwrap();
                    if let Some(data) = contents(index, buffer) {
                        device.write(pointer, &data).unwrap();
                    }
                    buffers.push((index, pointer, buffer.bytes()));
                    arguments.push(PackedArg::pointer(pointer.0));
                }
                Arg::TensorMap(_) => {
                    return Outcome::Refused("no case here has a tensor map yet".to_owned());
                }
            }
        }
        let config = LaunchConfig {
            grid: self.case.grid,
            block: self.case.block,
            dynamic_shared: self.case.dynamic_shared,
            cooperative: self.case.cooperative,
            cluster: self.case.cluster,
        };
        let launched = device.launch(
            &module,
            &self.case.kernel,
            &config,
            &pack(&arguments),
            options,
        );
        let report = match launched {
            Ok(report) => report,
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        let found = report.findings.first();
        if let Some(finding) = found.filter(|_| !report.completed) {
            return Outcome::Wrong(format!("it did not come to its end: {finding}"));
        }
        for (index, buffer) in self.case.buffers().filter(|(_, b)| b.role() == Role::In) {
            let pointer = buffers.iter().find(|(at, ..)| *at == index);
            let (Some((_, pointer, bytes)), Some(before)) = (pointer, contents(index, buffer))
            else {
                continue;
            };
            let mut after = vec![0; *bytes];
            device.read(*pointer, &mut after).unwrap();
            if before != after {
                return Outcome::Wrong(format!("argument {index}, an input, has changed"));
            }
        }
        for expected in &self.expected {
            let Some((_, pointer, bytes)) =
                buffers.iter().find(|(index, ..)| *index == expected.arg)
            else {
                return Outcome::Wrong(format!("argument {} is no buffer", expected.arg));
            };
            let mut got = vec![0; *bytes];
            device.read(*pointer, &mut got).unwrap();
            if let Err(what) = expected.check(&got) {
                return Outcome::Wrong(format!("argument {}: {what}", expected.arg));
            }
        }
        match found {
            Some(finding) => Outcome::Found(finding.kind, finding.to_string()),
            None => Outcome::Right,
        }
    }
}
