//! Module images: PTX text, and PTX inside of fat binaries.

use crate::boundary::{Answer, In, Text};
use crate::error::{Code, INVALID_IMAGE, INVALID_VALUE, NO_BINARY_FOR_GPU};

/// Why there is no PTX to be had: the code and what to do.
pub type Refused = (Code, String);

const ELF: [u8; 4] = *b"\x7fELF";
/// Magic number of the wrapper that compilers put around a fat binary: magic, version, pointer to the binary, ...
const WRAPPER: u32 = 0x4662_43b1;
/// Magic number of a fat binary.
const FAT: u32 = 0xba55_ed50;
/// Magic number of the compressed modules of old compilers and of archives.
const ARCHIVE: [u8; 4] = *b"!<ar";
/// Flags of an entry that is compressed, by either method.
const COMPRESSED: u64 = 0x2000 | 0x8000;
/// Kind of an entry that is PTX.
const PTX: u16 = 1;

/// The PTX of an image in memory.
pub fn ptx(image: *const u8) -> Result<String, Refused> {
    let first = In::new(image)
        .get()
        .map_err(|code| (code, "the image is a null pointer".to_string()))?;
    // Text may be shorter than four bytes: the next is only looked at if this one was not the end.
    let mut start = [0; 4];
    start[0] = first;
    for index in 1..4 {
        if start[index - 1] == 0 {
            break;
        }
        start[index] = In::new(image).at(index).map_err(broken)?;
    }
    match (start, u32::from_le_bytes(start)) {
        (ELF | ARCHIVE, _) => Err(machine_code()),
        (_, WRAPPER) => {
            let data = In::new(image.wrapping_add(8).cast::<u64>())
                .get()
                .map_err(broken)?;
            fat(data as *const u8)
        }
        (_, FAT) => fat(image),
        _ => Text::new(image).get().map_err(|_| {
            let what = "the image is neither PTX text nor a fat binary that holds PTX";
            (INVALID_IMAGE, what.to_string())
        }),
    }
}

/// The PTX of a file's bytes.
pub fn ptx_of_file(mut bytes: Vec<u8>) -> Result<String, Refused> {
    if bytes.starts_with(&FAT.to_le_bytes()) {
        let size = field::<u64>(&bytes, 8).map_err(broken)?;
        if (bytes.len() as u64) < size.saturating_add(16) {
            return Err(broken(INVALID_IMAGE));
        }
        return ptx(bytes.as_ptr());
    }
    // A wrapper holds a pointer, which means nothing in a file.
    if bytes.starts_with(&WRAPPER.to_le_bytes()) {
        return Err(broken(INVALID_IMAGE));
    }
    bytes.extend([0; 4]);
    ptx(bytes.as_ptr())
}

fn machine_code() -> Refused {
    let what = "the image is machine code (a cubin), which the virtual GPU does not run: load the PTX instead \
                (NVRTC gives it by nvrtcGetPTX for a target `compute_..`, nvcc by -ptx)";
    (NO_BINARY_FOR_GPU, what.into())
}

fn broken(_: Code) -> Refused {
    (INVALID_IMAGE, "the fat binary ends too early".into())
}

/// The PTX for the highest architecture in a fat binary: a header {magic u32, version u16, header size u16, size u64},
/// then entries {kind u16, -, header size u32, size u64, .., architecture u32 at 28, .., flags u64 at 40, ..}.
fn fat(data: *const u8) -> Result<String, Refused> {
    let head = In::new(data).bytes(16).map_err(broken)?;
    if field::<u32>(&head, 0).map_err(broken)? != FAT {
        return Err((
            INVALID_IMAGE,
            "the fat binary does not start with its magic number".into(),
        ));
    }
    let header = field::<u16>(&head, 6).map_err(broken)?;
    let size = field::<u64>(&head, 8).map_err(broken)?;
    let body = In::new(data.wrapping_add(usize::from(header)));
    let body = body.bytes(size as usize).map_err(broken)?;
    choose(&body)
}

fn choose(body: &[u8]) -> Result<String, Refused> {
    let mut best: Option<(u32, String)> = None;
    let (mut at, mut compressed) = (0, false);
    while at < body.len() {
        let entry = &body[at..];
        let header = field::<u32>(entry, 4).map_err(broken)? as usize;
        let size = field::<u64>(entry, 8).map_err(broken)? as usize;
        let end = header
            .checked_add(size)
            .filter(|end| *end <= entry.len() && header >= 48);
        let end = end.ok_or_else(|| broken(INVALID_IMAGE))?;
        if field::<u16>(entry, 0).map_err(broken)? == PTX {
            let arch = field::<u32>(entry, 28).map_err(broken)?;
            if field::<u64>(entry, 40).map_err(broken)? & COMPRESSED != 0 {
                compressed = true;
            } else if best.as_ref().is_none_or(|(other, _)| *other < arch) {
                let text = &entry[header..end];
                let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
                best = Some((arch, String::from_utf8_lossy(text).into_owned()));
            }
        }
        at += end;
    }
    match best {
        Some((_, text)) => Ok(text),
        None if compressed => {
            let what = "the PTX in the fat binary is compressed: build it with --no-compress";
            Err((NO_BINARY_FOR_GPU, what.into()))
        }
        None => Err(machine_code()),
    }
}

/// A little-endian number of a header.
fn field<T: Field>(bytes: &[u8], at: usize) -> Answer<T> {
    T::read(bytes, at).ok_or(INVALID_VALUE)
}

trait Field: Sized {
    fn read(bytes: &[u8], at: usize) -> Option<Self>;
}

macro_rules! fields {
    ($($ty:ty)*) => {
        $(impl Field for $ty {
            fn read(bytes: &[u8], at: usize) -> Option<Self> {
                let end = at.checked_add(size_of::<Self>())?;
                Some(Self::from_le_bytes(bytes.get(at..end)?.try_into().ok()?))
            }
        })*
    };
}
fields!(u16 u32 u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u16, arch: u32, flags: u64, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..2].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&64u32.to_le_bytes());
        bytes[8..16].copy_from_slice(&(data.len() as u64).to_le_bytes());
        bytes[28..32].copy_from_slice(&arch.to_le_bytes());
        bytes[40..48].copy_from_slice(&flags.to_le_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn the_highest_ptx_of_a_fat_binary_is_taken() {
        let body = [
            entry(1, 80, 0, b"old\0"),
            entry(2, 90, 0, b"\x7fELF"),
            entry(1, 90, 0, b"new\0\0"),
            entry(1, 100, 0x2000, b"??"),
        ]
        .concat();
        assert_eq!(choose(&body).unwrap(), "new");
        let mut file = FAT.to_le_bytes().to_vec();
        file.extend([1, 0, 16, 0]);
        file.extend((body.len() as u64).to_le_bytes());
        file.extend(&body);
        assert_eq!(ptx_of_file(file.clone()).unwrap(), "new");
        assert_eq!(
            ptx_of_file(file[..60].to_vec()).unwrap_err().0,
            INVALID_IMAGE
        );
    }

    #[test]
    fn what_holds_no_ptx_is_refused_with_advice() {
        let (code, text) = choose(&entry(2, 90, 0, b"\x7fELF")).unwrap_err();
        assert_eq!(code, NO_BINARY_FOR_GPU);
        assert!(text.contains("load the PTX"), "{text}");
        let (code, text) = choose(&entry(1, 90, 0x2000, b"??")).unwrap_err();
        assert_eq!(code, NO_BINARY_FOR_GPU);
        assert!(text.contains("--no-compress"), "{text}");
        assert_eq!(
            choose(&entry(1, 90, 0, b"x")[..40]).unwrap_err().0,
            INVALID_IMAGE
        );
        assert_eq!(
            ptx_of_file(b"\x7fELF..".to_vec()).unwrap_err().0,
            NO_BINARY_FOR_GPU
        );
        assert_eq!(ptx(std::ptr::null()).unwrap_err().0, INVALID_VALUE);
        assert_eq!(ptx_of_file(Vec::new()).unwrap(), "");
    }
}
