use super::ggml_type::storage_of;
use super::reader::Reader;
use super::{GgufMetadata, names};
use crate::checkpoint::bytes::FileBytes;
use crate::checkpoint::tensor::{Storage, Tensor};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// First bytes of every file.
pub(in crate::checkpoint) const MAGIC: [u8; 4] = *b"GGUF";

/// A parsed file: metadata and tensors, the latter under their Hugging Face names.
pub(in crate::checkpoint) struct GgufFile {
    pub metadata: GgufMetadata,
    pub tensors: BTreeMap<String, Tensor>,
}

struct Header {
    metadata: GgufMetadata,
    tensors: Vec<Info>,
    /// Where the header ends; tensor data begins at the next multiple of the alignment.
    end: usize,
}

struct Info {
    name: String,
    /// Outermost dimension first, unlike in the file.
    shape: Vec<usize>,
    storage: Storage,
    offset: u64,
}

impl GgufFile {
    /// Reads the header and checks every tensor against the file.
    pub fn parse(file: &FileBytes) -> Result<Self> {
        let Header {
            metadata,
            tensors: infos,
            end,
        } = Header::read(file)?;
        let malformed = |reason: String| Error::malformed(file.path(), reason);
        let alignment = match metadata.u64("general.alignment") {
            None => 32,
            Some(alignment) => usize::try_from(alignment)
                .ok()
                .filter(|a| a.is_power_of_two() && *a <= 1 << 20)
                .ok_or_else(|| malformed(format!("alignment {alignment} is not usable")))?,
        };
        let data = end
            .checked_next_multiple_of(alignment)
            .ok_or_else(|| malformed("the header is too long".to_owned()))?;
        let mut tensors = BTreeMap::new();
        let mut ranges: Vec<(Range<usize>, String)> = Vec::new();
        for info in infos {
            let range = info.range(data).filter(|r| r.end <= file.bytes().len());
            let view = range.clone().and_then(|range| file.view(range));
            let (Some(range), Some(view)) = (range, view) else {
                let (name, offset) = (&info.name, info.offset);
                let what = format!("{} {:?} at offset {offset}", info.storage, info.shape);
                return Err(malformed(format!(
                    "tensor `{name}` ({what}) reaches over the end of the file"
                )));
            };
            if !(range.start - data).is_multiple_of(alignment) {
                let name = &info.name;
                return Err(malformed(format!("tensor `{name}` is not aligned")));
            }
            let name = names::hugging_face_name(&info.name);
            let tensor = Tensor {
                shape: info.shape,
                storage: info.storage,
                view,
                interleaved_heads: None,
            };
            if !range.is_empty() {
                ranges.push((range, info.name));
            }
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(malformed(format!("tensor `{name}` is there twice")));
            }
        }
        ranges.sort_by_key(|(range, _)| range.start);
        if let Some([(_, a), (_, b)]) = ranges
            .array_windows()
            .find(|[(a, _), (b, _)]| a.end > b.start)
        {
            return Err(malformed(format!("tensors `{a}` and `{b}` overlap")));
        }
        Ok(GgufFile { metadata, tensors })
    }
}

impl Header {
    fn read(file: &FileBytes) -> Result<Self> {
        let path = file.path();
        let mut reader = Reader::new(path, file.bytes());
        if reader.u32("the magic number")? != u32::from_le_bytes(MAGIC) {
            return Err(Error::malformed(path, "not a GGUF file"));
        }
        let version = reader.u32("the version")?;
        match version {
            2 | 3 => {}
            1 => return Err(Error::Unsupported("GGUF version 1".to_owned())),
            _ if matches!(version.swap_bytes(), 1..=3) => {
                return Err(Error::Unsupported("big-endian GGUF files".to_owned()));
            }
            _ => return Err(Error::Unsupported(format!("GGUF version {version}"))),
        }
        // Name, dimension count, type and offset take 24 bytes; a key, its type and a byte of value 13.
        let tensor_count = reader.count(24, "the number of tensors")?;
        let key_count = reader.count(13, "the number of metadata keys")?;
        let mut metadata = GgufMetadata::default();
        for _ in 0..key_count {
            let key = reader.string("a metadata key")?;
            let value = reader.value(key)?;
            if !metadata.insert(key.to_owned(), value) {
                return Err(reader.malformed(&format!("metadata key `{key}` is there twice")));
            }
        }
        let split = metadata.u64("split.count");
        if let Some(count) = split.filter(|count| *count > 1) {
            let advice = "merge them with llama-gguf-split";
            let reason = format!("GGUF files split in {count} parts ({advice})");
            return Err(Error::Unsupported(reason));
        }
        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            tensors.push(Info::read(&mut reader)?);
        }
        Ok(Header {
            metadata,
            tensors,
            end: reader.offset(),
        })
    }
}

impl Info {
    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let name = reader.string("a tensor name")?;
        let rank = reader.u32(&format!("rank of tensor `{name}`"))?;
        if rank > 4 {
            return Err(reader.malformed(&format!("tensor `{name}` has {rank} dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            let dimension = reader.u64(&format!("shape of tensor `{name}`"))?;
            let dimension = usize::try_from(dimension)
                .map_err(|_| reader.malformed(&format!("tensor `{name}` is too large")))?;
            shape.insert(0, dimension);
        }
        let id = reader.u32(&format!("type of tensor `{name}`"))?;
        let storage = storage_of(id).map_err(|kind| {
            Error::Unsupported(format!("GGUF tensors of type {kind} (tensor `{name}`)"))
        })?;
        let offset = reader.u64(&format!("offset of tensor `{name}`"))?;
        Ok(Info {
            name: name.to_owned(),
            shape,
            storage,
            offset,
        })
    }

    /// Its bytes in the file, where they can be addressed at all.
    fn range(&self, data: usize) -> Option<Range<usize>> {
        let k = self.shape.last().copied().unwrap_or(1);
        let elements = (self.shape.iter()).try_fold(1_usize, |n, d| n.checked_mul(*d))?;
        let (block, bytes) = self.storage.block();
        if !k.is_multiple_of(block) {
            return None;
        }
        let len = (elements / block).checked_mul(bytes)?;
        let start = data.checked_add(usize::try_from(self.offset).ok()?)?;
        Some(start..start.checked_add(len)?)
    }
}
