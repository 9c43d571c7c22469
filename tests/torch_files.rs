//! Files of `torch.save` that PyTorch made (tests/fixtures/make_torch_files.py), and drafts in every kind of directory.

mod common;

use common::CONFIG;
use common::torch::{archive_of, pickled, tensor, torch_file};
use std::path::{Path, PathBuf};
use stheno::checkpoint::Checkpoint;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/torch")
        .join(name)
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("{name}.pt"))).unwrap()
}

fn opened(name: &str) -> Checkpoint {
    Checkpoint::from_torch(b"{}", bytes_of(name)).unwrap()
}

fn sequence(count: usize) -> Vec<f32> {
    (0..count).map(|i| i as f32).collect()
}

fn matrix(checkpoint: &Checkpoint, name: &str, n: usize, k: usize) -> Vec<f32> {
    let matrix = checkpoint.matrix(name, n, k).unwrap();
    let mut values = vec![0.0; n * k];
    for (row, values) in values.chunks_mut(k).enumerate() {
        matrix.dequantize_row(row, values);
    }
    values
}

#[test]
fn tensors_of_every_type_are_there() {
    let checkpoint = opened("dtypes");
    assert_eq!(matrix(&checkpoint, "f32", 2, 3), sequence(6));
    assert_eq!(matrix(&checkpoint, "f16", 2, 2), sequence(4));
    assert_eq!(checkpoint.vector("bf16", 4).unwrap(), sequence(4));
    assert_eq!(checkpoint.integers("i64", 4).unwrap(), [-2, -1, 0, 1]);
    assert_eq!(checkpoint.integers("i32", 3).unwrap(), [-1, 0, 1]);
    assert_eq!(checkpoint.integers("u8", 3).unwrap(), [253, 254, 255]);
    assert_eq!(checkpoint.integers("bool", 4).unwrap(), [1, 0, 1, 1]);
    for (name, shape) in [
        ("f32", &[2, 3][..]),
        ("f64", &[2]),
        ("i16", &[3]),
        ("i8", &[3]),
        ("bool", &[4]),
        ("scalar", &[]),
        ("empty", &[0, 3]),
    ] {
        assert_eq!(checkpoint.shape(name), Some(shape), "{name}");
    }
    assert_eq!(checkpoint.shape("other"), None);
    let message = |result: stheno::Result<Vec<i64>>| result.unwrap_err().to_string();
    let wrong = message(checkpoint.integers("f32", 6));
    assert!(
        wrong.contains("`f32` is f32 [2, 3], expected a vector [6] of integers"),
        "{wrong}"
    );
    let wrong = message(checkpoint.integers("i64", 3));
    assert!(
        wrong.contains("is I64 [4], expected a vector [3]"),
        "{wrong}"
    );
    let wrong = message(checkpoint.integers("i16", 3));
    assert!(wrong.contains("is I16 [3], expected"), "{wrong}");
    let wrong = checkpoint.vector("i64", 4).unwrap_err().to_string();
    assert!(
        wrong.contains("is I64 [4], expected a vector [4] of floats"),
        "{wrong}"
    );
}

#[test]
fn tensors_share_a_storage() {
    let checkpoint = opened("shared");
    assert_eq!(checkpoint.vector("base", 24).unwrap(), sequence(24));
    let part: Vec<f32> = (4..12).map(|i| i as f32).collect();
    assert_eq!(matrix(&checkpoint, "part", 2, 4), part);
    let transposed: Vec<f32> = (0..24).map(|i| (i % 4 * 6 + i / 4) as f32).collect();
    assert_eq!(matrix(&checkpoint, "transposed", 6, 4), transposed);
    let columns = [1.0, 2.0, 7.0, 8.0, 13.0, 14.0, 19.0, 20.0];
    assert_eq!(matrix(&checkpoint, "columns", 4, 2), columns);
    let even: Vec<f32> = (0..12).map(|i| (2 * i) as f32).collect();
    assert_eq!(checkpoint.vector("even", 12).unwrap(), even);
    assert_eq!(matrix(&checkpoint, "column", 1, 4), [5.0, 11.0, 17.0, 23.0]);
}

#[test]
fn nested_containers_make_dotted_names() {
    let checkpoint = opened("nested");
    let names: Vec<&str> = checkpoint.tensor_names().collect();
    assert_eq!(
        names,
        ["7", "list.0", "list.1.0", "list.1.1.deep", "model.weight"]
    );
    assert_eq!(matrix(&checkpoint, "model.weight", 2, 2), sequence(4));
    assert_eq!(checkpoint.vector("list.1.0", 1).unwrap(), [5.0]);
    assert_eq!(checkpoint.vector("7", 2).unwrap(), [1.0, 2.0]);
}

#[test]
fn drafts_keep_their_names() {
    let open = |name: &str| Checkpoint::open_draft(fixture(name).to_str().unwrap()).unwrap();
    let medusa = open("medusa");
    assert_eq!(medusa.config()["medusa_num_heads"], 2);
    assert_eq!(medusa.shape("1.1.weight"), Some(&[6, 4][..]));
    assert_eq!(
        medusa.vector("1.0.linear.bias", 4).unwrap(),
        [1.0, 2.0, 3.0, 4.0]
    );
    let eagle = open("eagle");
    assert_eq!(eagle.shape("fc.weight"), Some(&[4, 12][..]));
    assert_eq!(eagle.integers("d2t", 3).unwrap(), [0, 2, 3]);
    assert_eq!(eagle.integers("t2d", 6).unwrap(), [1, 0, 0, 1, 0, 1]);
    assert!(eagle.contains("norm.weight"));
    let sharded = open("sharded");
    let names: Vec<&str> = sharded.tensor_names().collect();
    assert_eq!(names, ["layers.0.mlp.up_proj.weight", "norm.weight"]);
}

#[test]
fn targets_may_be_in_files_of_torch() {
    for name in ["sharded", "eagle"] {
        let target = Checkpoint::open_named(fixture(name).to_str().unwrap()).unwrap();
        assert!(target.contains("model.norm.weight"), "{name}");
    }
    let error = Checkpoint::open(&fixture("medusa"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no weights; looked for model.safetensors, "),
        "{error}"
    );
    assert!(error.contains("medusa: "), "{error}");
}

#[test]
fn weights_of_drafts_are_looked_for_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().to_str().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let named = |name: &str| {
        let header = format!(r#"{{"{name}":{{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}}}"#);
        common::safetensors(&header, &[7, 0, 0, 0])
    };
    let pickle =
        |name: &str| torch_file(&[(name, tensor("FloatStorage", "0", 1, 0, &[1], &[1]))], 4);
    let open = || Checkpoint::open_draft(spec);
    assert!(open().unwrap_err().to_string().contains("config.json"));
    // Nothing that a target needs.
    write("config.json", br#"{"model_type": "something else"}"#);
    let error = open().unwrap_err().to_string();
    assert!(
        error.ends_with(
            "no weights; looked for model.safetensors.index.json, model.safetensors, medusa_lm_head.safetensors, \
             medusa_lm_head.pt, pytorch_model.bin.index.json, pytorch_model.bin, any *.safetensors"
        ),
        "{error}"
    );
    write("any.safetensors", &named("any"));
    assert_eq!(open().unwrap().integers("any", 1).unwrap(), [7]);
    write("another.safetensors", &named("another"));
    let error = open().unwrap_err().to_string();
    assert!(
        error.ends_with("one *.safetensors (there are 2)"),
        "{error}"
    );
    let index = |file: &str| format!(r#"{{"weight_map":{{"a":"{file}"}}}}"#).into_bytes();
    for (file, bytes, tensor) in [
        ("pytorch_model.bin", pickle("layers.a"), "layers.a"),
        ("pytorch_model.bin.index.json", index("other.bin"), "other"),
        ("medusa_lm_head.pt", pickle("0.0"), "0.0"),
        ("medusa_lm_head.safetensors", named("norm.b"), "norm.b"),
        ("model.safetensors", named("c"), "c"),
        (
            "model.safetensors.index.json",
            index("any.safetensors"),
            "any",
        ),
    ] {
        write("other.bin", &pickle("other"));
        write(file, &bytes);
        let names: Vec<String> = open().unwrap().tensor_names().map(str::to_owned).collect();
        assert_eq!(names, [tensor], "{file}");
    }
    write(
        "config.json",
        br#"{"quantization_config":{"quant_method":"gptq"}}"#,
    );
    assert!(open().unwrap_err().to_string().contains("(gptq)"));
}

#[test]
fn errors_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), CONFIG).unwrap();
    for name in ["legacy", "module"] {
        std::fs::write(dir.path().join("pytorch_model.bin"), bytes_of(name)).unwrap();
        let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("pytorch_model.bin: "), "{error}");
    }
}

#[test]
fn entries_beyond_32_bits_are_found() {
    let pickle = pickled(&[("a", tensor("FloatStorage", "0", 2, 0, &[2], &[1]))]);
    let bytes = archive_of(
        &[("m/data.pkl", &pickle), ("m/data/0", &[0; 8])],
        zip::write::SimpleFileOptions::default().large_file(true),
    );
    let checkpoint = Checkpoint::from_torch(CONFIG, bytes).unwrap();
    assert_eq!(checkpoint.vector("a", 2).unwrap(), [0.0, 0.0]);
}
