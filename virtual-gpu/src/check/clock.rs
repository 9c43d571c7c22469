//! Hierarchical vector clocks.
//!
//! A component is something that can be waited for: a warp, the groups of asynchronous copies of a warp, a phase of an
//! mbarrier. A block's components form a vector; a [`World`] maps blocks to vectors and shares what two clocks have in
//! common, because 132 blocks of 16 warps would otherwise cost a million counters.

use std::sync::Arc;

/// Lays out the components of a block's vector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub warps: u32,
}

/// Components that every warp has, next to its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PerWarp {
    /// Time of the warp itself.
    Time = 0,
    /// Time of the warp up to which its writes are visible to the async proxy.
    Proxied = 1,
    /// `cp.async` groups that are complete.
    Copies = 2,
    /// Bulk groups that are complete.
    Bulk = 3,
    /// Bulk groups that have read their sources.
    BulkRead = 4,
    /// Groups of products of the warpgroup that are complete, under its first warp.
    Products = 5,
}

impl Layout {
    pub fn of(self, kind: PerWarp, warp: u32) -> u16 {
        (kind as u32 * self.warps + warp) as u16
    }

    /// Component of the mbarrier with this number.
    pub fn mbarrier(self, number: u32) -> u16 {
        (6 * self.warps + number) as u16
    }
}

/// The components of one block; what lies beyond the end is zero.
pub(crate) type Vector = Vec<u32>;

pub(crate) fn value(vector: &[u32], component: u16) -> u32 {
    vector.get(component as usize).copied().unwrap_or(0)
}

/// Raises one component, growing the vector as needed.
pub(crate) fn raise(vector: &mut Vector, component: u16, to: u32) {
    let at = component as usize;
    if vector.len() <= at {
        vector.resize(at + 1, 0);
    }
    vector[at] = vector[at].max(to);
}

/// Component-wise maximum; true if `into` changed.
pub(crate) fn join(into: &mut Vector, from: &[u32]) -> bool {
    if into.len() < from.len() {
        into.resize(from.len(), 0);
    }
    let mut changed = 0;
    for (a, b) in into.iter_mut().zip(from) {
        changed |= a.wrapping_sub((*a).max(*b));
        *a = (*a).max(*b);
    }
    changed != 0
}

/// True if every component of `a` is at most that of `b`.
fn at_most(a: &[u32], b: &[u32]) -> bool {
    let common = a.len().min(b.len());
    a[..common].iter().zip(b).all(|(a, b)| a <= b) && a[common..].iter().all(|a| *a == 0)
}

type Blocks = Vec<Option<Arc<[u32]>>>;

/// What is known of every block. Copies are cheap, and equal parts are shared.
#[derive(Clone, Debug, Default)]
pub(crate) struct World(Option<Arc<Blocks>>);

impl World {
    pub fn same(&self, other: &World) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    pub fn block(&self, block: u32) -> &[u32] {
        let entry = self
            .0
            .as_ref()
            .and_then(|blocks| blocks.get(block as usize));
        entry.and_then(|vector| vector.as_deref()).unwrap_or(&[])
    }

    /// Adds what `other` knows; true if that was news.
    pub fn join(&mut self, other: &World) -> bool {
        if self.same(other) {
            return false;
        }
        let Some(theirs) = &other.0 else { return false };
        let Some(ours) = &self.0 else {
            *self = other.clone();
            return true;
        };
        let (mut we_cover, mut they_cover) = (true, ours.len() <= theirs.len());
        for (at, their) in theirs.iter().enumerate() {
            match (ours.get(at).and_then(Option::as_ref), their) {
                (Some(a), Some(b)) => {
                    if !Arc::ptr_eq(a, b) {
                        we_cover = we_cover && at_most(b, a);
                        they_cover = they_cover && at_most(a, b);
                    }
                }
                (None, Some(_)) => we_cover = false,
                (Some(_), None) => they_cover = false,
                (None, None) => {}
            }
            if !we_cover && !they_cover {
                break;
            }
        }
        if we_cover {
            return false;
        }
        if they_cover {
            *self = other.clone();
            return true;
        }
        let longest = ours.len().max(theirs.len());
        let entry = |blocks: &Blocks, at: usize| blocks.get(at).cloned().flatten();
        let merged = (0..longest).map(|at| match (entry(ours, at), entry(theirs, at)) {
            (Some(a), Some(b)) => Some(if Arc::ptr_eq(&a, &b) || at_most(&b, &a) {
                a
            } else if at_most(&a, &b) {
                b
            } else {
                let mut both = a.to_vec();
                join(&mut both, &b);
                both.into()
            }),
            (a, b) => a.or(b),
        });
        self.0 = Some(Arc::new(merged.collect()));
        true
    }

    /// Adds what `vector` knows of one block.
    pub fn join_block(&mut self, block: u32, vector: &[u32]) {
        let known = self.block(block);
        if at_most(vector, known) {
            return;
        }
        let mut both = known.to_vec();
        join(&mut both, vector);
        let blocks = Arc::make_mut(self.0.get_or_insert_default());
        if blocks.len() <= block as usize {
            blocks.resize(block as usize + 1, None);
        }
        blocks[block as usize] = Some(both.into());
    }

    /// Applies `change` to a copy of every vector but that of `except`; it returns true where it changed something.
    pub fn update(&mut self, except: u32, mut change: impl FnMut(&mut Vector) -> bool) {
        let Some(blocks) = &mut self.0 else { return };
        let mut news = Vec::new();
        for (at, vector) in blocks.iter().enumerate() {
            if let Some(vector) = vector.as_ref().filter(|_| at != except as usize) {
                let mut copy = vector.to_vec();
                if change(&mut copy) {
                    news.push((at, copy));
                }
            }
        }
        if !news.is_empty() {
            let blocks = Arc::make_mut(blocks);
            for (at, vector) in news {
                blocks[at] = Some(vector.into());
            }
        }
    }
}

/// Reach of a memory operation, for clocks: who may take part in the synchronisation.
pub(crate) const LEVELS: usize = 3;

/// What one warp knows.
#[derive(Clone, Debug)]
pub(crate) struct WarpClock {
    pub block: u32,
    pub warp: u32,
    layout: Layout,
    /// The warp's own block. Its own time here is that of its last warp-wide synchronisation: what lanes did later is
    /// not ordered before what other lanes of the warp do.
    pub local: Vector,
    /// The other blocks; the entry of the own block is out of date.
    pub world: World,
    /// Time stamp of the accesses that the warp makes now.
    pub now: u32,
    /// An access carries the time stamp `now`.
    pub dirty: bool,
    /// Groups waited for by lanes of this warp, not yet known to the other lanes: copies, bulk, bulk reads.
    pub waited: [u32; 4],
    /// Knowledge as of the last fences, by level.
    pub fenced: [World; LEVELS],
    /// What relaxed loads have seen, waiting for a fence.
    pub heard: [World; LEVELS],
    /// For each lane the times of the other lanes that it is ordered after, if part of the warp ever synchronised.
    pub partial: Option<Box<[[u32; 32]; 32]>>,
    pub live: u32,
    changed: bool,
    published: World,
    acquired: World,
}

impl WarpClock {
    pub fn new(block: u32, warp: u32, layout: Layout) -> Self {
        Self {
            block,
            warp,
            layout,
            local: Vec::new(),
            world: World::default(),
            now: 1,
            dirty: false,
            waited: [0; 4],
            fenced: Default::default(),
            heard: Default::default(),
            partial: None,
            live: u32::MAX,
            changed: true,
            published: World::default(),
            acquired: World::default(),
        }
    }

    pub fn knows(&self, block: u32, component: u16) -> u32 {
        if block == self.block {
            value(&self.local, component)
        } else {
            value(self.world.block(block), component)
        }
    }

    /// Time stamp of the warp's last access; advances the time so that later accesses differ.
    fn tick(&mut self) -> u32 {
        if self.dirty {
            self.dirty = false;
            self.changed = true;
            self.now += 1;
        }
        self.now - 1
    }

    /// Writes the warp's own progress into a copy of its block's vector.
    fn progress(&self, into: &mut Vector, time: u32) {
        raise(into, self.layout.of(PerWarp::Time, self.warp), time);
        self.progress_of_copies(into);
    }

    fn progress_of_copies(&self, into: &mut Vector) {
        for (kind, waited) in [PerWarp::Copies, PerWarp::Bulk, PerWarp::BulkRead]
            .into_iter()
            .zip(self.waited)
        {
            if waited > 0 {
                raise(into, self.layout.of(kind, self.warp), waited);
            }
        }
    }

    /// All lanes synchronise.
    pub fn seal(&mut self) {
        let time = self.tick();
        let mut local = std::mem::take(&mut self.local);
        self.progress(&mut local, time);
        self.local = local;
    }

    /// The lanes of `mask` synchronise.
    pub fn seal_lanes(&mut self, mask: u32) {
        if mask & self.live == self.live {
            return self.seal();
        }
        let time = self.tick();
        // Waits are not told apart by lane: those of any lane count for all from here on.
        let mut local = std::mem::take(&mut self.local);
        self.progress_of_copies(&mut local);
        self.local = local;
        let lanes = || (0..32).filter(|lane| mask >> lane & 1 == 1);
        let table = self.partial.get_or_insert_with(|| Box::new([[0; 32]; 32]));
        let mut both = [0; 32];
        for lane in lanes() {
            for (a, b) in both.iter_mut().zip(table[lane]) {
                *a = (*a).max(b);
            }
        }
        lanes().for_each(|lane| both[lane] = time);
        lanes().for_each(|lane| table[lane] = both);
    }

    /// Notes that lanes waited for copies; the other lanes learn of it when the warp synchronises.
    pub fn note_wait(&mut self, kind: PerWarp, group: u32) {
        let slot = &mut self.waited[kind as usize - PerWarp::Copies as usize];
        if *slot < group {
            *slot = group;
            self.changed = true;
        }
    }

    /// Everything the warp knows and has done, to be handed to somebody else.
    pub fn publish(&mut self) -> World {
        let time = self.tick();
        if self.changed {
            let mut local = self.local.clone();
            self.progress(&mut local, time);
            // Not into the own world: what the lanes did is no news to others of the warp by having been published.
            self.published = self.world.clone();
            self.published.join_block(self.block, &local);
            self.changed = false;
        }
        self.published.clone()
    }

    /// The warp, as a whole, has waited for products of the group whose first warp is `leader`.
    pub fn note_products(&mut self, leader: u32, groups: u32) {
        let component = self.layout.of(PerWarp::Products, leader);
        raise(&mut self.local, component, groups);
        self.changed = true;
    }

    /// Learns what somebody else published.
    pub fn learn(&mut self, world: &World) {
        if self.acquired.same(world) {
            return;
        }
        self.acquired = world.clone();
        let local = join(&mut self.local, world.block(self.block));
        let remote = self.world.join(world);
        self.changed |= local || remote;
    }

    /// Writes so far, by this warp and by whoever it is ordered after, become visible to the async proxy.
    pub fn proxy_fence(&mut self) {
        let time = self.tick();
        let layout = self.layout;
        let lift = |vector: &mut Vector| {
            let mut changed = false;
            for warp in 0..layout.warps {
                let done = value(vector, layout.of(PerWarp::Time, warp));
                if value(vector, layout.of(PerWarp::Proxied, warp)) < done {
                    raise(vector, layout.of(PerWarp::Proxied, warp), done);
                    changed = true;
                }
            }
            changed
        };
        lift(&mut self.local);
        raise(
            &mut self.local,
            layout.of(PerWarp::Proxied, self.warp),
            time,
        );
        self.world.update(self.block, lift);
        self.changed = true;
    }
}

/// Knowledge on its way through a barrier of one block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parcel {
    local: Vector,
    world: World,
    last: World,
    fenced: [World; LEVELS],
    heard: [World; LEVELS],
}

impl Parcel {
    /// Adds what a warp knows and did. `home` is the block of the barrier.
    pub fn deposit(&mut self, clock: &mut WarpClock, home: u32) {
        if clock.block == home {
            let time = clock.tick();
            join(&mut self.local, &clock.local);
            clock.progress(&mut self.local, time);
            // The warps of a block often share one world.
            if !self.last.same(&clock.world) {
                self.world.join(&clock.world);
                self.last = clock.world.clone();
            }
        } else {
            let all = clock.publish();
            join(&mut self.local, all.block(home));
            self.world.join(&all);
        }
        for level in 0..LEVELS {
            self.fenced[level].join(&clock.fenced[level]);
            self.heard[level].join(&clock.heard[level]);
        }
    }

    /// Adds what a warp knows, without what it did itself since its lanes last synchronised.
    pub fn deposit_known(&mut self, clock: &WarpClock, home: u32) {
        if clock.block == home {
            join(&mut self.local, &clock.local);
        } else {
            join(&mut self.local, clock.world.block(home));
            self.world.join_block(clock.block, &clock.local);
        }
        self.world.join(&clock.world);
    }

    /// Adds what somebody published, for a parcel that belongs to no block.
    pub fn deposit_world(&mut self, world: &World) {
        self.world.join(world);
    }

    /// Adds progress of something that is not a warp.
    pub fn raise(&mut self, component: u16, to: u32) {
        raise(&mut self.local, component, to);
    }

    /// Hands the contents to a warp of the own block that has deposited what it knows.
    pub fn replace(&self, clock: &mut WarpClock) {
        clock.local.clone_from(&self.local);
        clock.world = self.world.clone();
        clock.fenced = self.fenced.clone();
        clock.heard = self.heard.clone();
        clock.changed = true;
    }

    /// Hands the contents to a warp.
    pub fn collect(&self, clock: &mut WarpClock, home: u32) {
        if clock.block == home {
            clock.changed |= join(&mut clock.local, &self.local);
            clock.changed |= clock.world.join(&self.world);
        } else {
            let mut world = self.world.clone();
            world.join_block(home, &self.local);
            clock.learn(&world);
        }
        for level in 0..LEVELS {
            clock.fenced[level].join(&self.fenced[level]);
            clock.heard[level].join(&self.heard[level]);
        }
    }

    /// What arrives here counts for a fence later, not at once.
    pub fn overhear(&self, clock: &mut WarpClock, home: u32) {
        let mut world = self.world.clone();
        world.join_block(home, &self.local);
        for level in if clock.block == home { 0 } else { 1 }..LEVELS {
            clock.heard[level].join(&world);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_share_what_is_equal() {
        let mut a = World::default();
        a.join_block(0, &[1, 2]);
        a.join_block(3, &[5]);
        let mut b = a.clone();
        assert!(!b.join(&a));
        b.join_block(3, &[6]);
        assert!(!b.join(&a));
        assert!(a.join(&b) && a.same(&b));
        a.join_block(0, &[9]);
        b.join_block(7, &[1]);
        assert!(a.join(&b));
        assert_eq!(
            (a.block(0), a.block(3), a.block(7)),
            (&[9, 2][..], &[6][..], &[1][..])
        );
    }

    #[test]
    fn publishing_twice_shares_one_snapshot() {
        let mut clock = WarpClock::new(2, 1, Layout { warps: 4 });
        clock.dirty = true;
        let first = clock.publish();
        assert!(clock.publish().same(&first));
        assert_eq!(value(first.block(2), 1), 1);
        clock.dirty = true;
        assert_eq!(value(clock.publish().block(2), 1), 2);
    }
}
