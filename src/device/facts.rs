use super::{DeviceError, Driver, library};
use cudarc::driver::{result, sys};
use stheno_codegen::tune::Architecture;
use stheno_jit::Target;
use sys::CUdevice_attribute as Attribute;

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceFacts {
    /// Its name.
    pub name: String,
    /// Whether it is imitated on the CPU: then it takes PTX only, and no time of it means anything.
    pub is_virtual: bool,
    /// Compute capability, (9, 0) for an H100.
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub sm_count: u32,
    /// Bytes of shared memory that one block can have when it asks for it.
    pub shared_memory_per_block: u32,
    /// 32-bit registers of a multiprocessor.
    pub registers_per_sm: u32,
    /// Threads of a block, at most.
    pub max_threads_per_block: u32,
    /// Bytes of device memory; [`super::Context::memory`] says how many are free.
    pub memory_bytes: u64,
    /// Bytes of L2.
    pub l2_bytes: u64,
    /// Bytes a second between memory and chip by its clock and width; 0 where the driver does not tell.
    pub bandwidth: f64,
    /// Whether all blocks of a launch can be made resident together.
    pub cooperative_launch: bool,
    /// The CUDA version that the driver is for, 12080 for 12.8.
    pub driver_version: u32,
}

/// Share of [`DeviceFacts::bandwidth`] that copies reach, about.
const COPY_SHARE: f64 = 0.9;

impl DeviceFacts {
    pub(super) fn read(driver: &Driver, device: sys::CUdevice) -> Result<Self, DeviceError> {
        let attribute = |attribute| -> Result<u32, DeviceError> {
            // SAFETY: the device is one that the driver gave.
            let value = unsafe { result::device::get_attribute(device, attribute) }
                .map_err(|error| DeviceError::call("cuDeviceGetAttribute", error))?;
            Ok(u32::try_from(value).unwrap_or(0))
        };
        let name = result::device::get_name(device)
            .map_err(|error| DeviceError::call("cuDeviceGetName", error))?;
        // SAFETY: the device is one that the driver gave.
        let memory = unsafe { result::device::total_mem(device) }
            .map_err(|error| DeviceError::call("cuDeviceTotalMem", error))?;
        // Newer drivers do not tell these of every device.
        let optional = |name| f64::from(attribute(name).unwrap_or(0));
        let clock = 1e3 * optional(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
        let width = optional(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH) / 8.0;
        Ok(DeviceFacts {
            name,
            is_virtual: library::is_virtual(),
            compute_capability: (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            sm_count: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_memory_per_block: attribute(
                Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            )?,
            registers_per_sm: attribute(
                Attribute::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR,
            )?,
            max_threads_per_block: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
            memory_bytes: memory as u64,
            l2_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?.into(),
            // Two transfers a clock.
            bandwidth: 2.0 * clock * width,
            cooperative_launch: attribute(Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)? != 0,
            driver_version: driver.version()?,
        })
    }

    /// What the sizes of a device program depend on.
    pub fn architecture(&self) -> Architecture {
        Architecture {
            name: self.name.clone().into(),
            compute_capability: self.compute_capability,
            sm_count: self.sm_count,
            shared_memory_per_block: self.shared_memory_per_block,
            registers_per_sm: self.registers_per_sm,
            max_threads_per_block: self.max_threads_per_block,
            bandwidth: COPY_SHARE * self.bandwidth,
            unverified: &["bandwidth"],
        }
    }

    /// What NVRTC is to compile for: PTX for a virtual device, else a cubin, from 9.0 on with what only this
    /// architecture has.
    pub fn target(&self) -> Target {
        let (major, minor) = self.compute_capability;
        if self.is_virtual {
            return Target::Virtual(10 * major + minor);
        }
        let letter = if major >= 9 { "a" } else { "" };
        Target::Real(format!("sm_{major}{minor}{letter}"))
    }

    /// The highest major version of NVRTC whose output the driver runs; `None` if any will do, as for PTX on a virtual
    /// device.
    pub fn nvrtc_limit(&self) -> Option<u32> {
        (!self.is_virtual).then_some(self.driver_version / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(is_virtual: bool, compute_capability: (u32, u32)) -> DeviceFacts {
        DeviceFacts {
            name: "some".to_owned(),
            is_virtual,
            compute_capability,
            sm_count: 108,
            shared_memory_per_block: 166_912,
            registers_per_sm: 65_536,
            max_threads_per_block: 1024,
            memory_bytes: 80 << 30,
            l2_bytes: 40 << 20,
            bandwidth: 2e12,
            cooperative_launch: true,
            driver_version: 12_080,
        }
    }

    #[test]
    fn the_target_is_the_devices_own() {
        let real = |name: &str| Target::Real(name.to_owned());
        assert_eq!(facts(false, (8, 0)).target(), real("sm_80"));
        assert_eq!(facts(false, (9, 0)).target(), real("sm_90a"));
        assert_eq!(facts(false, (12, 1)).target(), real("sm_121a"));
        assert_eq!(facts(true, (9, 0)).target(), Target::Virtual(90));
        assert_eq!(facts(false, (9, 0)).nvrtc_limit(), Some(12));
        assert_eq!(facts(true, (9, 0)).nvrtc_limit(), None);
    }

    #[test]
    fn an_architecture_has_what_the_device_says() {
        let architecture = facts(false, (8, 0)).architecture();
        let known = Architecture::A100;
        assert_eq!(architecture.name, "some");
        assert_eq!(architecture.sm_count, known.sm_count);
        assert_eq!(
            architecture.shared_memory_per_block,
            known.shared_memory_per_block
        );
        assert_eq!(architecture.registers_per_sm, known.registers_per_sm);
        assert_eq!(architecture.bandwidth, 1.8e12);
    }
}
