use super::DeviceProgram;
use super::abi::{AttentionPhase, EpilogueKind, LinearPhase, NONE, Phase, PhaseKind};
use crate::plan::Plan;
use std::fmt;

/// What a phase is for, in the words of a transformer; phases of one stage differ in their layer only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum StageKind {
    Embed,
    /// Hidden states from rows to rows, or to and from the residual.
    Copy,
    /// A product that is neither of a layer nor the head's: of hidden states that a draft is fed.
    Project,
    Qkv,
    Attention,
    O,
    GateUp,
    Down,
    Gather,
    Head,
    Choose,
    Next,
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StageKind::Embed => "embed",
            StageKind::Copy => "copy",
            StageKind::Project => "project",
            StageKind::Qkv => "qkv",
            StageKind::Attention => "attention",
            StageKind::O => "o",
            StageKind::GateUp => "gate-up",
            StageKind::Down => "down",
            StageKind::Gather => "gather",
            StageKind::Head => "head",
            StageKind::Choose => "choose",
            StageKind::Next => "next",
        })
    }
}

/// Where a phase stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// What it is for.
    pub kind: StageKind,
    /// The layer that it is of, from 0; `None` before the first and after the last.
    pub layer: Option<u32>,
    /// Op of the plan's segment. What follows the last op counts on from it.
    pub op: u32,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "op {}, {} of layer {layer}", self.op, self.kind),
            None => write!(f, "op {}, {}", self.op, self.kind),
        }
    }
}

impl DeviceProgram {
    /// What each phase of a segment is for.
    pub fn stages(&self, segment: usize) -> Vec<Stage> {
        let phases = self.phases_of(segment);
        let mut layers = phases
            .iter()
            .filter(|phase| is(phase, PhaseKind::Attention));
        let mut coming = layers.next().map(layer_of);
        let (mut layer, mut before) = (None, StageKind::Embed);
        let stages = phases.iter().map(|phase| {
            let kind = kind_of(phase, before);
            match kind {
                StageKind::Qkv => layer = coming,
                StageKind::Attention => {
                    layer = coming;
                    coming = layers.next().map(layer_of);
                }
                StageKind::O | StageKind::GateUp | StageKind::Down => {}
                StageKind::Embed | StageKind::Gather | StageKind::Copy | StageKind::Project => {}
                StageKind::Head | StageKind::Choose | StageKind::Next => layer = None,
            }
            // The rows of the last layer are narrowed between its attention and its projection.
            if !matches!(kind, StageKind::Gather | StageKind::Copy) {
                before = kind;
            }
            let op = phase.op;
            Stage { kind, layer, op }
        });
        stages.collect()
    }

    /// A phase in words: "phase 7 of the target segment (op 6, attention of layer 1)".
    pub fn place(&self, plan: &Plan, segment: usize, phase: usize) -> String {
        let kind = plan.segments.get(segment).map(|segment| segment.kind);
        let kind = kind.map_or_else(
            || format!("segment {segment}"),
            |k| format!("the {k} segment"),
        );
        match self.stages(segment).get(phase) {
            Some(stage) => format!("phase {phase} of {kind} ({stage})"),
            None => format!("phase {phase} of {kind}"),
        }
    }

    /// The edge that a phase waits for in words, with the phase that arrives at it; `None` if it waits for none.
    pub fn awaited(&self, segment: usize, phase: usize) -> Option<String> {
        let phases = self.phases_of(segment);
        let edge = phases.get(phase).map(|phase| phase.edge_in);
        let edge = edge.filter(|edge| *edge != NONE)?;
        let writer = phases.iter().position(|other| other.edge_out == edge);
        let stages = self.stages(segment);
        let stage = writer.and_then(|writer| Some((writer, stages.get(writer)?)));
        Some(match stage {
            Some((writer, stage)) => {
                format!("edge {edge}, at which phase {writer} arrives ({stage}),")
            }
            None => format!("edge {edge}"),
        })
    }
}

fn is(phase: &Phase, kind: PhaseKind) -> bool {
    phase.kind == kind as u32
}

fn layer_of(phase: &Phase) -> u32 {
    phase.part::<AttentionPhase>().layer
}

/// `before`: of the phase before.
fn kind_of(phase: &Phase, before: StageKind) -> StageKind {
    if is(phase, PhaseKind::Embed) {
        return StageKind::Embed;
    }
    if is(phase, PhaseKind::Attention) {
        return StageKind::Attention;
    }
    if is(phase, PhaseKind::Choose) {
        return StageKind::Choose;
    }
    if is(phase, PhaseKind::Next) {
        return StageKind::Next;
    }
    if is(phase, PhaseKind::Narrow) {
        return StageKind::Gather;
    }
    if !is(phase, PhaseKind::Linear) {
        return StageKind::Copy;
    }
    let linear: LinearPhase = phase.part();
    let epilogue = linear.epilogue;
    if epilogue == EpilogueKind::Rows as u32 && linear.best != NONE {
        StageKind::Head
    } else if epilogue == EpilogueKind::Qkv as u32 {
        StageKind::Qkv
    } else if epilogue == EpilogueKind::Gated as u32 {
        StageKind::GateUp
    } else if epilogue != EpilogueKind::Residual as u32 {
        StageKind::Project
    } else if matches!(before, StageKind::Attention | StageKind::O) {
        // Of several stacks, the second follows the first.
        StageKind::O
    } else if matches!(before, StageKind::GateUp | StageKind::Down) {
        StageKind::Down
    } else {
        StageKind::Project
    }
}
