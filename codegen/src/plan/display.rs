use super::{Columns, Epilogue, Linear, Norm, Op, Plan, Segment, WeightId};
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kv = &self.kv;
        writeln!(
            f,
            "plan {}: vocab {}, context {}, kv {} layers x {} heads x {} {}",
            self.name,
            self.vocab_size,
            self.context_length,
            kv.layers,
            kv.num_key_value_heads,
            kv.head_dim,
            kv.dtype
        )?;
        if let Some(draft) = &self.draft {
            writeln!(
                f,
                "  draft {}: vocab {}, kv {} layers x {} heads x {} {}",
                draft.kind,
                draft.vocab_size,
                draft.kv.layers,
                draft.kv.num_key_value_heads,
                draft.kv.head_dim,
                draft.kv.dtype
            )?;
        }
        if self.looks_up {
            writeln!(f, "  lookup of what followed before")?;
        }
        for buffer in &self.buffers {
            writeln!(
                f,
                "  buffer {}: {} [{}, {}]",
                buffer.name, buffer.dtype, buffer.rows, buffer.columns
            )?;
        }
        for (i, rope) in self.ropes.iter().enumerate() {
            let dims = 2 * rope.inv_freq.len();
            write!(
                f,
                "  rope {i}: {dims} dims, factor {}",
                rope.attention_factor
            )?;
            if let Some(ntk) = rope.dynamic {
                let (factor, length) = (ntk.factor, ntk.trained_length);
                write!(f, ", stretched by {factor} from position {length}")?;
            }
            writeln!(f)?;
        }
        for segment in &self.segments {
            self.fmt_segment(segment, f)?;
        }
        Ok(())
    }
}

impl Plan {
    fn fmt_segment(&self, segment: &Segment, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "segment {} (at most {} rows)",
            segment.kind, segment.max_rows
        )?;
        for (what, buffers) in [("in ", &segment.inputs), ("out", &segment.outputs)] {
            if !buffers.is_empty() {
                let names: Vec<_> = buffers
                    .iter()
                    .map(|b| self.buffer(*b).name.as_str())
                    .collect();
                writeln!(f, "  {what} {}", names.join(", "))?;
            }
        }
        for (i, op) in segment.ops.iter().enumerate() {
            write!(f, "  {i:>3} ")?;
            self.fmt_op(op, f)?;
            writeln!(f)?;
        }
        Ok(())
    }

    fn fmt_op(&self, op: &Op, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match op {
            Op::Embed { table, output } => write!(
                f,
                "{} = embed {}",
                self.buffer(*output).name,
                self.weight(*table).name
            ),
            Op::Linear(linear) => self.fmt_linear(linear, f),
            Op::Attention {
                q,
                output,
                layer,
                scale,
                window,
            } => {
                write!(
                    f,
                    "{} = attention {} over kv {layer}, scale {scale}",
                    self.buffer(*output).name,
                    self.buffer(*q).name
                )?;
                window.map_or(Ok(()), |w| write!(f, ", window {w}"))
            }
            Op::Gather { input, output } => write!(
                f,
                "{} = gather {}",
                self.buffer(*output).name,
                self.buffer(*input).name
            ),
            Op::Copy {
                input,
                norm,
                output,
            } => {
                write!(f, "{} = copy ", self.columns(*output))?;
                let input = self.columns(*input);
                match norm {
                    Some(norm) => self.fmt_norm(&input, *norm, f),
                    None => f.write_str(&input),
                }
            }
        }
    }

    /// Name of a buffer, with the range where it is not the whole.
    fn columns(&self, columns: Columns) -> String {
        let buffer = self.buffer(columns.buffer);
        let end = columns.start + columns.count;
        match (columns.start, end) {
            (0, end) if end == buffer.columns => buffer.name.clone(),
            (start, end) => format!("{}[{start}..{end}]", buffer.name),
        }
    }

    fn fmt_linear(&self, linear: &Linear, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &linear.epilogue {
            Epilogue::Store { output } => write!(f, "{} = ", self.buffer(*output).name)?,
            Epilogue::Residual {
                residual,
                activation,
            } => {
                write!(f, "{} += ", self.buffer(*residual).name)?;
                activation.map_or(Ok(()), |a| write!(f, "{a:?} of "))?;
            }
            Epilogue::Gated { activation, output } => {
                write!(f, "{} = {activation:?}-gated ", self.buffer(*output).name)?;
            }
            Epilogue::Qkv(qkv) => write!(
                f,
                "{}, kv {} = rope {} of ",
                self.buffer(qkv.q).name,
                qkv.layer,
                qkv.rope.0
            )?,
        }
        let input = &self.buffer(linear.input).name;
        match linear.norm {
            Some(norm) => write!(f, "linear {}(", linear.input_dtype)
                .and_then(|()| self.fmt_norm(input, norm, f))
                .and_then(|()| write!(f, ")"))?,
            None => write!(f, "linear {}({input})", linear.input_dtype)?,
        }
        for (i, part) in linear.parts.iter().enumerate() {
            write!(
                f,
                "{} {} {}",
                if i == 0 { "" } else { "," },
                self.weight(part.weight).name,
                self.weight(part.weight).shape
            )?;
            self.fmt_optional(" + ", part.bias, f)?;
        }
        if let Epilogue::Qkv(qkv) = &linear.epilogue {
            self.fmt_optional(", q norm ", qkv.q_norm.map(|n| n.weight), f)?;
            self.fmt_optional(", k norm ", qkv.k_norm.map(|n| n.weight), f)?;
        }
        Ok(())
    }

    fn fmt_norm(&self, input: &str, norm: Norm, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = &self.weight(norm.weight).name;
        write!(f, "norm {input} by {weight}, eps {}", norm.eps)
    }

    fn fmt_optional(
        &self,
        before: &str,
        weight: Option<WeightId>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        weight.map_or(Ok(()), |w| write!(f, "{before}{}", self.weight(w).name))
    }
}
