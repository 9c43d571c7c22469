use crate::cases::{BenchOp, DRAFT_WIDTH, HEADS};
use crate::record::Record;
use serde::Serialize;

/// What rounds of drafting and verification would make of a mean number of tokens a round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Acceptance {
    pub shape: String,
    pub layers: u32,
    pub format: String,
    pub context: u32,
    /// Rows of a verification.
    pub rows: u32,
    /// The op that verifies: a tree where that was measured, or else a chain.
    pub verify: BenchOp,
    /// The op that guesses; `None` counts no cost of guessing.
    pub draft: Option<BenchOp>,
    /// Levels that are guessed.
    pub levels: u32,
    /// Tokens that a round gives: assumed.
    pub accept_len: f64,
    /// Seconds of guessing.
    pub drafting: f64,
    /// Seconds of a round, guessing included, and of a step of one row.
    pub round: f64,
    pub step: f64,
    /// `round / step`.
    pub cost: f64,
    pub tokens_per_second: f64,
    /// Against steps of one row.
    pub speed_up: f64,
    /// Part of `accept_len` that becomes speed-up.
    pub share: f64,
    /// The same part from the times of [`Record::most`]: of estimates, with every edge exposed.
    pub share_at_most: f64,
    /// Tokens a second of these times.
    pub tokens_per_second_at_most: f64,
    /// Whether times are estimates.
    pub is_estimate: bool,
}

/// Which of a record's times.
type Time = fn(&Record) -> Option<f64>;

/// What guesses, and the calls of a round that it takes.
struct Drafting<'a> {
    op: Option<BenchOp>,
    levels: u32,
    calls: Vec<(&'a Record, u32)>,
}

impl Drafting<'_> {
    fn seconds(&self, time: Time) -> Option<f64> {
        let mut calls = self.calls.iter();
        calls.try_fold(0.0, |sum, (record, count)| {
            Some(sum + time(record)? * f64::from(*count))
        })
    }
}

/// For each verification of several rows of which a step of one row was measured too: a line without a draft, and one for each
/// draft that was measured.
pub fn simulate(records: &[Record], accept_len: f64) -> Vec<Acceptance> {
    let of = |op: BenchOp| records.iter().filter(move |record| record.op == op);
    let alike = |a: &Record, b: &Record| {
        (&a.shape, a.layers, &a.format, a.context) == (&b.shape, b.layers, &b.format, b.context)
    };
    let is_tree = |step: &Record| {
        of(BenchOp::TreeVerify).any(|tree| alike(tree, step) && tree.rows == step.rows)
    };
    let chains = of(BenchOp::Step).filter(|step| !is_tree(step));
    let verifications = chains.chain(of(BenchOp::TreeVerify));
    let mut simulated = Vec::new();
    for verify in verifications {
        // No round gives more tokens than it has rows.
        if verify.rows == 1 || accept_len > f64::from(verify.rows) {
            continue;
        }
        let mut single = of(BenchOp::Step).filter(|other| other.rows == 1);
        let Some(single) = single.find(|other| alike(other, verify)) else {
            continue;
        };
        for drafting in draftings(records, verify, accept_len) {
            simulated.extend(round(verify, single, &drafting, accept_len));
        }
    }
    simulated
}

/// Without a draft, and by each that was measured for the same model and guesses deep enough.
fn draftings<'a>(records: &'a [Record], verify: &Record, accept_len: f64) -> Vec<Drafting<'a>> {
    let find = |op: BenchOp, rows: u32| {
        records.iter().find(|record| {
            (record.op, record.rows, &record.shape, &record.format)
                == (op, rows, &verify.shape, &verify.format)
                && (record.context == verify.context || !op.sees_context())
        })
    };
    // A round gives X on average if some give more: two levels more than the X - 1 that X itself takes.
    let levels = (accept_len.ceil() as u32 + 1).min(verify.rows - 1);
    let mut found = vec![Drafting {
        op: None,
        levels,
        calls: Vec::new(),
    }];
    for op in [BenchOp::DraftHeads, BenchOp::DraftHeadsOwn] {
        // Heads guess all levels at once, a head each.
        if let Some(heads) = find(op, 1).filter(|_| accept_len <= f64::from(HEADS + 1)) {
            found.push(Drafting {
                op: Some(op),
                levels: HEADS.min(verify.rows - 1),
                calls: vec![(heads, 1)],
            });
        }
    }
    // The call that takes in what was accepted guesses the first level, and one call each of the others.
    let width = match verify.op {
        BenchOp::TreeVerify => DRAFT_WIDTH,
        _ => 1,
    };
    let layer = find(BenchOp::DraftLayer, width);
    let extend = find(BenchOp::DraftExtend, DRAFT_WIDTH);
    if let (Some(extend), Some(layer)) = (extend, layer) {
        found.push(Drafting {
            op: Some(BenchOp::DraftLayer),
            levels,
            calls: vec![(extend, 1), (layer, levels - 1)],
        });
    }
    found
}

fn round(
    verify: &Record,
    single: &Record,
    drafting: &Drafting<'_>,
    accept_len: f64,
) -> Option<Acceptance> {
    let times = |time: Time| {
        let guessed = drafting.seconds(time)?;
        Some((guessed, guessed + time(verify)?, time(single)?))
    };
    let (guessed, round, step) = times(Record::seconds)?;
    let (_, round_at_most, step_at_most) = times(Record::most)?;
    Some(Acceptance {
        shape: verify.shape.clone(),
        layers: verify.layers,
        format: verify.format.clone(),
        context: verify.context,
        rows: verify.rows,
        verify: verify.op,
        draft: drafting.op,
        levels: drafting.levels,
        accept_len,
        drafting: guessed,
        round,
        step,
        cost: round / step,
        tokens_per_second: accept_len / round,
        speed_up: accept_len * step / round,
        share: step / round,
        share_at_most: step_at_most / round_at_most,
        tokens_per_second_at_most: accept_len / round_at_most,
        is_estimate: verify.is_estimate(),
    })
}

const TITLES: [&str; 9] = [
    "draft", "levels", "verify", "rows", "tokens", "draft us", "round us", "tokens/s", "share",
];

/// A table for each model, format and context; `~` marks estimates.
pub fn table(list: &[Acceptance]) -> String {
    let heading = |line: &Acceptance| {
        let (shape, layers, format) = (&line.shape, line.layers, &line.format);
        let micros = 1e6 * line.step;
        let mark = mark(line);
        format!(
            "\nrounds of {shape} ({layers} layers) {format}, context {}; a step of one row takes {mark}{micros:.1} us\n",
            line.context
        )
    };
    let mut headings: Vec<String> = Vec::new();
    for line in list.iter().map(heading) {
        if !headings.contains(&line) {
            headings.push(line);
        }
    }
    let mut text = String::new();
    for own in headings {
        text += &own;
        let lines = list.iter().filter(|line| heading(line) == own).map(cells);
        let titles = TITLES.map(str::to_owned);
        let rows: Vec<[String; 9]> = std::iter::once(titles).chain(lines).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        for row in &rows {
            let cells = row.iter().enumerate().map(|(column, cell)| match column {
                0 | 2 => format!("{cell:<width$}", width = width(column)),
                _ => format!("{cell:>width$}", width = width(column)),
            });
            text += &cells.collect::<Vec<_>>().join("  ");
            text += "\n";
        }
    }
    if !list.is_empty() {
        text += "tokens: assumed of a round; share: of these tokens that becomes speed-up\n";
    }
    if list.iter().any(|line| line.is_estimate) {
        text += "~ estimate for an H100 SXM: from all edges hidden to all exposed; no GPU ran it\n";
    }
    text
}

fn mark(line: &Acceptance) -> &'static str {
    if line.is_estimate { "~" } else { "" }
}

fn cells(line: &Acceptance) -> [String; 9] {
    let mark = mark(line);
    [
        line.draft
            .map_or("not counted".to_owned(), |draft| draft.to_string()),
        line.levels.to_string(),
        line.verify.to_string(),
        line.rows.to_string(),
        line.accept_len.to_string(),
        format!("{mark}{:.1}", 1e6 * line.drafting),
        format!("{mark}{:.1}", 1e6 * line.round),
        range(mark, line.tokens_per_second, line.tokens_per_second_at_most),
        range(mark, 100.0 * line.share, 100.0 * line.share_at_most) + " %",
    ]
}

/// From the lower to the higher.
fn range(mark: &str, a: f64, b: f64) -> String {
    format!("{mark}{:.0}..{:.0}", a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::Timed;

    fn record(op: BenchOp, rows: u32, context: u32, micros: f64) -> Record {
        let seconds = 1e-6 * micros;
        Record {
            op,
            shape: "tiny".into(),
            layers: 2,
            layers_run: 2,
            format: "int4".into(),
            rows,
            layout_rows: 8,
            context,
            sms: 132,
            format_bytes: 0,
            streamed_bytes: 0,
            edges: 0,
            compiler: None,
            counters: None,
            estimate: None,
            time: Some(Timed {
                median: seconds,
                least: seconds,
                most: 2.0 * seconds,
                measurements: 1,
            }),
            empty_launch: None,
            cublas: None,
        }
    }

    fn near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-9 * expected,
            "{found}, {expected}"
        );
    }

    #[test]
    fn a_round_takes_its_guesses_and_its_verification() {
        let records = [
            record(BenchOp::Step, 1, 512, 100.0),
            record(BenchOp::Step, 4, 512, 104.0),
            record(BenchOp::Step, 16, 512, 110.0),
            record(BenchOp::TreeVerify, 16, 512, 120.0),
            // What a draft that sees the context costs elsewhere.
            record(BenchOp::DraftLayer, 8, 64, 1.0),
            record(BenchOp::DraftHeads, 1, 64, 30.0),
            record(BenchOp::DraftLayer, 1, 512, 9.0),
            record(BenchOp::DraftLayer, 8, 512, 10.0),
            record(BenchOp::DraftExtend, 8, 512, 20.0),
        ];
        let lines = simulate(&records, 4.0);
        let of = |rows: u32, draft: Option<BenchOp>| {
            let mut lines = lines.iter().filter(|line| line.rows == rows);
            lines.find(|line| line.draft == draft).unwrap()
        };
        assert_eq!(lines.len(), 6);
        let tree = of(16, Some(BenchOp::DraftLayer));
        assert_eq!((tree.verify, tree.levels), (BenchOp::TreeVerify, 5));
        near(tree.drafting, 20e-6 + 4.0 * 10e-6);
        near(tree.round, 180e-6);
        near(tree.tokens_per_second, 4.0 / 180e-6);
        near(tree.speed_up, 4.0 / 1.8);
        near(tree.share, 1.0 / 1.8);
        near(tree.tokens_per_second_at_most, 2.0 / 180e-6);
        // Three levels below the root are all that four rows hold.
        let chain = of(4, Some(BenchOp::DraftLayer));
        assert_eq!((chain.verify, chain.levels), (BenchOp::Step, 3));
        near(chain.drafting, 20e-6 + 2.0 * 9e-6);
        near(of(16, Some(BenchOp::DraftHeads)).round, 150e-6);
        near(of(16, None).round, 120e-6);
        assert!(table(&lines).contains("draft-layer"), "{}", table(&lines));
        // Four heads give five tokens at most.
        let lines = simulate(&records, 6.0);
        assert!(lines.iter().all(|line| line.rows == 16));
        let drafts: Vec<_> = lines.iter().map(|line| line.draft).collect();
        assert_eq!(drafts, [None, Some(BenchOp::DraftLayer)]);
    }
}
