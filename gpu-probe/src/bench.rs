//! One device under measurement: sizes, repeats, buffers, and the checks of results.

use crate::arguments::StreamArguments;
use crate::expected::word_sum;
use crate::gpu::{Facts, Gpu, HostWords, Launch, Meanwhile};
use crate::sample::Sample;
use anyhow::{Context, Result, ensure};
use std::sync::atomic::Ordering;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// All configurations, buffers far larger than L2, 11 repeats.
    Full,
    /// Fewer configurations and repeats.
    Quick,
    /// What a virtual device does in seconds: tiny buffers, one repeat.
    Tiny,
}

/// What a block notes of its measured part, `Stamp` of `prelude.cuh`.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// Nanoseconds of the device's timer at the beginning.
    pub first_ns: u64,
    /// And at the end.
    pub last_ns: u64,
    /// Clocks of the SM between.
    pub clocks: u64,
    /// What was done, in units of the kernel.
    pub done: u64,
}

/// Words of a tape, written by the kernel `fill`.
#[derive(Clone, Copy, Debug)]
pub struct Tape {
    /// Address.
    pub at: u64,
    /// Bytes.
    pub bytes: u64,
}

const MIB: u64 = 1 << 20;
const STAMP_BYTES: usize = 32;

/// A device under measurement.
pub struct Bench<'a> {
    gpu: &'a mut dyn Gpu,
    effort: Effort,
    facts: Facts,
    fault: HostWords,
    buffers: Vec<u64>,
}

impl<'a> Bench<'a> {
    /// Begins. A virtual device is measured with [`Effort::Tiny`], whatever is asked.
    ///
    /// # Errors
    /// The device gives no memory.
    pub fn new(gpu: &'a mut dyn Gpu, effort: Effort) -> Result<Bench<'a>> {
        let facts = gpu.facts().clone();
        let fault = gpu.host_words(64)?;
        Ok(Bench {
            gpu,
            effort: if facts.is_virtual {
                Effort::Tiny
            } else {
                effort
            },
            facts,
            fault,
            buffers: Vec::new(),
        })
    }

    /// The device.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How much is measured.
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// One of three values, by effort.
    pub fn pick<T>(&self, full: T, quick: T, tiny: T) -> T {
        match self.effort {
            Effort::Full => full,
            Effort::Quick => quick,
            Effort::Tiny => tiny,
        }
    }

    /// Blocks of a grid with one for each SM.
    pub fn blocks(&self) -> u32 {
        self.facts.multiprocessors
    }

    /// Whether the device has bulk copies.
    pub fn has_bulk(&self) -> bool {
        self.facts.capability.0 >= 9
    }

    /// Where kernels say that a wait was hopeless.
    pub fn fault(&self) -> u64 {
        self.fault.at
    }

    /// Device memory of zeros, until [`Bench::clear`].
    pub fn zeros(&mut self, bytes: usize) -> Result<u64> {
        let at = self.allocate(bytes)?;
        self.gpu.write(at, &vec![0; bytes])?;
        Ok(at)
    }

    /// Device memory with these bytes, until [`Bench::clear`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.allocate(bytes.len())?;
        self.gpu.write(at, bytes)?;
        Ok(at)
    }

    /// Device memory, until [`Bench::clear`].
    pub fn allocate(&mut self, bytes: usize) -> Result<u64> {
        let at = self.gpu.allocate(bytes)?;
        self.buffers.push(at);
        Ok(at)
    }

    /// Frees the memory of a measurement.
    pub fn clear(&mut self) -> Result<()> {
        while let Some(at) = self.buffers.pop() {
            self.gpu.free(at)?;
        }
        Ok(())
    }

    /// Sets bytes that [`Bench::zeros`] gave to zero again.
    pub fn zero(&mut self, at: u64, bytes: usize) -> Result<()> {
        self.gpu.write(at, &vec![0; bytes])
    }

    /// Words of the host that kernels see.
    pub fn host_words(&mut self, count: usize) -> Result<HostWords> {
        self.gpu.host_words(count)
    }

    /// A buffer of a tape's words: many times L2 on a real device, and a multiple of `unit` bytes.
    pub fn tape(&mut self, unit: u64) -> Result<Tape> {
        let wanted = self
            .pick(4096 * MIB, 1024 * MIB, 0)
            .max(self.pick(16, 8, 0) * self.facts.l2_bytes);
        let units = (wanted.min(self.facts.memory_bytes * 2 / 5) / unit).max(1);
        self.tape_of(units * unit)
    }

    /// A buffer of this many bytes of a tape's words, a multiple of 16.
    pub fn tape_of(&mut self, bytes: u64) -> Result<Tape> {
        let tape = Tape {
            at: self.allocate(usize::try_from(bytes)?)?,
            bytes,
        };
        self.fill(tape, 0)?;
        Ok(tape)
    }

    /// Fills a buffer with the words of a tape from number `first` on.
    pub fn fill(&mut self, tape: Tape, first: u64) -> Result<()> {
        let arguments = StreamArguments {
            from: first,
            to: tape.at,
            vectors: tape.bytes / 16,
            sum: 0,
        };
        self.launch(&self.plain("stream", "fill", 8, 256, &arguments.to_bytes()))?;
        Ok(())
    }

    /// Reads a buffer with plain loads and checks that it holds the words of a tape from its first on; microseconds.
    pub fn read_back(&mut self, tape: Tape, sum: u64, blocks: u32, threads: u32) -> Result<f64> {
        self.zero(sum, 4)?;
        let arguments = StreamArguments {
            from: tape.at,
            vectors: tape.bytes / 16,
            sum,
            ..StreamArguments::default()
        };
        let bytes = arguments.to_bytes();
        let launch = Launch {
            blocks,
            ..self.plain("stream", "read", 1, threads, &bytes)
        };
        let time = self.launch(&launch)?;
        let found = self.words(sum, 1)?;
        self.check("read", &found, |_| word_sum(0, tape.bytes / 4))?;
        Ok(time)
    }

    /// A launch with `per_sm` blocks for each SM, not cooperative.
    pub fn plain<'b>(
        &self,
        module: &'static str,
        kernel: &'static str,
        per_sm: u32,
        threads: u32,
        arguments: &'b [u8],
    ) -> Launch<'b> {
        let blocks = self.blocks() * per_sm;
        Launch {
            module,
            kernel,
            blocks,
            threads,
            shared_bytes: 0,
            cooperative: false,
            arguments,
        }
    }

    /// Runs a kernel; microseconds.
    pub fn launch(&mut self, launch: &Launch<'_>) -> Result<f64> {
        self.launch_beside(launch, None)
    }

    /// Runs a kernel while the host does something; microseconds.
    pub fn launch_beside(
        &mut self,
        launch: &Launch<'_>,
        meanwhile: Option<Meanwhile<'_>>,
    ) -> Result<f64> {
        let result = self.gpu.launch(launch, meanwhile);
        let code = self
            .fault
            .words
            .first()
            .map_or(0, |word| word.load(Ordering::Acquire));
        let waited = match code {
            0 => return result.with_context(|| format!("kernel {}", launch.kernel)),
            1 => "for a full stage",
            2 => "for an empty stage",
            3 => "for a counter",
            4 => "for a flagged word",
            _ => "for the host",
        };
        result.with_context(|| format!("kernel {} waited in vain {waited}", launch.kernel))
    }

    /// The driver's own copy; microseconds.
    pub fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Result<f64> {
        self.gpu.copy(to, from, usize::try_from(bytes)?)
    }

    /// Words of device memory.
    pub fn words(&mut self, at: u64, count: usize) -> Result<Vec<u32>> {
        let mut bytes = vec![0; count * 4];
        self.gpu.read(at, &mut bytes)?;
        Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect())
    }

    /// Double words of device memory.
    pub fn long_words(&mut self, at: u64, count: usize) -> Result<Vec<u64>> {
        let mut bytes = vec![0; count * 8];
        self.gpu.read(at, &mut bytes)?;
        Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word))
            .collect())
    }

    /// Room for the stamps of a grid with one block for each SM.
    pub fn stamp_buffer(&mut self) -> Result<u64> {
        self.zeros(self.blocks() as usize * STAMP_BYTES)
    }

    /// The stamps of the first `blocks` blocks.
    pub fn stamps(&mut self, at: u64, blocks: u32) -> Result<Vec<Stamp>> {
        let words = self.long_words(at, blocks as usize * STAMP_BYTES / 8)?;
        let stamp = |&[first_ns, last_ns, clocks, done]: &[u64; 4]| Stamp {
            first_ns,
            last_ns,
            clocks,
            done,
        };
        Ok(words.as_chunks().0.iter().map(stamp).collect())
    }

    /// Fails unless every word is the expected one of its block.
    pub fn check(&self, what: &str, found: &[u32], expected: impl Fn(u32) -> u32) -> Result<()> {
        for (block, found) in (0..).zip(found) {
            let expected = expected(block);
            ensure!(
                *found == expected,
                "{what} computed {found:#010x} in block {block} where {expected:#010x} is right: its time would mean nothing"
            );
        }
        Ok(())
    }

    /// Warm-up, then repeats of a measurement.
    pub fn repeat(&mut self, mut run: impl FnMut(&mut Bench<'a>) -> Result<f64>) -> Result<Sample> {
        for _ in 0..self.pick(3, 2, 0) {
            run(self)?;
        }
        let values: Result<Vec<f64>> = (0..self.pick(11, 5, 1)).map(|_| run(self)).collect();
        Ok(Sample::of(&values?))
    }
}

/// Nanoseconds from the first block's begin to the last one's end; at least 1.
pub fn elapsed_ns(stamps: &[Stamp]) -> f64 {
    let first = stamps.iter().map(|stamp| stamp.first_ns).min().unwrap_or(0);
    let last = stamps.iter().map(|stamp| stamp.last_ns).max().unwrap_or(0);
    last.saturating_sub(first).max(1) as f64
}

/// The clock of the SMs while a kernel ran, in MHz: the median of its blocks.
pub fn clock_mhz(stamps: &[Stamp]) -> f64 {
    let rates: Vec<f64> = stamps
        .iter()
        .map(|stamp| {
            stamp.clocks as f64 * 1000.0
                / stamp.last_ns.saturating_sub(stamp.first_ns).max(1) as f64
        })
        .collect();
    Sample::of(&rates).median
}
