//! The driver's library, which a process loads once.

use super::DeviceError;
use super::facts::DeviceFacts;
use super::library;
use cudarc::driver::{result, sys};
use std::ffi::c_int;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Whose driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DriverKind {
    /// The system's `libcuda`, NVIDIA's. A virtual one that lies in its place (`LD_LIBRARY_PATH`) is taken too, and
    /// [`DeviceFacts::is_virtual`] says so.
    Cuda,
    /// The virtual GPU's, from the package `virtual-gpu-cuda`.
    Virtual,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DriverKind::Cuda => "the system's CUDA driver",
            DriverKind::Virtual => "the driver of the virtual GPU",
        })
    }
}

/// The loaded driver. It stays loaded until the process ends.
#[derive(Debug, Clone, Copy)]
pub struct Driver {
    kind: DriverKind,
}

/// What this process has loaded. It lies here because cudarc keeps one library in a process.
static LOADED: Mutex<Option<DriverKind>> = Mutex::new(None);

impl Driver {
    /// Loads and starts the driver; that it is there already is not an error.
    ///
    /// # Errors
    /// There is none, it is unusable, it shows no device, or this process has the driver of the other kind.
    pub fn load(kind: DriverKind) -> Result<Driver, DeviceError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        match *loaded {
            Some(found) if found == kind => {}
            Some(found) => {
                return Err(DeviceError::OtherDriver {
                    loaded: found,
                    asked: kind,
                });
            }
            None => {
                library::load(kind)?;
                *loaded = Some(kind);
            }
        }
        result::init().map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_NO_DEVICE => DeviceError::NoDevice,
            _ => DeviceError::call("cuInit", error),
        })?;
        Ok(Driver { kind })
    }

    /// Which one it is.
    pub fn kind(&self) -> DriverKind {
        self.kind
    }

    /// The CUDA version that it is for, 12080 for 12.8.
    ///
    /// # Errors
    /// The driver does not tell.
    pub fn version(&self) -> Result<u32, DeviceError> {
        let mut version: c_int = 0;
        // SAFETY: the driver writes one integer.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }
            .result()
            .map_err(|error| DeviceError::call("cuDriverGetVersion", error))?;
        Ok(u32::try_from(version).unwrap_or(0))
    }

    /// Number of devices.
    ///
    /// # Errors
    /// The driver does not tell.
    pub fn device_count(&self) -> Result<u32, DeviceError> {
        let count = result::device::get_count()
            .map_err(|error| DeviceError::call("cuDeviceGetCount", error))?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    /// What a device says of itself; makes no context on it.
    ///
    /// # Errors
    /// There is no such device, or it does not answer.
    pub fn facts(&self, ordinal: u32) -> Result<DeviceFacts, DeviceError> {
        DeviceFacts::read(self, self.device(ordinal)?)
    }

    pub(super) fn device(&self, ordinal: u32) -> Result<sys::CUdevice, DeviceError> {
        let count = self.device_count()?;
        let index = c_int::try_from(ordinal)
            .ok()
            .filter(|_| ordinal < count)
            .ok_or(DeviceError::Ordinal { ordinal, count })?;
        result::device::get(index).map_err(|error| DeviceError::call("cuDeviceGet", error))
    }
}
