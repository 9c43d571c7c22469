//! By which rule each kind of matrix maps, and what that loses.

use crate::weights::{Kind, Random, Weight, Weights};
use half::f16;
use std::collections::BTreeMap;
use stheno_codegen::layout::{
    Codes, Cut, Group, Layout, Mapping, Mappings, PlacementId, WeightFormat,
};
use stheno_codegen::plan::{
    Dim, Dtype, Epilogue, InputDtype, KvDecl, Linear, Op, Part, Plan, PlanBuilder, Segment,
    SegmentKind, WeightId,
};

/// One matrix [24, k] between an embedding and nothing.
fn plan(k: u32) -> Plan {
    let kv = KvDecl {
        layers: 0,
        num_key_value_heads: 1,
        head_dim: 16,
        dtype: Dtype::F32,
    };
    let mut b = PlanBuilder::new("one", 3, 8, kv);
    let weight = b.matrix("w", 24, k);
    let table = b.matrix("embed", 3, k);
    let input = b.buffer("x", Dtype::F32, Dim::Rows, k);
    let output = b.buffer("y", Dtype::F32, Dim::Rows, 24);
    let linear = Op::Linear(Linear {
        input,
        norm: None,
        input_dtype: InputDtype::F32,
        parts: vec![Part { weight, bias: None }],
        epilogue: Epilogue::Store { output },
    });
    let embed = Op::Embed {
        table,
        output: input,
    };
    b.segment(Segment {
        kind: SegmentKind::Target,
        max_rows: 8,
        inputs: Vec::new(),
        outputs: vec![output],
        ops: vec![embed, linear],
    });
    b.finish().unwrap()
}

type Values = Vec<Vec<f32>>;

/// Maps a matrix and reads it back; returns both and the mapping.
fn map(weight: Weight) -> Result<(Values, Values, Mapping), String> {
    let plan = plan(weight.k as u32);
    let expected = (0..24).map(|row| weight.row(row)).collect();
    let table = Weight::random(Kind::Dense(Dtype::BF16), 3, weight.k, 1);
    let weights = Weights(BTreeMap::from([
        (WeightId(0), weight),
        (WeightId(1), table),
    ]));
    let mappings = Mappings::new(&plan, &weights).map_err(|error| error.to_string())?;
    let cut = Cut {
        sm_count: 2,
        tile_group: 1,
        stage_bytes: 1 << 14,
    };
    let layout = Layout::new(&plan, &mappings.formats(), cut).unwrap();
    let mut arena = vec![0; layout.arena_bytes as usize];
    layout
        .build(&plan, &mappings, &weights, &mut arena, |_, _| ())
        .unwrap();
    let read = |row| layout.read_row(&arena, &mappings, PlacementId(0), WeightId(0), row);
    let found = (0..24).map(|row| read(row).unwrap()).collect();
    let mapping = mappings.get(WeightId(0)).unwrap().clone();
    Ok((expected, found, mapping))
}

fn coded(codes: Codes, group: Group) -> Weight {
    Weight::random(Kind::Coded(codes, group), 24, 544, 11)
}

#[test]
fn every_kind_has_its_form() {
    let group = Group::G32;
    let int4 = |offset| WeightFormat::Int4 { group, offset };
    let int8 = |offset| WeightFormat::Int8 { group, offset };
    let cases = [
        (Codes::Centred { bits: 4, zero: 8 }, int4(false), true),
        (Codes::Offset { bits: 4 }, int4(true), true),
        (Codes::Centred { bits: 3, zero: 4 }, int4(false), true),
        (Codes::Offset { bits: 2 }, int4(true), true),
        (Codes::Centred { bits: 5, zero: 16 }, int8(false), true),
        (Codes::Offset { bits: 5 }, int8(true), true),
        (Codes::Centred { bits: 6, zero: 32 }, int8(false), true),
        (Codes::Centred { bits: 8, zero: 128 }, int8(false), true),
        // 128 scales more in the offset, and 7 scales, are no f16 numbers.
        (Codes::Offset { bits: 8 }, int8(true), false),
        (Codes::Centred { bits: 8, zero: 7 }, int8(true), false),
        (Codes::Centred { bits: 4, zero: 7 }, int4(true), false),
        (Codes::E4M3, WeightFormat::Fp8E4M3 { group }, true),
    ];
    for (codes, format, lossless) in cases {
        let (expected, found, mapping) = map(coded(codes, group)).unwrap();
        assert_eq!(
            (mapping.format, mapping.lossless),
            (format, lossless),
            "{codes:?}"
        );
        if lossless {
            assert_eq!(found, expected, "{codes:?}");
            assert_eq!(mapping.exponent, 0);
        } else {
            // The offset is off by 2^-11 of itself at most, which is at most 128 of the largest scale.
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                let bound = 136.0 / 64.0 * 2f32.powi(-11);
                assert!(
                    (found - expected).abs() <= bound,
                    "{codes:?} {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn dense_matrices_keep_their_bits_but_for_f32() {
    for (dtype, format, lossless) in [
        (Dtype::BF16, WeightFormat::Bf16, true),
        (Dtype::F16, WeightFormat::F16, true),
        (Dtype::F32, WeightFormat::Bf16, false),
    ] {
        let (expected, found, mapping) =
            map(Weight::random(Kind::Dense(dtype), 24, 96, 5)).unwrap();
        assert_eq!((mapping.format, mapping.lossless), (format, lossless));
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!(
                (found - expected).abs() <= expected.abs() * 2f32.powi(-8) * f32::from(!lossless)
            );
        }
    }
}

/// Scales as products of an f16 and a small integer, as the K-quants have them: 11 bits of 17 are kept.
#[test]
fn products_of_scales_are_rounded_once() {
    let mut weight = coded(Codes::Centred { bits: 6, zero: 32 }, Group::G16);
    let mut random = Random(9);
    for (scale, offset) in weight.scales.iter_mut().zip(&mut weight.offsets) {
        let outer = f16::from_f32(*scale / 100.0).to_f32();
        *scale = outer * (random.next() % 255) as f32 - outer * 127.0;
        *offset = -32.0 * *scale;
    }
    let (expected, found, mapping) = map(weight).unwrap();
    assert!(!mapping.lossless);
    let group = Group::G16;
    assert_eq!(
        mapping.format,
        WeightFormat::Int8 {
            group,
            offset: false
        }
    );
    let mut off = 0;
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() <= expected.abs() * 2f32.powi(-11));
        off += usize::from(found != expected);
    }
    assert!(off > 0);
}

/// Scales far outside f16 keep their precision through the exponent.
#[test]
fn an_exponent_carries_scales_out_of_range() {
    for factor in [2f32.powi(-60), 2f32.powi(60), 1.0 / 3e9, 3e9] {
        let mut weight = coded(Codes::Offset { bits: 4 }, Group::G32);
        let scaled = |x: &mut f32| *x *= factor;
        weight.scales.iter_mut().for_each(scaled);
        weight.offsets.iter_mut().for_each(scaled);
        let (expected, found, mapping) = map(weight).unwrap();
        assert_ne!(mapping.exponent, 0);
        // Powers of two lose nothing.
        assert_eq!(mapping.lossless, factor.log2().fract() == 0.0);
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            let bound = 16.0 / 64.0 * 2f32.powi(-11) * factor;
            let bound = if mapping.lossless { 0.0 } else { bound };
            assert!(
                (found - expected).abs() <= bound,
                "{factor} {found} {expected}"
            );
        }
    }
}

#[test]
fn groups_that_repeat_are_one() {
    let codes = Codes::Centred { bits: 4, zero: 8 };
    for (run, group) in [(4, Group::G128), (17, Group::Row), (2, Group::G32)] {
        let mut weight = coded(codes, Group::G32);
        for row in weight.scales.chunks_mut(17) {
            for groups in row.chunks_mut(run) {
                groups.fill(groups[0]);
            }
        }
        let (expected, found, mapping) = map(weight).unwrap();
        let offset = false;
        assert_eq!(mapping.format, WeightFormat::Int4 { group, offset });
        assert_eq!(found, expected);
    }
}

#[test]
fn what_cannot_be_mapped_is_named() {
    let mut weight = coded(Codes::E4M3, Group::G128);
    weight.codes[3 * 544] = 0xff;
    let error = map(weight).unwrap_err();
    assert_eq!(
        error,
        "weight `w`: row 3 has an element that is not a number"
    );
    let mut weight = coded(Codes::Offset { bits: 4 }, Group::G32);
    weight.scales[17] = f32::INFINITY;
    let error = map(weight).unwrap_err();
    assert_eq!(error, "weight `w`: row 1 has a scale or offset of inf");
    let mut weight = Weight::random(Kind::Dense(Dtype::BF16), 24, 64, 1);
    weight.kind = Kind::Dense(Dtype::F32);
    let plan = plan(64);
    let weights = Weights(BTreeMap::from([(WeightId(0), weight)]));
    let error = Mappings::new(&plan, &weights).unwrap_err().to_string();
    assert_eq!(error, "weight `w`: [24, 64] of f32 in 3072 bytes");
    let error = Mappings::new(&plan, &Weights(BTreeMap::new())).unwrap_err();
    assert_eq!(error.to_string(), "weight `w`: there is no such matrix");
}

#[test]
fn a_float_gate_beside_an_integer_up_is_refused() {
    let plan = crate::models::plan(crate::models::TOY);
    let weights = Weights::random(&plan, 2, |name| match name {
        "1.up" => crate::weights::four_bits(Group::G32),
        _ => crate::weights::BF16,
    });
    let error = Mappings::new(&plan, &weights).unwrap_err().to_string();
    assert_eq!(
        error,
        "weight `1.gate`: it is bf16 and shares tiles with `1.up`, which is int4 g32"
    );
}
