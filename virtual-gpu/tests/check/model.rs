//! The detector against a model that keeps every access and the full set of accesses that each one is ordered after.

use proptest::prelude::*;
use virtual_gpu::check::race::{
    Access, Actor, Bar, Completion, Footprint, LaneAccess, Races, Scope,
};

use crate::{GLOBAL, warp};

const BLOCKS: u32 = 2;
const WARPS: u32 = 2;
const LANES: u32 = 3;
const BYTES: u64 = 12;
const BAR: Bar = Bar {
    block: 0,
    address: 0,
};

/// Set of access numbers.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Set([u64; 16]);

impl Set {
    fn add(&mut self, other: &Set) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
    }

    fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
}

#[derive(Clone, Debug)]
enum Event {
    Access {
        who: Actor,
        lanes: u32,
        strength: u8,
        address: u64,
        bytes: u64,
        spread: bool,
        daring: bool,
    },
    Copy {
        who: Actor,
        lane: u32,
        address: u64,
        daring: bool,
    },
    CommitGroup(Actor),
    WaitGroup(Actor, u32),
    WarpSync(Actor, u32),
    Barrier(u32),
    Arrive(Actor),
    Complete(Actor),
    Release(Actor, u64, Scope, bool),
    Acquire(Actor, u64, Scope),
    RelaxedStore(Actor, u64, Scope, bool),
    RelaxedLoad(Actor, u64, Scope),
    Fence(Actor, Scope),
    BarArrive(u32),
    BarCopies(u32),
    BarComplete,
    BarObserve(u32, bool),
}

#[derive(Clone)]
struct Done {
    who: Actor,
    bytes: std::ops::Range<u64>,
    access: Access,
    before: Set,
}

#[derive(Clone, Default)]
struct Warp {
    /// What all lanes are ordered after, what each lane is, and what the warp as a whole can publish.
    common: Set,
    lanes: [Set; LANES as usize],
    all: Set,
    fenced: [Set; 2],
    heard: [Set; 2],
    copies: Vec<(usize, u32, u32)>,
    group: u32,
    waited: Set,
}

impl Warp {
    fn learn(&mut self, set: &Set) {
        self.common.add(set);
        self.all.add(set);
        self.lanes.iter_mut().for_each(|lane| lane.add(set));
    }
}

#[derive(Clone, Default)]
struct Loc {
    last: Option<Actor>,
    own: Vec<(u32, bool, Set)>,
    /// Releasing block, whether at device scope, and what was released.
    chain: Vec<(u32, bool, Set)>,
}

#[derive(Clone, Default)]
struct Meeting {
    known: Set,
    fenced: [Set; 2],
    heard: [Set; 2],
}

impl Meeting {
    fn deposit(&mut self, warp: &Warp) {
        self.known.add(&warp.all);
        for level in 0..2 {
            self.fenced[level].add(&warp.fenced[level]);
            self.heard[level].add(&warp.heard[level]);
        }
    }

    fn collect(&self, warp: &mut Warp) {
        warp.learn(&self.known);
        for level in 0..2 {
            warp.fenced[level].add(&self.fenced[level]);
            warp.heard[level].add(&self.heard[level]);
        }
    }
}

#[derive(Default)]
struct Model {
    done: Vec<Done>,
    warps: Vec<Warp>,
    locs: [Loc; 2],
    named: [Meeting; BLOCKS as usize],
    pending: Meeting,
    phases: Vec<Meeting>,
}

impl Model {
    fn warp(&mut self, who: Actor) -> &mut Warp {
        &mut self.warps[(who.block * WARPS + who.warp) as usize]
    }

    fn strong(access: Access) -> Option<Scope> {
        match access {
            Access::StrongRead(scope) | Access::StrongWrite(scope) | Access::Atomic(scope) => {
                Some(scope)
            }
            _ => None,
        }
    }

    /// True if an access with this history conflicts with an earlier one.
    fn races(
        &self,
        who: Actor,
        bytes: &std::ops::Range<u64>,
        access: Access,
        before: &Set,
    ) -> bool {
        bytes.clone().any(|byte| {
            let here = |done: &Done| done.bytes.contains(&byte);
            self.done
                .iter()
                .enumerate()
                .filter(|(_, done)| here(done))
                .any(|(at, done)| {
                    let strong = match (Self::strong(done.access), Self::strong(access)) {
                        (Some(a), Some(b)) => {
                            done.who.block == who.block || (a >= Scope::Gpu && b >= Scope::Gpu)
                        }
                        _ => false,
                    };
                    // A copy hands on what its own bytes held before, even where it does not order anything else.
                    let through_copy = || {
                        let mut hidden =
                            self.done.iter().enumerate().filter(|(_, done)| here(done));
                        hidden.any(|(copy, done)| {
                            done.access == Access::Write && done.before.has(at) && before.has(copy)
                        })
                    };
                    (done.access.writes() || access.writes())
                        && !strong
                        && !before.has(at)
                        && !through_copy()
                })
        })
    }

    fn read(&self, who: Actor, loc: u64, scope: Scope) -> [Set; 2] {
        let mut sets = [Set::default(); 2];
        for (block, device, set) in &self.locs[loc as usize].chain {
            if *block == who.block {
                sets[0].add(set);
            }
            if *device && scope >= Scope::Gpu {
                sets[1].add(set);
            }
        }
        sets
    }

    fn post(&mut self, who: Actor, loc: u64, rmw: bool, sets: Vec<(bool, Set)>) {
        let loc = &mut self.locs[loc as usize];
        if loc.last != Some(who) {
            loc.own.clear();
        }
        loc.own.extend(
            sets.into_iter()
                .map(|(device, set)| (who.block, device, set)),
        );
        if !rmw {
            loc.chain.clear();
        }
        loc.chain.extend(loc.own.iter().cloned());
        loc.last = Some(who);
    }
}

fn device(scope: Scope) -> bool {
    scope >= Scope::Gpu
}

/// Runs a trace on both. Accesses that race are left out unless they are daring, so that traces get far; the first
/// race that is carried out ends the trace. Returns true if there was one.
fn run(events: &[Event]) -> Result<bool, TestCaseError> {
    let mut races = Races::new(BLOCKS, WARPS);
    let mut model = Model {
        warps: vec![Warp::default(); (BLOCKS * WARPS) as usize],
        ..Model::default()
    };
    for block in 0..BLOCKS {
        for w in 0..WARPS {
            races.set_live(warp(block, w), (1 << LANES) - 1);
        }
    }
    for (pc, event) in events.iter().enumerate() {
        match *event {
            Event::Access {
                who,
                lanes,
                strength,
                address,
                bytes,
                spread,
                daring,
            } => {
                // Two words for atomics of the device, one for those of the block.
                let (scope, zone, len) = if address < 8 {
                    (Scope::Gpu, 0, 8)
                } else {
                    (Scope::Cta, 8, 4)
                };
                let access = [
                    Access::Read,
                    Access::Write,
                    Access::StrongRead(scope),
                    Access::StrongWrite(scope),
                    Access::Atomic(scope),
                ][strength as usize];
                let active: Vec<u32> = (0..LANES).filter(|lane| lanes >> lane & 1 == 1).collect();
                let start = |lane: u32| {
                    let at = if spread {
                        address + bytes * lane as u64
                    } else {
                        address
                    };
                    zone + (at - zone) % len
                };
                let racy = active.iter().any(|lane| {
                    let before = model.warp(who).lanes[*lane as usize];
                    model.races(who, &(start(*lane)..start(*lane) + bytes), access, &before)
                });
                if racy && !daring {
                    continue;
                }
                let addresses = std::array::from_fn(|lane| start(lane as u32));
                let bytes32 = bytes as u32;
                let lanes = LaneAccess {
                    addresses: &addresses,
                    mask: lanes,
                    bytes: bytes32,
                    collective: false,
                    values: None,
                    unchanged: false,
                };
                let found = races.access(who, GLOBAL, pc as u32, access, &lanes);
                prop_assert_eq!(found.is_some(), racy, "event {}: {:?}", pc, found);
                if racy {
                    return Ok(true);
                }
                for lane in active {
                    let at = model.done.len();
                    let before = model.warp(who).lanes[lane as usize];
                    model.done.push(Done {
                        who,
                        bytes: start(lane)..start(lane) + bytes,
                        access,
                        before,
                    });
                    let state = model.warp(who);
                    state.lanes[lane as usize].insert(at);
                    state.all.insert(at);
                }
            }
            Event::Copy {
                who,
                lane,
                address,
                daring,
            } => {
                let before = model.warp(who).lanes[lane as usize];
                let bytes = address..address + 4;
                let racy = model.races(who, &bytes, Access::Write, &before);
                if racy && !daring {
                    continue;
                }
                let footprint = Footprint::Bytes {
                    lane,
                    start: address,
                    bytes: 4,
                };
                let found =
                    races.async_write(who, GLOBAL, pc as u32, &footprint, Completion::CpAsync);
                prop_assert_eq!(found.is_some(), racy, "event {}: {:?}", pc, found);
                if racy {
                    return Ok(true);
                }
                let at = model.done.len();
                model.done.push(Done {
                    who,
                    bytes,
                    access: Access::Write,
                    before,
                });
                let state = model.warp(who);
                state.copies.push((at, lane, state.group));
            }
            Event::CommitGroup(who) => {
                races.async_commit_group(who);
                model.warp(who).group += 1;
            }
            Event::WaitGroup(who, upto) => {
                races.async_wait_group(who, upto);
                let state = model.warp(who);
                let upto = upto.min(state.group);
                for (copy, lane, _) in state.copies.iter().filter(|(_, _, group)| *group < upto) {
                    state.lanes[*lane as usize].insert(*copy);
                    state.all.insert(*copy);
                    state.waited.insert(*copy);
                }
            }
            Event::WarpSync(who, mask) => {
                races.warp_sync(who, mask);
                let state = model.warp(who);
                if mask == (1 << LANES) - 1 {
                    let all = state.all;
                    state.learn(&all);
                } else {
                    let waited = state.waited;
                    state.learn(&waited);
                    let mut both = Set::default();
                    let lanes = || (0..LANES as usize).filter(|lane| mask >> lane & 1 == 1);
                    lanes().for_each(|lane| both.add(&state.lanes[lane]));
                    lanes().for_each(|lane| state.lanes[lane] = both);
                }
            }
            Event::Barrier(block) => {
                races.barrier(block, &[0, 1]);
                let mut meeting = Meeting::default();
                (0..WARPS).for_each(|w| meeting.deposit(model.warp(warp(block, w))));
                (0..WARPS).for_each(|w| meeting.collect(model.warp(warp(block, w))));
            }
            Event::Arrive(who) => {
                races.barrier_arrive(who.block, who.warp, 3);
                let state = model.warp(who).clone();
                model.named[who.block as usize].deposit(&state);
            }
            Event::Complete(who) => {
                races.barrier_complete(who.block, 3, &[who.warp]);
                let mut meeting = std::mem::take(&mut model.named[who.block as usize]);
                meeting.deposit(model.warp(who));
                meeting.collect(model.warp(who));
            }
            Event::Release(who, loc, scope, rmw) => {
                races.release(who, loc, scope, rmw);
                let all = model.warp(who).all;
                model.post(who, loc, rmw, vec![(device(scope), all)]);
            }
            Event::Acquire(who, loc, scope) => {
                races.acquire(who, loc, scope);
                let sets = model.read(who, loc, scope);
                sets.iter().for_each(|set| model.warp(who).learn(set));
            }
            Event::RelaxedStore(who, loc, scope, rmw) => {
                races.relaxed_store(who, loc, scope, rmw);
                let [narrow, wide] = model.warp(who).fenced;
                let mut sets = vec![(false, narrow)];
                if device(scope) {
                    sets.push((true, wide));
                }
                model.post(who, loc, rmw, sets);
            }
            Event::RelaxedLoad(who, loc, scope) => {
                races.relaxed_load(who, loc, scope);
                let sets = model.read(who, loc, scope);
                let state = model.warp(who);
                state
                    .heard
                    .iter_mut()
                    .zip(&sets)
                    .for_each(|(heard, set)| heard.add(set));
            }
            Event::Fence(who, scope) => {
                races.fence(who, scope);
                let state = model.warp(who);
                let levels = if device(scope) { 2 } else { 1 };
                for level in 0..levels {
                    let heard = state.heard[level];
                    state.learn(&heard);
                }
                let all = state.all;
                state.fenced[..levels]
                    .iter_mut()
                    .for_each(|fenced| fenced.add(&all));
            }
            Event::BarArrive(w) => {
                races.mbarrier_arrive(warp(0, w), BAR, true);
                let state = model.warp(warp(0, w)).clone();
                model.pending.deposit(&state);
            }
            Event::BarCopies(w) => {
                races.cp_async_mbarrier_arrive(warp(0, w), BAR);
                let state = model.warp(warp(0, w)).clone();
                model.pending.known.add(&state.common);
                state
                    .copies
                    .iter()
                    .for_each(|(copy, ..)| model.pending.known.insert(*copy));
            }
            Event::BarComplete => {
                races.mbarrier_phase_complete(BAR);
                model.phases.push(std::mem::take(&mut model.pending));
            }
            Event::BarObserve(w, acquire) => {
                let Some(phase) = model.phases.last().cloned() else {
                    continue;
                };
                races.mbarrier_observe(warp(0, w), BAR, model.phases.len() as u32 - 1, acquire);
                let state = model.warp(warp(0, w));
                if acquire {
                    phase.collect(state);
                } else {
                    state
                        .heard
                        .iter_mut()
                        .for_each(|heard| heard.add(&phase.known));
                }
            }
        }
    }
    Ok(false)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let who = || (0..BLOCKS, 0..WARPS).prop_map(|(block, w)| warp(block, w));
    let scope = || prop_oneof![Just(Scope::Cta), Just(Scope::Gpu)];
    let daring = || prop::bool::weighted(0.08);
    let size = prop_oneof![3 => Just(4u64), 1 => Just(1), 1 => Just(2)];
    let lanes = prop_oneof![3 => (0..LANES).prop_map(|lane| 1 << lane), 2 => 1..1u32 << LANES];
    let access = (
        who(),
        lanes,
        0..5u8,
        0..BYTES,
        size,
        any::<bool>(),
        daring(),
    )
        .prop_map(
            |(who, lanes, strength, address, bytes, spread, daring)| Event::Access {
                who,
                lanes,
                strength,
                address: address / bytes * bytes,
                bytes,
                spread,
                daring,
            },
        );
    let copy = (who(), 0..LANES, 0..BYTES / 4, daring()).prop_map(|(who, lane, word, daring)| {
        Event::Copy {
            who,
            lane,
            address: 4 * word,
            daring,
        }
    });
    let event = prop_oneof![
        20 => access,
        2 => copy,
        1 => who().prop_map(Event::CommitGroup),
        1 => (who(), 0..4u32).prop_map(|(who, upto)| Event::WaitGroup(who, upto)),
        3 => (who(), prop_oneof![Just(7u32), Just(7), Just(3), Just(6), Just(5)])
            .prop_map(|(who, mask)| Event::WarpSync(who, mask)),
        2 => (0..BLOCKS).prop_map(Event::Barrier),
        1 => who().prop_map(Event::Arrive),
        1 => who().prop_map(Event::Complete),
        3 => (who(), 0..2u64, scope(), any::<bool>()).prop_map(|(a, b, c, d)| Event::Release(a, b, c, d)),
        3 => (who(), 0..2u64, scope()).prop_map(|(a, b, c)| Event::Acquire(a, b, c)),
        2 => (who(), 0..2u64, scope(), any::<bool>()).prop_map(|(a, b, c, d)| Event::RelaxedStore(a, b, c, d)),
        2 => (who(), 0..2u64, scope()).prop_map(|(a, b, c)| Event::RelaxedLoad(a, b, c)),
        2 => (who(), scope()).prop_map(|(a, b)| Event::Fence(a, b)),
        1 => (0..WARPS).prop_map(Event::BarArrive),
        1 => (0..WARPS).prop_map(Event::BarCopies),
        1 => Just(Event::BarComplete),
        1 => (0..WARPS, any::<bool>()).prop_map(|(w, acquire)| Event::BarObserve(w, acquire)),
    ];
    prop::collection::vec(event, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn detector_and_model_agree(events in events()) {
        run(&events)?;
    }
}
