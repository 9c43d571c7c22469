use crate::args::PlanArgs;
use crate::output::{print, print_json};
use crate::{load, speculation};
use anyhow::Result;

/// `generate plan`. Reads headers only.
pub fn run(args: &PlanArgs) -> Result<u8> {
    speculation::check_draft(&args.draft)?;
    let plan = load::builder(&args.model, Some(&args.draft))?.plan()?;
    if args.json {
        print_json(&plan)?;
    } else {
        print(&plan.to_string())?;
    }
    Ok(0)
}
