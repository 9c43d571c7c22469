use crate::args::SamplingArgs;
use crate::failure::Usage;
use anyhow::Result;
use serde_json::Value;
use std::hash::{BuildHasher, RandomState};
use stheno::speculation::sampling::SamplingParams;

/// The sampling that flags, the model's generation_config.json and the defaults say, in that order.
pub fn params(args: &SamplingArgs, config: Option<&Value>) -> Result<SamplingParams> {
    let number = |key: &str| {
        // A model that is to be decoded greedily names numbers that mean nothing.
        let config = config.filter(|c| c.get("do_sample") == Some(&Value::Bool(true)))?;
        config.get(key)?.as_f64()
    };
    let float = |flag: Option<f32>, key: &str, default: f32| {
        flag.or_else(|| number(key).map(|x| x as f32))
            .unwrap_or(default)
    };
    let top_k = args.top_k.or_else(|| number("top_k").map(|x| x as usize));
    let last_n = args.repeat_last_n;
    let last_n = last_n.clamp(i32::MIN.into(), i32::MAX.into());
    let params = SamplingParams {
        temperature: float(args.temp, "temperature", 0.8),
        top_k: top_k.unwrap_or(40),
        top_p: float(args.top_p, "top_p", 0.95),
        min_p: float(args.min_p, "min_p", 0.05),
        repetition_penalty: float(args.repeat_penalty, "repetition_penalty", 1.0),
        penalty_last_n: last_n as i32,
        presence_penalty: args.presence_penalty,
        frequency_penalty: args.frequency_penalty,
        logit_bias: args
            .logit_bias
            .iter()
            .map(|text| bias(text))
            .collect::<Result<_>>()?,
        // The hasher's keys are the standard library's only source of randomness; any will do for a seed.
        seed: args
            .seed
            .unwrap_or_else(|| RandomState::new().hash_one(0u8) >> 32),
    };
    // Against the largest vocabulary; the model's own is checked when it is known.
    params.validate(LARGEST_VOCABULARY)?;
    Ok(params)
}

/// The sampler takes none beyond.
const LARGEST_VOCABULARY: usize = 1 << 23;

/// Reads `15043+1.5` or `15043-inf`.
fn bias(text: &str) -> Result<(u32, f32)> {
    let parse = || {
        let sign = text.find(['+', '-'])?;
        let token = text[..sign].trim().parse().ok()?;
        let bias: f32 = text[sign..].trim().parse().ok()?;
        (!bias.is_nan()).then_some((token, bias))
    };
    parse().ok_or_else(|| {
        let advice = "write a token id and what to add to its score, as in 15043+1.5 or 15043-inf";
        Usage(format!("--logit-bias {text}: {advice}")).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_biases() {
        assert_eq!(bias("15043+1.5").unwrap(), (15043, 1.5));
        assert_eq!(bias("2-inf").unwrap(), (2, f32::NEG_INFINITY));
        for bad in ["", "15043", "+1", "x+1", "1+", "1+nan"] {
            assert!(bias(bad).is_err(), "{bad}");
        }
    }
}
