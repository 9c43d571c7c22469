use crate::args::{AcceptanceArg, DraftArgs, SpeculationArgs};
use crate::failure::Usage;
use anyhow::Result;
use stheno::engine::Engine;
use stheno::plan::SegmentKind;
use stheno::speculation::acceptance::TypicalParams;
use stheno::speculation::{Acceptance, Choices, Policy, SpeculationOptions, Tree, TreeShape};

/// Levels of a tree unless told.
const STEPS: u32 = 5;

/// Candidates of a node unless told, for drafts whose levels cost little.
const WIDE: u32 = 8;

/// What is known of a draft: all of it when it is loaded, little before.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Whether trees of it are wide unless told.
    wide: bool,
    /// Levels that it can guess.
    levels: u32,
}

/// Checks what is said about the draft.
pub fn check_draft(args: &DraftArgs) -> Result<()> {
    let said = [
        ("--draft-dtype", args.draft_dtype.is_some()),
        ("--draft-rope-theta", args.draft_rope_theta.is_some()),
        ("--draft-aux-layers", args.draft_aux_layers.is_some()),
    ];
    let said = said.iter().find(|(_, said)| *said).map(|(flag, _)| *flag);
    match (args.draft.as_deref(), said) {
        (Some(""), _) => {
            usage("--draft is empty; name a directory, a GGUF file, a hub id, or ngram")
        }
        (None, Some(flag)) => usage(format!("{flag} needs a draft; name one with --draft")),
        (Some("ngram"), Some(flag)) => usage(format!(
            "{flag} is for drafts with weights; --draft ngram has none"
        )),
        _ => Ok(()),
    }?;
    match args.draft_rope_theta {
        Some(theta) if !(theta.is_finite() && theta > 0.0) => usage(format!(
            "--draft-rope-theta {theta}: a base is a number above 0"
        )),
        _ => Ok(()),
    }
}

/// Checks the flags against each other, as far as that goes without the draft's files. `watching` are flags that look
/// at rounds, and whether each was given.
pub fn check(
    draft: &DraftArgs,
    args: &SpeculationArgs,
    watching: &[(&'static str, bool)],
) -> Result<()> {
    check_draft(draft)?;
    let mut said = vec![
        (
            "--speculative-num-steps",
            args.speculative_num_steps.is_some(),
        ),
        (
            "--speculative-eagle-topk",
            args.speculative_eagle_topk.is_some(),
        ),
        (
            "--speculative-num-draft-tokens",
            args.speculative_num_draft_tokens.is_some(),
        ),
        ("--medusa-choices", args.medusa_choices.is_some()),
        ("--acceptance", args.acceptance.is_some()),
        ("--posterior-threshold", args.posterior_threshold.is_some()),
        ("--posterior-alpha", args.posterior_alpha.is_some()),
    ];
    said.extend(watching);
    let said = said.iter().find(|(_, said)| *said).map(|(flag, _)| *flag);
    if let (None, Some(flag)) = (&draft.draft, said) {
        return usage(format!("{flag} needs a draft; name one with --draft"));
    }
    if let (true, Some(flag)) = (args.no_speculation, said) {
        return usage(format!("{flag} and --no-speculation contradict each other"));
    }
    let ngram = draft.draft.as_deref() == Some("ngram");
    if ngram && args.medusa_choices.is_some() {
        return usage("--medusa-choices is for Medusa heads; the draft is ngram");
    }
    let known = Known {
        wide: !ngram,
        levels: u32::MAX,
    };
    options(args, known).map(|_| ())
}

/// What the flags say of an engine's generations, checked against its draft. Says on standard error if answers will
/// differ from plain decoding.
pub fn of_engine(
    draft: &DraftArgs,
    args: &SpeculationArgs,
    engine: &Engine,
) -> Result<SpeculationOptions> {
    let Some(kind) = engine.draft_kind() else {
        return Ok(SpeculationOptions::off());
    };
    let eagle = matches!(kind, "eagle" | "eagle3");
    for (flag, said) in [
        ("--draft-rope-theta", draft.draft_rope_theta.is_some()),
        ("--draft-aux-layers", draft.draft_aux_layers.is_some()),
    ] {
        if said && !eagle {
            return usage(format!(
                "{flag} is for EAGLE heads; the draft is of kind {kind}"
            ));
        }
    }
    if args.medusa_choices.is_some() && kind != "medusa" {
        return usage(format!(
            "--medusa-choices is for Medusa heads; the draft is of kind {kind}"
        ));
    }
    // Every head of Medusa is an output of its segment.
    let heads = engine.plan().segment(SegmentKind::Draft);
    let heads = heads.filter(|_| kind == "medusa").map(|s| s.outputs.len());
    let options = options(
        args,
        Known {
            wide: eagle || kind == "medusa",
            levels: heads.map_or(u32::MAX, |heads| heads as u32),
        },
    )?;
    engine.check_speculation(&options)?;
    if let Acceptance::Typical(_) = options.acceptance {
        eprintln!("typical acceptance is not lossless: answers differ from plain decoding");
    }
    Ok(options)
}

fn options(args: &SpeculationArgs, known: Known) -> Result<SpeculationOptions> {
    let acceptance = acceptance(args)?;
    let choices = args.medusa_choices.as_deref().map(choices).transpose()?;
    if choices.is_some() && acceptance == Acceptance::Rejection {
        return usage(
            "--medusa-choices and --acceptance rejection do not combine: a static tree takes the best candidates, \
             rejection needs drawn ones",
        );
    }
    if args.no_speculation {
        return Ok(SpeculationOptions::off());
    }
    let policy = match shape(args, choices.as_ref(), known) {
        None => Policy::Automatic,
        Some(shape) => {
            shape.validate()?;
            Policy::Fixed(shape)
        }
    };
    Ok(SpeculationOptions {
        policy,
        acceptance,
        choices,
    })
}

/// The tree that the flags fix, if one of them does.
fn shape(args: &SpeculationArgs, choices: Option<&Choices>, known: Known) -> Option<TreeShape> {
    let steps = args.speculative_num_steps;
    let topk = args.speculative_eagle_topk;
    let nodes = args.speculative_num_draft_tokens;
    steps.or(topk).or(nodes)?;
    if let Some(choices) = choices {
        let whole = choices.shape();
        return Some(TreeShape {
            num_steps: steps.unwrap_or(whole.num_steps),
            topk: topk.unwrap_or(whole.topk),
            num_draft_tokens: nodes.unwrap_or(whole.num_draft_tokens),
        });
    }
    let num_steps = steps.unwrap_or(STEPS.min(known.levels));
    let topk = topk.unwrap_or(if known.wide { WIDE } else { 1 });
    let (k, levels) = (u64::from(topk), u64::from(num_steps));
    let most = (1 + k).saturating_add(levels.saturating_sub(1).saturating_mul(k * k));
    let fits = match topk {
        1 => u32::try_from(most).unwrap_or(u32::MAX),
        _ => most.min(Tree::MAX_NODES as u64) as u32,
    };
    Some(TreeShape {
        num_steps,
        topk,
        num_draft_tokens: nodes.unwrap_or(fits),
    })
}

fn acceptance(args: &SpeculationArgs) -> Result<Acceptance> {
    let mut params = TypicalParams::default();
    let rule = args.acceptance.unwrap_or(AcceptanceArg::Exact);
    for (flag, said, param) in [
        (
            "--posterior-threshold",
            args.posterior_threshold,
            &mut params.posterior_threshold,
        ),
        (
            "--posterior-alpha",
            args.posterior_alpha,
            &mut params.posterior_alpha,
        ),
    ] {
        let Some(value) = said else { continue };
        if rule != AcceptanceArg::Typical {
            return usage(format!("{flag} is for --acceptance typical only"));
        }
        *param = value;
    }
    params.validate()?;
    Ok(match rule {
        AcceptanceArg::Exact => Acceptance::Exact,
        AcceptanceArg::Rejection => Acceptance::Rejection,
        AcceptanceArg::Typical => Acceptance::Typical(params),
    })
}

/// A tree by its name, or out of a file.
fn choices(name: &str) -> Result<Choices> {
    match Choices::open(name) {
        Err(stheno::Error::Invalid(fault)) => usage(format!("--medusa-choices {fault}")),
        choices => Ok(choices?),
    }
}

fn usage<T>(text: impl Into<String>) -> Result<T> {
    Err(Usage(text.into()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        speculation: SpeculationArgs,
    }

    fn policy(flags: &str, wide: bool, levels: u32) -> Policy {
        let flags = Flags::parse_from(["x"].into_iter().chain(flags.split_whitespace()));
        let options = options(&flags.speculation, Known { wide, levels });
        options.unwrap().policy
    }

    fn fixed(num_steps: u32, topk: u32, num_draft_tokens: u32) -> Policy {
        Policy::Fixed(TreeShape {
            num_steps,
            topk,
            num_draft_tokens,
        })
    }

    #[test]
    fn what_is_not_said_of_a_tree_fits_what_is() {
        assert_eq!(policy("", true, 9), Policy::Automatic);
        assert_eq!(policy("--no-speculation", true, 9), Policy::Off);
        let steps = "--speculative-num-steps 3";
        assert_eq!(policy(steps, false, 9), fixed(3, 1, 4));
        assert_eq!(policy(steps, true, 9), fixed(3, 8, 64));
        let topk = "--speculative-eagle-topk 2";
        assert_eq!(policy(topk, false, 9), fixed(5, 2, 19));
        assert_eq!(policy(topk, true, 3), fixed(3, 2, 11));
        let nodes = "--speculative-num-draft-tokens 6";
        assert_eq!(policy(nodes, false, 9), fixed(5, 1, 6));
        let choices = "--medusa-choices mc_sim_7b_63 --speculative-num-draft-tokens 20";
        let tree = Choices::named("mc_sim_7b_63").unwrap();
        let Policy::Fixed(shape) = policy(choices, true, 9) else {
            panic!("not fixed");
        };
        assert_eq!(
            (shape.num_steps, shape.num_draft_tokens),
            (tree.depth(), 20)
        );
    }
}
