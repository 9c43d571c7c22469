//! Drafts that do not fit, and checkpoints that are broken: each is refused by name before anything runs. And what looks
//! broken and is not.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use stheno::engine::{Engine, GenerateOptions, SessionOptions};
use stheno::speculation::{Acceptance, Choices, Policy, SpeculationOptions, TreeShape};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn target() -> String {
    let dir = fixtures().join("drafts/target-llama");
    dir.to_str().unwrap().to_owned()
}

/// Tensors of a draft: name to dtype, shape, bytes.
type Tensors = BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>;

/// A copy of a fixture with changes.
fn changed(name: &str, change: impl FnOnce(&mut Value, &mut Tensors)) -> TempDir {
    let from = fixtures().join("drafts").join(name);
    let config = std::fs::read_to_string(from.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = file
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect();
    change(&mut config, &mut tensors);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize_to_file(views, None, &dir.path().join("model.safetensors")).unwrap();
    dir
}

fn build(target: &str, draft: &Path) -> stheno::Result<Engine> {
    Engine::builder()
        .model(target)?
        .draft(draft.to_str().unwrap())?
        .build()
}

fn refused(draft: &TempDir, parts: &[&str]) {
    let message = build(&target(), draft.path()).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

fn remove(tensors: &mut Tensors, name: &str) {
    assert!(
        tensors.remove(name).is_some(),
        "{name}: {:?}",
        tensors.keys()
    );
}

/// The same elements in another shape.
fn reshape(tensors: &mut Tensors, name: &str, shape: &[usize]) {
    let tensor = tensors.get_mut(name).unwrap();
    let size = tensor.2.len() / tensor.1.iter().product::<usize>();
    tensor.1 = shape.to_vec();
    tensor.2.resize(shape.iter().product::<usize>() * size, 0);
}

#[test]
fn eagle_heads_that_miss_something() {
    for (name, missing) in [
        ("eagle3", "midlayer.hidden_norm.weight"),
        ("eagle3", "midlayer.self_attn.o_proj.weight"),
        ("eagle3", "lm_head.weight"),
        ("eagle3", "norm.weight"),
        ("eagle3-specforge", "layers.0.mlp.down_proj.weight"),
        ("eagle1-qkv-bias", "layers.0.self_attn.v_proj.bias"),
    ] {
        let draft = changed(name, |_, tensors| remove(tensors, missing));
        refused(&draft, &[missing, "missing"]);
    }
    // A bias that the configuration promises.
    let draft = changed("eagle1-qkv-bias", |config, _| config["bias"] = json!(true));
    refused(&draft, &["fc.bias", "missing"]);
    let draft = changed("eagle31", |_, tensors| remove(tensors, "fc_norm.1.weight"));
    refused(&draft, &["2 norms for 3 hidden states"]);
}

#[test]
fn tensors_that_no_such_draft_has() {
    let extra = |_: &mut Value, tensors: &mut Tensors| {
        let tensor = (safetensors::Dtype::F32, vec![1], vec![0; 4]);
        tensors.insert("mask_hidden".to_owned(), tensor);
    };
    refused(
        &changed("eagle3", extra),
        &["no EAGLE head has", "mask_hidden"],
    );
    refused(
        &changed("medusa-d", extra),
        &["mask_hidden", "no Medusa head"],
    );
}

#[test]
fn heads_for_another_model() {
    // A model of another width.
    let llama = fixtures().join("models/llama");
    let other = changed("eagle3", |config, tensors| {
        config["target_hidden_size"] = json!(32);
        reshape(tensors, "fc.weight", &[64, 96]);
    });
    refused(&other, &["hidden_size 32", "this one has 64"]);
    let other = changed("medusa-d", |_, tensors| {
        for head in 0..4 {
            reshape(
                tensors,
                &format!("blocks.{head}.layers.0.weight"),
                &[32, 32],
            );
        }
    });
    refused(&other, &["hidden_size 32", "this one has 64"]);
    // Token ids that the model does not have.
    let other = changed("eagle3", |_, tensors| {
        let d2t = tensors.get_mut("d2t").unwrap();
        let last = d2t.2.len() - 8;
        d2t.2[last..].copy_from_slice(&5000i64.to_le_bytes());
    });
    refused(&other, &["token ids up to 5159", "has 260"]);
    let other = changed("eagle3", |_, tensors| {
        let d2t = tensors.get_mut("d2t").unwrap();
        d2t.2[..8].copy_from_slice(&(-1i64).to_le_bytes());
    });
    refused(&other, &["`d2t` leads to no token ids"]);
    let other = changed("medusa-d", |_, tensors| {
        let map = tensors.get_mut("token_map").unwrap();
        map.2.copy_within(0..8, 8);
    });
    refused(&other, &["`token_map` holds one token id twice"]);
    // A small model with another tokenizer.
    let dir = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(llama.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["vocab_size"] = json!(5000);
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(
        llama.join("model.safetensors"),
        dir.path().join("model.safetensors"),
    )
    .unwrap();
    refused(&dir, &["vocabulary of 5000 tokens", "one of 260"]);
}

#[test]
fn shapes_that_contradict_each_other() {
    let draft = changed("eagle3", |_, tensors| {
        reshape(tensors, "fc.weight", &[64, 100])
    });
    refused(&draft, &["fc.weight", "100 columns"]);
    let draft = changed("eagle3", |config, _| {
        config["num_attention_heads"] = json!(7)
    });
    refused(&draft, &["q_proj", "num_attention_heads", "7"]);
    let draft = changed("eagle3", |_, tensors| {
        reshape(tensors, "midlayer.self_attn.q_proj.weight", &[64, 100]);
    });
    refused(&draft, &["q_proj", "100 columns"]);
    let draft = changed("eagle3", |_, tensors| {
        reshape(tensors, "midlayer.mlp.up_proj.weight", &[90, 64]);
    });
    refused(&draft, &["up_proj", "[90, 64]"]);
    let draft = changed("medusa-d", |_, tensors| {
        remove(tensors, "lm_heads.2.weight")
    });
    refused(&draft, &["3 of 4 heads have a matrix"]);
    let draft = changed("eagle31", |config, _| {
        config["eagle_config"]["eagle_aux_hidden_state_layer_ids"] = json!([1, 4, 99]);
    });
    refused(&draft, &["which 3 layers", "--draft-aux-layers"]);
}

/// The empty directory, and the wrong one.
#[test]
fn what_is_no_draft() {
    let empty = tempfile::tempdir().unwrap();
    assert!(build(&target(), empty.path()).is_err());
    let missing = build(&target(), &empty.path().join("none")).unwrap_err();
    assert!(missing.to_string().contains("none"), "{missing}");
    for (spec, words) in [
        ("ngram+ngram", "names no other beside lookup"),
        ("ngram+/none", "/none: not there"),
        ("ngram+", "names no other beside lookup"),
    ] {
        let refused = Engine::builder().draft(spec).err().unwrap().to_string();
        assert!(refused.contains(words), "{spec}: {refused}");
    }
}

fn engine(draft: &str) -> Engine {
    let draft = match draft {
        "ngram" => PathBuf::from("ngram"),
        name => fixtures().join("drafts").join(name),
    };
    build(&target(), &draft).unwrap()
}

fn refusal(engine: &Engine, options: SpeculationOptions) -> String {
    let mut generate = GenerateOptions::greedy(4);
    generate.speculation = options;
    let mut session = engine.session(SessionOptions::default()).unwrap();
    let result = session.generate(vec![1, 2, 3], &generate);
    result.err().map_or_else(String::new, |e| e.to_string())
}

#[test]
fn options_that_do_not_combine() {
    let shape = |num_steps, topk, num_draft_tokens| {
        SpeculationOptions::fixed(TreeShape {
            num_steps,
            topk,
            num_draft_tokens,
        })
    };
    let choices = |name: &str| SpeculationOptions {
        choices: Choices::named(name),
        ..SpeculationOptions::default()
    };
    let accepting = |acceptance| SpeculationOptions {
        acceptance,
        ..SpeculationOptions::default()
    };
    let (medusa, eagle, ngram) = (engine("medusa-d"), engine("eagle1"), engine("ngram"));
    let plain = Engine::builder().model(&target()).unwrap().build().unwrap();
    for (engine, options, part) in [
        (&medusa, shape(5, 2, 8), "has 4 heads"),
        (&medusa, choices("eagle1_25"), "tree of 5 levels"),
        (&eagle, choices("mc_sim_7b_63"), "for Medusa heads"),
        (&ngram, choices("mc_sim_7b_63"), "for Medusa heads"),
        (&ngram, accepting(Acceptance::Rejection), "probabilities"),
        (&eagle, shape(2, 1, 9), "do not fit a tree"),
        (&plain, shape(2, 1, 3), "--draft"),
    ] {
        let message = refusal(engine, options);
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
    assert_eq!(refusal(&medusa, choices("mc_sim_7b_63")), "");
    assert_eq!(refusal(&plain, SpeculationOptions::default()), "");
    assert_eq!(refusal(&plain, SpeculationOptions::off()), "");
}

/// Trap 11: positions that a draft was trained on are no limit.
#[test]
fn a_draft_goes_beyond_its_trained_positions() {
    let draft = changed("eagle3", |config, _| {
        config["max_position_embeddings"] = json!(16)
    });
    let engine = build(&target(), draft.path()).unwrap();
    let mut options = GenerateOptions::greedy(100);
    options.ignore_eos = true;
    options.speculation = SpeculationOptions::fixed(TreeShape::chain(4));
    let mut session = engine.session(SessionOptions::default()).unwrap();
    let mut stream = session
        .generate((1..40).collect::<Vec<u32>>(), &options)
        .unwrap();
    assert!(stream.by_ref().all(|token| token.is_ok()));
    assert_eq!(stream.tokens().len(), 100);
    let speculation = stream.statistics().speculation.clone().unwrap();
    assert!(speculation.accept_len() > 2.0, "{speculation:?}");
}

/// Trap 2: a head that is copied from the target's configuration says that it is tied, and has a matrix of its own.
#[test]
fn a_tied_head_of_its_own() {
    for tied in [false, true] {
        let draft = changed("eagle3", |config, _| {
            config["tie_word_embeddings"] = json!(tied)
        });
        let engine = build(&target(), draft.path()).unwrap();
        let mut options = GenerateOptions::greedy(60);
        options.speculation = SpeculationOptions {
            policy: Policy::Fixed(TreeShape::chain(4)),
            ..SpeculationOptions::default()
        };
        options.ignore_eos = true;
        let mut session = engine.session(SessionOptions::default()).unwrap();
        let mut stream = session
            .generate((1..20).collect::<Vec<u32>>(), &options)
            .unwrap();
        assert!(stream.by_ref().all(|token| token.is_ok()));
        let speculation = stream.statistics().speculation.clone().unwrap();
        assert!(speculation.accept_len() > 2.0, "{tied}: {speculation:?}");
    }
}
