//! One allocation of device memory.

use crate::check::shadow::ByteState;

/// Zeroed bytes, 128-byte aligned, that the executor reads and writes through raw pointers.
pub struct Bytes {
    lines: Vec<Line>,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(128))]
struct Line([u8; 128]);

impl Bytes {
    /// `len` zero bytes.
    pub fn new(len: usize) -> Self {
        Self {
            lines: vec![Line([0; 128]); len.div_ceil(128)],
            len,
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the lines hold at least `len` initialised bytes.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    /// The bytes.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the lines hold at least `len` initialised bytes.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }

    /// The first byte; valid for `len` bytes until the next call of a method.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

/// An allocation, live or freed.
#[derive(Debug)]
pub struct Allocation {
    base: u64,
    len: usize,
    bytes: Bytes,
    label: String,
    live: bool,
    read_only: bool,
    state: ByteState,
    /// Words of 4 bytes that a launch has read; filled when it counts.
    read_words: Vec<u64>,
}

impl Allocation {
    pub(super) fn new(base: u64, len: usize, label: String) -> Self {
        let state = ByteState::new(len, false);
        Self {
            base,
            len,
            bytes: Bytes::new(len),
            label,
            live: true,
            read_only: false,
            state,
            read_words: Vec::new(),
        }
    }

    /// Address of the first byte.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Size in bytes, also after it was freed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for an allocation of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it is called in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Gives it a name for messages.
    pub fn set_label(&mut self, label: impl Into<String>) {
        self.label = label.into();
    }

    /// False once freed.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether kernels may only read it: constants.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Makes it a constant.
    pub fn set_read_only(&mut self) {
        self.read_only = true;
    }

    /// Its bytes; none once freed.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The first byte, for the executor.
    pub fn pointer(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    /// Which bytes are initialised or pending.
    pub fn state(&self) -> &ByteState {
        &self.state
    }

    /// Which bytes are initialised or pending.
    pub fn state_mut(&mut self) -> &mut ByteState {
        &mut self.state
    }

    pub(super) fn write(&mut self, at: usize, data: &[u8]) {
        self.bytes.as_mut_slice()[at..at + data.len()].copy_from_slice(data);
        self.state.mark_initialised(at..at + data.len());
    }

    pub(super) fn release(&mut self) {
        self.live = false;
        self.bytes = Bytes::new(0);
        self.state = ByteState::new(0, true);
        self.read_words = Vec::new();
    }

    /// Forgets what was read.
    pub fn start_counting(&mut self) {
        self.read_words.clear();
        self.read_words.resize(self.len.div_ceil(256), 0);
    }

    /// Counts a read of `len` bytes at `at`; gives the bytes that nobody in this launch had read, in words of 4.
    #[inline]
    pub fn count_read(&mut self, at: usize, len: usize) -> u64 {
        let (first, last) = (at / 4, (at + len - 1) / 4);
        let mut fresh = 0;
        for word in first / 64..=last / 64 {
            let low = if word == first / 64 {
                u64::MAX << (first % 64)
            } else {
                u64::MAX
            };
            let high = if word == last / 64 {
                u64::MAX >> (63 - last % 64)
            } else {
                u64::MAX
            };
            if let Some(bits) = self.read_words.get_mut(word) {
                fresh += (low & high & !*bits).count_ones();
                *bits |= low & high;
            }
        }
        u64::from(fresh) * 4
    }
}
