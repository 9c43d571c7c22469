//! The outcomes of many kernels as a table.

use std::collections::BTreeMap;
use std::fmt;

use super::known::known;
use super::stranger::Outcome;

#[derive(Default)]
struct Row {
    kernels: usize,
    ran: usize,
    right: usize,
    found: usize,
    refused: usize,
}

/// A row for each project, and a line for each kernel that does not simply run.
#[derive(Default)]
pub struct Table {
    rows: BTreeMap<String, Row>,
    notes: Vec<String>,
    surprises: usize,
}

impl Table {
    /// Adds a kernel with its outcomes under several seeds.
    pub fn add(&mut self, project: &str, name: &str, outcomes: &[Outcome]) {
        let row = self.rows.entry(project.to_owned()).or_default();
        row.kernels += 1;
        let known = known(project, name);
        let odd = outcomes.iter().find(|outcome| !outcome.is_like(&known));
        self.surprises += usize::from(odd.is_some());
        let worst = odd.or(outcomes.first());
        match worst {
            Some(Outcome::Right) | None => (row.ran, row.right) = (row.ran + 1, row.right + 1),
            Some(Outcome::Found(..)) => (row.ran, row.found) = (row.ran + 1, row.found + 1),
            Some(Outcome::Wrong(_)) => row.ran += 1,
            Some(Outcome::Refused(_)) => row.refused += 1,
        }
        if let Some(outcome @ (Outcome::Found(..) | Outcome::Wrong(_) | Outcome::Refused(_))) =
            worst
        {
            let mark = if odd.is_some() { "not on record: " } else { "" };
            self.notes
                .push(format!("{mark}{project}/{name}: {outcome}"));
        }
    }

    /// Whether every kernel ended as it is known to.
    pub fn is_as_known(&self) -> bool {
        self.surprises == 0
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| project | kernels | ran | right, no finding | right, with a finding | refused |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for (project, row) in &self.rows {
            writeln!(
                f,
                "| {project} | {} | {} | {} | {} | {} |",
                row.kernels, row.ran, row.right, row.found, row.refused
            )?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}
