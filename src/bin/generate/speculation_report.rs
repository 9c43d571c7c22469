use serde_json::{Value, json};
use std::time::Duration;
use stheno::engine::{DrafterStatistics, Engine, SpeculationStatistics};

/// The object of `--json`. Times are null where there is no clock.
pub fn to_json(statistics: &SpeculationStatistics) -> Value {
    let seconds = |time: Duration| statistics.is_timed().then_some(time.as_secs_f64());
    let mut object = json!({
        "rounds": statistics.rounds,
        "drafted": statistics.drafted,
        "accepted": statistics.accepted,
        "accept_len": statistics.accept_len(),
        "levels": statistics.levels,
        "draft_seconds": seconds(statistics.draft),
        "verify_seconds": seconds(statistics.verify),
        "accept_seconds": seconds(statistics.accept),
    });
    // Of a draft alone it would say nothing new.
    if !statistics.drafters.is_empty() {
        object["drafters"] = json!(statistics.drafters);
    }
    object
}

/// Kind and description of an engine's draft; null without.
pub fn draft_to_json(engine: &Engine) -> Value {
    match (engine.draft_kind(), engine.draft_description()) {
        (Some(kind), description) => {
            let lookup = engine.has_lookup_beside();
            json!({ "kind": kind, "lookup": lookup, "description": description })
        }
        (None, _) => Value::Null,
    }
}

/// Lines for people.
pub fn to_text(statistics: &SpeculationStatistics) -> String {
    let mut text = format!(
        "speculation: {} rounds | drafted {}, accepted {}{} | accept_len {:.2} tokens a round\n",
        statistics.rounds,
        statistics.drafted,
        statistics.accepted,
        percent(statistics.accepted as f64, statistics.drafted as f64),
        statistics.accept_len(),
    );
    if !statistics.levels.is_empty() {
        let level = |(i, level): (usize, &stheno::engine::LevelStatistics)| {
            let share = percent(level.accepted as f64, level.offered as f64);
            format!(
                "level {}: {} of {}{share}",
                i + 1,
                level.accepted,
                level.offered
            )
        };
        let levels: Vec<String> = statistics.levels.iter().enumerate().map(level).collect();
        text += &format!("accepted at {}\n", levels.join(" | "));
    }
    if !statistics.drafters.is_empty() {
        let drafter = |drafter: &DrafterStatistics| {
            let DrafterStatistics { kind, rounds, .. } = drafter;
            let accept_len = drafter.accept_len();
            format!("{kind} in {rounds} rounds of {accept_len:.2} tokens")
        };
        let drafters: Vec<String> = statistics.drafters.iter().map(drafter).collect();
        text += &format!("asked last: {}\n", drafters.join(" | "));
    }
    if !statistics.is_timed() {
        return text;
    }
    let all = statistics.draft + statistics.verify + statistics.accept;
    let part = |name: &str, time: Duration| {
        format!(
            "{name} {:.2} ms{}",
            1e3 * time.as_secs_f64() / statistics.rounds.max(1) as f64,
            percent(time.as_secs_f64(), all.as_secs_f64())
        )
    };
    text + &format!(
        "a round: {}, {}, {}\n",
        part("draft", statistics.draft),
        part("verify", statistics.verify),
        part("accept", statistics.accept)
    )
}

/// A share in brackets; nothing of nothing.
fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 {
        format!(" ({:.1} %)", 100.0 * part / whole)
    } else {
        String::new()
    }
}
