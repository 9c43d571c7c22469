//! What of a GPU's software this machine has.

use super::{DeviceError, DeviceFacts, Driver, DriverKind, find_nvrtc, find_virtual_driver};
use std::path::PathBuf;
use std::sync::OnceLock;
use stheno_jit::{Cache, Nvrtc, NvrtcError};

/// What was found. Looking loads the system's CUDA driver, so that this process cannot have the virtual one afterwards.
#[derive(Debug)]
pub struct Survey {
    /// The system's driver and its devices.
    pub cuda: Result<CudaSurvey, DeviceError>,
    nvrtc: OnceLock<Result<Nvrtc, NvrtcError>>,
    /// The library of the virtual GPU.
    pub virtual_driver: Result<PathBuf, DeviceError>,
    /// Where compiled kernels are kept; `None` without a home directory.
    pub cache: Option<PathBuf>,
}

/// The system's CUDA driver.
#[derive(Debug, Clone)]
pub struct CudaSurvey {
    /// The CUDA version that it is for, 12080 for 12.8.
    pub version: u32,
    /// Its devices, in the order of their ordinals.
    pub devices: Vec<FoundDevice>,
}

/// A device of the system's CUDA driver.
#[derive(Debug, Clone)]
pub struct FoundDevice {
    /// What it is called in `cuda:0`.
    pub ordinal: u32,
    /// What it says of itself.
    pub facts: DeviceFacts,
}

/// The least compute capability that the decode program runs on: asynchronous copies and bf16.
const LEAST_CAPABILITY: (u32, u32) = (8, 0);

impl Survey {
    /// Looks.
    pub fn look() -> Survey {
        Survey {
            cuda: look_for_cuda(),
            nvrtc: OnceLock::new(),
            virtual_driver: find_virtual_driver(),
            cache: Cache::default_directory(),
        }
    }

    /// The compiler, of a version whose output the driver runs if there is one. It is looked for at the first call, which
    /// may take long where there is none: python3 is asked last.
    ///
    /// # Errors
    /// Where it was looked for.
    pub fn nvrtc(&self) -> Result<&Nvrtc, &NvrtcError> {
        let find = || {
            // The devices share a driver, and its limit.
            let first = self
                .cuda
                .as_ref()
                .ok()
                .and_then(|cuda| cuda.devices.first());
            find_nvrtc(first.map(|device| &device.facts))
        };
        self.nvrtc.get_or_init(find).as_ref()
    }

    /// The first device that the decode program can be compiled for and run on, or why there is none.
    ///
    /// # Errors
    /// The sentence that says why.
    pub fn usable_device(&self) -> Result<&FoundDevice, String> {
        let cuda = self.cuda.as_ref().map_err(ToString::to_string)?;
        let mut unfit = cuda
            .devices
            .iter()
            .map(|device| (device, unfit(&device.facts)));
        let Some((found, _)) = unfit.clone().find(|(_, reason)| reason.is_none()) else {
            let first = unfit.find_map(|(_, reason)| reason);
            return Err(first.unwrap_or_else(|| DeviceError::NoDevice.to_string()));
        };
        match self.nvrtc() {
            Ok(_) => Ok(found),
            Err(error) => Err(format!("{} is there, but {error}", found.facts.name)),
        }
    }
}

/// Why a device is not taken where none is named.
fn unfit(facts: &DeviceFacts) -> Option<String> {
    let (name, (major, minor)) = (&facts.name, facts.compute_capability);
    if facts.compute_capability < LEAST_CAPABILITY {
        let (least_major, least_minor) = LEAST_CAPABILITY;
        return Some(format!(
            "{name} has compute capability {major}.{minor}, {least_major}.{least_minor} is needed"
        ));
    }
    if !facts.cooperative_launch {
        return Some(format!("{name} has no cooperative launches"));
    }
    // It would be slower than the host executor by far.
    facts
        .is_virtual
        .then(|| format!("{name} is imitated on the CPU"))
}

fn look_for_cuda() -> Result<CudaSurvey, DeviceError> {
    let driver = Driver::load(DriverKind::Cuda)?;
    let devices = (0..driver.device_count()?).map(|ordinal| {
        let facts = driver.facts(ordinal)?;
        Ok(FoundDevice { ordinal, facts })
    });
    Ok(CudaSurvey {
        version: driver.version()?,
        devices: devices.collect::<Result<_, DeviceError>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(ordinal: u32, compute_capability: (u32, u32)) -> FoundDevice {
        FoundDevice {
            ordinal,
            facts: DeviceFacts {
                name: format!("GPU {ordinal}"),
                is_virtual: false,
                compute_capability,
                sm_count: 1,
                shared_memory_per_block: 0,
                registers_per_sm: 0,
                max_threads_per_block: 0,
                memory_bytes: 0,
                l2_bytes: 0,
                bandwidth: 0.0,
                cooperative_launch: true,
                driver_version: 12_080,
            },
        }
    }

    fn survey(cuda: Result<Vec<FoundDevice>, DeviceError>) -> Survey {
        Survey {
            cuda: cuda.map(|devices| CudaSurvey {
                version: 12_080,
                devices,
            }),
            nvrtc: OnceLock::from(Err(NvrtcError::Missing {
                tried: Vec::new(),
                max_major: Some(12),
            })),
            virtual_driver: Err(DeviceError::MissingVirtualDriver { tried: Vec::new() }),
            cache: None,
        }
    }

    #[test]
    fn what_is_missing_is_the_reason() {
        let why = |cuda| survey(cuda).usable_device().unwrap_err();
        assert!(why(Err(DeviceError::MissingDriver)).contains("found no NVIDIA driver"));
        assert!(why(Ok(vec![])).contains("shows no device"));
        let old = why(Ok(vec![device(0, (7, 5))]));
        assert!(
            old.contains("GPU 0 has compute capability 7.5, 8.0 is"),
            "{old}"
        );
        let mut desktop = device(0, (8, 6));
        desktop.facts.cooperative_launch = false;
        assert!(why(Ok(vec![desktop])).contains("cooperative launches"));
        let mut imitated = device(0, (9, 0));
        imitated.facts.is_virtual = true;
        assert!(why(Ok(vec![imitated])).contains("imitated"));
        let found = why(Ok(vec![device(0, (7, 5)), device(1, (9, 0))]));
        assert!(
            found.contains("GPU 1 is there, but found no NVRTC"),
            "{found}"
        );
    }
}
