//! Segments of Medusa heads and EAGLE layers, and what the target hands to them, call by call: against the host on the same plan
//! and the same inputs, and each row against itself alone.

use crate::{bits, context, tokens};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use stheno::checkpoint::{Checkpoint, WeightDtype};
use stheno::device::{
    DeviceCall, DeviceExecutor, DeviceForward, DeviceKv, DeviceWeights, ExecutorOptions, Guesses,
};
use stheno::draft::EagleOptions;
use stheno::engine::{Device, Engine};
use stheno::host::{Call, Forward, HostExecutor, KvSequence};
use stheno::model::{ActivationDtype, DraftWeights, WeightLoader};
use stheno::plan::{Dim, Dtype, Row, SegmentKind, SequenceIndex};
use stheno::speculation::sampling::likeliest;
use stheno_codegen::jit::Cache;

const EAGLES: [&str; 9] = [
    "eagle1",
    "eagle1-qkv-bias",
    "eagle1-wrapper",
    "eagle3",
    "eagle3-angelslim",
    "eagle3-qwen3",
    "eagle3-specforge",
    "eagle3-speculators",
    "eagle31",
];

const MEDUSAS: [&str; 6] = [
    "medusa-a",
    "medusa-b",
    "medusa-c",
    "medusa-d",
    "medusa-d-deep",
    "medusa-d-shared",
];

/// Largest difference of values of a row, over their spread: see `fixtures`.
const BOUND: f32 = 0.03;

/// What logits of the tests' drafts are multiplied by before they are probabilities.
const SCALE: f32 = 1.25;

/// One plan of a target and a draft on both executors.
struct Both {
    name: &'static str,
    host: HostExecutor,
    device: DeviceExecutor,
    target_ids: Option<Arc<[u32]>>,
    /// What the target is fed, and what it hands to the draft: [positions, columns].
    prompt: Vec<u32>,
    features: Vec<f32>,
}

/// A call of a draft, as both executors take it.
struct Ask<'a> {
    segment: SegmentKind,
    rows: &'a [Row],
    /// [source rows, columns].
    input: &'a [f32],
    sources: Option<&'a [u8]>,
    topk: usize,
}

impl Both {
    fn new(name: &'static str, prompt: usize) -> Self {
        let drafts = PathBuf::from(crate::fixture("drafts"));
        let json = drafts.join(format!("expected/{name}.json"));
        let json: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
        let path = |key: &str| drafts.join(json[key].as_str().unwrap());
        let settings = &json["settings"];
        let layers = settings["aux_layer_inputs"].as_array();
        let layers = layers.filter(|layers| !layers.is_empty()).map(|layers| {
            // The output of the layer before is the input.
            let of = |layer: &Value| layer.as_u64().unwrap() as u32 - 1;
            layers.iter().map(of).collect()
        });
        let (target, draft) = (path("target"), path("draft"));
        let [target, draft] = [&target, &draft].map(|path| path.to_str().unwrap());
        let builder = Engine::builder()
            .model(target)
            .unwrap()
            .draft(draft)
            .unwrap()
            .device(Device::Host)
            .eagle_options(EagleOptions {
                rope_theta: settings["rope_theta"].as_f64(),
                aux_layers: layers,
            })
            .context_length(160)
            .activation_dtype(ActivationDtype::Mixed)
            .kv_dtype(Dtype::BF16);
        let plan = Arc::new(builder.plan().unwrap());
        let weights = {
            let target = Checkpoint::open_named(target).unwrap();
            let checkpoint = &Checkpoint::open_draft(draft).unwrap();
            let dtype = WeightDtype::AsStored;
            let draft = DraftWeights { checkpoint, dtype };
            let loader = WeightLoader::new(&target, Some(draft));
            { loader }.load(&plan, &mut |_| {}).unwrap()
        };
        // Ids of the draft's, where there are fewer than the target's: any will do here.
        let vocab = plan.segment(SegmentKind::Draft).unwrap().outputs[0];
        let vocab = plan.buffer(vocab).columns;
        let target_ids: Option<Arc<[u32]>> =
            (vocab < plan.vocab_size).then(|| (0..vocab).map(|id| (id * 7 + 3) % 260).collect());
        let options = ExecutorOptions {
            max_rows: 16,
            cache: Cache::default_directory()
                .map(Cache::open)
                .transpose()
                .unwrap(),
            guesses: Guesses {
                target_ids: target_ids.clone(),
                logit_scale: SCALE,
            },
        };
        let device = DeviceExecutor::new(
            &context(),
            Arc::clone(&plan),
            &DeviceWeights::new(&weights),
            &options,
            &mut |_, _| {},
        );
        let mut both = Both {
            name,
            host: HostExecutor::new(plan, weights, 1).unwrap(),
            device: device.unwrap_or_else(|error| panic!("{name}: {error}")),
            target_ids,
            prompt: tokens(prompt, 7),
            features: Vec::new(),
        };
        both.target();
        both
    }

    /// Features of the prompt from the host, after those of the device were compared with them: of all rows, whichever have
    /// outputs, at both widths and alone.
    fn target(&mut self) {
        let mut rows = Row::chain(SequenceIndex(0), 0, &self.prompt);
        rows.iter_mut().step_by(3).for_each(|row| row.output = true);
        let sequence = KvSequence::new(self.host.plan().kv);
        let mut expected = Forward::default();
        self.host
            .forward(SegmentKind::Prefill, &rows, &[&sequence], &mut expected)
            .unwrap();
        let features = expected.features().unwrap();
        let (mut kv, mut found) = (DeviceKv::new(self.device.plan()), DeviceForward::default());
        self.device
            .forward(SegmentKind::Prefill, &rows, &mut kv, &mut found)
            .unwrap();
        let wide = found.output("features").unwrap().to_vec();
        self.compare("features", features, &wide, rows.len());
        self.compare(
            "logits",
            expected.logits(),
            found.output("logits").unwrap(),
            expected.logits().len() / 260,
        );
        let columns = wide.len() / rows.len();
        let mut kv = DeviceKv::new(self.device.plan());
        for (row, token) in self.prompt.iter().enumerate().take(3) {
            let mut rows = Row::chain(SequenceIndex(0), row as u32, &[*token]);
            rows[0].output = row % 2 == 0;
            self.device
                .forward(SegmentKind::Target, &rows, &mut kv, &mut found)
                .unwrap();
            self.device.commit(&mut kv, &found, &[0]).unwrap();
            let alone = bits(found.output("features").unwrap());
            assert!(
                alone == bits(&wide[row * columns..][..columns]),
                "{}: features of row {row} alone",
                self.name
            );
        }
        self.features = features.to_vec();
    }

    /// Columns of the first input of a segment.
    fn columns(&self, segment: SegmentKind) -> usize {
        let plan = self.host.plan();
        let input = plan.segment(segment).unwrap().inputs[0];
        plan.buffer(input).columns as usize
    }

    fn compare(&self, what: &str, expected: &[f32], found: &[f32], rows: usize) {
        let name = self.name;
        assert_eq!(expected.len(), found.len(), "{name}: {what}");
        assert!(rows > 0 && !expected.is_empty(), "{name}: {what}");
        let columns = expected.len() / rows;
        for (row, (expected, found)) in expected
            .chunks(columns)
            .zip(found.chunks(columns))
            .enumerate()
        {
            let most = |values: &[f32]| values.iter().copied().fold(f32::MIN, f32::max);
            let spread = most(expected) + most(&expected.iter().map(|x| -x).collect::<Vec<_>>());
            let differences = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
            let difference = differences.fold(0.0, f32::max);
            assert!(
                difference <= BOUND * spread,
                "{name}: {what} of row {row}: {difference} of {spread}"
            );
        }
    }

    /// A call on the device alone.
    fn on_device(&self, ask: &Ask<'_>, kv: &mut DeviceKv) -> DeviceForward {
        let mut found = DeviceForward::default();
        let call = DeviceCall {
            inputs: &[ask.input],
            sources: ask.sources,
            topk: ask.topk,
            ..DeviceCall::new(ask.segment, ask.rows)
        };
        let called = self.device.call(&call, kv, &mut found);
        called.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        found
    }

    /// A call on both, whose outputs are compared; the lists are those of the device's own logits.
    fn ask(
        &mut self,
        ask: &Ask<'_>,
        kv: &mut DeviceKv,
        host: &KvSequence,
    ) -> (DeviceForward, Forward) {
        let columns = self.columns(ask.segment);
        let rows = |row: usize| ask.sources.map_or(row, |sources| usize::from(sources[row]));
        let input: Vec<f32> = (0..ask.rows.len())
            .flat_map(|row| ask.input[rows(row) * columns..][..columns].to_vec())
            .collect();
        let call = Call {
            segment: ask.segment,
            rows: ask.rows,
            sequences: &[host],
            inputs: &[&input],
            continues: false,
        };
        let mut expected = Forward::default();
        self.host.call(&call, &mut expected).unwrap();
        let found = self.on_device(ask, kv);
        let plan = Arc::clone(self.device.plan());
        let output_rows = ask.rows.iter().filter(|row| row.output).count();
        for (head, output) in plan
            .segment(ask.segment)
            .unwrap()
            .outputs
            .iter()
            .enumerate()
        {
            let decl = plan.buffer(*output);
            assert_eq!(decl.rows, Dim::OutputRows);
            let values = found.output(&decl.name).unwrap();
            let what = format!("{}, {}", ask.segment, decl.name);
            self.compare(
                &what,
                expected.output(&decl.name).unwrap(),
                values,
                output_rows,
            );
            if ask.topk == 0 || !decl.name.contains("logits") {
                continue;
            }
            let lists = &found.lists()[head];
            assert_eq!(lists.len(), output_rows);
            for (list, logits) in lists.iter().zip(values.chunks(decl.columns as usize)) {
                let scaled: Vec<f32> = logits.iter().map(|logit| logit * SCALE).collect();
                let mut expected = likeliest(&scaled, ask.topk);
                if let Some(ids) = &self.target_ids {
                    expected
                        .iter_mut()
                        .for_each(|entry| entry.token = ids[entry.token as usize]);
                }
                assert_eq!(list, &expected, "{}: {what}", self.name);
            }
        }
        (found, expected)
    }

    /// All outputs of an output row, as bits.
    fn row_bits(&self, segment: SegmentKind, forward: &DeviceForward, row: usize) -> Vec<u32> {
        let plan = self.device.plan();
        let outputs = plan.segment(segment).unwrap().outputs.iter();
        outputs
            .flat_map(|output| {
                let decl = plan.buffer(*output);
                let columns = decl.columns as usize;
                bits(&forward.output(&decl.name).unwrap()[row * columns..][..columns])
            })
            .collect()
    }
}

fn chain(start: usize, tokens: &[u32]) -> Vec<Row> {
    let mut rows = Row::chain(SequenceIndex(0), start as u32, tokens);
    rows.iter_mut().for_each(|row| row.output = true);
    rows
}

fn path(rows: usize) -> Vec<u32> {
    (0..rows as u32).collect()
}

/// Rows made of the target's features, then a tree made of what the draft handed on.
fn eagle(name: &'static str) {
    let mut both = Both::new(name, 41);
    let columns = both.columns(SegmentKind::Extend);
    let (prompt, features) = (both.prompt.clone(), both.features.clone());
    let mut kv = DeviceKv::new(both.device.plan());
    let mut host = KvSequence::new(both.host.plan().kv_of(SegmentKind::Extend));
    let alone = kv.clone();
    // Position p has the features of p and the token after it. First a chunk wider than a step, then what a round accepts.
    let (first, second) = (33, 6);
    let ask = Ask {
        segment: SegmentKind::DraftPrefill,
        rows: &chain(0, &prompt[1..=first]),
        input: &features[..first * columns],
        sources: None,
        topk: 0,
    };
    let (wide, expected) = both.ask(&ask, &mut kv, &host);
    both.device.commit(&mut kv, &wide, &path(first)).unwrap();
    host.commit(expected.kv(), &path(first)).unwrap();
    let rows = chain(first, &prompt[first + 1..][..second]);
    let ask = Ask {
        segment: SegmentKind::Extend,
        rows: &rows,
        input: &features[first * columns..][..second * columns],
        sources: None,
        topk: 10,
    };
    let before = kv.clone();
    let (extended, expected) = both.ask(&ask, &mut kv, &host);
    both.device
        .commit(&mut kv, &extended, &path(second))
        .unwrap();
    host.commit(expected.kv(), &path(second)).unwrap();

    // Each row by itself, its features found among all of them.
    let mut single = alone;
    for row in 0..4 {
        let rows = chain(row, &prompt[row + 1..][..1]);
        let ask = Ask {
            segment: SegmentKind::Extend,
            rows: &rows,
            input: &features[..first * columns],
            sources: Some(&[row as u8]),
            topk: 0,
        };
        let found = both.on_device(&ask, &mut single);
        both.device.commit(&mut single, &found, &[0]).unwrap();
        let [found, expected] = [
            both.row_bits(ask.segment, &found, 0),
            both.row_bits(ask.segment, &wide, row),
        ];
        assert!(found == expected, "{name}: row {row} alone");
    }
    let mut single = before;
    for row in 0..second {
        let ask = Ask {
            segment: SegmentKind::Extend,
            rows: &chain(first + row, &prompt[first + 1 + row..][..1]),
            input: &features[(first + row) * columns..][..columns],
            sources: None,
            topk: 0,
        };
        let found = both.on_device(&ask, &mut single);
        both.device.commit(&mut single, &found, &[0]).unwrap();
        let [found, expected] = [
            both.row_bits(ask.segment, &found, 0),
            both.row_bits(ask.segment, &extended, row),
        ];
        assert!(found == expected, "{name}: extended row {row} alone");
    }
    assert!(
        single.draft().unwrap().read().unwrap() == kv.draft().unwrap().read().unwrap(),
        "{name}: K and V"
    );

    // A tree over what the draft handed on: three children of the last row, then theirs.
    let hidden = expected.output("draft.hidden").unwrap().to_vec();
    let start = kv.draft().unwrap().len() as u32;
    let parents = [
        None,
        None,
        None,
        Some(0),
        Some(2),
        Some(2),
        Some(3),
        None,
        Some(7),
    ];
    let sources = [5, 5, 4, 0, 2, 1, 3, 5, 2];
    let mut rows: Vec<Row> = Vec::new();
    for (token, parent) in tokens(parents.len(), 31).into_iter().zip(parents) {
        rows.push(Row {
            token,
            sequence: SequenceIndex(0),
            position: parent.map_or(start, |p: u32| rows[p as usize].position + 1),
            parent,
            delta: None,
            output: rows.len() != 4,
        });
    }
    let ask = Ask {
        segment: SegmentKind::Draft,
        rows: &rows,
        input: &hidden,
        sources: Some(&sources),
        topk: 8,
    };
    let mut fork = kv.clone();
    let (tree, _) = both.ask(&ask, &mut fork, &host);
    let output_row = |row: u32| rows[..row as usize].iter().filter(|row| row.output).count();
    for path in [&[0u32][..], &[1], &[0, 3, 6], &[2, 5], &[7, 8]] {
        let own: Vec<Row> = (0..)
            .zip(path)
            .map(|(i, row)| Row {
                parent: (i as u32).checked_sub(1),
                output: true,
                ..rows[*row as usize]
            })
            .collect();
        let own_sources: Vec<u8> = path.iter().map(|row| sources[*row as usize]).collect();
        let ask = Ask {
            rows: &own,
            sources: Some(&own_sources),
            topk: 0,
            ..ask
        };
        let found = both.on_device(&ask, &mut kv.clone());
        for (i, row) in path.iter().enumerate() {
            let found = both.row_bits(ask.segment, &found, i);
            let expected = both.row_bits(ask.segment, &tree, output_row(*row));
            assert!(found == expected, "{name}: row {row} of the tree");
        }
    }
    // What is handed on is found where what was taken lay.
    let program = both.device.program();
    let place = |name: &str| {
        program
            .inputs
            .iter()
            .find(|input| input.name == name)
            .unwrap()
            .offset
    };
    assert_eq!(
        place("draft.feedback"),
        program.output("draft.hidden").unwrap().offset
    );
    assert_eq!(
        place("features"),
        program.output("features").unwrap().offset
    );
}

/// All heads on rows of the target's features.
fn medusa(name: &'static str) {
    let mut both = Both::new(name, 9);
    let columns = both.columns(SegmentKind::Draft);
    let features = both.features.clone();
    let host = KvSequence::new(both.host.plan().kv_of(SegmentKind::Draft));
    let mut kv = DeviceKv::new(both.device.plan());
    let mut rows = Row::chain(SequenceIndex(0), 0, &[5, 6, 7, 8]);
    for (row, output) in rows.iter_mut().zip([true, false, true, true]) {
        row.output = output;
    }
    let ask = Ask {
        segment: SegmentKind::Draft,
        rows: &rows,
        input: &features,
        sources: Some(&[8, 1, 0, 3]),
        topk: 10,
    };
    let (all, _) = both.ask(&ask, &mut kv, &host);
    assert!(all.lists().len() > 1);
    for (row, source) in [8, 0, 3].into_iter().enumerate() {
        let ask = Ask {
            rows: &chain(0, &[9]),
            input: &features[source * columns..][..columns],
            sources: None,
            topk: 3,
            ..ask
        };
        let (found, _) = both.ask(&ask, &mut kv, &host);
        let [found, expected] = [
            both.row_bits(ask.segment, &found, 0),
            both.row_bits(ask.segment, &all, row),
        ];
        assert!(found == expected, "{name}: row {row} alone");
    }
}

#[test]
fn an_eagle_layer_computes_what_the_host_does() {
    eagle("eagle3");
}

#[test]
fn medusa_heads_compute_what_the_host_does() {
    medusa("medusa-d");
}

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn all_layouts_of_drafts() {
    EAGLES.into_iter().for_each(eagle);
    MEDUSAS.into_iter().for_each(medusa);
}
