//! A device: memory, loaded modules, launches.

use crate::check::finding::{Finding, FindingKind, MemorySpace};
use crate::exec::{FUNCTION_BASE, Grid, Program, Setup, Shape};
use crate::launch::{LaunchConfig, LaunchOptions, LaunchReport};
use crate::memory::{DevicePointer, Memory, MemoryError};
use crate::module::{Module, has_place, initial_bytes};
use crate::profile::coverage::Coverage;
use crate::profile::{Profile, counters};
use crate::ptx::{Initialiser, Space};
use std::collections::HashMap;
use std::sync::Arc;

/// Why a launch could not start.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LaunchError {
    /// The module has no such kernel.
    #[error("there is no kernel {name}; the module has {known}")]
    NoSuchKernel {
        /// The name asked for.
        name: String,
        /// Names that there are.
        known: String,
    },
    /// The shape of the launch is not possible.
    #[error("{0}")]
    BadConfiguration(String),
    /// The parameters are not those of the kernel.
    #[error("the kernel takes {expected} bytes of parameters, {found} were given")]
    BadParameters {
        /// Bytes that the kernel takes.
        expected: u32,
        /// Bytes that were given.
        found: usize,
    },
    /// Memory for module variables could not be had.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A module variable that no module defines.
    #[error("the module variable {0} is declared but nowhere defined")]
    Undefined(String),
}

/// What a driver gives a cooperative launch for `cooperative_groups::grid_group::sync`: its size, the counter of the
/// grid's barrier, and some room.
const WORKSPACE: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[0] = 32;
    bytes
};

/// An imitated device.
#[derive(Debug)]
pub struct Device {
    profile: Profile,
    memory: Memory,
    /// Addresses of the variables of modules, by module.
    places: HashMap<u64, Vec<u64>>,
}

impl Device {
    /// A device like `profile`, with empty memory.
    pub fn new(profile: Profile) -> Self {
        let memory = Memory::new(profile.memory);
        Self {
            profile,
            memory,
            places: HashMap::new(),
        }
    }

    /// What it imitates.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Bytes in use, and in all.
    pub fn memory_usage(&self) -> (u64, u64) {
        self.memory.usage()
    }

    /// Allocates device memory; it counts as uninitialised until it is written.
    pub fn alloc(&mut self, bytes: usize) -> Result<DevicePointer, MemoryError> {
        self.alloc_named(bytes, format!("#{}", self.memory.count()))
    }

    /// Allocates device memory that messages call `name`.
    pub fn alloc_named(
        &mut self,
        bytes: usize,
        name: impl Into<String>,
    ) -> Result<DevicePointer, MemoryError> {
        self.memory.alloc(bytes as u64, name)
    }

    /// Allocates device memory at an address of the caller's choice, which nothing else has.
    pub fn alloc_at(
        &mut self,
        pointer: DevicePointer,
        bytes: usize,
        name: impl Into<String>,
    ) -> Result<(), MemoryError> {
        self.memory.alloc_at(pointer, bytes as u64, name)
    }

    /// Makes memory of the host visible to kernels, at the address that it has in the host program, until it is given
    /// to [`Device::free`]. Kernels that poll it wait for the host program to write
    /// ([`LaunchOptions::host_wait`]).
    ///
    /// # Safety
    /// Until then `bytes` bytes at `host` stay allocated, readable and writable from any thread, and the host program
    /// accesses them while a launch runs only by volatile or atomic accesses, to words that it shares with the kernel.
    pub unsafe fn map_host(
        &mut self,
        host: *mut u8,
        bytes: usize,
        name: impl Into<String>,
    ) -> Result<DevicePointer, MemoryError> {
        // SAFETY: the caller's promise.
        unsafe { self.memory.map_host(host, bytes as u64, name) }
    }

    /// Frees an allocation.
    pub fn free(&mut self, pointer: DevicePointer) -> Result<(), MemoryError> {
        self.memory.free(pointer)
    }

    /// Copies to the device.
    pub fn write(&mut self, pointer: DevicePointer, data: &[u8]) -> Result<(), MemoryError> {
        self.memory.write(pointer, data)
    }

    /// Copies from the device.
    pub fn read(&self, pointer: DevicePointer, data: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(pointer, data)
    }

    /// Copies inside the device. Bytes that nobody has written stay uninitialised at their new place.
    pub fn copy(
        &mut self,
        to: DevicePointer,
        from: DevicePointer,
        bytes: usize,
    ) -> Result<(), MemoryError> {
        self.memory.copy(to, from, bytes as u64)
    }

    /// Start and size of the allocation that holds `pointer`.
    pub fn allocation(&self, pointer: DevicePointer) -> Option<(DevicePointer, usize)> {
        let (index, _) = self.memory.range(pointer, 1).ok()?;
        let allocation = self.memory.allocation(index);
        Some((DevicePointer(allocation.base()), allocation.len()))
    }

    /// Gives the variables of a module their place; does nothing if they have one.
    pub fn load(&mut self, module: &Module) -> Result<(), LaunchError> {
        if self.places.contains_key(&module.id()) {
            return Ok(());
        }
        let mut places = Vec::new();
        for variable in module.variables() {
            places.push(match has_place(variable) {
                true => {
                    // In this order: the device tells whether it has room before the host makes the bytes.
                    let pointer = self.memory.alloc(variable.bytes, variable.name.clone())?;
                    self.memory.write(pointer, &initial_bytes(variable))?;
                    pointer.0
                }
                false
                    if variable.external
                        && matches!(variable.space, Space::Global | Space::Const) =>
                {
                    return Err(LaunchError::Undefined(variable.name.clone()));
                }
                false => 0,
            });
        }
        for (variable, place) in module.variables().iter().zip(&places) {
            for part in &variable.initialiser {
                let Initialiser::Symbol { at, name, addend } = part else {
                    continue;
                };
                let target = match module
                    .variables()
                    .iter()
                    .position(|other| other.name == *name)
                {
                    Some(index) => places[index],
                    None => match module.function_index(name) {
                        Some(index) => FUNCTION_BASE + 16 * u64::from(index),
                        None => return Err(LaunchError::Undefined(name.clone())),
                    },
                };
                let address = target.wrapping_add(*addend as u64);
                self.memory
                    .write(DevicePointer(place + at), &address.to_le_bytes())?;
            }
        }
        for (variable, place) in module.variables().iter().zip(&places) {
            if variable.space == Space::Const
                && let Some(index) = self.memory.index_of(*place)
            {
                self.memory.allocation_mut(index).set_read_only();
            }
        }
        self.places.insert(module.id(), places);
        Ok(())
    }

    /// Forgets a module and frees its variables.
    pub fn unload(&mut self, module: &Module) -> Result<(), MemoryError> {
        for place in self.places.remove(&module.id()).unwrap_or_default() {
            if place != 0 {
                self.memory.free(DevicePointer(place))?;
            }
        }
        Ok(())
    }

    /// Address and size of a module variable of a loaded module.
    pub fn symbol(&self, module: &Module, name: &str) -> Option<(DevicePointer, usize)> {
        let index = module
            .variables()
            .iter()
            .position(|variable| variable.name == name)?;
        let place = *self.places.get(&module.id())?.get(index)?;
        (place != 0).then_some((
            DevicePointer(place),
            module.variables()[index].bytes as usize,
        ))
    }

    /// Runs a kernel to its end. `parameters` are its parameters one after the other, each aligned as in the kernel's
    /// layout. What goes wrong in the kernel stands in the report; an error means that it never started.
    pub fn launch(
        &mut self,
        module: &Module,
        kernel: &str,
        config: &LaunchConfig,
        parameters: &[u8],
        options: &LaunchOptions,
    ) -> Result<LaunchReport, LaunchError> {
        let Some(program) = module.program(kernel) else {
            let known = module.kernels().collect::<Vec<_>>().join(", ");
            return Err(LaunchError::NoSuchKernel {
                name: kernel.into(),
                known,
            });
        };
        self.load(module)?;
        self.check(program, config, parameters)?;
        let cluster = self.cluster(program, config, options)?;
        let resident_limit = self.resident_limit(program, config, options);
        if config.cooperative && config.blocks() > resident_limit as u64 {
            return Ok(self.not_resident(program, module, config, resident_limit));
        }
        let workspace = match config.cooperative && program.uses_workspace() {
            true => Some(self.memory.alloc(
                WORKSPACE.len() as u64,
                "the workspace of the grid's barrier",
            )?),
            false => None,
        };
        if let Some(pointer) = workspace {
            self.memory.write(pointer, &WORKSPACE)?;
        }
        let mut grid = Grid::new(Setup {
            program: Arc::clone(program),
            files: Arc::clone(module.files()),
            symbols: self.places.get(&module.id()).cloned().unwrap_or_default(),
            workspace: workspace.map_or(0, |pointer| pointer.0),
            parameters: parameters.to_vec(),
            config: *config,
            options: *options,
            profile: self.profile.clone(),
            memory: std::mem::replace(&mut self.memory, Memory::new(0)),
            resident_limit: resident_limit.max(1),
            cluster,
        });
        let completed = grid.run();
        let counters = counters::Counters::of(&grid);
        let coverage = Coverage::of(&grid);
        self.memory = std::mem::replace(&mut grid.memory, Memory::new(0));
        if let Some(pointer) = workspace {
            self.memory.free(pointer)?;
        }
        Ok(LaunchReport {
            completed,
            findings: grid
                .findings
                .iter()
                .map(|(finding, _)| finding.clone())
                .collect(),
            warnings: grid.warnings,
            counters,
            coverage,
            printed: grid.printed,
        })
    }

    fn check(
        &self,
        program: &Program,
        config: &LaunchConfig,
        parameters: &[u8],
    ) -> Result<(), LaunchError> {
        let bad = |message: String| Err(LaunchError::BadConfiguration(message));
        let (threads, limits) = (config.threads(), program.limits);
        if parameters.len() < program.parameter_bytes as usize {
            return Err(LaunchError::BadParameters {
                expected: program.parameter_bytes,
                found: parameters.len(),
            });
        }
        if config.grid.contains(&0) || config.block.contains(&0) {
            return bad("a grid and a block have at least one element in each dimension".into());
        }
        if config.grid[1] > 65_535 || config.grid[2] > 65_535 || config.blocks() > i32::MAX as u64 {
            return bad(format!(
                "a grid of {:?} blocks is larger than a device takes",
                config.grid
            ));
        }
        let most = if limits.max_threads != 0 {
            limits.max_threads.min(1024)
        } else {
            1024
        };
        if threads > most || config.block[2] > 64 {
            return bad(format!(
                "a block of {threads} threads, where the kernel and the device allow {most}"
            ));
        }
        if limits.required != [0; 3] && limits.required != config.block {
            return bad(format!(
                "the kernel requires blocks of {:?}, not {:?}",
                limits.required, config.block
            ));
        }
        let shared = program
            .shared_declared
            .saturating_add(config.dynamic_shared);
        if shared > self.profile.shared_per_block_optin {
            return bad(format!(
                "{shared} bytes of shared memory, where a block of {} has {}",
                self.profile.name, self.profile.shared_per_block_optin
            ));
        }
        Ok(())
    }

    /// The clusters of a launch.
    fn cluster(
        &self,
        program: &Program,
        config: &LaunchConfig,
        options: &LaunchOptions,
    ) -> Result<Shape, LaunchError> {
        let bad = |message: String| Err(LaunchError::BadConfiguration(message));
        let limits = program.limits;
        let required = (limits.cluster != [0; 3]).then_some(limits.cluster);
        if let (Some(asked), Some(required)) = (config.cluster, required)
            && asked != required
        {
            return bad(format!(
                "the kernel requires clusters of {required:?} blocks, not {asked:?}"
            ));
        }
        let Some(shape) = config.cluster.or(required) else {
            return match limits.explicit_cluster {
                true => bad("the kernel must be launched with a size of its clusters".into()),
                false => Ok(Shape([1; 3])),
            };
        };
        if shape.contains(&0) {
            return bad(format!("a cluster of {shape:?} blocks has none"));
        }
        let most = match (options.non_portable_cluster, limits.max_cluster) {
            (true, 0) => 16,
            (false, 0) => 8,
            (_, declared) => declared.min(16),
        };
        let blocks = shape.iter().fold(1u32, |n, m| n.saturating_mul(*m));
        if blocks > 1 && self.profile.capability < (9, 0) {
            return bad(format!(
                "a cluster of {blocks} blocks, where {} has no clusters",
                self.profile.name
            ));
        }
        if blocks > most {
            return bad(format!(
                "a cluster of {blocks} blocks, where the launch allows {most}"
            ));
        }
        if config.grid.iter().zip(shape).any(|(n, m)| n % m != 0) {
            return bad(format!(
                "a grid of {:?} blocks does not divide into clusters of {shape:?}",
                config.grid
            ));
        }
        Ok(Shape(shape))
    }

    /// Blocks of a kernel that the whole device holds.
    fn resident_limit(
        &self,
        program: &Program,
        config: &LaunchConfig,
        options: &LaunchOptions,
    ) -> usize {
        let shared = program.shared_declared + config.dynamic_shared;
        let each = self.profile.blocks_per_multiprocessor(
            config.threads(),
            shared,
            options
                .registers_per_thread
                .unwrap_or(program.limits.max_registers),
        );
        (each * self.profile.multiprocessors) as usize
    }

    fn not_resident(
        &self,
        program: &Program,
        module: &Module,
        config: &LaunchConfig,
        resident: usize,
    ) -> LaunchReport {
        let message = format!(
            "a cooperative grid of {} blocks, but {} holds only {resident} blocks of this kernel at a time",
            config.blocks(),
            self.profile.name
        );
        let origin = program.origins.first();
        let location = origin.and_then(|origin| origin.location);
        let source = location.and_then(|location| {
            let (_, file) = module
                .files()
                .iter()
                .find(|(index, _)| *index == location.file)?;
            Some(crate::check::finding::SourceLine {
                file: file.clone(),
                line: location.line,
            })
        });
        let finding = Finding {
            kernel: program.name.clone(),
            kind: FindingKind::GridNotResident,
            space: MemorySpace::None,
            message,
            source,
            inlined_at: None,
            ptx_line: origin.map_or(0, |origin| origin.ptx_line),
            block: [0; 3],
            warp: 0,
            lane: 0,
            other: None,
        };
        LaunchReport {
            completed: false,
            findings: vec![finding],
            warnings: Vec::new(),
            counters: counters::Counters::default(),
            coverage: Coverage::default(),
            printed: String::new(),
        }
    }
}
