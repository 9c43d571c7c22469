//! `virtual-gpu run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};
use virtual_gpu::case::{Case, Report};
use virtual_gpu::{Checks, Device, LaunchConfig, LaunchOptions, MmaMode, Module, Profile};

use crate::arguments::{self, Arguments};
use crate::kernel::{self, Origin};
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
    #[arg(long)]
    json: bool,
    /// Count instructions and memory traffic, and report them
    #[arg(long)]
    include_counters: bool,
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
        // Only the refusal of a grid that does not fit depends on them.
        let registers = match case.cooperative {
            true => loaded.registers(&case.kernel, profile.target()),
            false => None,
        };
        let options = LaunchOptions {
            checks: match self.checks {
                CheckLevel::None => Checks::None,
                CheckLevel::Bounds => Checks::Bounds,
                CheckLevel::All => Checks::All,
            },
            counters: self.include_counters,
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
        let mut warnings = launched.warnings;
        warnings.extend(too_new(module.target(), &profile));
        let report = Report {
            completed: launched.completed,
            findings: launched.findings,
            counters: self.include_counters.then_some(launched.counters),
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
            print(&report::text(&case.kernel, &report))?;
        }
        Ok(report.exit_code())
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

/// What to say of PTX that the imitated device would not take.
fn too_new(target: &str, profile: &Profile) -> Option<String> {
    let number = target.strip_prefix("sm_")?;
    let number: u32 = number.trim_end_matches(['a', 'f']).parse().ok()?;
    let (major, minor) = profile.capability;
    (number > 10 * major + minor).then(|| {
        format!("the kernel is for {target}; a real device like {}, of sm_{major}{minor}, would not load it", profile.name)
    })
}
