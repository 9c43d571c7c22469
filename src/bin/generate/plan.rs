use crate::args::PlanArgs;
use crate::load;
use crate::output::{print, print_json};
use anyhow::Result;

/// `generate plan`. Reads headers only.
pub fn run(args: &PlanArgs) -> Result<u8> {
    let plan = load::builder(&args.model)?.plan()?;
    if args.json {
        print_json(&plan)?;
    } else {
        print(&plan.to_string())?;
    }
    Ok(0)
}
