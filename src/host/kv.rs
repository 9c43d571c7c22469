use super::kernels::widen::{Bf16, Element, F16};
use crate::{Error, Result};
use std::sync::Arc;
use stheno_codegen::plan::{Dtype, KV_PAGE, KvDecl, Row, SequenceIndex};

/// Committed K and V of one sequence, in copy-on-write pages: a clone is a fork that shares them.
#[derive(Debug, Clone)]
pub struct KvSequence {
    decl: KvDecl,
    pages: Vec<Arc<KvPage>>,
    len: usize,
}

impl KvSequence {
    /// An empty sequence.
    pub fn new(decl: KvDecl) -> Self {
        KvSequence {
            decl,
            pages: Vec::new(),
            len: 0,
        }
    }

    /// Shape of the cache.
    pub fn decl(&self) -> &KvDecl {
        &self.decl
    }

    /// Committed positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is committed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets every position from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.pages.truncate(self.len.div_ceil(KV_PAGE));
    }

    /// Page `index`, positions `128 index..128 (index + 1)`.
    pub(super) fn page(&self, index: usize) -> &KvPage {
        &self.pages[index]
    }

    /// Appends the K and V of `path`: row indices of the call that made `rows`, the first one without a parent and each
    /// the parent of the next.
    ///
    /// # Errors
    /// If the path does not continue this sequence; the sequence is then as before.
    pub fn commit(&mut self, rows: &KvRows, path: &[u32]) -> Result<()> {
        if rows.decl != Some(self.decl) {
            return Err(Error::Invalid(
                "the rows come from another plan than the sequence".into(),
            ));
        }
        let mut parent = None;
        for (&row, position) in path.iter().zip(self.len..) {
            let Some(meta) = rows.meta.get(row as usize) else {
                return Err(Error::Invalid(format!("row {row} is not part of the call")));
            };
            if meta.parent != parent || meta.position as usize != position {
                return Err(Error::Invalid(format!(
                    "row {row} at position {} does not continue the path at position {position}",
                    meta.position
                )));
            }
            parent = Some(row);
        }
        for &row in path {
            let slot = self.len % KV_PAGE;
            if slot == 0 {
                self.pages.push(Arc::new(KvPage::new(&self.decl)));
            }
            if let Some(page) = self.pages.last_mut() {
                Arc::make_mut(page).store(&self.decl, rows, row as usize, slot);
            }
            self.len += 1;
        }
        Ok(())
    }

    /// Pages that hold the committed positions.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Copies page `index` to `bytes`, of [`KvDecl::page_bytes`], `[layer][K, V][kv head][position 128][head_dim]`.
    pub fn read_page(&self, index: usize, bytes: &mut [u8]) {
        self.pages[index].write_out(&self.decl, bytes);
    }

    /// Appends a page as [`KvSequence::read_page`] copies it, whose first `count` positions are to be committed. The pages before
    /// it have to be full.
    pub fn push_page(&mut self, bytes: &[u8], count: usize) {
        debug_assert!(count <= KV_PAGE && self.len == self.pages.len() * KV_PAGE);
        self.pages
            .push(Arc::new(KvPage::read_in(&self.decl, bytes)));
        self.len += count;
    }
}

/// K and V of 128 positions, all layers. Per layer: K transposed [heads, head_dim, 128], then V
/// [heads, 128, head_dim]. Held in words of 8 bytes so that any element type is aligned.
#[derive(Debug, Clone)]
pub(super) struct KvPage(Vec<u64>);

impl KvPage {
    fn new(decl: &KvDecl) -> Self {
        KvPage(vec![0; decl.page_bytes() / 8])
    }

    /// Copies everything to `[layer][K, V][head][128][head_dim]`: K is not transposed there.
    fn write_out(&self, decl: &KvDecl, to: &mut [u8]) {
        let (block, size) = (block_bytes(decl), decl.dtype.size());
        let head_dim = decl.head_dim as usize;
        for_each_block(decl, bytemuck::cast_slice(&self.0), |is_k, index, from| {
            let to = &mut to[index * block..][..block];
            match is_k {
                true => transpose(from, head_dim, KV_PAGE, size, to),
                false => to.copy_from_slice(from),
            }
        });
    }

    /// The page that [`KvPage::write_out`] copied.
    fn read_in(decl: &KvDecl, from: &[u8]) -> Self {
        let mut page = KvPage::new(decl);
        let (block, size) = (block_bytes(decl), decl.dtype.size());
        let head_dim = decl.head_dim as usize;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut page.0);
        for_each_block(decl, from, |is_k, index, from| {
            let to = &mut bytes[index * block..][..block];
            match is_k {
                true => transpose(from, KV_PAGE, head_dim, size, to),
                false => to.copy_from_slice(from),
            }
        });
        page
    }

    /// K of a head, [head_dim, 128].
    pub fn k<E: Element>(&self, decl: &KvDecl, layer: u32, head: usize) -> &[E] {
        self.block(decl, 2 * layer as usize, head)
    }

    /// V of a head, [128, head_dim].
    pub fn v<E: Element>(&self, decl: &KvDecl, layer: u32, head: usize) -> &[E] {
        self.block(decl, 2 * layer as usize + 1, head)
    }

    fn block<E: Element>(&self, decl: &KvDecl, index: usize, head: usize) -> &[E] {
        let block = decl.head_dim as usize * KV_PAGE;
        &bytemuck::cast_slice(&self.0)[index * plane(decl) + head * block..][..block]
    }

    fn store(&mut self, decl: &KvDecl, rows: &KvRows, row: usize, slot: usize) {
        match decl.dtype {
            Dtype::F32 => self.store_as::<f32>(decl, rows, row, slot),
            Dtype::F16 => self.store_as::<F16>(decl, rows, row, slot),
            Dtype::BF16 => self.store_as::<Bf16>(decl, rows, row, slot),
        }
    }

    fn store_as<E: Element>(&mut self, decl: &KvDecl, rows: &KvRows, row: usize, slot: usize) {
        let head_dim = decl.head_dim as usize;
        let words: &mut [E] = bytemuck::cast_slice_mut(&mut self.0);
        for layer in 0..decl.layers {
            let (k, v) = words[2 * layer as usize * plane(decl)..].split_at_mut(plane(decl));
            for head in 0..decl.num_key_value_heads as usize {
                let layout = rows.layout();
                let from = &rows.elements::<E>()[layout.k(layer, head)..];
                for d in 0..head_dim {
                    k[(head * head_dim + d) * KV_PAGE + slot] = from[d * layout.stride + row];
                }
                let from = &rows.elements::<E>()[layout.v(layer, head, row)..][..head_dim];
                v[(head * KV_PAGE + slot) * head_dim..][..head_dim].copy_from_slice(from);
            }
        }
    }
}

/// Bytes of K (or V) of one head of one layer in one page.
fn block_bytes(decl: &KvDecl) -> usize {
    decl.head_dim as usize * KV_PAGE * decl.dtype.size()
}

/// Hands over every block of a page: whether it is K, its index, and its bytes.
fn for_each_block(decl: &KvDecl, page: &[u8], mut visit: impl FnMut(bool, usize, &[u8])) {
    let heads = decl.num_key_value_heads as usize;
    for (index, block) in page.chunks_exact(block_bytes(decl)).enumerate() {
        visit((index / heads).is_multiple_of(2), index, block);
    }
}

/// Turns [rows, columns] of elements of `size` bytes into [columns, rows].
fn transpose(from: &[u8], rows: usize, columns: usize, size: usize, to: &mut [u8]) {
    for (row, elements) in from.chunks_exact(columns * size).enumerate() {
        for (column, element) in elements.chunks_exact(size).enumerate() {
            to[(column * rows + row) * size..][..size].copy_from_slice(element);
        }
    }
}

/// Elements of K (or V) of one layer in one page.
fn plane(decl: &KvDecl) -> usize {
    decl.num_key_value_heads as usize * decl.head_dim as usize * KV_PAGE
}

/// What is kept of a row to check a commit.
#[derive(Debug, Clone, Copy)]
struct RowMeta {
    sequence: SequenceIndex,
    position: u32,
    parent: Option<u32>,
}

/// K and V of the rows of one call and of those that it continued, not yet committed, in the cache's type. See
/// `KvRowsLayout`.
#[derive(Debug, Default)]
pub struct KvRows {
    decl: Option<KvDecl>,
    meta: Vec<RowMeta>,
    layout: KvRowsLayout,
    /// Words of 8 bytes, so that any element type is aligned.
    words: Vec<u64>,
}

impl KvRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.meta.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.meta.is_empty()
    }

    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.meta.clear();
    }

    /// Makes room for the rows of a call after those that are there, and gives all elements.
    pub(super) fn append<E: Element>(&mut self, decl: &KvDecl, rows: &[Row]) -> &mut [E] {
        let before = self.meta.len();
        self.meta.extend(rows.iter().map(|row| RowMeta {
            sequence: row.sequence,
            position: row.position,
            parent: row.parent,
        }));
        let layout = KvRowsLayout::new(decl, self.meta.len());
        let elements = 2 * decl.layers as usize * layout.plane();
        let words = (elements * size_of::<E>()).div_ceil(8);
        let old = std::mem::replace(&mut self.layout, layout);
        if before > 0 && old.stride != layout.stride {
            let from = std::mem::replace(&mut self.words, vec![0; words]);
            let to: &mut [E] = bytemuck::cast_slice_mut(&mut self.words);
            layout.adopt(decl.layers, to, old, bytemuck::cast_slice(&from), before);
        } else {
            self.words.resize(words, 0);
        }
        self.decl = Some(*decl);
        bytemuck::cast_slice_mut(&mut self.words)
    }

    pub(super) fn decl(&self) -> Option<&KvDecl> {
        self.decl.as_ref()
    }

    /// Sequence of a row, if there is such a row.
    pub(super) fn sequence(&self, row: u32) -> Option<SequenceIndex> {
        self.meta.get(row as usize).map(|meta| meta.sequence)
    }

    /// Rows from the first ancestor that is not committed down to `row`; empty if there is no such row.
    pub(super) fn path(&self, row: u32) -> Vec<u32> {
        let parent = |row: &u32| self.meta.get(*row as usize)?.parent;
        let start = Some(row).filter(|row| (*row as usize) < self.meta.len());
        let mut path: Vec<u32> = std::iter::successors(start, parent).collect();
        path.reverse();
        path
    }

    /// Where things are.
    pub(super) fn layout(&self) -> KvRowsLayout {
        self.layout
    }

    fn elements<E: Element>(&self) -> &[E] {
        bytemuck::cast_slice(&self.words)
    }
}

/// Where K and V of a call's rows lie. Per layer: K transposed [heads, head_dim, stride], then V
/// [stride, heads, head_dim].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KvRowsLayout {
    pub heads: usize,
    pub head_dim: usize,
    /// Rows rounded up to 16.
    pub stride: usize,
}

impl KvRowsLayout {
    /// Layout for a number of rows.
    pub fn new(decl: &KvDecl, rows: usize) -> Self {
        KvRowsLayout {
            heads: decl.num_key_value_heads as usize,
            head_dim: decl.head_dim as usize,
            stride: rows.next_multiple_of(16),
        }
    }

    fn plane(&self) -> usize {
        self.heads * self.head_dim * self.stride
    }

    /// Copies the first `rows` rows of another stride.
    fn adopt<E: Element>(self, layers: u32, to: &mut [E], old: Self, from: &[E], rows: usize) {
        for layer in 0..layers {
            for head in 0..self.heads {
                for d in 0..self.head_dim {
                    let start = self.k(layer, head) + d * self.stride;
                    let old = old.k(layer, head) + d * old.stride;
                    to[start..][..rows].copy_from_slice(&from[old..][..rows]);
                }
            }
            let values = rows * self.heads * self.head_dim;
            let (start, old) = (self.v(layer, 0, 0), old.v(layer, 0, 0));
            to[start..][..values].copy_from_slice(&from[old..][..values]);
        }
    }

    /// Start of K of a head of all rows, [head_dim, stride].
    pub fn k(&self, layer: u32, head: usize) -> usize {
        2 * layer as usize * self.plane() + head * self.head_dim * self.stride
    }

    /// Start of V of a head of one row, [head_dim].
    pub fn v(&self, layer: u32, head: usize, row: usize) -> usize {
        (2 * layer as usize + 1) * self.plane() + (row * self.heads + head) * self.head_dim
    }
}
