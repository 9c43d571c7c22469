//! Registers that products of warpgroups use: who touches them too early, or without the fence that products need.

use super::inst::Flow;
use super::machine::Machine;
use super::program::{Class, Extra, Program};
use super::row::Slot;
use crate::check::finding::{FindingKind, MemorySpace};
use std::collections::HashMap;

/// What instructions do with registers of products.
#[derive(Debug, Default)]
pub struct Watch {
    /// The registers by row.
    numbers: HashMap<Slot, u32>,
    /// Of each instruction the registers of products that it names, and whether it writes them.
    touches: Vec<Vec<(u32, bool)>>,
    /// From each instruction on, how many touch none of them and do not branch.
    clear: Vec<u32>,
}

impl Watch {
    /// What the instructions of a program do, by the rows that each of them names and whether it writes them. Nothing if
    /// it has no products.
    pub fn new(program: &Program, named: &[Vec<(Slot, bool)>]) -> Option<Self> {
        let mut numbers = HashMap::new();
        for extra in &program.extras {
            if let Extra::Product(product) = extra {
                for slot in product.d.iter().chain(product.a.iter().flatten()) {
                    let next = numbers.len() as u32;
                    numbers.entry(*slot).or_insert(next);
                }
            }
        }
        if numbers.is_empty() {
            return None;
        }
        let is_product = |pc: usize| {
            let extra = program.extras.get(program.code[pc].ext as usize);
            program.origins[pc].class == Class::Tensor && matches!(extra, Some(Extra::Product(_)))
        };
        let touches = named.iter().enumerate().map(|(pc, slots)| {
            let number = |(slot, write): &(Slot, bool)| Some((*numbers.get(slot)?, *write));
            // Products look after their registers themselves.
            let slots = slots.iter().filter(|_| !is_product(pc));
            slots.filter_map(number).collect()
        });
        let touches: Vec<Vec<(u32, bool)>> = touches.collect();
        let mut clear = vec![0; touches.len()];
        let mut count = 0u32;
        for (pc, touched) in touches.iter().enumerate().rev() {
            let plain = touched.is_empty() && program.origins[pc].class != Class::Branch;
            count = if plain { count + 1 } else { 0 };
            clear[pc] = count;
        }
        Some(Self {
            numbers,
            touches,
            clear,
        })
    }

    fn set(&self, slots: impl Iterator<Item = Slot>) -> Set {
        let mut set = Set::default();
        slots.for_each(|slot| set.insert(self.numbers[&slot]));
        set
    }
}

/// Registers, by number.
#[derive(Clone, Debug, Default)]
struct Set(Vec<u64>);

impl Set {
    fn insert(&mut self, number: u32) {
        let word = number as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    fn has(&self, number: u32) -> bool {
        self.0
            .get(number as usize / 64)
            .is_some_and(|word| word >> (number % 64) & 1 != 0)
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }
}

/// What is known of the registers of products of one warp.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// Whether there was a `wgmma.fence` at all.
    fenced: bool,
    /// Registers that ordinary instructions have read or written since the last one.
    touched: Set,
    /// Those that they have written.
    written: Set,
    /// Accumulators of products under way, with the shape of the last of them.
    sums: Set,
    shape: Option<(u32, usize)>,
    /// Registers of A of products under way.
    sources: Set,
}

impl Machine<'_> {
    /// Runs the chosen fragment, up to the next instruction that touches registers of products.
    pub fn run_watched<const COUNT: bool>(&mut self, limit: u32, left: &mut i64) -> Flow {
        let program = std::sync::Arc::clone(&self.grid.program);
        let pc = self.warp.fragments[self.warp.current].pc;
        let Some(watch) = &program.watch else {
            return self.run_fragment::<COUNT>(limit, left);
        };
        let clear = watch.clear[pc as usize];
        if clear > 0 {
            return self.run_fragment::<COUNT>(limit.min(pc + clear), left);
        }
        self.check_touches(watch, pc);
        let mut one = 1;
        let flow = self.run_fragment::<COUNT>(limit, &mut one);
        *left -= 1 - one;
        flow
    }

    fn check_touches(&mut self, watch: &Watch, pc: u32) {
        let touches = &watch.touches[pc as usize];
        let inst = self.grid.program.code[pc as usize];
        let mut lanes = self.warp.fragments[self.warp.current].mask;
        if inst.guarded {
            // SAFETY: the predicate is one of the program.
            lanes &= unsafe { self.predicate(inst.guard) } ^ if inst.negate { u32::MAX } else { 0 };
        }
        if lanes == 0 {
            return;
        }
        let state = &mut self.warp.touched;
        let mut early = None;
        for &(number, writes) in touches {
            if state.sums.has(number) {
                early = Some("is used, which a product under way sums up in");
            } else if writes && state.sources.has(number) {
                early = Some("is written, which a product under way reads");
            }
            state.touched.insert(number);
            if writes {
                state.written.insert(number);
            }
        }
        if let Some(what) = early {
            self.pc = pc;
            let message = format!("a register {what}: wgmma.wait_group must come first");
            let (kind, lane) = (
                FindingKind::PendingAsyncRead,
                lanes.trailing_zeros() as usize,
            );
            self.finding(kind, MemorySpace::None, lane, message);
        }
    }

    /// The warp executes `wgmma.fence`.
    pub fn fence_registers(&mut self) {
        let state = &mut self.warp.touched;
        state.fenced = true;
        (state.touched, state.written) = (Set::default(), Set::default());
    }

    /// The warp issues the product with this data: its registers must not have been touched since the last fence.
    pub fn issue_registers(&mut self, ext: u32) {
        let program = std::sync::Arc::clone(&self.grid.program);
        let (Some(watch), Extra::Product(product)) =
            (&program.watch, &program.extras[ext as usize])
        else {
            return;
        };
        let sums = watch.set(product.d.iter().copied());
        let sources = watch.set(product.a.iter().flatten().copied());
        let shape = Some((product.n, product.d.len()));
        let state = &mut self.warp.touched;
        let unfenced = if !state.fenced {
            Some("is the first one, and no wgmma.fence comes before it")
        } else if state.touched.meets(&sums) || state.written.meets(&sources) {
            Some("has registers that were used since the last wgmma.fence")
        } else if state.sums.meets(&sums) && state.shape != shape {
            Some(
                "sums up in registers of a product under way of another shape, with no wgmma.fence between",
            )
        } else {
            None
        };
        let early = state.sums.meets(&sources) || state.sources.meets(&sums);
        state.sums.add(&sums);
        state.sources.add(&sources);
        state.shape = shape;
        let lane = self.mask.trailing_zeros() as usize;
        if early {
            let message = "the product reads registers that a product under way writes, or writes what it reads: \
                           wgmma.wait_group must come first";
            self.finding(
                FindingKind::PendingAsyncRead,
                MemorySpace::None,
                lane,
                message.into(),
            );
        } else if let Some(what) = unfenced {
            let message = format!("the product {what}");
            self.finding(
                FindingKind::MissingProxyFence,
                MemorySpace::None,
                lane,
                message,
            );
        }
    }

    /// The warp has waited for products; those with this data are still under way.
    pub fn free_registers(&mut self, under_way: &[u32]) {
        let program = std::sync::Arc::clone(&self.grid.program);
        let Some(watch) = &program.watch else {
            return;
        };
        let (mut sums, mut sources) = (Set::default(), Set::default());
        for ext in under_way {
            if let Extra::Product(product) = &program.extras[*ext as usize] {
                sums.add(&watch.set(product.d.iter().copied()));
                sources.add(&watch.set(product.a.iter().flatten().copied()));
            }
        }
        (self.warp.touched.sums, self.warp.touched.sources) = (sums, sources);
    }
}
