//! Packed matrices: a plan of an embedding and a linear op, its arena, and what the elements are worth.

use crate::weights::{Kind, Weights};
use stheno_codegen::layout::{
    Codes, Cut, Group, Layout, Mapping, Mappings, Placement, PlacementId, TablePlace, WeightFormat,
};
use stheno_codegen::plan::{
    Activation, BufferId, Dtype, Epilogue, InputDtype, KvDecl, Linear, Op, Part, Plan, QkvEpilogue,
    RopeDecl, RopeId, Segment, SegmentKind, WeightDecl, WeightId, WeightShape,
};

/// How the matrices of a stack stand in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    /// One after the other.
    Plain,
    /// Gate and up.
    Gated,
}

/// Matrices [n_i, k] of one format, and an embedding table if there is one.
pub struct Matrices {
    pub weights: Weights,
    pub layout: Layout,
    pub mappings: Mappings,
    pub arena: Vec<u8>,
}

/// Which matrix the embedding gathers from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Table {
    None,
    /// The first matrix.
    Tied,
    /// Another one of as many rows.
    Own,
}

impl Matrices {
    /// Random matrices of a kind with these numbers of rows.
    pub fn new(kind: Kind, rows: &[u32], k: u32, order: Order, table: Table, cut: Cut) -> Self {
        let matrix = |name: String, n| WeightDecl {
            name,
            shape: WeightShape::Matrix { n, k },
        };
        let numbered = rows.iter().enumerate();
        let mut weights: Vec<_> = numbered.map(|(i, n)| matrix(format!("{i}"), *n)).collect();
        weights.push(matrix("table".to_owned(), rows[0]));
        let output = BufferId(0);
        let epilogue = match order {
            Order::Gated => Epilogue::Gated {
                activation: Activation::Silu,
                output,
            },
            Order::Plain if rows.len() == 3 => Epilogue::Qkv(QkvEpilogue {
                q: output,
                layer: 0,
                rope: RopeId(0),
                q_norm: None,
                k_norm: None,
            }),
            Order::Plain => Epilogue::Store { output },
        };
        let part = |weight| Part { weight, bias: None };
        let parts = (0..rows.len() as u32).map(WeightId).map(part);
        let linear = Op::Linear(Linear {
            input: BufferId(0),
            norm: None,
            input_dtype: InputDtype::BF16,
            parts: parts.collect(),
            epilogue,
        });
        let embed = |table| Op::Embed {
            table: WeightId(table),
            output,
        };
        let ops = match table {
            Table::None => vec![linear],
            Table::Tied => vec![embed(0), linear],
            Table::Own => vec![embed(rows.len() as u32), linear],
        };
        let plan = Plan {
            name: "test".to_owned(),
            vocab_size: rows[0],
            context_length: 64,
            kv: KvDecl {
                layers: 1,
                num_key_value_heads: 1,
                head_dim: 16,
                dtype: Dtype::BF16,
            },
            draft: None,
            looks_up: false,
            weights,
            buffers: Vec::new(),
            ropes: vec![RopeDecl {
                inv_freq: vec![1.0; 8],
                attention_factor: 1.0,
                dynamic: None,
            }],
            segments: vec![Segment {
                kind: SegmentKind::Target,
                max_rows: 64,
                inputs: Vec::new(),
                outputs: Vec::new(),
                ops,
            }],
        };
        let weights = Weights::random(&plan, 11, |_| kind);
        let mappings = Mappings::new(&plan, &weights).unwrap();
        let layout = Layout::new(&plan, &mappings.formats(), cut).unwrap();
        let mut arena = vec![0xa5; layout.arena_bytes as usize];
        layout
            .build(&plan, &mappings, &weights, &mut arena, |_, _| ())
            .unwrap();
        Matrices {
            weights,
            layout,
            mappings,
            arena,
        }
    }

    fn linear_id(&self) -> PlacementId {
        self.layout.segments[0].phases[0].placements[0]
    }

    /// Where the op's matrices lie.
    pub fn linear(&self) -> &Placement {
        let placements = &self.layout.segments[0].phases[0].placements;
        assert_eq!(placements.len(), 1, "one format, one stack");
        self.layout.placement(self.linear_id())
    }

    pub fn format(&self) -> WeightFormat {
        self.linear().stack.format
    }

    pub fn mapping(&self, matrix: u32) -> &Mapping {
        self.mappings.get(WeightId(matrix)).unwrap()
    }

    /// The embedding's place, and the mapping of its matrix.
    pub fn table(&self) -> (TablePlace, &Mapping) {
        let table = &self.layout.tables[0];
        (table.place, self.mappings.get(table.weight).unwrap())
    }

    /// Span records of all blocks: the op's, then the table's.
    pub fn spans(&self) -> Vec<u8> {
        let table = self.layout.tables.first().map(|table| table.place);
        let other = match table {
            Some(TablePlace::Tiles(id)) => self.layout.placement(id),
            _ => self.linear(),
        };
        let mut bytes = Vec::new();
        for block in 0..self.layout.cut.sm_count as usize {
            for placement in [self.linear(), other] {
                let tiles = placement.tiles(block);
                bytes.extend(placement.offsets[block].to_le_bytes());
                bytes.extend(tiles.start.to_le_bytes());
                // The bit that says who arrives is no part of the number.
                bytes.extend((tiles.len() as u32 | 1 << 31).to_le_bytes());
            }
        }
        bytes
    }

    /// A row of a matrix as the device multiplies with it.
    pub fn row(&self, matrix: u32, row: u32) -> Vec<f32> {
        let id = self.linear_id();
        let read = self
            .layout
            .read_row(&self.arena, &self.mappings, id, WeightId(matrix), row);
        read.unwrap()
    }

    /// For each element of a row, the size of what is added for it: element, and offset, in absolute value.
    pub fn sizes(&self, matrix: u32, row: u32) -> Vec<f32> {
        let source = &self.weights.0[&WeightId(matrix)];
        let values = self.row(matrix, row);
        let offset = |k: usize| match source.kind {
            Kind::Coded(Codes::Offset { .. }, group) => {
                let groups = group.count(source.k);
                2.0 * source.offsets[row as usize * groups + group.of(k)].abs()
            }
            _ => 0.0,
        };
        let values = values.iter().enumerate();
        values.map(|(k, value)| value.abs() + offset(k)).collect()
    }
}

/// A kind of source for every device format: all groups, with and without offset.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = vec![Kind::Dense(Dtype::BF16), Kind::Dense(Dtype::F16)];
    for group in Group::ALL {
        for codes in [
            Codes::E4M3,
            Codes::Centred { bits: 8, zero: 128 },
            Codes::Offset { bits: 6 },
            Codes::Centred { bits: 4, zero: 8 },
            Codes::Offset { bits: 4 },
        ] {
            kinds.push(Kind::Coded(codes, group));
        }
    }
    kinds
}

/// The type that formats.cuh has for a format.
pub fn type_of(format: WeightFormat) -> String {
    let elements = |group: Group| group.elements().unwrap_or(0);
    match format {
        WeightFormat::Bf16 => "Bf16".to_owned(),
        WeightFormat::F16 => "F16".to_owned(),
        WeightFormat::Fp8E4M3 { group } => format!("Fp8<{}>", elements(group)),
        WeightFormat::Int8 { group, offset } => format!("Int8<{}, {offset}>", elements(group)),
        WeightFormat::Int4 { group, offset } => format!("Int4<{}, {offset}>", elements(group)),
    }
}
