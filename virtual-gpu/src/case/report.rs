//! The result of running a case.

use crate::profile::roofline::Roofline;
use serde::Serialize;

/// What `--json` prints. `F` is a finding of the checks, `C` the counters.
#[derive(Clone, Debug, Serialize)]
pub struct Report<F, C> {
    /// Whether every block ran to its end.
    pub completed: bool,
    /// The defects; the first one names the cause, later ones may follow from it.
    pub findings: Vec<F>,
    /// Present when they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<C>,
    /// Present with the counters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Roofline>,
    /// What is no defect but worth knowing, such as a dependence on which lanes run together.
    pub warnings: Vec<String>,
}

impl<F, C> Report<F, C> {
    /// Exit code of the program: 0 without findings, 3 with findings.
    pub fn exit_code(&self) -> u8 {
        if self.findings.is_empty() { 0 } else { 3 }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_has_the_documented_fields() {
        let clean: Report<(), ()> = Report {
            completed: true,
            findings: vec![],
            counters: None,
            estimate: None,
            warnings: vec![],
        };
        let printed = serde_json::to_value(&clean).unwrap();
        assert_eq!(
            printed,
            json!({"completed": true, "findings": [], "warnings": []})
        );
        assert_eq!(clean.exit_code(), 0);

        let faulty = Report {
            completed: false,
            findings: vec![json!({"kind": "trap"})],
            counters: Some(json!({"barriers": 3})),
            estimate: None,
            warnings: vec!["slow".to_string()],
        };
        let wanted = r#"{"completed":false,"findings":[{"kind":"trap"}],"counters":{"barriers":3},"warnings":["slow"]}"#;
        assert_eq!(serde_json::to_string(&faulty).unwrap(), wanted);
        assert_eq!(faulty.exit_code(), 3);
    }
}
