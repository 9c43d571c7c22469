use crate::timing::Timed;
use anyhow::{Result, anyhow};
use bytemuck::{Pod, Zeroable};
use serde::Serialize;
use stheno::device::{Context, DeviceBuffer, Function, Image, LaunchShape, Module, find_nvrtc};
use stheno_codegen::jit::Request;

/// Bytes a second that this GPU reaches.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rates {
    /// Copies from memory to memory: bytes read and written.
    pub copy: f64,
    /// Reads by a kernel of plain loads.
    pub read: f64,
}

/// Bytes that are read, far more than any L2.
const BYTES: u64 = 1 << 30;

const SOURCE: &str = include_str!("rates.cu");
const THREADS: u32 = 512;
const BLOCKS_PER_SM: u32 = 4;

/// The kernel's parameter, `struct Parameters`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Parameters {
    from: u64,
    vectors: u64,
    sums: u64,
}

struct Reader {
    function: Function,
    shape: LaunchShape,
    from: DeviceBuffer,
    sums: DeviceBuffer,
}

impl Reader {
    fn new(context: &Context, bytes: u64) -> Result<Reader> {
        let facts = context.facts();
        let nvrtc = find_nvrtc(Some(facts))?;
        let compiled = nvrtc.compile(&Request::new("rates.cu", SOURCE, facts.target()))?;
        let image = Image::of(&compiled).ok_or_else(|| anyhow!("NVRTC gave nothing to load"))?;
        let function = Module::load(context, "rates", image)?.function("read")?;
        let shape = LaunchShape {
            grid: facts.sm_count * BLOCKS_PER_SM,
            block: THREADS,
            shared_bytes: 0,
            cooperative: false,
        };
        let threads = u64::from(shape.grid * shape.block);
        Ok(Reader {
            function,
            shape,
            from: DeviceBuffer::zeroed(context, bytes, "what is read to measure a rate")?,
            sums: DeviceBuffer::zeroed(context, 4 * threads, "sums of what is read")?,
        })
    }

    fn launch(&self) -> Result<(), stheno::device::DeviceError> {
        let parameters = Parameters {
            from: self.from.address(),
            vectors: self.from.len() / 16,
            sums: self.sums.address(),
        };
        // SAFETY: the kernel takes this structure; it reads `from` and writes a word of `sums` for each thread, both of which
        // live in `self` and wait for the stream before they are freed.
        unsafe { self.function.launch(self.shape, &parameters) }
    }
}

impl Rates {
    /// Measures them.
    pub fn measure(context: &Context, measurements: u32) -> Result<Rates> {
        let reader = Reader::new(context, BYTES)?;
        let read = Timed::measure(context, measurements, 1, || Ok(()), || reader.launch())?;
        let to = DeviceBuffer::zeroed(context, BYTES / 2, "the target of copies")?;
        let half = || to.copy_async(0, &reader.from, 0..BYTES / 2);
        let copy = Timed::measure(context, measurements, 1, || Ok(()), half)?;
        Ok(Rates {
            copy: BYTES as f64 / copy.median,
            read: BYTES as f64 / read.median,
        })
    }
}
