//! A virtual device with all checks, behind the probe's own interface.

use anyhow::{Context, Result, ensure};
use gpu_probe::{Facts, Gpu, HostWords, Launch, Meanwhile, compile, module};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::Instant;
use stheno_jit::Target;
use virtual_gpu::{
    Checks, Device, DevicePointer, LaunchConfig, LaunchOptions, MmaMode, Module, Profile,
};

/// The device. A launch with a finding is an error.
pub struct Checked {
    facts: Facts,
    device: Device,
    modules: BTreeMap<&'static str, Arc<Module>>,
    options: LaunchOptions,
    /// Whether every tape gets a wrong word after it was filled.
    pub spoils_tapes: bool,
    /// Kernels that ran.
    pub ran: BTreeSet<&'static str>,
}

impl Checked {
    /// A device like `profile`, with few multiprocessors and kernels compiled for its architecture.
    pub fn new(profile: Profile, multiprocessors: u32, seed: u64) -> Checked {
        let profile = profile.with_multiprocessors(multiprocessors);
        let facts = Facts {
            name: profile.name.clone(),
            is_virtual: true,
            capability: profile.capability,
            multiprocessors,
            l2_bytes: profile.l2,
            shared_bytes: profile.shared_per_block_optin,
            memory_bytes: profile.memory,
            clock_mhz: profile.clock,
            driver_version: 12_080,
        };
        let mma = MmaMode::Exact(profile.arch());
        Checked {
            facts,
            device: Device::new(profile),
            modules: BTreeMap::new(),
            options: LaunchOptions {
                checks: Checks::All,
                seed,
                mma,
                ..LaunchOptions::default()
            },
            spoils_tapes: false,
            ran: BTreeSet::new(),
        }
    }
}

impl Gpu for Checked {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn allocate(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.device.alloc(bytes)?.0)
    }

    fn free(&mut self, at: u64) -> Result<()> {
        Ok(self.device.free(DevicePointer(at))?)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.device.write(DevicePointer(at), bytes)?)
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<()> {
        Ok(self.device.read(DevicePointer(at), bytes)?)
    }

    fn host_words(&mut self, count: usize) -> Result<HostWords> {
        let words: &'static [AtomicU32] =
            Box::leak((0..count).map(|_| AtomicU32::new(0)).collect());
        let host = words.as_ptr().cast_mut().cast();
        // SAFETY: the words are never freed, and the host accesses them as atomics only.
        let at = unsafe { self.device.map_host(host, count * 4, "words of the host") }?;
        Ok(HostWords { at: at.0, words })
    }

    fn launch(&mut self, launch: &Launch<'_>, meanwhile: Option<Meanwhile<'_>>) -> Result<f64> {
        if !self.modules.contains_key(launch.module) {
            let source = module(launch.module).context("no such module")?;
            let (major, minor) = self.facts.capability;
            let compiled = compile(&crate::nvrtc(), source, Target::Virtual(major * 10 + minor))?;
            self.modules.insert(
                launch.module,
                Module::from_ptx(&compiled.ptx.context("no PTX")?)?,
            );
        }
        self.ran.insert(launch.kernel);
        let config = LaunchConfig {
            dynamic_shared: launch.shared_bytes,
            cooperative: launch.cooperative,
            cluster: None,
            ..LaunchConfig::linear(launch.blocks, launch.threads)
        };
        let (module, device, options) = (
            &self.modules[launch.module],
            &mut self.device,
            &self.options,
        );
        let begun = Instant::now();
        let report = thread::scope(|scope| {
            if let Some(meanwhile) = meanwhile {
                scope.spawn(meanwhile);
            }
            device.launch(module, launch.kernel, &config, launch.arguments, options)
        })?;
        let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        ensure!(
            report.completed && findings.is_empty(),
            "{} has findings: {findings:#?}",
            launch.kernel
        );
        if self.spoils_tapes && launch.kernel == "fill" {
            // The second field of the arguments is where the tape lies.
            let at = launch.arguments[8..16].try_into().map(u64::from_le_bytes)?;
            self.device.write(DevicePointer(at + 40), &[1, 2, 3, 4])?;
        }
        Ok(begun.elapsed().as_secs_f64() * 1e6)
    }

    fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<f64> {
        self.device
            .copy(DevicePointer(to), DevicePointer(from), bytes)?;
        Ok(1.0)
    }
}
