use super::DeviceError;
use crate::plan::KV_PAGE;

/// Device memory that a program takes, reckoned before any of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Weights.
    pub arena: u64,
    /// Vectors, rotations, tables of the program, buffers of a call.
    pub buffers: u64,
    /// K and V of 128 positions in all layers.
    pub page: u64,
    /// Positions of a session, at most.
    pub context_length: u64,
}

impl Demand {
    /// Refuses what does not fit into `free` of `total` bytes, with what would.
    pub fn check(&self, (free, total): (u64, u64)) -> Result<(), DeviceError> {
        let fixed = self.arena.saturating_add(self.buffers);
        let pages = self.context_length.div_ceil(KV_PAGE as u64);
        let kv = self.page.saturating_mul(pages);
        if fixed.saturating_add(kv) <= free {
            return Ok(());
        }
        let left = free.saturating_sub(fixed);
        let pages = left.checked_div(self.page).unwrap_or(0);
        Err(DeviceError::TooLarge {
            weights: self.arena,
            buffers: self.buffers,
            kv,
            context_length: self.context_length,
            free,
            total,
            fits: pages * KV_PAGE as u64,
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
        // 131072 positions are 1024 pages of 16 MiB.
        assert_eq!(demand.check((31 * GIB, 80 * GIB)), Ok(()));
        let error = demand.check((31 * GIB - 1, 80 * GIB)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("31.0 GiB"), "{text}");
        assert!(text.contains("--ctx-size 130944"), "{text}");
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
