use super::{GgufStrings, GgufValue};
use crate::error::{Error, Result};
use std::path::Path;

/// Elements of one array; the largest real ones are vocabularies of a few hundred thousand.
const MAX_ARRAY: usize = 1 << 24;
/// Arrays in arrays.
const MAX_DEPTH: usize = 4;

/// A cursor over the header. Nothing is allocated for a length before as many bytes are known to be there.
pub(super) struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Reader {
            path,
            bytes,
            offset: 0,
        }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// An error at the present offset.
    pub fn malformed(&self, reason: &str) -> Error {
        let offset = self.offset;
        Error::malformed(self.path, format!("{reason} (at byte {offset})"))
    }

    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.offset..];
        let Some(taken) = rest.get(..len) else {
            let left = rest.len();
            let reason = format!("{what} takes {len} bytes and the file has {left} left");
            return Err(self.malformed(&reason));
        };
        self.offset += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A number of things of at least `min_bytes` each, all of which must fit what is left.
    pub fn count(&mut self, min_bytes: usize, what: &str) -> Result<usize> {
        let count = self.u64(what)?;
        let room = (self.bytes.len() - self.offset) / min_bytes;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= room)
            .ok_or_else(|| self.malformed(&format!("{what} {count} does not fit the file")))
    }

    pub fn string(&mut self, what: &str) -> Result<&'a str> {
        let len = self.count(1, &format!("length of {what}"))?;
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed(&format!("{what} is not UTF-8")))
    }

    /// The value of metadata key `key`.
    pub fn value(&mut self, key: &str) -> Result<GgufValue> {
        let what = format!("value of `{key}`");
        let kind = self.u32(&what)?;
        if kind == ARRAY {
            return self.array_value(&what, 0);
        }
        Ok(match kind {
            STRING => GgufValue::String(self.string(&what)?.to_owned()),
            BOOL => GgufValue::Bool(self.array::<1>(&what)?[0] != 0),
            F32 => GgufValue::Float(f32::from_le_bytes(self.array(&what)?).into()),
            F64 => GgufValue::Float(f64::from_le_bytes(self.array(&what)?)),
            // Alone among the integers, u64 goes beyond i64.
            U64 => GgufValue::Unsigned(self.u64(&what)?),
            U8 | U16 | U32 => GgufValue::Unsigned(self.integer(kind, &what)?.cast_unsigned()),
            _ => GgufValue::Signed(self.integer(kind, &what)?),
        })
    }

    fn array_value(&mut self, what: &str, depth: usize) -> Result<GgufValue> {
        let kind = self.u32(what)?;
        let count = self.count(self.min_bytes(kind, what)?, what)?;
        if count > MAX_ARRAY {
            return Err(self.malformed(&format!("{what} has {count} elements")));
        }
        Ok(match kind {
            ARRAY if depth == MAX_DEPTH => {
                return Err(self.malformed(&format!("{what} nests arrays too deeply")));
            }
            ARRAY => {
                for _ in 0..count {
                    self.array_value(what, depth + 1)?;
                }
                GgufValue::Nested
            }
            STRING => {
                let mut strings = GgufStrings::default();
                for _ in 0..count {
                    strings.push(self.string(what)?);
                }
                GgufValue::Strings(strings)
            }
            F32 => {
                let bytes = self.take(4 * count, what)?.as_chunks().0.iter();
                GgufValue::Floats(bytes.map(|b| f32::from_le_bytes(*b)).collect())
            }
            F64 => {
                let bytes = self.take(8 * count, what)?.as_chunks().0.iter();
                GgufValue::Floats(bytes.map(|b| f64::from_le_bytes(*b) as f32).collect())
            }
            _ => {
                let integers: Result<_> = (0..count).map(|_| self.integer(kind, what)).collect();
                GgufValue::Ints(integers?)
            }
        })
    }

    fn integer(&mut self, kind: u32, what: &str) -> Result<i64> {
        Ok(match kind {
            U8 | BOOL => i64::from(self.array::<1>(what)?[0]),
            I8 => i64::from(i8::from_le_bytes(self.array(what)?)),
            U16 => i64::from(u16::from_le_bytes(self.array(what)?)),
            I16 => i64::from(i16::from_le_bytes(self.array(what)?)),
            U32 => i64::from(self.u32(what)?),
            I32 => i64::from(i32::from_le_bytes(self.array(what)?)),
            U64 | I64 => i64::from_le_bytes(self.array(what)?),
            _ => return Err(self.malformed(&format!("{what} has unknown type {kind}"))),
        })
    }

    /// The least that one element of an array takes.
    fn min_bytes(&self, kind: u32, what: &str) -> Result<usize> {
        Ok(match kind {
            U8 | I8 | BOOL => 1,
            U16 | I16 => 2,
            U32 | I32 | F32 => 4,
            U64 | I64 | F64 | STRING => 8,
            ARRAY => 12,
            _ => return Err(self.malformed(&format!("{what} has unknown type {kind}"))),
        })
    }
}

const U8: u32 = 0;
const I8: u32 = 1;
const U16: u32 = 2;
const I16: u32 = 3;
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;
const I64: u32 = 11;
const F64: u32 = 12;
