//! The device: count, name, memory, attributes.

use crate::boundary::{Answer, Out, Text, exports};
use crate::driver::{driver, on_device};
use crate::error::{INVALID_DEVICE, INVALID_VALUE};
use cudarc::driver::sys::CUdevice_attribute as A;
use virtual_gpu::Profile;

/// Identity of the device on the bus: domain, bus and device.
const BUS_ID: &str = "0000:01:00.0";
const UUID: [u8; 16] = *b"virtual-gpu\0\0\0\0\x01";

/// Attributes that are not 0.
fn attributes(profile: &Profile) -> Vec<(A, u32)> {
    let (major, minor) = profile.capability;
    vec![
        (A::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024),
        (A::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024),
        (A::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024),
        (A::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64),
        (A::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, i32::MAX as u32),
        (A::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65_535),
        (A::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65_535),
        (
            A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK,
            profile.shared_per_block,
        ),
        (A::CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 65_536),
        (A::CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32),
        (A::CU_DEVICE_ATTRIBUTE_MAX_PITCH, i32::MAX as u32),
        (
            A::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK,
            profile.registers,
        ),
        (A::CU_DEVICE_ATTRIBUTE_CLOCK_RATE, profile.clock),
        (A::CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512),
        (A::CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT, 32),
        (A::CU_DEVICE_ATTRIBUTE_GPU_OVERLAP, 1),
        (
            A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            profile.multiprocessors,
        ),
        (A::CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1),
        (A::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 1),
        (
            A::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE,
            profile.memory_clock,
        ),
        (
            A::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH,
            profile.bus_width,
        ),
        (
            A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE,
            profile.l2.min(i32::MAX as u64) as u32,
        ),
        (
            A::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR,
            profile.threads,
        ),
        (A::CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 1),
        (A::CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1),
        (A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, major),
        (A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, minor),
        (A::CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED, 1),
        (A::CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED, 1),
        (A::CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED, 1),
        (
            A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR,
            profile.shared_per_multiprocessor,
        ),
        (
            A::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR,
            profile.registers,
        ),
        (A::CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1),
        (A::CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED, 1),
        (A::CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1),
        (A::CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED, 1),
        (
            A::CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM,
            1,
        ),
        (A::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 1),
        (
            A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            profile.shared_per_block_optin,
        ),
        (A::CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 1),
        (
            A::CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST,
            1,
        ),
        (
            A::CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR,
            profile.blocks,
        ),
        (
            A::CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK,
            profile.shared_reserved,
        ),
        (A::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1),
        (
            A::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH,
            u32::from(profile.capability >= (9, 0)),
        ),
        (
            A::CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED,
            u32::from(profile.capability >= (9, 0)),
        ),
        // Single precision is so many times as fast as double.
        (
            A::CU_DEVICE_ATTRIBUTE_SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO,
            profile.rates.float32 / profile.rates.float64.max(1),
        ),
    ]
}

fn total(bytes: Out<usize>, device: i32) -> Answer {
    bytes.set(on_device(device)?.config.profile.memory as usize)
}

fn uuid(uuid: Out<[u8; 16]>, device: i32) -> Answer {
    on_device(device)?;
    uuid.set(UUID)
}

exports! {
    /// There is one device.
    fn cuDeviceGetCount(count: Out<i32>) {
        driver()?;
        count.set(1)
    }

    /// The device with an ordinal.
    fn cuDeviceGet(device: Out<i32>, ordinal: i32) {
        on_device(ordinal)?;
        device.set(ordinal)
    }

    /// Name of the device.
    fn cuDeviceGetName(name: Out<u8>, len: i32, device: i32) {
        let text = &on_device(device)?.config.profile.name;
        name.set_text(text, usize::try_from(len).map_err(|_| INVALID_VALUE)?)
    }

    /// Identity of the device.
    fn cuDeviceGetUuid(id: Out<[u8; 16]>, device: i32) {
        uuid(id, device)
    }

    /// Identity of the device.
    fn cuDeviceGetUuid_v2(id: Out<[u8; 16]>, device: i32) {
        uuid(id, device)
    }

    /// Bytes of device memory.
    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) {
        total(bytes, device)
    }

    /// An attribute of the device; those that it does not have are 0.
    fn cuDeviceGetAttribute(value: Out<i32>, attribute: u32, device: i32) {
        let driver = on_device(device)?;
        if attribute == 0 || attribute >= A::CU_DEVICE_ATTRIBUTE_MAX as u32 {
            return Err(INVALID_VALUE);
        }
        let known = attributes(&driver.config.profile);
        let found = known.iter().find(|(name, _)| *name as u32 == attribute);
        value.set(found.map_or(0, |(_, value)| *value as i32))
    }

    /// Compute capability of the device.
    fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: i32) {
        let capability = on_device(device)?.config.profile.capability;
        major.set(capability.0 as i32)?;
        minor.set(capability.1 as i32)
    }

    /// Identity of the device on the bus.
    fn cuDeviceGetPCIBusId(text: Out<u8>, len: i32, device: i32) {
        on_device(device)?;
        text.set_text(BUS_ID, usize::try_from(len).map_err(|_| INVALID_VALUE)?)
    }

    /// The device with an identity on the bus.
    fn cuDeviceGetByPCIBusId(device: Out<i32>, text: Text) {
        driver()?;
        if text.get()?.eq_ignore_ascii_case(BUS_ID) { device.set(0) } else { Err(INVALID_DEVICE) }
    }

    /// Whether one device sees the memory of another: there is no other.
    fn cuDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) {
        on_device(device)?;
        on_device(peer)?;
        can.set(0)
    }
}
