//! One allocation of device memory.

use crate::check::shadow::ByteState;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

/// Zeroed bytes, 128-byte aligned, that the executor reads and writes through raw pointers. The system gives pages when
/// they are first touched, so that a large allocation of which little is used costs little.
pub struct Bytes {
    block: *mut u8,
    layout: Layout,
    first: *mut u8,
    len: usize,
}

// SAFETY: the bytes belong to the value alone.
unsafe impl Send for Bytes {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Bytes {}

const LINE: usize = 128;

impl Bytes {
    /// `len` zero bytes.
    pub fn new(len: usize) -> Self {
        Self::try_new(len).unwrap_or_else(|| handle_alloc_error(Layout::new::<[u8; LINE]>()))
    }

    /// `len` zero bytes, if the host has them.
    pub fn try_new(len: usize) -> Option<Self> {
        // An alignment of more than 16 would make the allocator write the zeros itself: the lines are aligned here.
        let layout = Layout::from_size_align(len.checked_add(2 * LINE)?, 16).ok()?;
        // SAFETY: the layout is not of size zero.
        let block = unsafe { alloc_zeroed(layout) };
        if block.is_null() {
            return None;
        }
        Some(Self {
            block,
            layout,
            first: block.wrapping_add(block.align_offset(LINE)),
            len,
        })
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes lie behind `first`, inside of the block.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }
    }

    /// The bytes.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_slice`.
        unsafe { std::slice::from_raw_parts_mut(self.first, self.len) }
    }

    /// The first byte; valid for `len` bytes while the value lives.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.first
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: the block was allocated with this layout, and nobody else frees it.
        unsafe { dealloc(self.block, self.layout) }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

/// Where the bytes of an allocation are.
#[derive(Debug)]
enum Place {
    /// In memory of its own.
    Own(Bytes),
    /// In memory of the host program, which may change at any time.
    Host(HostBytes),
}

/// The first byte of host memory that the host program has lent.
#[derive(Debug)]
struct HostBytes(*mut u8);

// SAFETY: whoever lent the memory promised that it may be used from any thread.
unsafe impl Send for HostBytes {}
// SAFETY: as above; it is only accessed through raw pointers.
unsafe impl Sync for HostBytes {}

/// An allocation, live or freed.
#[derive(Debug)]
pub struct Allocation {
    base: u64,
    len: usize,
    place: Place,
    label: String,
    live: bool,
    read_only: bool,
    state: ByteState,
    /// Words of 4 bytes that a launch has read; filled when it counts.
    read_words: Vec<u64>,
}

impl Allocation {
    /// An allocation of zeros, if the host has the memory.
    pub(super) fn new(base: u64, len: usize, label: String) -> Option<Self> {
        let place = Place::Own(Bytes::try_new(len)?);
        Some(Self::at(base, len, label, place, false))
    }

    /// An allocation whose bytes are those of the host at its base address.
    pub(super) fn host(host: *mut u8, len: usize, label: String) -> Self {
        let place = Place::Host(HostBytes(host));
        Self::at(host as u64, len, label, place, true)
    }

    fn at(base: u64, len: usize, label: String, place: Place, initialised: bool) -> Self {
        Self {
            base,
            len,
            place,
            label,
            live: true,
            read_only: false,
            state: ByteState::new(len, initialised),
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

    /// What it is called in messages.
    pub fn label(&self) -> &str {
        &self.label
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

    /// Whether its bytes are those of the host program.
    pub fn is_host(&self) -> bool {
        self.live && matches!(self.place, Place::Host(_))
    }

    /// The first byte, for the executor.
    pub fn pointer(&mut self) -> *mut u8 {
        match &mut self.place {
            Place::Own(bytes) => bytes.as_mut_ptr(),
            Place::Host(host) => host.0,
        }
    }

    /// Copies bytes from `at` on; the caller has checked that they are inside.
    pub(super) fn read(&self, at: usize, data: &mut [u8]) {
        match &self.place {
            Place::Own(bytes) => data.copy_from_slice(&bytes.as_slice()[at..at + data.len()]),
            // SAFETY: the range is inside of the memory that the host has lent; what has the size of a word is read
            // as one, so that a poll sees no torn value.
            Place::Host(host) => unsafe {
                let from = host.0.add(at);
                match data.len() {
                    4 if from.cast::<u32>().is_aligned() => {
                        data.copy_from_slice(&from.cast::<u32>().read_volatile().to_ne_bytes());
                    }
                    8 if from.cast::<u64>().is_aligned() => {
                        data.copy_from_slice(&from.cast::<u64>().read_volatile().to_ne_bytes());
                    }
                    len => std::ptr::copy(from, data.as_mut_ptr(), len),
                }
            },
        }
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
        debug_assert!(at + data.len() <= self.len);
        // SAFETY: the caller has checked that the range is inside; `copy` allows that host memory is copied to itself.
        unsafe { std::ptr::copy(data.as_ptr(), self.pointer().add(at), data.len()) };
        self.state.mark_initialised(at..at + data.len());
    }

    pub(super) fn release(&mut self) {
        self.live = false;
        self.place = Place::Own(Bytes::new(0));
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
