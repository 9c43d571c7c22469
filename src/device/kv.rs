use super::{Context, DeviceBuffer, DeviceError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stheno_codegen::plan::{KV_PAGE, KvDecl, Plan, SegmentKind};

/// K and V of one sequence in device memory, in copy-on-write pages of 128 positions: a clone is a fork that shares them.
///
/// A page holds all layers: `[layer][K, V][kv head][position 128][head_dim]`. Memory is taken page by page as a sequence grows.
#[derive(Debug, Clone)]
pub struct DeviceKv {
    decl: KvDecl,
    pages: Vec<Arc<DeviceBuffer>>,
    len: usize,
    /// The call that wrote after the committed positions last; 0: none. It changes before they do.
    call: u64,
    /// What the draft keeps of the same tokens; it may be behind.
    draft: Option<Box<DeviceKv>>,
}

impl DeviceKv {
    /// An empty sequence of a plan.
    pub fn new(plan: &Plan) -> Self {
        let empty = |decl, draft| DeviceKv {
            decl,
            pages: Vec::new(),
            len: 0,
            call: 0,
            draft,
        };
        let draft = plan.draft.as_ref().map(|draft| draft.kv);
        let draft = draft.filter(|decl| decl.layers > 0);
        empty(plan.kv, draft.map(|decl| Box::new(empty(decl, None))))
    }

    /// The draft's cache of the sequence, if it has one.
    pub fn draft(&self) -> Option<&DeviceKv> {
        self.draft.as_deref()
    }

    /// The same, to change.
    pub(super) fn draft_mut(&mut self) -> Option<&mut DeviceKv> {
        self.draft.as_deref_mut()
    }

    /// The cache that a segment works on; `None` of a draft that has none.
    pub(super) fn cache(&self, segment: SegmentKind) -> Option<&DeviceKv> {
        match segment.is_draft() {
            true => self.draft(),
            false => Some(self),
        }
    }

    /// The same, to change.
    pub(super) fn cache_mut(&mut self, segment: SegmentKind) -> Option<&mut DeviceKv> {
        match segment.is_draft() {
            true => self.draft_mut(),
            false => Some(self),
        }
    }

    /// Committed positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Positions from which a draft that is fed the target's hidden states can go on: those that it has not seen are gone, so the
    /// target has to compute these positions again. The draft's last row stands on the token after it, which may be another
    /// now if that is not committed.
    pub(crate) fn fed_len(&self) -> usize {
        let draft = self.draft().map_or(0, DeviceKv::len);
        draft.min(self.len.saturating_sub(1))
    }

    /// Whether nothing is committed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies K and V of the committed positions to the host, `[layer][K, V][kv head][position][head_dim]` in the type of the
    /// cache. Waits for the device.
    ///
    /// # Errors
    /// A kernel failed before.
    pub fn read(&self) -> Result<Vec<u8>, DeviceError> {
        let row = self.decl.head_dim as usize * self.decl.dtype.size();
        let planes = 2 * self.decl.layers as usize * self.decl.num_key_value_heads as usize;
        let mut bytes = vec![0; planes * self.len * row];
        if bytes.is_empty() {
            return Ok(bytes);
        }
        let mut copy = vec![0; planes * KV_PAGE * row];
        for (first, page) in (0..self.len).step_by(KV_PAGE).zip(&self.pages) {
            page.read(0, &mut copy)?;
            let count = (self.len - first).min(KV_PAGE) * row;
            let of_page = copy.chunks_exact(KV_PAGE * row);
            for (to, from) in bytes.chunks_exact_mut(self.len * row).zip(of_page) {
                to[first * row..][..count].copy_from_slice(&from[..count]);
            }
        }
        Ok(bytes)
    }

    /// Pages that hold the committed positions.
    pub fn pages(&self) -> usize {
        self.len.div_ceil(KV_PAGE)
    }

    /// Copies page `index` to `bytes`, of [`KvDecl::page_bytes`], as it is in device memory. Waits for the device.
    ///
    /// # Errors
    /// A kernel failed before.
    pub fn read_page(&self, index: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.pages[index].read(0, bytes)
    }

    /// Appends a page as [`DeviceKv::read_page`] copies it, whose first `count` positions are to be committed. The pages before
    /// it have to be full. What the draft keeps stays behind.
    ///
    /// # Errors
    /// Device memory does not suffice, or a kernel failed before; the sequence is then as before.
    pub fn push_page(
        &mut self,
        context: &Context,
        bytes: &[u8],
        count: usize,
    ) -> Result<(), DeviceError> {
        debug_assert!(count <= KV_PAGE && self.len.is_multiple_of(KV_PAGE));
        self.pages.truncate(self.len / KV_PAGE);
        let size = self.decl.page_bytes() as u64;
        let page = DeviceBuffer::zeroed(context, size, "a page of the KV cache")?;
        page.write(0, bytes)?;
        self.pages.push(Arc::new(page));
        self.advance(self.len + count);
        Ok(())
    }

    /// Forgets every position from `len` on, and gives back the pages that held nothing else.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.call = 0;
        self.pages.truncate(self.len.div_ceil(KV_PAGE));
        if let Some(draft) = &mut self.draft {
            draft.truncate(len);
        }
    }

    /// Makes the positions from the committed ones to `end` this sequence's own to write: takes missing pages, and copies
    /// one that a fork shares.
    ///
    /// # Errors
    /// Device memory does not suffice; the sequence is then as before.
    pub(super) fn reserve(&mut self, context: &Context, end: usize) -> Result<(), DeviceError> {
        self.own(context, self.len, end)
    }

    /// The same where the positions to `held` hold something.
    ///
    /// # Errors
    /// Those of [`DeviceKv::reserve`].
    pub(super) fn own(
        &mut self,
        context: &Context,
        held: usize,
        end: usize,
    ) -> Result<(), DeviceError> {
        let bytes = self.decl.page_bytes() as u64;
        let mut new = Vec::new();
        for index in self.len / KV_PAGE..end.div_ceil(KV_PAGE) {
            let kept = match self.pages.get(index) {
                Some(page) if Arc::strong_count(page) == 1 => continue,
                Some(page) if index * KV_PAGE < held => Some(Arc::clone(page)),
                _ => None,
            };
            let page = DeviceBuffer::zeroed(context, bytes, "a page of the KV cache")?;
            if let Some(kept) = kept {
                page.copy_async(0, &kept, 0..bytes)?;
            }
            new.push((index, Arc::new(page)));
        }
        for (index, page) in new {
            match self.pages.get_mut(index) {
                Some(place) => *place = page,
                None => self.pages.push(page),
            }
        }
        Ok(())
    }

    /// Addresses of the pages.
    pub(super) fn table(&self) -> Vec<u64> {
        self.pages.iter().map(|page| page.address()).collect()
    }

    /// A number for a call that writes after the committed positions, which no other call has.
    pub(super) fn begin_call(&mut self) -> u64 {
        static CALLS: AtomicU64 = AtomicU64::new(1);
        self.call = CALLS.fetch_add(1, Ordering::Relaxed);
        self.call
    }

    /// Whether what that call wrote is still there.
    pub(super) fn holds_call(&self, call: u64) -> bool {
        self.call == call
    }

    /// Says that the positions up to `len`, which a kernel has written, are committed.
    pub(super) fn advance(&mut self, len: usize) {
        debug_assert!(len <= self.pages.len() * KV_PAGE);
        self.len = len;
        self.call = 0;
    }
}
