//! Drafts against an independent implementation in PyTorch (tests/fixtures/make_draft_fixtures.py): logits, trees node for
//! node and accepted paths over 64 rounds, in every checkpoint layout; and what each wrong reading of a checkpoint costs.

use serde_json::Value;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stheno::checkpoint::{Checkpoint, WeightDtype};
use stheno::draft::EagleOptions;
use stheno::engine::{Engine, EngineBuilder, GenerateOptions, Round, SessionOptions};
use stheno::host::{Call, Forward, HostExecutor, KvSequence};
use stheno::model::{ActivationDtype, DraftWeights, WeightLoader};
use stheno::plan::{Row, SegmentKind, SequenceIndex};
use stheno::speculation::{Choices, Policy, SpeculationOptions, TreeShape};

fn drafts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/drafts")
}

/// What PyTorch recorded of one draft.
struct Expected {
    json: Value,
    tensors: Vec<u8>,
}

impl Expected {
    fn read(name: &str) -> Self {
        let dir = drafts().join("expected");
        let json = std::fs::read_to_string(dir.join(format!("{name}.json"))).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        let tensors = dir.join(format!("{}.safetensors", json["draft"].as_str().unwrap()));
        Expected {
            json,
            tensors: std::fs::read(tensors).unwrap(),
        }
    }

    fn text(&self, key: &str) -> &str {
        self.json[key].as_str().unwrap()
    }

    fn dir(&self, key: &str) -> PathBuf {
        drafts().join(self.text(key))
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let file = safetensors::SafeTensors::deserialize(&self.tensors).unwrap();
        let data = file.tensor(name).unwrap().data().as_chunks::<4>().0;
        data.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let file = safetensors::SafeTensors::deserialize(&self.tensors).unwrap();
        let data = file.tensor(name).unwrap().data().as_chunks::<8>().0;
        data.iter().map(|b| i64::from_le_bytes(*b) as u32).collect()
    }

    /// What the checkpoint's configuration leaves open, as the recording had it.
    fn eagle_options(&self) -> EagleOptions {
        let settings = &self.json["settings"];
        let layers = settings["aux_layer_inputs"].as_array();
        EagleOptions {
            rope_theta: settings["rope_theta"].as_f64(),
            aux_layers: layers.filter(|l| !l.is_empty()).map(|layers| {
                // The output of the layer before is the input.
                layers
                    .iter()
                    .map(|l| l.as_u64().unwrap() as u32 - 1)
                    .collect()
            }),
        }
    }

    fn builder(&self) -> EngineBuilder {
        Engine::builder()
            .model(self.dir("target").to_str().unwrap())
            .unwrap()
            .draft(self.dir("draft").to_str().unwrap())
            .unwrap()
            .eagle_options(self.eagle_options())
            .activation_dtype(ActivationDtype::F32)
            .threads(1)
    }

    fn speculation(&self) -> SpeculationOptions {
        let settings = &self.json["settings"];
        if let Some(paths) = settings["paths"].as_array() {
            let json = Value::from(paths.clone()).to_string();
            let choices = Choices::from_json(&json, Path::new("paths")).unwrap();
            return SpeculationOptions {
                // A fixed shape, so that no node is left out.
                policy: Policy::Fixed(TreeShape {
                    num_steps: choices.depth(),
                    topk: 10,
                    num_draft_tokens: choices.nodes() as u32,
                }),
                choices: Some(choices),
                ..SpeculationOptions::default()
            };
        }
        let number = |key: &str| settings[key].as_u64().unwrap() as u32;
        SpeculationOptions::fixed(TreeShape {
            num_steps: number("levels") + 1,
            topk: number("k"),
            num_draft_tokens: number("total_nodes"),
        })
    }
}

fn names(with_small_trees: bool) -> Vec<String> {
    let files = std::fs::read_dir(drafts().join("expected")).unwrap();
    let names = files.filter_map(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".json")?.to_owned();
        let wanted = name != "mc_sim_7b_63" && (with_small_trees || !name.ends_with(".small"));
        wanted.then_some(name)
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f - e).abs() <= tolerance,
            "{what}, element {i}: {f}, expected {e}"
        );
    }
}

/// The first 64 rounds of a greedy generation.
fn rounds(engine: &Engine, prompt: &[u32], options: SpeculationOptions) -> Vec<Round> {
    let mut generate = GenerateOptions::greedy(600);
    generate.ignore_eos = true;
    generate.speculation = options;
    let mut session = engine.session(SessionOptions::default()).unwrap();
    let rounds = RefCell::new(Vec::new());
    let stream = session.generate(prompt, &generate).unwrap();
    let mut stream = stream.with_rounds(|round| rounds.borrow_mut().push(round.clone()));
    while rounds.borrow().len() < 64 {
        stream.next().unwrap().unwrap();
    }
    drop(stream);
    rounds.into_inner()
}

#[test]
fn trees_and_accepted_paths_are_those_of_pytorch() {
    let names = names(true);
    assert!(names.len() >= 21, "{names:?}");
    for name in names {
        let expected = Expected::read(&name);
        let engine = expected.builder().build().unwrap();
        let prompt = expected.ids("prompt");
        let found = rounds(&engine, &prompt, expected.speculation());
        let recorded = expected.json["rounds"].as_array().unwrap();
        assert_eq!(recorded.len(), 64);
        for (i, (round, recorded)) in found.iter().zip(recorded).enumerate() {
            let what = format!("{name}, round {i}");
            let ids = |key: &str| -> Vec<i64> {
                let list = recorded[key].as_array().unwrap().iter();
                list.map(|x| x.as_i64().unwrap()).collect()
            };
            let of =
                |values: &[u32]| -> Vec<i64> { values.iter().map(|x| i64::from(*x)).collect() };
            let parents: Vec<i64> = round
                .parent
                .iter()
                .map(|p| p.map_or(-1, i64::from))
                .collect();
            assert_eq!(
                round.prefix_len as u64,
                recorded["prefix_len"].as_u64().unwrap(),
                "{what}"
            );
            assert_eq!(of(&round.draft_tokens), ids("draft_tokens"), "{what}");
            assert_eq!(parents, ids("parent"), "{what}");
            assert_eq!(of(&round.depth), ids("depth"), "{what}");
            assert_eq!(of(&round.accepted_nodes), ids("accepted_nodes"), "{what}");
            assert_eq!(
                round.bonus.map(u64::from),
                recorded["bonus"].as_u64(),
                "{what}"
            );
            let scores = recorded["node_score"].as_array().unwrap().iter();
            let scores: Vec<f32> = scores.map(|x| x.as_f64().unwrap() as f32).collect();
            assert_close(&round.node_score, &scores, 1e-3, &what);
        }
        assert_eq!(found.len(), 64);
    }
}

/// An executor of target and draft, without an engine around it.
fn executor(expected: &Expected) -> HostExecutor {
    let plan = expected.builder().plan().unwrap();
    let target = Checkpoint::open(&expected.dir("target")).unwrap();
    let draft = Checkpoint::open_draft(expected.dir("draft").to_str().unwrap()).unwrap();
    let draft = DraftWeights {
        checkpoint: &draft,
        dtype: WeightDtype::AsStored,
    };
    let weights = WeightLoader::new(&target, Some(draft));
    let weights = { weights }.load(&plan, &mut |_| {}).unwrap();
    HostExecutor::new(Arc::new(plan), weights, 1).unwrap()
}

#[test]
fn logits_are_those_of_pytorch() {
    for name in names(false) {
        let expected = Expected::read(&name);
        let mut executor = executor(&expected);
        let prompt = expected.ids("prompt");
        let sequence = KvSequence::new(executor.plan().kv);
        let rows = Row::chain(SequenceIndex(0), 0, &prompt);
        let mut forward = Forward::default();
        executor
            .forward(SegmentKind::Prefill, &rows, &[&sequence], &mut forward)
            .unwrap();
        assert_close(
            forward.logits(),
            &expected.floats("target_logits"),
            1e-3,
            &name,
        );
        let features = forward.features().unwrap().to_vec();
        let columns = features.len() / prompt.len();
        let root = expected.ids("greedy")[0];
        let kv = KvSequence::new(executor.plan().kv_of(SegmentKind::Draft));
        let medusa = expected.text("kind") == "medusa";
        let (segment, rows, input) = match medusa {
            // Heads look at the last hidden state alone.
            true => (
                SegmentKind::Draft,
                Row::chain(SequenceIndex(0), 0, &[root]),
                &features[features.len() - columns..],
            ),
            // Row p has the features of p and the token after it.
            false => (
                SegmentKind::DraftPrefill,
                Row::chain(SequenceIndex(0), 0, &[&prompt[1..], &[root]].concat()),
                &features[..],
            ),
        };
        let call = Call {
            segment,
            rows: &rows,
            sequences: &[&kv],
            inputs: &[input],
            continues: false,
        };
        executor.call(&call, &mut forward).unwrap();
        let logits = match medusa {
            true => (0..)
                .map_while(|head| forward.output(&format!("draft.logits.{head}")))
                .flatten()
                .copied()
                .collect(),
            false => forward.output("draft.logits").unwrap().to_vec(),
        };
        assert_close(&logits, &expected.floats("draft_logits"), 1e-3, &name);
    }
}

#[test]
fn the_large_tree_has_the_recorded_buffers() {
    let json = std::fs::read_to_string(drafts().join("expected/mc_sim_7b_63.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let choices = Choices::named("mc_sim_7b_63").unwrap();
    let numbers = |key: &str| -> Vec<i64> {
        let list = json[key].as_array().unwrap().iter();
        list.map(|x| x.as_i64().unwrap()).collect()
    };
    let indices = choices.tree_indices(10).unwrap();
    let indices: Vec<i64> = indices.into_iter().map(i64::from).collect();
    assert_eq!(indices, numbers("tree_indices"));
    let parents = choices
        .parents()
        .into_iter()
        .map(|p| p.map_or(-1, i64::from));
    assert_eq!(parents.collect::<Vec<_>>(), numbers("parents"));
}

fn agreement(expected: &Expected, options: EagleOptions) -> f64 {
    let engine = expected.builder().eagle_options(options).build().unwrap();
    accept_len(&engine, expected)
}

fn accept_len(engine: &Engine, expected: &Expected) -> f64 {
    let rounds = rounds(engine, &expected.ids("prompt"), expected.speculation());
    let accepted: usize = rounds.iter().map(|r| r.accepted_nodes.len() + 1).sum();
    accepted as f64 / rounds.len() as f64
}

/// Traps 1 and 4: the probe finds the base of the rotation and the layers that the checkpoint's configuration has wrong,
/// and without it fewer guesses are right.
#[test]
fn the_probe_settles_what_configurations_have_wrong() {
    let mut tried = 0;
    for name in [
        "eagle3-angelslim",
        "eagle3-specforge",
        "eagle31",
        "eagle3-qwen3",
        "eagle3-speculators",
    ] {
        let expected = Expected::read(name);
        let right = expected.eagle_options();
        let probed = expected.builder().eagle_options(EagleOptions::default());
        let probed = probed.build().unwrap();
        let description = probed.draft_description().unwrap().to_owned();
        let theta = right.rope_theta.unwrap();
        let layers: Vec<String> = right
            .aux_layers
            .clone()
            .unwrap()
            .iter()
            .map(u32::to_string)
            .collect();
        let start = format!(
            "rope theta {theta}, fed the outputs of layers {}",
            layers.join(", ")
        );
        let chosen = description.split("; chosen").next().unwrap();
        assert!(chosen.contains(&start), "{name}: {description}");
        let with = accept_len(&probed, &expected);
        let wrong_theta = EagleOptions {
            rope_theta: Some(if theta == 10_000.0 {
                500_000.0
            } else {
                10_000.0
            }),
            ..right
        };
        let without = agreement(&expected, wrong_theta);
        assert!(without < with, "{name}: wrong base {without}, right {with}");
        // What the readings did on the probe's text: the wrong ones worse, some by much.
        let shares: Vec<f64> = description
            .match_indices(" % (")
            .filter_map(|(at, _)| description[..at].rsplit([' ', ':']).next()?.parse().ok())
            .collect();
        let best = shares.iter().copied().fold(0.0, f64::max);
        let worst = shares.iter().copied().fold(100.0, f64::min);
        assert!(
            shares.len() < 2 || worst < best - 2.0,
            "{name}: {description}"
        );
        tried += shares.len();
    }
    assert!(tried >= 6, "{tried}");
}

/// Trap 5: rows of the draft's KV are made of the target's features. Kept as drafted, they would cost what was recorded.
#[test]
fn kv_is_made_anew_from_true_features() {
    for name in ["eagle3", "eagle3-specforge", "eagle31", "eagle1"] {
        let expected = Expected::read(name);
        let engine = expected.builder().build().unwrap();
        let found = accept_len(&engine, &expected);
        let recorded = |key: &str| expected.json[key].as_f64().unwrap();
        assert!(
            (found - recorded("accept_length")).abs() < 1e-4,
            "{name}: {found}"
        );
        assert!(
            found > recorded("accept_length_without_kv_rebuild") + 0.1,
            "{name}: {found}"
        );
    }
}
