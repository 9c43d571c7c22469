//! What stays of a call: rows of a path are moved to where their positions are.

use super::{DeviceBuffer, DeviceError, DeviceExecutor, DeviceForward, DeviceKv, LaunchShape};
use crate::plan::SegmentKind;
use crate::{Error, Result};
use stheno_codegen::program::abi;

impl DeviceExecutor {
    /// Appends rows of a call to the cache that it was made over, the target's or the draft's: those of `path`, each the parent of the next, the first
    /// without one.
    ///
    /// # Errors
    /// They are no such path; the sequence has changed since, or another call was made over it; device memory does not
    /// suffice.
    pub fn commit(&self, kv: &mut DeviceKv, forward: &DeviceForward, path: &[u32]) -> Result<()> {
        let segment = match forward.is_draft {
            true => SegmentKind::Draft,
            false => SegmentKind::Target,
        };
        let Some(kv) = kv
            .cache_mut(segment)
            .filter(|kv| kv.holds_call(forward.call))
        else {
            return Err(Error::Invalid(
                "what the call computed is gone: another call was made over the session since, or it changed".into(),
            ));
        };
        let mut before = None;
        for &row in path {
            if forward.parents.get(row as usize) != Some(&before) {
                return Err(Error::Invalid(format!(
                    "{path:?} is no path of the call: each row must be the parent of the next, the first has none"
                )));
            }
            before = Some(row);
        }
        let start = kv.len();
        if path.iter().zip(0..).any(|(row, j)| *row != j) {
            let end = start + forward.parents.len();
            kv.own(self.context(), end, end)?;
            self.move_rows(segment, kv, path)?;
        }
        kv.advance(start + path.len());
        Ok(())
    }

    /// Moves rows after the committed positions to where the path has them.
    fn move_rows(
        &self,
        segment: SegmentKind,
        kv: &DeviceKv,
        path: &[u32],
    ) -> Result<(), DeviceError> {
        let state = self.turn();
        let mut rows = [0; abi::ROW_LIMIT];
        for (place, row) in rows.iter_mut().zip(path) {
            // A row of a call, of which there are not more than 64.
            *place = *row as u8;
        }
        let pages = match segment.is_draft() {
            true => &state.draft_pages,
            false => &state.pages,
        };
        pages.write(0, bytemuck::cast_slice(&kv.table()))?;
        let parameter = abi::Commit {
            pool: self.pool(segment, pages),
            path: abi::Path {
                start: kv.len() as u32,
                count: path.len() as u32,
                rows,
            },
        };
        let shape = LaunchShape {
            shared_bytes: 0,
            cooperative: false,
            ..self.shape
        };
        // SAFETY: the kernel takes this structure, whose layout `codegen/tests/program/abi.rs` compares with the header's. The
        // pages are the sequence's own, hold all its rows, and are freed after the stream has been waited for.
        unsafe { self.commit.launch(shape, &parameter) }
    }

    /// K and V of target or draft, with the addresses of pages in `table`.
    pub(super) fn pool(&self, segment: SegmentKind, table: &DeviceBuffer) -> abi::KvPool {
        let decl = self.plan().kv_of(segment);
        abi::KvPool {
            layer_bytes: decl.layer_bytes() as u64,
            table: table.address(),
            planes: decl.layers * 2 * decl.num_key_value_heads,
            row_bytes: decl.head_dim * decl.dtype.size() as u32,
        }
    }
}
