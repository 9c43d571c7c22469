use crate::checkpoint::bytes::FileBytes;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use zip::CompressionMethod;
use zip::ZipArchive;

/// How files of `torch.save` before 1.6 begin: a pickle of protocol 2 with the magic number of that format.
const LEGACY: [u8; 14] = *b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// The zip archive around a checkpoint: entries `NAME/...`, stored without compression, so that each is a range of
/// the file. Checksums are not verified: that would read all of it.
pub(super) struct Archive {
    /// By name without `NAME/`.
    entries: HashMap<String, Range<usize>>,
}

impl Archive {
    /// Reads the central directory and the local headers.
    pub fn open(file: &FileBytes) -> Result<Self> {
        let path = file.path();
        if file.bytes().starts_with(&LEGACY) {
            let advice = "load it with torch and save it again, with torch.save or as safetensors";
            let reason = format!(
                "{}: the format of torch.save before PyTorch 1.6 ({advice})",
                path.display()
            );
            return Err(Error::Unsupported(reason));
        }
        let no_zip = |e: zip::result::ZipError| {
            Error::malformed(path, format!("not a file of torch.save: {e}"))
        };
        let mut archive = ZipArchive::new(Cursor::new(file.bytes())).map_err(no_zip)?;
        if archive.has_duplicate_names() || archive.has_overlapping_files().map_err(no_zip)? {
            let reason = "entries of the zip archive overlap, or have one name";
            return Err(Error::malformed(path, reason));
        }
        let mut entries = HashMap::new();
        let mut root: Option<String> = None;
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(no_zip)?;
            let whole = entry.name().map_err(no_zip)?;
            let malformed = |reason: &str| {
                let name = super::excerpt(&whole);
                Error::malformed(path, format!("zip entry `{name}` {reason}"))
            };
            let Some((directory, name)) = whole.split_once('/') else {
                return Err(malformed("is in no directory"));
            };
            if root.get_or_insert_with(|| directory.to_owned()) != directory {
                return Err(malformed("is in another directory than the first one"));
            }
            if entry.encrypted() {
                return Err(malformed("is encrypted"));
            }
            if entry.compression() != CompressionMethod::Stored {
                return Err(malformed(
                    "is compressed; torch.save stores entries as they are",
                ));
            }
            if entry.size() != entry.compressed_size() {
                return Err(malformed("has two sizes"));
            }
            let range = (entry.data_start())
                .and_then(|start| {
                    let (start, len) = (usize::try_from(start), usize::try_from(entry.size()));
                    let (start, len) = (start.ok()?, len.ok()?);
                    Some(start..start.checked_add(len)?)
                })
                .filter(|range| range.end <= file.bytes().len())
                .ok_or_else(|| malformed("reaches over the end of the file"))?;
            entries.insert(name.to_owned(), range);
        }
        Ok(Archive { entries })
    }

    /// Where an entry lies in the file.
    pub fn entry(&self, name: &str) -> Option<Range<usize>> {
        self.entries.get(name).cloned()
    }
}
