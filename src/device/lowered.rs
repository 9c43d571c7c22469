use super::demand::Demand;
use super::executor::program_error;
use super::{DeviceFacts, Guesses, ModelWeights};
use crate::plan::Plan;
use crate::{Error, Result};
use stheno_codegen::layout::{Layout, Mappings};
use stheno_codegen::program::DeviceProgram;
use stheno_codegen::tune::{Facts, ProgramLayout};

/// A plan on its way to a device: everything that is known before the device is touched.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub mappings: Mappings,
    pub layout: Layout,
    pub program: DeviceProgram,
}

impl Lowered {
    /// # Errors
    /// The device cannot run it, or the plan has no device program.
    pub fn new(
        facts: &DeviceFacts,
        plan: &Plan,
        weights: &dyn ModelWeights,
        max_rows: u32,
    ) -> Result<Lowered> {
        if !facts.cooperative_launch {
            return Err(Error::Unsupported(format!(
                "{} cannot keep all blocks of a kernel resident together (MPS and MIG may take that away)",
                facts.name
            )));
        }
        let mappings = Mappings::new(plan, weights).map_err(program_error)?;
        let formats = mappings.formats();
        let sizes =
            ProgramLayout::choose(&Facts::new(plan, &formats), &facts.architecture(), max_rows);
        let sizes = sizes.map_err(program_error)?;
        let layout = Layout::new(plan, &formats, sizes.cut()).map_err(program_error)?;
        layout.validate(plan, &formats).map_err(program_error)?;
        let exponent = |weight| mappings.get(weight).map_or(0, |mapping| mapping.exponent);
        let program =
            DeviceProgram::new(plan, &layout, &sizes, &exponent).map_err(program_error)?;
        Ok(Lowered {
            mappings,
            layout,
            program,
        })
    }

    /// Device memory that it takes, with one session that fills the context.
    pub fn demand(&self, plan: &Plan, guesses: &Guesses) -> Demand {
        let ids = guesses.target_ids.as_ref().map_or(0, |ids| ids.len());
        Demand::of(plan, &self.program, self.layout.arena_bytes, ids)
    }
}
