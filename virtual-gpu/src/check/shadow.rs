//! State of every byte of an allocation: has somebody written it, and is an asynchronous copy still writing it?

use std::collections::BTreeMap;
use std::ops::Range;

/// Initialised and pending bits of one allocation.
#[derive(Clone, Debug, Default)]
pub struct ByteState {
    len: usize,
    initialised: Bits,
    pending: Bits,
    /// What each copy in flight still has to write.
    copies: BTreeMap<u64, Vec<Range<usize>>>,
    /// Whether two copies in flight may write the same byte.
    overlaps: bool,
}

impl ByteState {
    /// State of `len` bytes, all of them initialised or none.
    pub fn new(len: usize, initialised: bool) -> Self {
        Self {
            len,
            initialised: Bits::new(len, initialised),
            pending: Bits::new(len, false),
            copies: BTreeMap::new(),
            overlaps: false,
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for an allocation of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Somebody wrote `range`. What lies outside of the allocation is ignored, here and below.
    pub fn mark_initialised(&mut self, range: Range<usize>) {
        self.initialised.set(self.clip(range));
    }

    /// `range` holds nothing that somebody wrote any more.
    pub fn mark_uninitialised(&mut self, range: Range<usize>) {
        self.initialised.clear(self.clip(range));
    }

    /// The parts of `range` that somebody wrote.
    pub fn initialised_runs(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut rest = self.clip(range);
        let mut runs = Vec::new();
        while let Some(start) = self.initialised.first(rest.clone(), true) {
            let end = self
                .initialised
                .first(start..rest.end, false)
                .unwrap_or(rest.end);
            runs.push(start..end);
            rest.start = end;
        }
        runs
    }

    /// The first byte of `range` that nobody has written.
    pub fn first_uninitialised(&self, range: Range<usize>) -> Option<usize> {
        self.initialised.first(self.clip(range), false)
    }

    /// Copy `id` will write `range` at some time from now on.
    pub fn set_pending(&mut self, range: Range<usize>, id: u64) {
        let range = self.clip(range);
        if !range.is_empty() {
            self.overlaps |= self.pending.first(range.clone(), true).is_some();
            self.pending.set(range.clone());
            self.copies.entry(id).or_default().push(range);
        }
    }

    /// Copy `id` has written `range`. Bytes that another copy still has to write stay pending.
    pub fn clear_pending(&mut self, range: Range<usize>, id: u64) {
        let range = self.clip(range);
        let Some(parts) = self.copies.get_mut(&id) else {
            return;
        };
        let mut rest = Vec::new();
        parts.retain(|part| {
            let hit = part.start < range.end && range.start < part.end;
            if hit {
                self.pending.clear(common(part, &range));
                let outside = [part.start..range.start, range.end..part.end];
                rest.extend(outside.into_iter().filter(|r| r.start < r.end));
            }
            !hit
        });
        parts.extend(rest);
        if parts.is_empty() {
            self.copies.remove(&id);
        }
        self.overlaps &= !self.copies.is_empty();
        if self.overlaps {
            for part in self.copies.values().flatten() {
                self.pending.set(common(part, &range));
            }
        }
    }

    /// The first byte of `range` that a copy still has to write, with the copy's id.
    pub fn first_pending(&self, range: Range<usize>) -> Option<(usize, u64)> {
        if self.copies.is_empty() {
            return None;
        }
        let at = self.pending.first(self.clip(range), true)?;
        self.copies
            .iter()
            .find(|(_, parts)| parts.iter().any(|part| part.contains(&at)))
            .map(|(id, _)| (at, *id))
    }

    /// Whether a copy still has to write some of `range`.
    pub fn is_pending(&self, range: Range<usize>) -> bool {
        self.pending.first(self.clip(range), true).is_some()
    }

    /// Whether any copy is in flight.
    pub fn has_pending(&self) -> bool {
        !self.copies.is_empty()
    }

    fn clip(&self, range: Range<usize>) -> Range<usize> {
        let end = range.end.min(self.len);
        range.start.min(end)..end
    }
}

fn common(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}

#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(len: usize, value: bool) -> Self {
        Self(vec![if value { u64::MAX } else { 0 }; len.div_ceil(64)])
    }

    fn set(&mut self, range: Range<usize>) {
        for_words(range, |word, mask| {
            self.0[word] |= mask;
            true
        });
    }

    fn clear(&mut self, range: Range<usize>) {
        for_words(range, |word, mask| {
            self.0[word] &= !mask;
            true
        });
    }

    #[inline]
    fn first(&self, range: Range<usize>, value: bool) -> Option<usize> {
        let flip = if value { 0 } else { u64::MAX };
        let mut found = None;
        for_words(range, |word, mask| {
            let hits = (self.0[word] ^ flip) & mask;
            if hits != 0 {
                found = Some(word * 64 + hits.trailing_zeros() as usize);
            }
            hits == 0
        });
        found
    }
}

/// Calls `visit` with each word and the bits of `range` in it, as long as it returns true.
#[inline]
fn for_words(range: Range<usize>, mut visit: impl FnMut(usize, u64) -> bool) {
    if range.is_empty() {
        return;
    }
    let (first, last) = (range.start / 64, (range.end - 1) / 64);
    let head = u64::MAX << (range.start % 64);
    let tail = u64::MAX >> (63 - (range.end - 1) % 64);
    let mut word = first;
    let mut mask = head;
    while word < last {
        if !visit(word, mask) {
            return;
        }
        (word, mask) = (word + 1, u64::MAX);
    }
    visit(last, mask & tail);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fresh_allocation_is_all_or_nothing() {
        assert_eq!(
            ByteState::new(130, false).first_uninitialised(0..130),
            Some(0)
        );
        assert_eq!(ByteState::new(130, true).first_uninitialised(0..130), None);
        assert_eq!(ByteState::new(0, false).first_uninitialised(0..8), None);
    }

    #[test]
    fn overlapping_copies_clear_one_by_one() {
        let mut state = ByteState::new(256, true);
        state.set_pending(0..128, 1);
        state.set_pending(64..192, 2);
        assert_eq!(state.first_pending(100..110), Some((100, 1)));
        state.clear_pending(0..128, 1);
        assert_eq!(state.first_pending(0..256), Some((64, 2)));
        state.clear_pending(64..192, 2);
        assert_eq!(state.first_pending(0..256), None);
    }

    #[test]
    fn part_of_a_copy_can_complete() {
        let mut state = ByteState::new(64, true);
        state.set_pending(0..64, 7);
        state.clear_pending(16..32, 7);
        assert_eq!(state.first_pending(16..64), Some((32, 7)));
        state.clear_pending(0..64, 7);
        assert_eq!(state.first_pending(0..64), None);
    }

    proptest! {
        #[test]
        fn matches_a_bool_per_byte(ops in prop::collection::vec((0u8..4, 0usize..300, 0usize..140), 1..60)) {
            let mut state = ByteState::new(300, false);
            let mut written = [false; 300];
            let mut copying: [Vec<u64>; 300] = std::array::from_fn(|_| Vec::new());
            for (at, (op, start, len)) in ops.into_iter().enumerate() {
                let end = (start + len).min(300);
                match op {
                    0 => {
                        state.mark_initialised(start..end);
                        written[start..end].fill(true);
                    }
                    1 => {
                        state.set_pending(start..end, at as u64 % 3);
                        copying[start..end].iter_mut().for_each(|ids| ids.push(at as u64 % 3));
                    }
                    2 => {
                        state.clear_pending(start..end, at as u64 % 3);
                        copying[start..end].iter_mut().for_each(|ids| ids.retain(|id| *id != at as u64 % 3));
                    }
                    _ => {}
                }
                let free = (start..end).find(|&i| !written[i]);
                prop_assert_eq!(state.first_uninitialised(start..end), free);
                let busy = (start..end).find(|&i| !copying[i].is_empty());
                prop_assert_eq!(state.first_pending(start..end).map(|(i, _)| i), busy);
            }
        }
    }
}
