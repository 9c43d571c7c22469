use super::{Engine, GenerateOptions, SessionOptions};
use crate::draft::Way;
use crate::speculation::SpeculationOptions;
use crate::text::Text;
use crate::{Error, Result};

/// A text to try drafts on: plain prose, a list, some arithmetic and code, so that no one kind decides.
const SAMPLE: &str = "The library opened at nine. Anna returned three books and asked for the one about rivers. \"It is \
    on the second floor,\" said the librarian, \"between the maps and the atlases.\" She thanked him and took the stairs.\n\n\
    Things to buy:\n1. Bread\n2. Milk\n3. Eggs\n4. Coffee\n\nIf one ticket costs 4 euros, then 3 tickets cost 3 * 4 = 12 euros.\n\n\
    def area(width, height):\n    return width * height\n\nprint(area(2, 3))  # prints 6\n\nIn the evening she read the book \
    about rivers. It said that the river rises in the mountains and flows to the sea.\n";

/// Tokens of the text that are read, and of one that the model writes itself where there is no tokenizer.
const TOKENS: usize = 192;

/// Tries each way to read a draft, and returns the one whose guesses are right most often, with the numbers in its
/// description. Ties go to the earlier.
pub(super) fn settle(
    ways: &[Way],
    text: Option<&Text>,
    mut assemble: impl FnMut(&Way) -> Result<Engine>,
) -> Result<Way> {
    let _span = tracing::info_span!("probe draft").entered();
    let mut tokens = Vec::new();
    let mut best: Option<(f64, &Way)> = None;
    let mut findings = Vec::new();
    for way in ways {
        let engine = assemble(way)?;
        if tokens.is_empty() {
            tokens = sample(&engine, text)?;
        }
        let agreement = way.model.agreement(&engine, &tokens)?;
        findings.push(format!("{:.1} % ({})", 100.0 * agreement, way.description));
        if best.is_none_or(|(most, _)| agreement > most) {
            best = Some((agreement, way));
        }
    }
    let (_, way) = best.ok_or_else(|| Error::Invalid("there is no draft to try".into()))?;
    Ok(Way {
        description: format!(
            "{}; chosen by its guesses at {} tokens: {}",
            way.description,
            tokens.len(),
            findings.join(", ")
        ),
        ..way.clone()
    })
}

fn sample(engine: &Engine, text: Option<&Text>) -> Result<Vec<u32>> {
    let most = TOKENS.min(engine.context_length() / 2).max(1);
    if let Some(text) = text {
        let mut tokens = text.tokenizer.encode(SAMPLE, true)?;
        tokens.truncate(most);
        engine.check_tokens(&tokens)?;
        return Ok(tokens);
    }
    let mut options = GenerateOptions::greedy(most - 1);
    options.ignore_eos = true;
    options.speculation = SpeculationOptions::off();
    let mut session = engine.session(SessionOptions::default())?;
    let mut stream = session.generate(vec![1 % engine.vocab_size() as u32], &options)?;
    stream.by_ref().try_for_each(|token| token.map(|_| ()))?;
    let written = [stream.prompt_tokens(), stream.tokens()].concat();
    Ok(written)
}
