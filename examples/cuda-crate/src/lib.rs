//! Two operations on vectors that live on a GPU.

use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::Ptx;

/// The kernels as PTX, which every driver compiles for its device.
pub const KERNELS: &str = include_str!("../kernels/vector.ptx");

/// Threads of a block.
const THREADS: u32 = 256;
/// Most blocks that a sum is split into.
const MOST_BLOCKS: u32 = 64;

/// The kernels, loaded on a device.
pub struct Vectors {
    stream: Arc<CudaStream>,
    saxpy: CudaFunction,
    sum: CudaFunction,
}

impl Vectors {
    /// Loads the kernels.
    pub fn new(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        let module = context.load_module(Ptx::from_src(KERNELS))?;
        Ok(Self {
            stream: context.default_stream(),
            saxpy: module.load_function("saxpy")?,
            sum: module.load_function("sum")?,
        })
    }

    /// The stream that everything runs on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// `y = a x + y`, for as many elements as both have.
    pub fn saxpy(
        &self,
        a: f32,
        x: &CudaSlice<f32>,
        y: &mut CudaSlice<f32>,
    ) -> Result<(), DriverError> {
        let n = x.len().min(y.len()) as i32;
        let mut launch = self.stream.launch_builder(&self.saxpy);
        launch.arg(&a).arg(x).arg(y).arg(&n);
        // SAFETY: the kernel's parameters, and it touches n elements of each.
        unsafe { launch.launch(saxpy_shape(n as u32)) }.map(|_| ())
    }

    /// The sum of all elements.
    pub fn sum(&self, x: &CudaSlice<f32>) -> Result<f32, DriverError> {
        let mut result = self.stream.alloc_zeros::<f32>(1)?;
        let n = x.len() as i32;
        let mut launch = self.stream.launch_builder(&self.sum);
        launch.arg(x).arg(&mut result).arg(&n);
        // SAFETY: the kernel's parameters, and it touches n elements of x and one of the result.
        unsafe { launch.launch(sum_shape(n as u32)) }?;
        Ok(self.stream.clone_dtoh(&result)?[0])
    }
}

fn shape(blocks: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (blocks.max(1), 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// A thread for each element.
pub fn saxpy_shape(n: u32) -> LaunchConfig {
    shape(n.div_ceil(THREADS))
}

/// Blocks that go over the elements together.
pub fn sum_shape(n: u32) -> LaunchConfig {
    shape(n.div_ceil(THREADS).min(MOST_BLOCKS))
}
