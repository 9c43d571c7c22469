use crate::args::PlanArgs;
use crate::output::{print, print_json};
use crate::{load, speculation};
use anyhow::Result;

/// `generate plan`. Reads headers only, and for a device's program the weights.
pub fn run(args: &PlanArgs) -> Result<u8> {
    speculation::check_draft(&args.draft)?;
    let builder = load::builder(&args.model, Some(&args.draft))?;
    let plan = builder.plan()?;
    if args.json {
        print_json(&plan)?;
        return Ok(0);
    }
    print(&plan.to_string())?;
    if let Some(program) = builder.device_program()? {
        print(&format!("device program: {program}"))?;
    }
    Ok(0)
}
