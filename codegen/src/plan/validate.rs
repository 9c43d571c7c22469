use super::coverage::Coverage;
use super::{
    BufferDecl, BufferId, Columns, Dim, Epilogue, InputDtype, KvDecl, Linear, Norm, Op, OpName,
    Part, Plan, PlanError, QkvEpilogue, Segment, WeightId, WeightShape,
};
use std::collections::HashSet;

impl Plan {
    /// Checks that every op names declared things of fitting shapes, that buffers are written before they are
    /// read, and that a layer's KV is appended before it is attended to.
    ///
    /// # Errors
    /// The first fault found.
    pub fn validate(&self) -> Result<(), PlanError> {
        self.validate_declarations()?;
        let mut kinds = HashSet::new();
        for segment in &self.segments {
            let fail = |reason: &str| {
                Err(PlanError::Segment {
                    segment: segment.kind,
                    reason: reason.to_owned(),
                })
            };
            if !kinds.insert(segment.kind) {
                return fail("declared twice");
            }
            if segment.max_rows == 0 {
                return fail("max_rows is 0");
            }
            if segment.kind.is_draft() && self.draft.is_none() {
                return fail("it runs a draft, and the plan declares none");
            }
            let mut checker = Checker {
                plan: self,
                segment,
                kv: self.kv_of(segment.kind),
                op: OpName { index: 0, kind: "" },
                written: Coverage::default(),
                appended: HashSet::new(),
            };
            for &input in &segment.inputs {
                let Some(buffer) = self.buffers.get(input.index()) else {
                    return fail(&format!("its input, buffer {}, is not declared", input.0));
                };
                checker.written.write(input, 0, buffer.columns);
            }
            for (index, op) in segment.ops.iter().enumerate() {
                let kind = op.kind();
                checker.op = OpName { index, kind };
                checker.check(op)?;
            }
            for &output in &segment.outputs {
                let Some(buffer) = self.buffers.get(output.index()) else {
                    return fail(&format!("its output, buffer {}, is not declared", output.0));
                };
                if !checker.written.covers(output, 0, buffer.columns) {
                    let name = &buffer.name;
                    return fail(&format!("its output, buffer `{name}`, is never written"));
                }
            }
        }
        Ok(())
    }

    fn validate_declarations(&self) -> Result<(), PlanError> {
        let mut names = HashSet::new();
        let weights = self.weights.iter().map(|w| &w.name);
        for name in weights.chain(self.buffers.iter().map(|b| &b.name)) {
            if !names.insert(name) {
                return Err(PlanError::DuplicateName { name: name.clone() });
            }
        }
        let fail = |name: &str, reason: String| {
            Err(PlanError::Declaration {
                name: name.to_owned(),
                reason,
            })
        };
        for weight in &self.weights {
            let empty = match weight.shape {
                WeightShape::Matrix { n, k } => n == 0 || k == 0,
                WeightShape::Vector { n } => n == 0,
            };
            if empty {
                return fail(&weight.name, format!("its shape {} is empty", weight.shape));
            }
        }
        for buffer in &self.buffers {
            if buffer.columns == 0 {
                return fail(&buffer.name, "it has no columns".to_owned());
            }
        }
        let draft = self.draft.as_ref();
        let caches = [("kv", Some(self.kv)), ("draft kv", draft.map(|d| d.kv))];
        for (name, kv) in caches {
            let Some(kv) = kv else { continue };
            if kv.num_key_value_heads == 0 || kv.head_dim == 0 {
                return fail(name, "it has no heads or no head_dim".to_owned());
            }
            if kv.num_key_value_heads.checked_mul(kv.head_dim).is_none() {
                return fail(name, "a row of it has more than 2^32 elements".to_owned());
            }
        }
        if self.vocab_size == 0 || self.context_length == 0 {
            return fail("plan", "it has no token ids or no positions".to_owned());
        }
        if draft.is_some_and(|draft| draft.vocab_size == 0) {
            return fail("draft", "it has no token ids".to_owned());
        }
        let head_dim = self.kv.head_dim;
        let head_dim = draft.map_or(head_dim, |draft| head_dim.max(draft.kv.head_dim));
        for (i, rope) in self.ropes.iter().enumerate() {
            if let Err(reason) = rope.check(head_dim) {
                return fail(&format!("rope {i}"), reason);
            }
        }
        Ok(())
    }
}

struct Checker<'a> {
    plan: &'a Plan,
    segment: &'a Segment,
    /// The cache that the segment works on.
    kv: KvDecl,
    op: OpName,
    written: Coverage,
    appended: HashSet<u32>,
}

impl Checker<'_> {
    fn check(&mut self, op: &Op) -> Result<(), PlanError> {
        match op {
            Op::Embed { table, output } => {
                let hidden = self.buffer(*output)?.columns;
                let vocab_size = self.plan.vocab_size_of(self.segment.kind);
                self.matrix(*table, vocab_size, hidden)?;
                self.write(*output, Dim::Rows, hidden)
            }
            Op::Linear(linear) => self.check_linear(linear),
            Op::Attention {
                q,
                output,
                layer,
                window,
                scale,
            } => {
                let columns = self.buffer(*q)?.columns;
                self.query_columns(*q, columns)?;
                self.distinct(*q, *output)?;
                if !scale.is_finite() {
                    return self.fail(format!("the scale {scale} is no finite number"));
                }
                self.read(*q, Dim::Rows, columns)?;
                self.layer(*layer)?;
                if !self.appended.contains(layer) {
                    return self.fail(format!(
                        "attention reads KV layer {layer} before its append"
                    ));
                }
                if *window == Some(0) {
                    return self.fail("the window is 0, so that a row would not see itself".into());
                }
                self.write(*output, Dim::Rows, columns)
            }
            Op::Gather { input, output } => {
                let columns = self.buffer(*input)?.columns;
                self.read(*input, Dim::Rows, columns)?;
                self.write(*output, Dim::OutputRows, columns)
            }
            Op::Copy {
                input,
                norm,
                output,
            } => self.check_copy(*input, *norm, *output),
        }
    }

    fn check_copy(
        &mut self,
        input: Columns,
        norm: Option<Norm>,
        output: Columns,
    ) -> Result<(), PlanError> {
        self.distinct(input.buffer, output.buffer)?;
        for columns in [input, output] {
            let buffer = self.buffer(columns.buffer)?;
            let end = columns.start.checked_add(columns.count);
            if columns.count == 0 || end.is_none_or(|end| end > buffer.columns) {
                return self.fail(format!(
                    "{} columns from {} of `{}`, which has {}",
                    columns.count, columns.start, buffer.name, buffer.columns
                ));
            }
        }
        let (from, to) = (self.buffer(input.buffer)?, self.buffer(output.buffer)?);
        if input.count != output.count || from.rows != to.rows {
            return self.fail(format!(
                "it copies [{}, {}] of `{}` to [{}, {}] of `{}`",
                from.rows, input.count, from.name, to.rows, output.count, to.name
            ));
        }
        let end = input.start + input.count;
        if !self.written.covers(input.buffer, input.start, end) {
            return self.unwritten(input.buffer);
        }
        if let Some(norm) = norm {
            self.norm(norm, input.count)?;
        }
        let end = output.start + output.count;
        self.written.write(output.buffer, output.start, end);
        Ok(())
    }

    fn check_linear(&mut self, linear: &Linear) -> Result<(), PlanError> {
        let input = self.buffer(linear.input)?;
        let (rows, k) = (input.rows, input.columns);
        self.read(linear.input, rows, k)?;
        if let Some(norm) = linear.norm {
            self.norm(norm, k)?;
        }
        let group = InputDtype::Q8_GROUP;
        if linear.input_dtype == InputDtype::Q8 && !(k as usize).is_multiple_of(group) {
            let name = &self.plan.buffer(linear.input).name;
            return self.fail(format!(
                "`{name}` has {k} columns, an input in 8 bits a multiple of {group}"
            ));
        }
        self.distinct(linear.input, linear.epilogue.output())?;
        let widths = self.parts(&linear.parts, k)?;
        match (&linear.epilogue, widths.as_slice()) {
            (Epilogue::Store { output }, &[n]) => self.write(*output, rows, n),
            (Epilogue::Residual { residual, .. }, &[n]) => {
                self.read(*residual, rows, n)?;
                self.write(*residual, rows, n)
            }
            (Epilogue::Gated { output, .. }, &[gate, up]) if gate == up => {
                self.write(*output, rows, gate)
            }
            (Epilogue::Qkv(qkv), &[q, k, v]) => self.check_qkv(qkv, rows, q, k, v),
            (epilogue, widths) => {
                let takes = match epilogue {
                    Epilogue::Store { .. } => "takes one part",
                    Epilogue::Residual { .. } => "as a residual takes one part",
                    Epilogue::Gated { .. } => "takes two parts of one width, gate and up",
                    Epilogue::Qkv(_) => "takes three parts, q, k and v",
                };
                let output = &self.buffer(epilogue.output())?.name;
                self.fail(format!(
                    "`{output}` {takes}, found parts of widths {widths:?}"
                ))
            }
        }
    }

    fn check_qkv(
        &mut self,
        qkv: &QkvEpilogue,
        rows: Dim,
        q: u32,
        k: u32,
        v: u32,
    ) -> Result<(), PlanError> {
        let kv = self.kv;
        if rows != Dim::Rows {
            return self.fail("qkv needs a row of the call for every product row".into());
        }
        self.query_columns(qkv.q, q)?;
        let kv_columns = kv.num_key_value_heads * kv.head_dim;
        if k != kv_columns || v != kv_columns {
            let name = &self.plan.buffer(qkv.q).name;
            return self.fail(format!(
                "k and v beside `{name}` have widths {k} and {v}, the KV cache {kv_columns}"
            ));
        }
        if qkv.rope.index() >= self.plan.ropes.len() {
            return self.undeclared("rope", qkv.rope.0);
        }
        if let Err(reason) = self.plan.rope(qkv.rope).check(kv.head_dim) {
            return self.fail(format!("rope {}: {reason}", qkv.rope.0));
        }
        for norm in [qkv.q_norm, qkv.k_norm].into_iter().flatten() {
            self.norm(norm, kv.head_dim)?;
        }
        self.layer(qkv.layer)?;
        if !self.appended.insert(qkv.layer) {
            return self.fail(format!("KV layer {} is appended twice", qkv.layer));
        }
        self.write(qkv.q, Dim::Rows, q)
    }

    fn parts(&self, parts: &[Part], k: u32) -> Result<Vec<u32>, PlanError> {
        let width = |part: &Part| {
            let n = match self.weight(part.weight)? {
                WeightShape::Matrix { n, .. } => n,
                WeightShape::Vector { n } => n,
            };
            self.matrix(part.weight, n, k)?;
            if let Some(bias) = part.bias {
                self.vector(bias, n)?;
            }
            Ok(n)
        };
        parts.iter().map(width).collect()
    }

    /// An op that wrote what it reads would depend on the order in which an executor gets to it.
    fn distinct(&self, input: BufferId, output: BufferId) -> Result<(), PlanError> {
        let name = &self.buffer(input)?.name;
        self.buffer(output)?;
        if input == output {
            return self.fail(format!("it reads and writes `{name}`"));
        }
        Ok(())
    }

    fn query_columns(&self, q: BufferId, columns: u32) -> Result<(), PlanError> {
        let kv = self.kv;
        let group = kv.head_dim * kv.num_key_value_heads;
        if columns == 0 || !columns.is_multiple_of(group) {
            let name = &self.plan.buffer(q).name;
            return self.fail(format!(
                "`{name}` has {columns} query columns, no multiple of {} KV heads x {} head_dim",
                kv.num_key_value_heads, kv.head_dim
            ));
        }
        Ok(())
    }

    fn norm(&self, norm: Norm, n: u32) -> Result<(), PlanError> {
        if !(norm.eps >= 0.0 && norm.eps.is_finite()) {
            return self.fail(format!("norm eps {} is not a finite number >= 0", norm.eps));
        }
        self.vector(norm.weight, n)
    }

    fn layer(&self, layer: u32) -> Result<(), PlanError> {
        if layer >= self.kv.layers {
            return self.undeclared("KV layer", layer);
        }
        Ok(())
    }

    fn weight(&self, id: WeightId) -> Result<WeightShape, PlanError> {
        match self.plan.weights.get(id.index()) {
            Some(weight) => Ok(weight.shape),
            None => self.undeclared("weight", id.0),
        }
    }

    fn buffer(&self, id: BufferId) -> Result<&BufferDecl, PlanError> {
        match self.plan.buffers.get(id.index()) {
            Some(buffer) => Ok(buffer),
            None => self.undeclared("buffer", id.0),
        }
    }

    fn matrix(&self, id: WeightId, n: u32, k: u32) -> Result<(), PlanError> {
        self.weight_shape(id, WeightShape::Matrix { n, k })
    }

    fn vector(&self, id: WeightId, n: u32) -> Result<(), PlanError> {
        self.weight_shape(id, WeightShape::Vector { n })
    }

    fn weight_shape(&self, id: WeightId, expected: WeightShape) -> Result<(), PlanError> {
        let found = self.weight(id)?;
        if found != expected {
            let name = &self.plan.weight(id).name;
            return self.shape(name, expected.to_string(), found.to_string());
        }
        Ok(())
    }

    fn read(&self, id: BufferId, rows: Dim, columns: u32) -> Result<(), PlanError> {
        self.buffer_shape(id, rows, columns)?;
        if !self.written.covers(id, 0, columns) {
            return self.unwritten(id);
        }
        Ok(())
    }

    fn unwritten(&self, id: BufferId) -> Result<(), PlanError> {
        Err(PlanError::ReadBeforeWrite {
            segment: self.segment.kind,
            op: self.op,
            buffer: self.plan.buffer(id).name.clone(),
        })
    }

    fn write(&mut self, id: BufferId, rows: Dim, columns: u32) -> Result<(), PlanError> {
        self.buffer_shape(id, rows, columns)?;
        self.written.write(id, 0, columns);
        Ok(())
    }

    fn buffer_shape(&self, id: BufferId, rows: Dim, columns: u32) -> Result<(), PlanError> {
        let found = self.buffer(id)?;
        if (found.rows, found.columns) != (rows, columns) {
            let text = |rows, columns| format!("[{rows}, {columns}]");
            let (expected, declared) = (text(rows, columns), text(found.rows, found.columns));
            return self.shape(&found.name, expected, declared);
        }
        Ok(())
    }

    fn shape(&self, name: &str, expected: String, found: String) -> Result<(), PlanError> {
        Err(PlanError::Shape {
            segment: self.segment.kind,
            op: self.op,
            name: name.to_owned(),
            expected,
            found,
        })
    }

    fn undeclared<T>(&self, what: &'static str, index: u32) -> Result<T, PlanError> {
        Err(PlanError::Undeclared {
            segment: self.segment.kind,
            op: self.op,
            what,
            index,
        })
    }

    fn fail(&self, reason: String) -> Result<(), PlanError> {
        Err(PlanError::Op {
            segment: self.segment.kind,
            op: self.op,
            reason,
        })
    }
}
