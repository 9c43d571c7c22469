//! What the checks see of synchronisation.

use super::machine::Machine;
use super::program::Scope;

impl Machine<'_> {
    /// The warp has arrived at barrier `id`.
    pub fn note_arrival(&mut self, _id: usize) {}

    /// Barrier `id` is complete; those who wait at it go on.
    pub fn note_completion(&mut self, _id: usize) {}

    /// Lanes of the warp have synchronised.
    #[inline(always)]
    pub fn note_warp_sync(&mut self) {}

    /// The warp has executed a fence.
    pub fn note_fence(&mut self, _scope: Scope) {}

    /// The warp has executed `fence.proxy.async`.
    pub fn note_proxy_fence(&mut self) {}
}
