use crate::error::{Error, Result};
use memmap2::{Mmap, UncheckedAdvice};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The bytes of a file: mapped, or handed over by the caller. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct FileBytes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl FileBytes {
    /// Maps a file.
    pub fn map(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
        if !metadata.is_file() {
            return Err(Error::malformed(path, "not a regular file"));
        }
        // SAFETY: the mapping is read-only and lives in `Inner` as long as any view of it. A process that shortens
        // or rewrites the file meanwhile can fault or change what is read; every engine that maps weights
        // accepts that, and no length or offset is read from the mapping twice.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Self::new(path, Content::Mapped(map)))
    }

    /// Takes bytes that are in memory already; `name` stands for the file in messages.
    pub fn owned(name: &str, bytes: Vec<u8>) -> Self {
        Self::new(Path::new(name), Content::Owned(bytes))
    }

    fn new(path: &Path, content: Content) -> Self {
        let path = path.to_owned();
        FileBytes {
            inner: Arc::new(Inner { path, content }),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.inner.content {
            Content::Mapped(map) => map,
            Content::Owned(bytes) => bytes,
        }
    }

    /// A view that keeps the bytes alive; `None` if it reaches over the end.
    pub fn view(&self, range: Range<usize>) -> Option<View> {
        self.bytes().get(range.clone())?;
        let file = self.clone();
        Some(View { file, range })
    }
}

/// A part of a [`FileBytes`].
#[derive(Debug, Clone)]
pub(super) struct View {
    file: FileBytes,
    range: Range<usize>,
}

impl View {
    /// Tells the system that these bytes have been read for the last time, so that they stop counting as resident.
    /// A hint: they stay readable.
    pub fn release(&self, offset: usize, len: usize) {
        let start = self.range.start.saturating_add(offset);
        let len = len.min(self.range.end.saturating_sub(start));
        if len == 0 {
            return;
        }
        if let Content::Mapped(map) = &self.file.inner.content {
            // SAFETY: the mapping is read-only and backed by a file, so dropped pages come back from the file
            // with the same content.
            let advised =
                unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len) };
            if let Err(error) = advised {
                tracing::debug!(%error, "pages of the checkpoint stay resident");
            }
        }
    }

    /// [`View::release`] for the whole file: the system maps pages around those that are read.
    pub fn release_file(&self) {
        if let Some(all) = self.file.view(0..self.file.bytes().len()) {
            all.release(0, all.len());
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.range.len()
    }
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        &self.file.bytes()[self.range.clone()]
    }
}
