//! What a stream can be asked to do, checked and complete, so that it can be queued at once or kept as a node of a graph.

use crate::boundary::{Answer, HostCall};
use crate::copy::Copy;
use crate::driver::Driver;
use crate::error::OUT_OF_MEMORY;
use crate::fault;
use crate::fill::Fill;
use crate::function::Function;
use crate::handle::Handle;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use virtual_gpu::{Device, DevicePointer, LaunchConfig, LaunchOptions};

/// A launch that has been checked.
#[derive(Clone)]
pub struct Launch {
    /// The kernel.
    pub function: Function,
    /// Its shape.
    pub config: LaunchConfig,
    /// Its parameters, each at its place. Callers may be told where they are, so that they do not move.
    pub parameters: Arc<[u8]>,
}

/// Something for the device to do.
#[derive(Clone)]
pub enum Operation {
    /// Nothing: a place for dependencies to meet.
    Empty,
    /// Runs a kernel.
    Kernel(Launch),
    /// Copies.
    Copy(Copy),
    /// Fills.
    Fill(Fill),
    /// Calls a function of the host.
    Host(HostCall),
    /// Runs the graph of this handle, which belongs to the node alone.
    Child(Handle),
    /// Records an event.
    Record(Handle, Arc<OnceLock<Instant>>),
    /// Waits for an event. What was recorded was submitted before, so that it is already in order.
    Wait(Handle),
    /// Allocates so many bytes at an address that was set aside for them.
    Allocate(u64, u64),
    /// Frees the allocation at an address.
    Free(u64),
}

impl Operation {
    /// `CUgraphNodeType` of a node that does this.
    pub fn node_type(&self) -> u32 {
        match self {
            Self::Kernel(_) => 0,
            Self::Copy(_) => 1,
            Self::Fill(_) => 2,
            Self::Host(_) => 3,
            Self::Child(_) => 4,
            Self::Empty => 5,
            Self::Wait(_) => 6,
            Self::Record(..) => 7,
            Self::Allocate(..) => 10,
            Self::Free(_) => 11,
        }
    }

    /// Name for people.
    pub fn name(&self) -> String {
        match self {
            Self::Empty => "empty".into(),
            Self::Kernel(launch) => format!("kernel {}", launch.function.name()),
            Self::Copy(_) => "memcpy".into(),
            Self::Fill(_) => "memset".into(),
            Self::Host(_) => "host".into(),
            Self::Child(_) => "child graph".into(),
            Self::Record(..) => "event record".into(),
            Self::Wait(_) => "event wait".into(),
            Self::Allocate(base, bytes) => format!("allocate {bytes} at {base:#x}"),
            Self::Free(base) => format!("free {base:#x}"),
        }
    }

    /// Addresses that it may use. Of a kernel these are all words of its parameters, of which some are addresses.
    pub fn addresses(&self) -> Vec<u64> {
        match self {
            Self::Kernel(launch) => launch
                .parameters
                .as_chunks::<8>()
                .0
                .iter()
                .map(|word| u64::from_le_bytes(*word))
                .collect(),
            Self::Copy(copy) => copy.addresses(),
            Self::Fill(fill) => vec![fill.to()],
            Self::Empty
            | Self::Host(_)
            | Self::Child(_)
            | Self::Record(..)
            | Self::Wait(_)
            | Self::Allocate(..)
            | Self::Free(_) => Vec::new(),
        }
    }

    /// Whether it allocates or frees: graphs that do are neither cloned nor children.
    pub fn manages_memory(&self) -> bool {
        matches!(self, Self::Allocate(..) | Self::Free(_))
    }

    /// Does it. An error is a fault of the device.
    pub fn run(&self, driver: &Driver, device: &mut Device) -> Answer {
        match self {
            // A child has been replaced by its nodes when the graph was instantiated.
            Self::Empty | Self::Child(_) | Self::Wait(_) => Ok(()),
            Self::Kernel(launch) => {
                let (function, config) = (&launch.function, &launch.config);
                let settings = driver.settings();
                let options = &LaunchOptions {
                    non_portable_cluster: function.non_portable_cluster,
                    ..settings.options
                };
                let report = device.launch(
                    &function.code,
                    function.name(),
                    config,
                    &launch.parameters,
                    options,
                );
                fault::answer(driver, settings, launch, report)
            }
            Self::Copy(copy) => copy.run(device),
            Self::Fill(fill) => fill.run(device),
            Self::Host(call) => {
                (call.function)(call.argument);
                Ok(())
            }
            Self::Record(_, time) => {
                let _ = time.set(Instant::now());
                Ok(())
            }
            Self::Allocate(base, bytes) => device
                .alloc_at(DevicePointer(*base), *bytes as usize, format!("{base:#x}"))
                .map_err(|error| {
                    eprintln!("virtual-gpu: {error}");
                    OUT_OF_MEMORY
                }),
            Self::Free(base) => {
                // The host has looked whether it is allocated; a device with a fault may not have got it.
                let _ = device.free(DevicePointer(*base));
                Ok(())
            }
        }
    }
}
