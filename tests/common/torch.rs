//! Files in the format of `torch.save`, built opcode by opcode.

use std::io::{Cursor, Write};
use zip::write::{SimpleFileOptions, ZipWriter};

/// A zip archive of stored entries.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive_of(entries, SimpleFileOptions::default())
}

pub fn archive_of(entries: &[(&str, &[u8])], options: SimpleFileOptions) -> Vec<u8> {
    let options = options.compression_method(zip::CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A string.
pub fn text(value: &str) -> Vec<u8> {
    let len = (value.len() as u32).to_le_bytes();
    [b"X", &len[..], value.as_bytes()].concat()
}

/// An integer.
pub fn int(value: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &value.to_le_bytes()].concat()
}

fn ints(values: &[i64]) -> Vec<u8> {
    let items: Vec<u8> = values.iter().flat_map(|value| int(*value)).collect();
    [b"(", &items[..], b"t"].concat()
}

/// What `torch.save` writes for a tensor in storage `key`.
pub fn tensor(
    storage: &str,
    key: &str,
    elements: i64,
    offset: i64,
    shape: &[i64],
    strides: &[i64],
) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((",
        &text("storage")[..],
        format!("ctorch\n{storage}\n").as_bytes(),
        &text(key),
        &text("cpu"),
        &int(elements),
        b"tQ",
        &int(offset),
        &ints(shape),
        &ints(strides),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

/// The pickle of a dictionary.
pub fn pickled(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\x80\x02}(".to_vec();
    for (name, value) in items {
        bytes.extend([&text(name)[..], value].concat());
    }
    bytes.extend(b"u.");
    bytes
}

/// A file with a dictionary and one storage, `0`, of zeros.
pub fn torch_file(items: &[(&str, Vec<u8>)], storage_bytes: usize) -> Vec<u8> {
    let (pickle, storage) = (pickled(items), vec![0; storage_bytes]);
    archive(&[("m/data.pkl", &pickle), ("m/data/0", &storage)])
}
