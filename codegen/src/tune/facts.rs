use crate::layout::{Formats, RowOrder, WeightFormat};
use crate::plan::{Epilogue, Op, Plan, WeightShape};

/// What the choices depend on of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Forms of the matrices that are streamed, each once, in the order in which they are met.
    pub formats: Vec<WeightFormat>,
    /// Row tiles of the linear op with most.
    pub tiles: u32,
    /// Columns of the widest residual.
    pub residual: u32,
    /// Heads of K and of V of the target.
    pub kv_heads: u32,
    /// Elements of a head, the larger of target and draft.
    pub head_dim: u32,
    /// Bytes of an element of K and V, the larger of target and draft.
    pub kv_bytes: u32,
    /// Query heads that share a KV head, the most of any attention op.
    pub queries_per_kv: u32,
}

impl Facts {
    /// Reads them off a validated plan.
    pub fn new(plan: &Plan, formats: &Formats) -> Self {
        let drafts = plan.draft.iter().filter(|draft| draft.kv.layers > 0);
        let caches = || std::iter::once(plan.kv).chain(drafts.clone().map(|draft| draft.kv));
        let size = |dtype: crate::plan::Dtype| dtype.size() as u32;
        let mut facts = Facts {
            formats: Vec::new(),
            tiles: 0,
            residual: 0,
            kv_heads: plan.kv.num_key_value_heads,
            head_dim: caches().map(|kv| kv.head_dim).max().unwrap_or(0),
            kv_bytes: caches().map(|kv| size(kv.dtype)).max().unwrap_or(0),
            queries_per_kv: 1,
        };
        for segment in &plan.segments {
            let kv = plan.kv_of(segment.kind);
            for op in &segment.ops {
                match op {
                    Op::Attention { q, .. } => {
                        let group =
                            plan.buffer(*q).columns / (kv.head_dim * kv.num_key_value_heads);
                        facts.queries_per_kv = facts.queries_per_kv.max(group);
                    }
                    Op::Linear(linear) => {
                        let mut tiles = 0;
                        for part in &linear.parts {
                            let WeightShape::Matrix { n, .. } = plan.weight(part.weight).shape
                            else {
                                continue;
                            };
                            tiles += RowOrder::Plain.tiles(n);
                            if let Epilogue::Residual { .. } = linear.epilogue {
                                facts.residual = facts.residual.max(n);
                            }
                            if let Some(format) = formats.get(part.weight)
                                && !facts.formats.contains(&format)
                            {
                                facts.formats.push(format);
                            }
                        }
                        facts.tiles = facts.tiles.max(tiles);
                    }
                    Op::Embed { output, .. } => {
                        facts.residual = facts.residual.max(plan.buffer(*output).columns);
                    }
                    Op::Gather { .. } | Op::Copy { .. } => {}
                }
            }
        }
        facts
    }
}
