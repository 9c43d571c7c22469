//! Launches.

use crate::boundary::{Answer, In, exports};
use crate::driver::{Scope, enter};
use crate::error::{
    COOPERATIVE_LAUNCH_TOO_LARGE, INVALID_CLUSTER_SIZE, INVALID_VALUE, LAUNCH_OUT_OF_RESOURCES,
    NOT_FOUND, NOT_SUPPORTED,
};
use crate::function::{Function, get, warn_of_early_begin};
use crate::handle::Handle;
use crate::occupancy::blocks;
use crate::operation::{Launch, Operation};
use crate::stream;
use virtual_gpu::LaunchConfig;

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Config {
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    stream: Handle,
    attributes: *const Attribute,
    count: u32,
}

/// `CUlaunchAttribute`; the first words of the value.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Attribute {
    id: u32,
    padding: u32,
    value: [u32; 16],
}

/// Attributes of `cuLaunchKernelEx` that mean something here: whether the launch is cooperative, and its clusters. What
/// only tells a GPU how to be faster is ignored; what changes the meaning of a program otherwise is refused.
fn attributes(config: &Config) -> Answer<(bool, Option<[u32; 3]>)> {
    const COOPERATIVE: u32 = 2;
    const CLUSTER: u32 = 4;
    /// None, access policy window, synchronisation policy, cluster scheduling policy, programmatic stream
    /// serialization (which allows an earlier start and demands none), priority, memory domains, preferred cluster
    /// and carveout.
    const HINTS: [u32; 10] = [0, 1, 3, 5, 6, 8, 9, 10, 11, 14];
    let (mut cooperative, mut cluster) = (false, None);
    for attribute in In::new(config.attributes).all(config.count as usize)? {
        match attribute.id {
            COOPERATIVE => cooperative = attribute.value[0] != 0,
            CLUSTER => cluster = attribute.value.first_chunk().copied(),
            id if HINTS.contains(&id) => {}
            id => {
                eprintln!("virtual-gpu: launch attribute {id} is not supported");
                return Err(NOT_SUPPORTED);
            }
        }
    }
    Ok((cooperative, cluster))
}

/// Whether the launch may begin before the kernel before it in the stream has ended.
fn may_begin_early(config: &Config) -> Answer<bool> {
    const PROGRAMMATIC: u32 = 6;
    let attributes = In::new(config.attributes).all(config.count as usize)?;
    let mut attributes = attributes.iter();
    Ok(attributes.any(|attribute| attribute.id == PROGRAMMATIC && attribute.value[0] != 0))
}

/// `extra` of a launch: pairs of a tag and a value, up to an end.
fn buffer(extra: In<usize>) -> Answer<Vec<u8>> {
    const END: usize = 0;
    const POINTER: usize = 1;
    const SIZE: usize = 2;
    let (mut pointer, mut size) = (0, 0);
    for index in (0..8).step_by(2) {
        match extra.at(index)? {
            END => return In::new(pointer as *const u8).bytes(size),
            POINTER => pointer = extra.at(index + 1)?,
            SIZE => size = In::new(extra.at(index + 1)? as *const usize).get()?,
            _ => return Err(INVALID_VALUE),
        }
    }
    Err(INVALID_VALUE)
}

/// The kernel's parameters, each at its place.
fn parameters(function: &Function, each: In<usize>, extra: In<usize>) -> Answer<Vec<u8>> {
    let kernel = function.code.kernel(function.name()).ok_or(NOT_FOUND)?;
    let size = kernel.parameter_bytes() as usize;
    if !extra.is_null() && each.is_null() {
        let bytes = buffer(extra)?;
        return if bytes.len() < size {
            Err(INVALID_VALUE)
        } else {
            Ok(bytes)
        };
    }
    let mut bytes = vec![0; size];
    for (index, layout) in kernel.parameters().iter().enumerate() {
        let value = In::new(each.at(index)? as *const u8).bytes(layout.bytes as usize)?;
        bytes[layout.offset as usize..][..value.len()].copy_from_slice(&value);
    }
    Ok(bytes)
}

/// What a launch must be to be taken. The device checks as well, but its answer comes later.
fn check(scope: Scope, function: &Function, config: &LaunchConfig) -> Answer {
    let facts = function.facts()?;
    let profile = &scope.config.profile;
    let [x, y, z] = config.grid;
    if config.grid.contains(&0) || config.block.contains(&0) {
        return Err(INVALID_VALUE);
    }
    if x > i32::MAX as u32 || y > 65_535 || z > 65_535 || config.blocks() > i32::MAX as u64 {
        return Err(INVALID_VALUE);
    }
    let threads = config.threads();
    if threads > 1024 || config.block[2] > 64 {
        return Err(INVALID_VALUE);
    }
    if facts.required != [0; 3] && facts.required != config.block {
        return Err(INVALID_VALUE);
    }
    if threads > facts.max_threads {
        return Err(LAUNCH_OUT_OF_RESOURCES);
    }
    if config.dynamic_shared > function.max_dynamic_shared {
        return Err(INVALID_VALUE);
    }
    check_cluster(scope, function, config)?;
    let each = blocks(profile, &facts, threads, u64::from(config.dynamic_shared));
    if each == 0 {
        return Err(LAUNCH_OUT_OF_RESOURCES);
    }
    let resident = u64::from(each) * u64::from(profile.multiprocessors);
    if config.cooperative && config.blocks() > resident {
        return Err(COOPERATIVE_LAUNCH_TOO_LARGE);
    }
    Ok(())
}

/// A launch, checked, with its parameters.
pub fn prepare(
    scope: Scope,
    function: Handle,
    config: LaunchConfig,
    each: In<usize>,
    extra: In<usize>,
) -> Answer<Launch> {
    let function = get(scope, function)?;
    check(scope, &function, &config)?;
    let parameters = parameters(&function, each, extra)?.into();
    Ok(Launch {
        function,
        config,
        parameters,
    })
}

/// Whether the launch may have the clusters that it asks for, or that the kernel requires.
fn check_cluster(scope: Scope, function: &Function, config: &LaunchConfig) -> Answer {
    let kernel = function.code.kernel(function.name()).ok_or(NOT_FOUND)?;
    let limits = kernel.limits();
    let required = (limits.cluster != [0; 3]).then_some(limits.cluster);
    let Some(shape) = config.cluster.or(required) else {
        return match limits.explicit_cluster {
            true => Err(INVALID_CLUSTER_SIZE),
            false => Ok(()),
        };
    };
    let blocks = shape.iter().fold(1u32, |n, m| n.saturating_mul(*m));
    let most = match function.non_portable_cluster {
        true => 16,
        false => 8,
    };
    let declared = if limits.max_cluster == 0 {
        most
    } else {
        limits.max_cluster.min(16)
    };
    let has_clusters = scope.config.profile.capability >= (9, 0);
    let divides = !shape.contains(&0) && config.grid.iter().zip(shape).all(|(n, m)| n % m == 0);
    if blocks > declared || blocks > 1 && !has_clusters || required.is_some_and(|r| r != shape) {
        return Err(INVALID_CLUSTER_SIZE);
    }
    if divides { Ok(()) } else { Err(INVALID_VALUE) }
}

fn launch(
    function: Handle,
    config: LaunchConfig,
    stream: Handle,
    each: In<usize>,
    extra: In<usize>,
) -> Answer {
    let scope = enter()?;
    stream::valid(scope, stream)?;
    let launch = prepare(scope, function, config, each, extra)?;
    stream::submit(scope, stream, Operation::Kernel(launch))
}

exports! {
    /// Launches a kernel.
    fn cuLaunchKernel(
        function: Handle,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        dynamic_shared: u32,
        stream: Handle,
        parameters: In<usize>,
        extra: In<usize>,
    ) {
        let config = LaunchConfig {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            dynamic_shared,
            cooperative: false,
            cluster: None,
        };
        launch(function, config, stream, parameters, extra)
    }

    /// Launches a kernel whose blocks are all resident together.
    fn cuLaunchCooperativeKernel(
        function: Handle,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        dynamic_shared: u32,
        stream: Handle,
        parameters: In<usize>,
    ) {
        let config = LaunchConfig {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            dynamic_shared,
            cooperative: true,
            cluster: None,
        };
        launch(function, config, stream, parameters, In::new(std::ptr::null()))
    }

    /// Launches a kernel with attributes.
    fn cuLaunchKernelEx(config: In<Config>, function: Handle, parameters: In<usize>, extra: In<usize>) {
        let given = config.get()?;
        let (cooperative, cluster) = attributes(&given)?;
        let config = LaunchConfig {
            grid: given.grid,
            block: given.block,
            dynamic_shared: given.dynamic_shared,
            cooperative,
            cluster,
        };
        if may_begin_early(&given)? {
            warn_of_early_begin(enter()?, function)?;
        }
        launch(function, config, given.stream, parameters, extra)
    }
}
