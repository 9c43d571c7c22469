//! `virtual-gpu run`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum, value_parser};
use virtual_gpu::case::{Case, Report};
use virtual_gpu::check::finding::Finding;
use virtual_gpu::profile::coverage::Coverage;
use virtual_gpu::profile::roofline::Roofline;
use virtual_gpu::report::{Static, ncu, sanitizer};
use virtual_gpu::{Checks, Device, LaunchConfig, LaunchOptions, MmaMode, Module, Profile};

use crate::arguments::{self, Arguments};
use crate::kernel::{self, Loaded, Origin};
use crate::outcome::{Failure, print};
use crate::report;

/// Runs a case.
#[derive(Args)]
pub struct Run {
    /// The case file: one launch, as JSON
    case: PathBuf,
    /// The kernel as CUDA C++ [default: the file beside the case with the ending .cu]
    #[arg(long, value_name = "K.cu", conflicts_with = "ptx")]
    source: Option<PathBuf>,
    /// The kernel as PTX
    #[arg(long, value_name = "K.ptx")]
    ptx: Option<PathBuf>,
    /// The device to imitate
    #[arg(long, default_value = "h100", value_parser = clap::builder::PossibleValuesParser::new(Profile::NAMES))]
    profile: String,
    /// Multiprocessors, if not as many as the device has
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=65_536))]
    sms: Option<u32>,
    /// What to check
    #[arg(long, default_value = "all")]
    checks: CheckLevel,
    /// The order in which blocks and warps take turns
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How tensor-core products are summed: to the bit like the device, or plainly
    #[arg(long, default_value = "exact")]
    mma: Sums,
    /// Warp instructions after which the kernel counts as hanging [default: no limit]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    fuel: u64,
    /// A folder with argN.in.bin for arguments whose contents are not to be generated
    #[arg(long, value_name = "DIR", value_parser = arguments::folder)]
    inputs: Option<PathBuf>,
    /// Where argN.out.bin is written for out and inout arguments
    #[arg(long, value_name = "DIR")]
    outputs: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long, conflicts_with = "report")]
    json: bool,
    /// Count instructions and memory traffic, and report them with an estimate
    #[arg(long)]
    include_counters: bool,
    /// How the report looks: its own way, like compute-sanitizer's, or like Nsight Compute's (which counts)
    #[arg(long, default_value = "text")]
    report: Look,
    /// Write what of the source has run, for genhtml and editors (lcov)
    #[arg(long, value_name = "FILE")]
    coverage: Option<PathBuf>,
    /// Write the source with what has run before each line
    #[arg(long, value_name = "FILE")]
    annotate: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Look {
    /// A paragraph for each finding
    Text,
    /// Findings as compute-sanitizer prints them
    Sanitizer,
    /// Sections of counters as Nsight Compute prints them
    Ncu,
}

#[derive(Clone, Copy, ValueEnum)]
enum CheckLevel {
    /// Only what keeps the run itself safe
    None,
    /// Bounds, alignment, barriers, deadlock
    Bounds,
    /// Uninitialised reads, pending copies and races as well
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sums {
    Exact,
    Fast,
}

impl Run {
    /// Runs the case and prints the report. Gives the exit code.
    pub fn execute(&self) -> Result<u8, Failure> {
        let case = Case::from_json(&kernel::read(&self.case)?, &self.case)?;
        let profile = self.profile()?;
        let loaded = self.origin().load(&case.arch)?;
        let module = Module::from_ptx(&loaded.ptx)
            .map_err(|error| Failure::bad_use(format!("{}: {error}", loaded.name)))?;
        case.require_kernel_in(module.kernels())?;
        let Some(info) = module.kernel(&case.kernel) else {
            return Err(Failure::bad_use(format!(
                "there is no kernel {}",
                case.kernel
            )));
        };
        let mut device = Device::new(profile.clone());
        let arguments = Arguments::place(&case, &info, &mut device, self.inputs.as_deref())?;
        let counts = self.include_counters || self.report == Look::Ncu;
        // Only the refusal of a grid that does not fit, and estimates, depend on them.
        let registers = match case.cooperative || counts {
            true => loaded.registers(&case.kernel, profile.target()),
            false => None,
        };
        let options = LaunchOptions {
            checks: match self.checks {
                CheckLevel::None => Checks::None,
                CheckLevel::Bounds => Checks::Bounds,
                CheckLevel::All => Checks::All,
            },
            counters: counts || self.coverage.is_some() || self.annotate.is_some(),
            seed: self.seed,
            mma: match self.mma {
                Sums::Exact => MmaMode::Exact(profile.arch()),
                Sums::Fast => MmaMode::Fast,
            },
            fuel: self.fuel,
            registers_per_thread: registers,
            ..LaunchOptions::default()
        };
        let config = LaunchConfig {
            grid: case.grid,
            block: case.block,
            dynamic_shared: case.dynamic_shared,
            cooperative: case.cooperative,
            cluster: case.cluster,
        };
        let launched = device.launch(
            &module,
            &case.kernel,
            &config,
            &arguments.parameters,
            &options,
        )?;
        if let Some(folder) = &self.outputs {
            arguments.save(&device, folder).map_err(Failure::Other)?;
        }
        self.write_coverage(&launched.coverage, &loaded)?;
        let known = Static {
            registers: registers.unwrap_or(info.limits().max_registers),
            shared: info.static_shared(),
        };
        let estimate = self.include_counters.then(|| {
            let shared = known.shared + config.dynamic_shared;
            let resident =
                profile.blocks_per_multiprocessor(config.threads(), shared, known.registers);
            Roofline::of(&launched.counters, &profile, resident)
        });
        let mut warnings = launched.warnings;
        warnings.extend(too_new(module.target(), &profile));
        let report = Report {
            completed: launched.completed,
            findings: launched.findings,
            counters: counts.then_some(launched.counters),
            estimate,
            warnings,
        };
        if self.json {
            // What the kernel prints is not part of the document.
            eprint!("{}", launched.printed);
            let text =
                serde_json::to_string_pretty(&report).map_err(|e| Failure::Other(e.into()))?;
            print(&format!("{text}\n"))?;
        } else {
            print(&launched.printed)?;
            let text = match (self.report, &report.counters) {
                (Look::Text, _) => report::text(&case.kernel, &report),
                (Look::Ncu, Some(counters)) => {
                    sanitizer_unless_clean(&report.findings, config.block)
                        + &ncu(counters, &config, known, &profile)
                }
                (Look::Sanitizer | Look::Ncu, _) => sanitizer(&report.findings, config.block),
            };
            print(&text)?;
        }
        Ok(report.exit_code())
    }

    /// Writes the files of the coverage that were asked for. A file that the compiler named lies beside the source.
    fn write_coverage(&self, coverage: &Coverage, loaded: &Loaded) -> Result<(), Failure> {
        if coverage.is_empty() && (self.coverage.is_some() || self.annotate.is_some()) {
            return Err(Failure::bad_use(
                "no coverage: the PTX has no line information (compile with --generate-line-info)",
            ));
        }
        let folder = Path::new(&loaded.name).parent().unwrap_or(Path::new(""));
        let place = |file: &str| folder.join(file);
        let write = |path: &Path, text: String| {
            fs::write(path, text)
                .with_context(|| format!("{} cannot be written", path.display()))
                .map_err(Failure::Other)
        };
        if let Some(path) = &self.coverage {
            let named = |file: &str| {
                let place = place(file);
                let found = place.canonicalize().unwrap_or(place);
                found.display().to_string()
            };
            write(path, coverage.lcov(named))?;
        }
        if let Some(path) = &self.annotate {
            write(
                path,
                coverage.annotated(|file| fs::read_to_string(place(file)).ok()),
            )?;
        }
        Ok(())
    }

    fn profile(&self) -> Result<Profile, Failure> {
        let profile = Profile::by_name(&self.profile)
            .ok_or_else(|| Failure::bad_use(format!("there is no profile {}", self.profile)))?;
        Ok(match self.sms {
            Some(count) => profile.with_multiprocessors(count),
            None => profile,
        })
    }

    fn origin(&self) -> Origin {
        match (&self.ptx, &self.source) {
            (Some(ptx), _) => Origin::Ptx(ptx.clone()),
            (None, Some(source)) => Origin::Source(source.clone()),
            (None, None) => Origin::Source(self.case.with_extension("cu")),
        }
    }
}

/// Findings as `compute-sanitizer` prints them; nothing if there is none.
fn sanitizer_unless_clean(findings: &[Finding], block: [u32; 3]) -> String {
    match findings.is_empty() {
        true => String::new(),
        false => sanitizer(findings, block),
    }
}

/// What to say of PTX that the imitated device would not take.
fn too_new(target: &str, profile: &Profile) -> Option<String> {
    let number = target.strip_prefix("sm_")?;
    let number: u32 = number.trim_end_matches(['a', 'f']).parse().ok()?;
    let (major, minor) = profile.capability;
    (number > 10 * major + minor).then(|| {
        format!("the kernel is for {target}; a real device like {}, of sm_{major}{minor}, would not load it", profile.name)
    })
}
