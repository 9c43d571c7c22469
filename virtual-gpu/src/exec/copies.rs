//! `cp.async` under way.
//!
//! A copy may be performed at any time between its start and the wait for its group. Here it is performed at the wait,
//! so that whoever does not wait sees old data, or at random before it in runs with a seed.

use super::machine::Lanes;
use super::row::LANES;
use std::collections::VecDeque;
use std::ops::Range;

/// The groups of copies of a warp. They are counted by lane, since lanes may part.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// Groups that each lane has closed.
    closed: [u32; LANES],
    /// Groups that each lane has waited for.
    waited: [u32; LANES],
    /// Lanes of the closed groups that somebody has still to wait for, as they were closed.
    open: VecDeque<u32>,
    /// Groups of each lane that are no longer in `open`.
    passed: [u32; LANES],
    complete: u32,
}

impl Groups {
    /// The groups to which copies of the lanes belong now.
    pub fn current(&self) -> &[u32; LANES] {
        &self.closed
    }

    /// `lanes` close their group.
    pub fn close(&mut self, lanes: u32) {
        for lane in Lanes(lanes) {
            self.closed[lane] += 1;
        }
        self.open.push_back(lanes);
    }

    /// `lanes` wait for all groups but the last `keep`. Gives for each lane how many groups it has waited for.
    pub fn wait(&mut self, lanes: u32, keep: u32) -> [u32; LANES] {
        for lane in Lanes(lanes) {
            let upto = self.closed[lane].saturating_sub(keep);
            self.waited[lane] = self.waited[lane].max(upto);
        }
        self.waited
    }

    /// How many groups, from the first on, are complete for all of their lanes that are `alive`.
    pub fn complete(&mut self, alive: u32) -> u32 {
        while let Some(&lanes) = self.open.front() {
            if Lanes(lanes & alive).any(|lane| self.passed[lane] >= self.waited[lane]) {
                break;
            }
            for lane in Lanes(lanes) {
                self.passed[lane] += 1;
            }
            self.open.pop_front();
            self.complete += 1;
        }
        self.complete
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.closed = [0; LANES];
        self.waited = [0; LANES];
        self.passed = [0; LANES];
        self.open.clear();
        self.complete = 0;
    }
}

/// The copies that one instruction started.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number of the request.
    pub id: u64,
    /// Lanes whose copy nobody has waited for.
    pub lanes: u32,
    /// Lanes whose bytes have been copied.
    pub moved: u32,
    /// Bytes of each lane's destination.
    pub bytes: usize,
    /// Offsets in shared memory.
    pub to: [u32; LANES],
    /// Bytes in global memory.
    pub from: [*const u8; LANES],
    /// How many of them are read.
    pub sizes: [u8; LANES],
    /// Groups by lane.
    pub groups: [u32; LANES],
}

impl Request {
    /// Performs the copies of `lanes` that have not been performed.
    ///
    /// # Safety
    /// `shared` is the shared memory of the block that made the request, and its sources are live.
    pub unsafe fn perform(&mut self, lanes: u32, shared: *mut u8) {
        let due = lanes & self.lanes & !self.moved;
        self.moved |= due;
        for lane in Lanes(due) {
            let size = usize::from(self.sizes[lane]);
            // SAFETY: both ranges were checked when the copy was started; `size` is `bytes` at most.
            unsafe {
                let to = shared.add(self.to[lane] as usize);
                match (self.bytes, size) {
                    (16, 16) => std::ptr::copy_nonoverlapping(self.from[lane], to, 16),
                    (bytes, 0) => std::ptr::write_bytes(to, 0, bytes),
                    (bytes, size) => {
                        std::ptr::copy_nonoverlapping(self.from[lane], to, size);
                        std::ptr::write_bytes(to.add(size), 0, bytes - size);
                    }
                }
            }
        }
    }

    /// The destinations of `lanes`, neighbouring ones as one range.
    pub fn ranges(&self, lanes: u32) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut left = Lanes(lanes).peekable();
        std::iter::from_fn(move || {
            let start = self.to[left.next()?] as usize;
            let mut end = start + self.bytes;
            while let Some(lane) = left.next_if(|lane| self.to[*lane] as usize == end) {
                end = self.to[lane] as usize + self.bytes;
            }
            Some(start..end)
        })
    }
}

/// Copies of a warp, and their groups.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    /// Requests with lanes that nobody has waited for, the oldest first.
    pub queue: VecDeque<Request>,
    /// The groups.
    pub groups: Groups,
}

impl Copies {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.groups.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_complete_in_order() {
        let mut groups = Groups::default();
        for _ in 0..3 {
            groups.close(u32::MAX);
        }
        assert_eq!(groups.wait(u32::MAX, 1), [2; LANES]);
        assert_eq!(groups.complete(u32::MAX), 2);
        groups.wait(u32::MAX, 0);
        assert_eq!(groups.complete(u32::MAX), 3);
    }

    #[test]
    fn lanes_that_part_have_groups_of_their_own() {
        let mut groups = Groups::default();
        groups.close(0xffff);
        groups.close(0xffff_0000);
        groups.close(0xffff);
        assert_eq!((groups.current()[0], groups.current()[31]), (2, 1));
        groups.wait(0xffff_0000, 0);
        assert_eq!(groups.complete(u32::MAX), 0);
        groups.wait(0xffff, 1);
        assert_eq!(groups.complete(u32::MAX), 2);
        assert_eq!(groups.complete(0xffff_0000), 3);
    }

    #[test]
    fn neighbours_are_one_range() {
        let mut to = [0; LANES];
        (to[0], to[1], to[2], to[5]) = (32, 48, 80, 96);
        let request = Request {
            id: 0,
            lanes: 0b100111,
            moved: 0,
            bytes: 16,
            to,
            from: [std::ptr::null(); LANES],
            sizes: [16; LANES],
            groups: [0; LANES],
        };
        let ranges: Vec<_> = request.ranges(0b100111).collect();
        assert_eq!(ranges, [32..64, 80..112]);
    }
}
