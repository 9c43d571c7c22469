//! Device programs: what plans become, the source, and programs that are broken on purpose.

#[path = "../layout/models.rs"]
#[allow(dead_code)]
mod models;

mod abi;
mod broken;
mod built;
mod compiled;
mod counted;
mod drafts;
mod loaded;
mod rounds;
mod stages;

use models::Sizes;
use stheno_codegen::layout::{Formats, Layout, WeightFormat};
use stheno_codegen::plan::Plan;
use stheno_codegen::program::{DeviceProgram, ProgramError};
use stheno_codegen::tune::{Architecture, Facts, ProgramLayout};

/// The program of a model on an H100 of that many SMs.
fn program(
    sizes: Sizes,
    format: impl Fn(&str) -> WeightFormat,
    sm_count: u32,
    max_rows: u32,
) -> DeviceProgram {
    let program = program_of(&models::plan(sizes), format, sm_count, max_rows);
    program.unwrap()
}

/// The same of a plan.
fn program_of(
    plan: &Plan,
    format: impl Fn(&str) -> WeightFormat,
    sm_count: u32,
    max_rows: u32,
) -> Result<DeviceProgram, ProgramError> {
    let formats = Formats::new(plan, |id| Some(format(&plan.weight(id).name)));
    let architecture = Architecture {
        sm_count,
        ..Architecture::H100
    };
    let facts = Facts::new(plan, &formats);
    let layout = ProgramLayout::choose(&facts, &architecture, max_rows).unwrap();
    let placed = Layout::new(plan, &formats, layout.cut()).unwrap();
    DeviceProgram::new(plan, &placed, &layout, &|_| 0)
}
