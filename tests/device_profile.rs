//! Profiles of device programs, on the virtual GPU: every phase once, bytes that add up, a trace that viewers can read.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Once};
use stheno::checkpoint::Checkpoint;
use stheno::device::{DeviceExecutor, DeviceWeights, Profile};
use stheno::engine::{Device, Engine, GenerateOptions, Prompt, SessionOptions};
use stheno::model::load_weights;
use stheno::plan::{Row, SegmentKind, SequenceIndex};
use stheno_codegen::layout::{Layout, Mappings};
use stheno_codegen::program::StageKind;

/// Multiprocessors of the virtual GPU in this process.
const BLOCKS: usize = 4;

fn model() -> String {
    format!("{}/tests/fixtures/models/llama", env!("CARGO_MANIFEST_DIR"))
}

fn engine() -> Engine {
    static SETTINGS: Once = Once::new();
    SETTINGS.call_once(|| {
        // SAFETY: every test gets here before it does anything else, so nothing reads the environment meanwhile.
        unsafe { std::env::set_var("VIRTUAL_GPU_SMS", BLOCKS.to_string()) };
    });
    let builder = Engine::builder().model(&model()).unwrap();
    let builder = builder.device(Device::Virtual).context_length(160);
    builder.build().unwrap()
}

fn executor(engine: &Engine) -> &Arc<DeviceExecutor> {
    engine.device_executor().unwrap()
}

/// Tokens after three of the prompt.
fn generate(engine: &Engine, count: usize) -> Vec<u32> {
    let mut options = GenerateOptions::greedy(count);
    options.ignore_eos = true;
    let mut session = engine.session(SessionOptions::default()).unwrap();
    let prompt = Prompt::Tokens(vec![1, 2, 3]);
    let stream = session.generate(prompt, &options).unwrap();
    stream.map(|token| token.unwrap().id).collect()
}

fn take(engine: &Engine) -> Profile {
    executor(engine).take_profile().unwrap().unwrap()
}

#[test]
fn a_generation_is_recorded_call_by_call() {
    let engine = engine();
    let unrecorded = generate(&engine, 5);
    assert!(executor(&engine).take_profile().unwrap().is_none());
    executor(&engine).record(32).unwrap();
    assert_eq!(generate(&engine, 5), unrecorded, "stamps change nothing");
    let profile = take(&engine);
    let calls = profile.calls();
    // Three rows of the prompt give the first token, four steps the others.
    let rows: Vec<_> = calls.iter().map(|c| (c.segment, c.shape.rows)).collect();
    let (prompt, step) = ((SegmentKind::Prefill, 3), (SegmentKind::Target, 1));
    assert_eq!(rows, [prompt, step, step, step, step]);
    let lengths: Vec<u32> = calls.iter().map(|call| call.shape.length).collect();
    assert_eq!(lengths, [0, 3, 4, 5, 6]);
    for call in calls {
        for phase in &call.phases {
            let sums = phase.sums();
            assert!(sums.longest > 0.0 && sums.longest >= sums.mean, "{phase:?}");
            assert!(sums.stalled <= sums.mean, "{phase:?}");
        }
    }
    trace_is_whole(&profile);
    table_is_whole(&profile);

    // Later ones cost nothing and are not recorded.
    generate(&engine, 2);
    assert!(executor(&engine).take_profile().unwrap().is_none());
    executor(&engine).record(2).unwrap();
    generate(&engine, 4);
    assert_eq!(take(&engine).calls().len(), 2);
}

/// Every phase of every call is on each track once; slices of a track follow each other.
fn trace_is_whole(profile: &Profile) {
    let mut text = Vec::new();
    profile.write_trace(&mut text).unwrap();
    let trace: Value = serde_json::from_slice(&text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut seen: BTreeMap<(u64, u64, u64), usize> = BTreeMap::new();
    let mut tracks: BTreeMap<u64, f64> = BTreeMap::new();
    let mut device_time = 0.0;
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let track = event["tid"].as_u64().unwrap();
        let (at, time) = (
            event["ts"].as_f64().unwrap(),
            event["dur"].as_f64().unwrap(),
        );
        let before = tracks.insert(track, at + time).unwrap_or(0.0);
        assert!(at >= before - 1e-6, "{event} begins before {before}");
        if event["cat"] == "phase" {
            let number = |name: &str| event["args"][name].as_u64().unwrap();
            *seen
                .entry((track, number("call"), number("phase")))
                .or_default() += 1;
            assert!(event["args"]["weight_bytes"].is_u64());
        }
        device_time += if track == 0 { time } else { 0.0 };
    }
    let phases: usize = profile.calls().iter().map(|call| call.phases.len()).sum();
    assert_eq!(seen.len(), (BLOCKS + 1) * phases);
    assert!(seen.values().all(|count| *count == 1));
    let time: u64 = profile
        .calls()
        .iter()
        .flat_map(|c| &c.phases)
        .map(|p| p.time)
        .sum();
    assert!((device_time - time as f64 / 1e3).abs() < 1e-3);
}

fn table_is_whole(profile: &Profile) {
    let table = profile.to_string();
    for name in [
        "embed",
        "qkv",
        "attention",
        "o",
        "gate-up",
        "down",
        "head",
        "choose",
        "next",
    ] {
        let lines = table
            .lines()
            .filter(|line| line.trim_start().starts_with(&format!("{name} ")));
        assert_eq!(
            lines.count(),
            2,
            "{name} of prefill and of steps in: {table}"
        );
    }
    assert!(table.contains("estimate"), "{table}");
    let by_layer = profile.table(true);
    assert!(by_layer.contains("gate-up 1"), "{by_layer}");
}

/// Weights are those of the arena's tapes, which the layout counts in another way.
#[test]
fn a_step_moves_the_bytes_of_its_tapes() {
    let engine = engine();
    executor(&engine).record(8).unwrap();
    let session = engine.session(SessionOptions::default()).unwrap();
    let mut rows = Row::chain(SequenceIndex(0), 0, &[5, 6, 7]);
    rows.iter_mut().for_each(|row| row.output = true);
    engine.forward(&rows, &[&session]).unwrap();
    let profile = take(&engine);
    let [call] = profile.calls() else {
        panic!("{} calls", profile.calls().len());
    };
    assert_eq!((call.shape.rows, call.shape.output_rows), (3, 3));
    let weights: u64 = call.phases.iter().map(|phase| phase.traffic.weights).sum();

    let plan = engine.plan();
    let checkpoint = Checkpoint::open_named(&model()).unwrap();
    let loaded = load_weights(plan, &checkpoint, &mut |_| {}).unwrap();
    let formats = Mappings::new(plan, &DeviceWeights::new(&loaded))
        .unwrap()
        .formats();
    let cut = executor(&engine).program().sizes.cut();
    let steps = Layout::new(plan, &formats, cut)
        .unwrap()
        .validate(plan, &formats)
        .unwrap();
    let step = steps
        .iter()
        .find(|step| step.segment == SegmentKind::Target)
        .unwrap();
    assert_eq!(weights, step.streamed);

    // K and V of the three rows are read and written, in each of the layers.
    let attention = call
        .phases
        .iter()
        .filter(|p| p.stage.kind == StageKind::Attention);
    let kv: Vec<u64> = attention.map(|phase| phase.traffic.kv).collect();
    let heads = u64::from(plan.kv.num_key_value_heads * plan.kv.head_dim);
    assert_eq!(kv, vec![6 * heads * 4; plan.kv.layers as usize]);
    // The part of the call's time is the whole of it.
    let sums: f64 = profile
        .stages(false)
        .iter()
        .map(|(_, sums)| sums.time)
        .sum();
    let time: u64 = call.phases.iter().map(|phase| phase.time).sum();
    assert_eq!(sums, time as f64);
}
