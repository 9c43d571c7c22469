//! Cut, lying and hostile files of `torch.save`: an error that says what is wrong, and no panic.

mod common;

use common::CONFIG;
use common::torch::{archive, int, pickled, tensor, text, torch_file};
use proptest::prelude::*;
use std::path::Path;
use stheno::checkpoint::{Checkpoint, Matrix};

const FIXTURES: [&str; 7] = [
    "dtypes",
    "shared",
    "nested",
    "expanded",
    "module",
    "legacy",
    "protocol4",
];

fn bytes_of(name: &str) -> Vec<u8> {
    let path = format!("tests/fixtures/torch/{name}.pt");
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn error(bytes: Vec<u8>) -> String {
    let error = Checkpoint::from_torch(CONFIG, bytes)
        .unwrap_err()
        .to_string();
    assert!(error.contains("torch file in memory"), "{error}");
    error
}

/// Reads whatever a checkpoint has.
fn read_all(checkpoint: &Checkpoint) {
    for name in checkpoint.tensor_names() {
        match *checkpoint.shape(name).unwrap() {
            [n, k] => {
                if let Ok(Matrix::Dense(matrix)) = checkpoint.matrix(name, n, k) {
                    assert_eq!(matrix.bytes().len(), n * k * matrix.dtype().size());
                }
            }
            [n] => {
                let _ = checkpoint.vector(name, n);
                let _ = checkpoint.integers(name, n);
            }
            _ => {}
        }
    }
}

#[test]
fn what_is_no_state_dict_is_refused_by_name() {
    for (name, reason) in [
        (
            "legacy",
            "before PyTorch 1.6 (load it with torch and save it again",
        ),
        (
            "module",
            "global `torch.nn.modules.linear.Linear` is refused",
        ),
        (
            "expanded",
            "tensor `expanded` has strides [0], which repeat elements",
        ),
        ("protocol4", "pickle protocol 4 is not supported"),
    ] {
        let error = error(bytes_of(name));
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn cut_files_are_refused_wherever_they_end() {
    let whole = bytes_of("nested");
    for end in 0..whole.len() {
        error(whole[..end].to_vec());
    }
    for end in 0..40 {
        // Not a zip archive, and no other format either.
        error(bytes_of("legacy")[..end].to_vec());
    }
}

#[test]
fn hostile_archives_are_refused() {
    let good = || torch_file(&[("a", tensor("FloatStorage", "0", 2, 0, &[2], &[1]))], 8);
    assert!(Checkpoint::from_torch(CONFIG, good()).is_ok());
    // Fields of the first central header (data.pkl): flags, method, sizes, place of the local header.
    let patched = |at: usize, value: &[u8]| {
        let mut bytes = good();
        let header = bytes
            .windows(4)
            .position(|four| four == b"PK\x01\x02")
            .unwrap();
        bytes[header + at..][..value.len()].copy_from_slice(value);
        bytes
    };
    for (bytes, reason) in [
        (patched(10, &[8, 0]), "is compressed"),
        (patched(10, &[93, 0]), "is compressed"),
        (patched(8, &[1, 0]), "is encrypted"),
        (patched(20, &[1, 0, 0, 0]), "has two sizes"),
        (patched(20, &[0xfe, 0xff, 0xff, 0x7f].repeat(2)), "overlap"),
        (
            patched(42, &[0xfe, 0xff, 0xff, 0x7f]),
            "not a file of torch.save",
        ),
        (b"PK\x03\x04".to_vec(), "not a file of torch.save"),
        (Vec::new(), "not a file of torch.save"),
    ] {
        let error = error(bytes);
        assert!(error.contains(reason), "{error}");
    }
    let pickle = pickled(&[]);
    for (entries, reason) in [
        (&[("m/version", &b"3"[..])][..], "no `data.pkl`"),
        (&[("data.pkl", &pickle)], "is in no directory"),
        (
            &[("m/data.pkl", &pickle), ("n/data/0", b"")],
            "is in another directory",
        ),
        (
            &[("m/data.pkl", &pickle), ("m/byteorder", b"big")],
            "big-endian",
        ),
        (
            &[("m/data.pkl", &pickle), ("m/byteorder", b"up")],
            "neither little nor big",
        ),
    ] {
        let error = error(archive(entries));
        assert!(error.contains(reason), "{error}");
    }
    // One name for two entries.
    let mut bytes = archive(&[("m/data.pkl", &pickle), ("m/data.pkk", &pickle)]);
    while let Some(at) = bytes.windows(4).position(|four| four == b".pkk") {
        bytes[at..][..4].copy_from_slice(b".pkl");
    }
    assert!(error(bytes).contains("have one name"));
    // An entry where another one is.
    let mut bytes = archive(&[("m/data.pkl", &pickle), ("m/x", &pickle)]);
    let second = bytes
        .windows(4)
        .rposition(|four| four == b"PK\x01\x02")
        .unwrap();
    bytes[second + 42..][..4].copy_from_slice(&[0; 4]);
    assert!(error(bytes).contains("overlap"));
}

#[test]
fn lying_tensors_are_refused() {
    let max = i64::MAX;
    for (storage, key, elements, offset, shape, strides, reason) in [
        (
            "FloatStorage",
            "0",
            3,
            0,
            &[2][..],
            &[1][..],
            "of 3 f32, which has 8 bytes",
        ),
        ("FloatStorage", "0", max, 0, &[2], &[1], "which has 8 bytes"),
        (
            "DoubleStorage",
            "0",
            2,
            0,
            &[2],
            &[1],
            "of 2 F64, which has 8 bytes",
        ),
        (
            "FloatStorage",
            "1",
            2,
            0,
            &[2],
            &[1],
            "storage `1`, which is missing",
        ),
        (
            "FloatStorage",
            "../0",
            2,
            0,
            &[2],
            &[1],
            "storage `../0`, which is missing",
        ),
        (
            "FloatStorage",
            "0",
            2,
            0,
            &[3],
            &[1],
            "reaches over storage `0` of 2",
        ),
        ("FloatStorage", "0", 2, 1, &[2], &[1], "reaches over"),
        ("FloatStorage", "0", 2, max, &[2], &[1], "reaches over"),
        ("FloatStorage", "0", 2, 0, &[max], &[1], "reaches over"),
        (
            "FloatStorage",
            "0",
            2,
            0,
            &[max, max, max],
            &[0, 0, 0],
            "reaches over",
        ),
        ("FloatStorage", "0", 2, 0, &[2], &[max], "reaches over"),
        ("FloatStorage", "0", 2, 0, &[max], &[0], "repeat elements"),
        ("FloatStorage", "0", 2, -1, &[2], &[1], "no such numbers"),
        ("FloatStorage", "0", 2, 0, &[-1], &[1], "no such numbers"),
        ("FloatStorage", "0", 2, 0, &[2], &[-1], "no such numbers"),
        ("FloatStorage", "0", 2, 0, &[2], &[1, 1], "differ in length"),
        (
            "FloatStorage",
            "0",
            2,
            0,
            &[1; 65],
            &[1; 65],
            "no such numbers",
        ),
        ("FloatStorage", "0", -1, 0, &[2], &[1], "names no storage"),
        (
            "OrderedDict",
            "0",
            2,
            0,
            &[2],
            &[1],
            "global `torch.OrderedDict` is refused",
        ),
    ] {
        let lying = tensor(storage, key, elements, offset, shape, strides);
        let error = error(torch_file(&[("a", lying)], 8));
        assert!(error.contains(reason), "{reason}: {error}");
    }
    // Strides of single elements, and of nothing, say nothing.
    for (shape, strides) in [
        (&[1, 2][..], &[max, 1][..]),
        (&[2, 1], &[1, max]),
        (&[0, 9], &[9, 9]),
    ] {
        let odd = tensor("FloatStorage", "0", 2, 0, shape, strides);
        assert!(Checkpoint::from_torch(CONFIG, torch_file(&[("a", odd)], 8)).is_ok());
    }
    // A hundred transposed copies of the same storage.
    let names: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    let turned = || tensor("FloatStorage", "0", 4096, 0, &[64, 64], &[1, 64]);
    let tensors: Vec<(&str, Vec<u8>)> = names.iter().map(|name| (&**name, turned())).collect();
    let error = error(torch_file(&tensors, 4 * 4096));
    assert!(
        error.contains("copied more often than the file is long"),
        "{error}"
    );
}

#[test]
fn hostile_pickles_are_refused() {
    let file = |body: &[u8]| archive(&[("m/data.pkl", &[b"\x80\x02", body].concat())]);
    for (body, reason) in [
        (
            &b"cos\nsystem\n(X\x02\0\0\0lstR."[..],
            "global `os.system` is refused",
        ),
        (
            b"c__builtin__\neval\n.",
            "global `__builtin__.eval` is refused",
        ),
        (b"ctorch\nload\n.", "global `torch.load` is refused"),
        (
            b"ctorch._utils\n_rebuild_tensor\n.",
            "`torch._utils._rebuild_tensor` is refused",
        ),
        (b"cos\n\x1b[2J\n.", "`os.\\u{1b}[2J` is refused"),
        (b"cos\n\xff\n.", "not UTF-8"),
        (b"cos\nsystem", "does not end"),
        (b"cos", "does not end"),
        (b"\x93.", "opcode 0x93 has no place"),
        (b"i.", "opcode 0x69 has no place"),
        (b"N\x81.", "opcode 0x81 has no place"),
        (b"\x82\x01.", "opcode 0x82 has no place"),
        (b"", "1 bytes are wanted and 0 are left"),
        (b".", "the stack is empty"),
        (b"0.", "the stack is empty"),
        (b"N(.", "the stack is empty"),
        (b"N(s.", "the stack is empty"),
        (b"2.", "the stack is empty"),
        (b"q\0.", "the stack is empty"),
        (b"t.", "no mark"),
        (b"1.", "no mark"),
        (b"\x87.", "the stack is empty"),
        (b"h\x05.", "nothing is remembered under 5"),
        (
            b"j\xff\xff\xff\xff.",
            "nothing is remembered under 4294967295",
        ),
        (b"X\xff\xff\xff\xffa", "4294967295 bytes are wanted"),
        (b"\x8b\xff\xff\xff\xffa", "4294967295 bytes are wanted"),
        (b"X\x01\0\0\0\xff.", "not UTF-8"),
        (b"NNR.", "no function"),
        (b"N)R.", "no function"),
        (
            b"ccollections\nOrderedDict\nN\x85R.",
            "OrderedDict is called with 1 arguments",
        ),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
            "_rebuild_tensor_v2 is called with 0",
        ),
        (
            b"ctorch._utils\n_rebuild_parameter\nNNN\x87R.",
            "other than a tensor",
        ),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR.",
            "other than a storage",
        ),
        (b"ctorch\nFloatStorage\n)R.", "a storage of f32 is called"),
        (b"NQ.", "names no storage"),
        (b")Q.", "names no storage"),
        (b"]Na}s.", "the stack is empty"),
        (b"}(Nu.", "a key without a value"),
        (b"N(NNu.", "other than a dictionary"),
        (b"]NNs.", "other than a dictionary"),
        (b"}Na.", "other than a list"),
        (b"NNb.", "state is set of something"),
        (b"].", "no dictionary of tensors"),
        (b"N.", "no dictionary of tensors"),
    ] {
        let error = error(file(body));
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let error_of = |body: &[u8]| error(file(body));
    assert!(error_of(&[b'('; 2 << 20]).contains("the stack is too deep"));
    assert!(error_of(&[b'N'; 2 << 20]).contains("the stack is too deep"));
    assert!(error_of(&vec![b'0'; 33 << 20]).contains("bytes are too many"));
    assert!(error(archive(&[("m/data.pkl", b"(dp0\n.")])).contains("not a pickle of protocol 2"));
    // Numbers of any length.
    let longs = b"}K\x00\x8a\x00sK\x01\x8a\x01\xffsK\x02\x8b\x09\x00\x00\x00123456789s.";
    assert!(Checkpoint::from_torch(CONFIG, file(longs)).is_ok());
    // What a module says of itself is passed over.
    let described = b"ccollections\nOrderedDict\n)R}X\x09\0\0\0_metadataNsb.";
    assert!(Checkpoint::from_torch(CONFIG, file(described)).is_ok());
}

#[test]
fn containers_in_themselves_end() {
    let file = |body: &[u8]| archive(&[("m/data.pkl", &[b"\x80\x02", body].concat())]);
    let mut deep = b"}q\0".to_vec();
    deep.extend([text("a"), b"h\0s.".to_vec()].concat());
    assert!(error(file(&deep)).contains("nests containers too deeply"));
    let mut nested = b"}".to_vec();
    for _ in 0..10_000 {
        nested.extend([text("a"), b"}".to_vec()].concat());
    }
    nested.extend(b"s".repeat(10_000));
    nested.push(b'.');
    assert!(error(file(&nested)).contains("nests containers too deeply"));
    // Thirteen levels with 256 places each for the one before.
    let mut wide = b"]q\x000".to_vec();
    for level in 1..14_u8 {
        wide.extend([b']', b'q', level, b'(']);
        wide.extend([b'h', level - 1].repeat(256));
        wide.extend(b"e0");
    }
    let root = [&wide[..], b"}", &text("a"), b"h\x0ds."].concat();
    assert!(error(file(&root)).contains("in too many places"));
    // A long name for each of many tensors.
    let key = text(&"k".repeat(1 << 16));
    let mut body = [b"}", &key[..], b"}("].concat();
    let one = tensor("FloatStorage", "0", 1, 0, &[1], &[1]);
    body.extend([&int(0)[..], &one, b"q\0"].concat());
    for number in 1..1000 {
        body.extend([&int(number)[..], b"h\0"].concat());
    }
    body.extend(b"us.");
    assert!(error(file(&body)).contains("in too many places"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn flipped_bytes_never_panic(
        file in prop::sample::select(&FIXTURES[..]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = bytes_of(file);
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(checkpoint) = Checkpoint::from_torch(CONFIG, bytes) {
            read_all(&checkpoint);
        }
    }

    #[test]
    fn flipped_pickles_never_panic(
        file in prop::sample::select(&["dtypes", "shared", "nested"][..]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        // The pickle is the first entry: from its opcode of the protocol to the next local header.
        let mut bytes = bytes_of(file);
        let start = bytes.windows(2).position(|two| two == b"\x80\x02").unwrap();
        let len = bytes[start..].windows(4).position(|four| four.starts_with(b"PK")).unwrap();
        for (at, value) in flips {
            bytes[start + at.index(len)] = value;
        }
        if let Ok(checkpoint) = Checkpoint::from_torch(CONFIG, bytes) {
            read_all(&checkpoint);
        }
    }
}
