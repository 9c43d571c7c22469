use super::decoder::Decoder;
use super::{ModelConfig, llama, mistral, qwen2, qwen3};
use crate::{Error, Result};

/// What sets one architecture apart.
#[derive(Debug)]
pub(super) struct Family {
    /// Entry of `architectures` in config.json.
    pub architecture: &'static str,
    /// Value of `model_type`, which also names the plan.
    pub model_type: &'static str,
    /// Values of keys that a config may leave out, where they are the architecture's own.
    pub defaults: &'static [(&'static str, u32)],
    /// Describes the layer stack.
    pub decoder: fn(&ModelConfig) -> Result<Decoder>,
}

/// Every architecture there is. A new family is a file and a line here.
static FAMILIES: &[&Family] = &[
    &llama::FAMILY,
    &mistral::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
];

impl Family {
    /// The family of the first supported entry of `architectures`, or of `model_type` where a config has none.
    pub(super) fn find(
        architectures: &[String],
        model_type: Option<&str>,
    ) -> Result<&'static Family> {
        let named = |family: &&&Family| match architectures {
            [] => Some(family.model_type) == model_type,
            names => names.iter().any(|name| name == family.architecture),
        };
        FAMILIES.iter().find(named).copied().ok_or_else(|| {
            let found = match architectures {
                [] => model_type.unwrap_or("(none named)").to_owned(),
                names => names.join(", "),
            };
            let known: Vec<_> = FAMILIES.iter().map(|f| f.architecture).collect();
            let known = known.join(", ");
            Error::Unsupported(format!("architecture {found:.200}; there are {known}"))
        })
    }
}
