//! Every measurement with all checks. That sums are right is checked by the measurements themselves.

use crate::checked::Checked;
use gpu_probe::measure::ALL;
use gpu_probe::{Bench, Effort, Gpu, Report};
use std::collections::BTreeSet;
use virtual_gpu::Profile;

/// Runs the measurements whose names pass, and gives the names of rows and of kernels.
fn measured(
    profile: Profile,
    multiprocessors: u32,
    seed: u64,
    passes: impl Fn(&str) -> bool,
) -> (BTreeSet<String>, BTreeSet<&'static str>) {
    let mut gpu = Checked::new(profile, multiprocessors, seed);
    let facts = gpu.facts().clone();
    let mut bench = Bench::new(&mut gpu, Effort::Full).unwrap();
    let mut rows = Vec::new();
    for measurement in ALL
        .into_iter()
        .filter(|measurement| passes(measurement.name))
    {
        let measured = measurement
            .run(&mut bench)
            .unwrap_or_else(|error| panic!("{error:#}"));
        assert!(!measured.is_empty(), "{} gave nothing", measurement.name);
        rows.extend(measured);
    }
    let report = Report::new(facts, rows);
    assert!(report.verdicts.iter().all(|verdict| verdict.go.is_none()));
    for row in &report.rows {
        let sample = row.sample;
        assert!(
            sample.median.is_finite() && sample.median >= 0.0,
            "{}: {sample:?}",
            row.name
        );
    }
    (
        report.rows.into_iter().map(|row| row.name).collect(),
        gpu.ran,
    )
}

const COMMON: [&str; 20] = [
    "fill",
    "copy",
    "read",
    "empty",
    "prefetch",
    "edge_idle",
    "broadcast",
    "mma_rate_bf16",
    "mma_rate_f16",
    "drain_bf16_8",
    "drain_bf16_16",
    "drain_bf16_32",
    "drain_fp8_8",
    "drain_fp8_16",
    "drain_fp8_32",
    "drain_int4_8",
    "drain_int4_16",
    "drain_int4_32",
    "host_ring",
    "release_cost",
];

fn assert_ran(ran: &BTreeSet<&'static str>, own: [&'static str; 2]) {
    let expected: BTreeSet<&str> = COMMON.into_iter().chain(own).collect();
    assert_eq!(*ran, expected);
}

#[test]
fn every_kernel_of_sm_90_is_right_and_has_no_finding() {
    let (rows, ran) = measured(Profile::h100(), 5, 0, |_| true);
    assert_ran(&ran, ["ring_bulk", "edge_loaded_bulk"]);
    for name in [
        "copy_best",
        "ring_8x16KiB",
        "ring_8x16KiB_evict_first",
        "edge_idle_flagged",
        "edge_streaming_counter_4",
    ] {
        assert!(rows.contains(name), "{name} is missing: {rows:?}");
    }
}

#[test]
fn every_kernel_of_sm_80_is_right_and_has_no_finding() {
    let (rows, ran) = measured(Profile::a100(), 4, 7, |_| true);
    assert_ran(&ran, ["ring_async", "edge_loaded_async"]);
    assert!(rows.contains("ring_8x16KiB_4_producers"), "{rows:?}");
}

#[test]
fn an_ada_card_has_room_for_every_decode() {
    let (rows, _) = measured(Profile::rtx4090(), 4, 3, |name| name == "drain");
    assert!(rows.contains("drain_int4_32_rows"), "{rows:?}");
}

#[test]
fn a_wrong_sum_is_an_error_and_no_number() {
    for name in ["copy", "ring", "load", "broadcast"] {
        let mut gpu = Checked::new(Profile::h100(), 4, 0);
        gpu.spoils_tapes = true;
        let mut bench = Bench::new(&mut gpu, Effort::Full).unwrap();
        let measurement = ALL
            .into_iter()
            .find(|measurement| measurement.name == name)
            .unwrap();
        let error = format!("{:#}", measurement.run(&mut bench).unwrap_err());
        assert!(
            error.contains("is right: its time would mean nothing"),
            "{error}"
        );
    }
}
