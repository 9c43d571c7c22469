use super::DeviceError;
use super::generation::{count_bytes, draw_bytes};
use super::state::StateBytes;
use crate::plan::{KV_PAGE, Plan};
use stheno_codegen::program::DeviceProgram;
use stheno_codegen::program::abi::ROW_LIMIT;

/// Device memory that a program takes, with one session that fills the context: reckoned before any of it is. A generation in it may
/// ask for everything but a bias of logits, whose length only the request knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Weights.
    pub arena: u64,
    /// Vectors, rotations, tables of the program, buffers of a call; and of a generation its state, token counts, and what guesses are
    /// drawn from.
    pub buffers: u64,
    /// K and V of 128 positions in all layers.
    pub page: u64,
    /// Positions of a session, at most.
    pub context_length: u64,
}

impl Demand {
    /// Of a plan whose weights take `arena` bytes, and whose draft has `ids` token ids of its own.
    pub fn of(plan: &Plan, program: &DeviceProgram, arena: u64, ids: usize) -> Demand {
        let tables = size_of_val(&*program.phases)
            + size_of_val(&*program.segments)
            + size_of_val(&*program.spans)
            + size_of_val(&*program.stages)
            + size_of_val(&*program.tapes);
        // Single calls have a state of their own.
        let states = [false, true].map(|generates| StateBytes::new(plan, program, generates));
        let states: u64 = states.iter().map(StateBytes::total).sum();
        let draft = plan.draft.as_ref();
        Demand {
            arena,
            buffers: program.constants.bytes()
                + program.workspace.bytes()
                + (tables + 4 * ids) as u64
                + states
                + count_bytes(plan)
                + draw_bytes(plan, program),
            page: (plan.kv.page_bytes() + draft.map_or(0, |d| d.kv.page_bytes())) as u64,
            context_length: plan.context_length.into(),
        }
    }

    /// Bytes of K and V: the rows of a tree lie behind the last position, until it is known which stay.
    fn kv(&self) -> u64 {
        let positions = self.context_length.saturating_add(ROW_LIMIT as u64);
        self.page.saturating_mul(positions.div_ceil(KV_PAGE as u64))
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        (self.arena.saturating_add(self.buffers)).saturating_add(self.kv())
    }

    /// Refuses what does not fit into `free` of `total` bytes, with what would.
    pub fn check(&self, (free, total): (u64, u64)) -> Result<(), DeviceError> {
        let fixed = self.arena.saturating_add(self.buffers);
        if self.total() <= free {
            return Ok(());
        }
        let left = free.saturating_sub(fixed);
        let pages = left.checked_div(self.page).unwrap_or(0);
        Err(DeviceError::TooLarge {
            weights: self.arena,
            buffers: self.buffers,
            kv: self.kv(),
            context_length: self.context_length,
            free,
            total,
            fits: (pages * KV_PAGE as u64).saturating_sub(ROW_LIMIT as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn what_fits_is_taken_and_what_does_not_says_what_would() {
        let demand = Demand {
            arena: 14 * GIB,
            buffers: GIB,
            page: 16 << 20,
            context_length: 131_072,
        };
        // 131072 positions are 1024 pages of 16 MiB, and the rows of a tree begin one more.
        let needed = demand.total();
        assert_eq!(needed, (31 << 30) + (16 << 20));
        assert_eq!(demand.check((needed, 80 * GIB)), Ok(()));
        let error = demand.check((needed - 1, 80 * GIB)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("31.0 GiB"), "{text}");
        assert!(text.contains("--ctx-size 131008"), "{text}");
        let shorter = Demand {
            context_length: 131_008,
            ..demand
        };
        assert_eq!(shorter.check((needed - 1, 80 * GIB)), Ok(()));
        // No context helps where the weights alone do not fit.
        let text = demand
            .check((15 * GIB - 1, 24 * GIB))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("14.0 GiB") && text.contains("no context"),
            "{text}"
        );
        assert!(!text.contains("--ctx-size"), "{text}");
    }

    #[test]
    fn a_plan_without_kv_is_no_division_by_zero() {
        let demand = Demand {
            arena: 2,
            buffers: 0,
            page: 0,
            context_length: 5,
        };
        assert!(demand.check((1, 1)).is_err());
        assert!(demand.check((2, 2)).is_ok());
    }
}
