//! Acceptance: which of a draft's tokens the target keeps.
//!
//! Every rule walks a [`super::Tree`] from its root and emits the accepted tokens and one more.

mod rejection;
mod typical;

pub use rejection::{Verdict, draw_children, verify};
pub use typical::{Accepted, TypicalParams, TypicalPosterior};

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A rule of acceptance.
///
/// | rule | drafts | what is emitted |
/// |---|---|---|
/// | `exact` | any | the tokens of plain decoding with the same seed: lossless |
/// | `rejection` | sampled from their own distribution | other tokens, of the same distribution: lossless |
/// | `typical` | any | tokens that the target finds likely enough: **not** lossless |
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Acceptance {
    /// The target chooses its token at every node, as it would without a draft; a child that holds this token is
    /// accepted. Lossless token by token, greedy and sampled, whatever the draft proposes.
    #[default]
    Exact,
    /// Rejection sampling of sampled drafts ([`draw_children`], [`verify`]): lossless in distribution. For the same
    /// seed the tokens differ from those of plain decoding.
    Rejection,
    /// Medusa's typical acceptance: not lossless, neither in tokens nor in distribution.
    Typical(TypicalParams),
}

impl FromStr for Acceptance {
    type Err = Error;

    /// `exact`, `rejection`, or `typical` with Medusa's parameters.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "exact" => Ok(Acceptance::Exact),
            "rejection" => Ok(Acceptance::Rejection),
            "typical" => Ok(Acceptance::Typical(TypicalParams::default())),
            _ => Err(Error::Invalid(format!(
                "there is no acceptance `{name}`; use exact, rejection or typical"
            ))),
        }
    }
}

impl fmt::Display for Acceptance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Acceptance::Exact => "exact",
            Acceptance::Rejection => "rejection",
            Acceptance::Typical(_) => "typical",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["exact", "rejection", "typical"] {
            assert_eq!(name.parse::<Acceptance>().unwrap().to_string(), name);
        }
        assert_eq!(Acceptance::default(), Acceptance::Exact);
        let error = "Exact".parse::<Acceptance>().unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no acceptance `Exact`; use exact, rejection or typical"
        );
    }
}
