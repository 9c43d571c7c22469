//! Truncated, lying and hostile checkpoint files: an error that says what is wrong, and no panic.

mod common;

use common::{CONFIG, Gguf, floats, llama, safetensors, small_gguf, small_safetensors};
use stheno::checkpoint::{Checkpoint, Matrix};

fn gguf_error(bytes: Vec<u8>) -> String {
    Checkpoint::from_gguf(bytes).unwrap_err().to_string()
}

fn safetensors_error(header: &str, data: &[u8]) -> String {
    let file = safetensors(header, data);
    Checkpoint::from_safetensors(CONFIG, file)
        .unwrap_err()
        .to_string()
}

#[test]
fn whole_files_open() {
    let checkpoint = Checkpoint::from_gguf(small_gguf()).unwrap();
    assert!(checkpoint.is_quantized());
    assert_eq!(checkpoint.config()["model_type"], "llama");
    assert_eq!(checkpoint.config()["vocab_size"], 4);
    assert_eq!(checkpoint.config()["rms_norm_eps"], 1e-5);
    assert_eq!(checkpoint.config()["tie_word_embeddings"], true);
    let norm = checkpoint.vector("model.norm.weight", 32).unwrap();
    assert_eq!(norm[31], 31.0);
    // Heads of 4: rows 0, 2, 1, 3 of the file.
    let bias = checkpoint.vector("model.layers.0.self_attn.q_proj.bias", 8);
    assert_eq!(bias.unwrap(), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    let q = checkpoint.matrix("model.layers.0.self_attn.q_proj.weight", 8, 32);
    let mut row = [0.0; 32];
    q.unwrap().dequantize_row(1, &mut row);
    assert_eq!(row, [2.0; 32]);
    let k = checkpoint.matrix("model.layers.0.self_attn.k_proj.weight", 4, 32);
    assert!(matches!(k, Ok(Matrix::Affine(_))));

    let checkpoint = Checkpoint::from_safetensors(CONFIG, small_safetensors()).unwrap();
    assert!(checkpoint.contains("model.norm.weight"));
    assert!(
        checkpoint
            .matrix("model.layers.0.mlp.up_proj.weight", 2, 2)
            .is_ok()
    );
    let shape = checkpoint.matrix("model.layers.0.mlp.up_proj.weight", 2, 3);
    assert!(
        shape
            .unwrap_err()
            .to_string()
            .contains("is bf16 [2, 2], expected a matrix [2, 3]")
    );
    let missing = checkpoint.vector("lm_head.weight", 1).unwrap_err();
    assert!(missing.to_string().contains("`lm_head.weight` is missing"));
}

#[test]
fn truncated_files_are_refused_wherever_they_end() {
    // The last tensor's data is its final 32 bytes.
    let whole = small_gguf();
    for end in 0..whole.len() {
        gguf_error(whole[..end].to_vec());
    }
    let whole = small_safetensors();
    for end in 0..whole.len() {
        let part = whole[..end].to_vec();
        assert!(Checkpoint::from_safetensors(CONFIG, part).is_err(), "{end}");
    }
}

#[test]
fn flipped_bytes_never_panic() {
    for (whole, gguf) in [(small_gguf(), true), (small_safetensors(), false)] {
        for at in 0..whole.len() {
            for value in [0, 0x7f, 0xff, whole[at] ^ 1] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let opened = match gguf {
                    true => Checkpoint::from_gguf(bytes),
                    false => Checkpoint::from_safetensors(CONFIG, bytes),
                };
                if let Ok(checkpoint) = opened {
                    for name in checkpoint.tensor_names() {
                        let _ = checkpoint.matrix(name, 4, 32);
                        let _ = checkpoint.vector(name, 8);
                    }
                }
            }
        }
    }
}

#[test]
fn hostile_gguf_lengths_allocate_nothing() {
    let huge = u64::MAX.to_le_bytes();
    let error = gguf_error(llama().raw("key", 8, &huge).build());
    assert!(error.contains("length of value of `key`"), "{error}");
    for kind in [0_u32, 1, 4, 6, 8, 9, 12] {
        for count in [u64::MAX, 1 << 40, 1 << 61] {
            let mut array = kind.to_le_bytes().to_vec();
            array.extend(count.to_le_bytes());
            let error = gguf_error(llama().raw("key", 9, &array).build());
            assert!(error.contains("does not fit the file"), "{error}");
        }
    }
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        nested.extend(9_u32.to_le_bytes());
        nested.extend(1_u64.to_le_bytes());
    }
    let error = gguf_error(llama().raw("key", 9, &nested).build());
    assert!(error.contains("nests arrays too deeply"), "{error}");
    for at in [8, 16] {
        let mut bytes = small_gguf();
        bytes[at..at + 8].copy_from_slice(&huge);
        assert!(gguf_error(bytes).contains("does not fit the file"));
    }
}

#[test]
fn lying_gguf_tensors_are_refused() {
    let max = u64::MAX;
    for (shape, offset) in [
        (&[32, 4][..], 1 << 40),
        (&[32, 4], max),
        (&[max, max], 0),
        (&[1 << 40, 1 << 20], 0),
        (&[32, 1 << 58], 0),
        (&[31, 4], 0),
    ] {
        let error = gguf_error(llama().lying_tensor("a.weight", shape, 8, offset).build());
        assert!(error.contains("tensor `a.weight`"), "{error}");
        assert!(error.contains("reaches over the end"), "{error}");
    }
    let data = floats([1.0; 32]);
    let file = || llama().tensor("a", &[32], 0, &data);
    for (bytes, reason) in [
        (file().lying_tensor("b", &[16], 0, 32).build(), "overlap"),
        (file().lying_tensor("b", &[2], 0, 4).build(), "not aligned"),
        (file().tensor("a", &[32], 0, &data).build(), "there twice"),
        (
            file().lying_tensor("b", &[1; 5], 0, 0).build(),
            "5 dimensions",
        ),
        (file().lying_tensor("b", &[256], 11, 0).build(), "type Q3_K"),
        (file().lying_tensor("b", &[256], 4, 0).build(), "type 4"),
        (file().u32("llama.block_count", 1).build(), "there twice"),
        (file().u32("general.alignment", 3).build(), "alignment 3"),
        (file().raw("key", 99, &[]).build(), "unknown type 99"),
        (
            file().u32("llama.rope.dimension_count", 2).build(),
            "rotated",
        ),
        (
            Gguf::new().text("general.architecture", "mamba").build(),
            "`mamba`",
        ),
        (Gguf::new().build(), "`general.architecture` is missing"),
    ] {
        let error = gguf_error(bytes);
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn other_gguf_versions_are_refused_by_name() {
    for (version, reason) in [
        (1_u32, "version 1"),
        (4, "version 4"),
        (3_u32.swap_bytes(), "big-endian"),
    ] {
        let mut bytes = small_gguf();
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        assert!(gguf_error(bytes).contains(reason));
    }
}

#[test]
fn lying_safetensors_headers_are_refused() {
    let tensor = |shape: &str, offsets: &str| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let one = |shape: &str, offsets: &str| format!(r#"{{"a":{}}}"#, tensor(shape, offsets));
    let two = |a: &str, b: &str, first: &str, second: &str| {
        let (first, second) = (tensor("[2]", first), tensor("[2]", second));
        format!(r#"{{"{a}":{first},"{b}":{second}}}"#)
    };
    for header in [
        one("[2]", "[0,16]"),
        one("[4]", "[0,8]"),
        one("[2]", "[8,16]"),
        one("[2]", "[8,0]"),
        one("[2]", "[0,18446744073709551615]"),
        one("[18446744073709551615,18446744073709551615]", "[0,8]"),
        one("[-1]", "[0,8]"),
        two("a", "b", "[0,8]", "[4,12]"),
        two("a", "b", "[0,8]", "[0,8]"),
        two("a", "a", "[0,8]", "[8,16]"),
        "{".repeat(100_000),
        "[]".to_owned(),
        String::new(),
    ] {
        let error = safetensors_error(&header, &[0; 12]);
        assert!(error.contains("not a valid safetensors file"), "{error}");
    }
    for length in [u64::MAX, 1 << 40, 1_000] {
        let mut file = small_safetensors();
        file[..8].copy_from_slice(&length.to_le_bytes());
        assert!(Checkpoint::from_safetensors(CONFIG, file).is_err());
    }
}

#[test]
fn bad_directories_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let error = || Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error().contains("config.json"));
    for (config, reason) in [
        (&b"{"[..], "not valid JSON"),
        (b"[]", "not a JSON object"),
        (
            br#"{"quantization_config":{"quant_method":"gptq"}}"#,
            "(gptq)",
        ),
    ] {
        write("config.json", config);
        assert!(error().contains(reason));
    }
    write("config.json", CONFIG);
    assert!(error().contains("model.safetensors"));
    let index = "model.safetensors.index.json";
    for file in ["../x", "/etc/passwd", "a/b", "..", ".", ""] {
        write(
            index,
            format!(r#"{{"weight_map":{{"a":"{file}"}}}}"#).as_bytes(),
        );
        assert!(
            error().contains("not in a file of this directory"),
            "{file}"
        );
    }
    write(
        index,
        br#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#,
    );
    write("1.safetensors", &small_safetensors());
    assert!(error().contains("2.safetensors"));
    write("2.safetensors", &small_safetensors());
    assert!(error().contains("in another file too"));
    let other = r#"{"b":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}"#;
    write("2.safetensors", &safetensors(other, &[0; 2]));
    assert_eq!(
        Checkpoint::open(dir.path()).unwrap().tensor_names().count(),
        3
    );
    assert!(Checkpoint::open(&dir.path().join("1.safetensors")).is_err());
    assert!(Checkpoint::open_named("no/such-model").is_err());
}
