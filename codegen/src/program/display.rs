use super::DeviceProgram;
use super::abi::{
    AttentionPhase, ChoosePhase, CopyPhase, EmbedPhase, EpilogueKind, LinearPhase, NONE, Phase,
    PhaseKind, flags,
};
use std::fmt;

const ROWS: [&str; 3] = ["rows", "output rows", "gathered rows"];

/// Phases, edges and regions, for people and snapshots.
impl fmt::Display for DeviceProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.sizes)?;
        for index in 0..self.segments.len() {
            writeln!(f, "segment {index}")?;
            for (number, phase) in self.phases_of(index).iter().enumerate() {
                write!(f, "  {number:>3} ")?;
                self.fmt_phase(f, phase)?;
                if phase.edge_in != NONE {
                    write!(f, "; after {} at edge {}", phase.arrivals_in, phase.edge_in)?;
                }
                if phase.edge_out != NONE {
                    let all = phase.flags & flags::ALL_ARRIVE != 0;
                    let who = if all { "all arrive" } else { "arrives" };
                    write!(f, "; {who} at edge {}", phase.edge_out)?;
                }
                writeln!(f)?;
            }
        }
        for region in self.workspace.regions() {
            writeln!(
                f,
                "{}: {} bytes at {}",
                region.name, region.bytes, region.offset
            )?;
        }
        let (entries, bytes) = (self.constants.entries().len(), self.constants.bytes());
        writeln!(f, "{entries} vectors and tables: {bytes} bytes")?;
        writeln!(f, "{} edges, {} spans a block", self.edges, self.span_count)
    }
}

impl DeviceProgram {
    fn name(&self, region: u32) -> &str {
        self.workspace
            .region(region)
            .map_or("-", |region| region.name.as_str())
    }

    fn fmt_view(
        &self,
        f: &mut fmt::Formatter<'_>,
        (view, weight, stats): (u32, u32, u32),
    ) -> fmt::Result {
        if view == NONE && stats != NONE {
            return write!(f, ", leaves `{}`", self.name(stats));
        }
        if view == NONE {
            return Ok(());
        }
        write!(f, ", leaves `{}`", self.name(view))?;
        if weight != NONE {
            write!(f, " times the vector at {weight}")?;
        }
        if stats != NONE {
            write!(f, " and `{}`", self.name(stats))?;
        }
        Ok(())
    }

    fn fmt_copy(&self, f: &mut fmt::Formatter<'_>, phase: &Phase) -> fmt::Result {
        let copy: CopyPhase = phase.part();
        let columns = |start: u32, all: u32| match (start, start + copy.columns) {
            (0, end) if end == all => String::new(),
            (start, end) => format!("[{start}..{end}]"),
        };
        if phase.kind != PhaseKind::Export as u32 {
            let part = columns(copy.from_column, copy.from_columns);
            write!(f, " `{}`{part}", self.name(copy.from))?;
            if phase.flags & flags::SOURCES != 0 {
                write!(f, " by sources")?;
            }
        }
        if phase.flags & (flags::OUTPUT_ROWS | flags::NARROWED) == flags::OUTPUT_ROWS {
            write!(f, ", gathered")?;
        }
        if copy.norm != NONE {
            write!(f, ", normed by the vector at {}", copy.norm)?;
        }
        if copy.stats != NONE {
            write!(f, " and `{}`", self.name(copy.stats))?;
        }
        if phase.kind == PhaseKind::Import as u32 {
            write!(f, " -> new residual")?;
            return self.fmt_view(f, (copy.view, copy.view_weight, copy.view_stats));
        }
        let part = columns(copy.to_column, copy.to_columns);
        write!(f, " -> `{}`{part}", self.name(copy.to))
    }

    fn fmt_phase(&self, f: &mut fmt::Formatter<'_>, phase: &Phase) -> fmt::Result {
        let kind = phase.kind;
        if kind == PhaseKind::Embed as u32 {
            let embed: EmbedPhase = phase.part();
            write!(f, "embed {} columns", embed.columns)?;
            self.fmt_view(f, (embed.view, embed.view_weight, embed.view_stats))
        } else if kind == PhaseKind::Linear as u32 {
            let linear: LinearPhase = phase.part();
            let parts = &linear.parts[..linear.part_count as usize];
            let n: Vec<String> = parts.iter().map(|part| part.n.to_string()).collect();
            let format = self.stacks.get(linear.stack as usize);
            let format = format.map_or("?".to_owned(), |format| format.to_string());
            let rows = ROWS.get(linear.input_rows as usize).unwrap_or(&"?");
            write!(
                f,
                "linear {format} [{}, {}] of {rows} of `{}`",
                n.join(" + "),
                linear.k,
                self.name(linear.input)
            )?;
            if linear.stats != NONE {
                write!(f, " normed by `{}`", self.name(linear.stats))?;
            }
            let epilogue = linear.epilogue;
            if epilogue == EpilogueKind::Residual as u32 || epilogue == EpilogueKind::Begin as u32 {
                let begins = epilogue == EpilogueKind::Begin as u32;
                let which = if begins { "new residual" } else { "residual" };
                write!(f, " -> {which}")?;
                self.fmt_view(f, (linear.view, linear.view_weight, linear.view_stats))
            } else {
                let how = if epilogue == EpilogueKind::Gated as u32 {
                    "gated "
                } else {
                    ""
                };
                write!(f, " -> {how}`{}`", self.name(linear.output))?;
                match linear.listed {
                    NONE => Ok(()),
                    listed => write!(f, " or `{}`", self.name(listed)),
                }
            }
        } else if kind == PhaseKind::Attention as u32 {
            let attention: AttentionPhase = phase.part();
            write!(
                f,
                "attention layer {}, {} x {} heads of {} -> `{}`",
                attention.layer,
                attention.kv_heads,
                attention.group,
                attention.head_dim,
                self.name(attention.output)
            )
        } else if kind == PhaseKind::Export as u32 {
            write!(f, "export residual")?;
            self.fmt_copy(f, phase)
        } else if kind == PhaseKind::Import as u32 {
            write!(f, "import")?;
            self.fmt_copy(f, phase)
        } else if kind == PhaseKind::Copy as u32 {
            write!(f, "copy")?;
            self.fmt_copy(f, phase)
        } else if kind == PhaseKind::Narrow as u32 {
            write!(f, "narrow residual to output rows")
        } else if kind == PhaseKind::Choose as u32 {
            let choose: ChoosePhase = phase.part();
            let logits = self.name(choose.logits);
            match phase.flags & flags::LISTS != 0 {
                true => write!(f, "list of `{logits}` or `{}`", self.name(choose.listed)),
                false => write!(f, "choose of `{logits}`"),
            }
        } else {
            write!(f, "next")
        }
    }
}
