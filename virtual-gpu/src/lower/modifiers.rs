//! Opcodes and their modifiers.

use crate::exec::{CacheHint, Order, Scope};
use crate::num::{Rounding, ScalarType};

/// The parts of an opcode: families take what they know, and nothing may be left over.
pub struct Modifiers<'a> {
    /// The whole opcode.
    pub opcode: &'a str,
    /// The first part.
    pub base: &'a str,
    parts: Vec<&'a str>,
}

impl<'a> Modifiers<'a> {
    /// Takes an opcode apart.
    pub fn new(opcode: &'a str) -> Self {
        let mut parts = opcode.split('.');
        let base = parts.next().unwrap_or_default();
        Self {
            opcode,
            base,
            parts: parts.collect(),
        }
    }

    /// Takes a modifier out; true if it was there.
    pub fn take(&mut self, name: &str) -> bool {
        let found = self.parts.iter().position(|part| *part == name);
        found.map(|index| self.parts.remove(index)).is_some()
    }

    /// Takes out the first of the modifiers for which `pick` gives something.
    pub fn pick<T>(&mut self, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (index, value) = self
            .parts
            .iter()
            .enumerate()
            .find_map(|(index, part)| Some((index, pick(part)?)))?;
        self.parts.remove(index);
        Some(value)
    }

    /// Takes out the first modifier, whatever it is.
    pub fn first(&mut self) -> Option<&'a str> {
        (!self.parts.is_empty()).then(|| self.parts.remove(0))
    }

    /// Takes out the last modifier if it is a type.
    pub fn last_type(&mut self) -> Option<ScalarType> {
        let ty = ScalarType::from_suffix(self.parts.last()?)?;
        self.parts.pop();
        Some(ty)
    }

    /// Takes out all types, in order.
    pub fn types(&mut self) -> Vec<ScalarType> {
        let mut types = Vec::new();
        self.parts
            .retain(|part| match ScalarType::from_suffix(part) {
                Some(ty) => {
                    types.push(ty);
                    false
                }
                None => true,
            });
        types
    }

    /// `.rn`, `.rz`, `.rm`, `.rp`.
    pub fn rounding(&mut self) -> Option<Rounding> {
        self.pick(|part| {
            Some(match part {
                "rn" => Rounding::Nearest,
                "rz" => Rounding::Zero,
                "rm" => Rounding::Down,
                "rp" => Rounding::Up,
                _ => return None,
            })
        })
    }

    /// A scope.
    pub fn scope(&mut self) -> Option<Scope> {
        self.pick(|part| {
            Some(match part {
                "cta" => Scope::Cta,
                "cluster" => Scope::Cluster,
                "gpu" | "gl" => Scope::Gpu,
                "sys" => Scope::System,
                _ => return None,
            })
        })
    }

    /// A memory order.
    pub fn order(&mut self) -> Option<Order> {
        self.pick(|part| {
            Some(match part {
                "weak" => Order::Weak,
                "volatile" => Order::Volatile,
                "relaxed" => Order::Relaxed,
                "acquire" => Order::Acquire,
                "release" => Order::Release,
                "acq_rel" => Order::AcquireRelease,
                _ => return None,
            })
        })
    }

    /// Takes out hints for caches, which change no result, and gives the strongest.
    pub fn cache_hints(&mut self) -> CacheHint {
        let has = |wanted: &[&str]| self.parts.iter().any(|part| wanted.contains(part));
        let hint = if has(&["L2::cache_hint"]) {
            CacheHint::Policy
        } else if has(&["L2::evict_last", "L1::evict_last"]) {
            CacheHint::EvictLast
        } else if has(&["L2::evict_first", "L1::evict_first", "cs", "lu"]) {
            CacheHint::EvictFirst
        } else if has(&["L1::no_allocate", "cg", "cv"]) {
            CacheHint::NoAllocate
        } else {
            CacheHint::None
        };
        self.parts.retain(|part| {
            !matches!(*part, "ca" | "cg" | "cs" | "cv" | "lu" | "wb" | "wt" | "nc")
                && !part.starts_with("L1::")
                && !part.starts_with("L2::")
        });
        hint
    }

    /// What nobody has taken.
    pub fn rest(&self) -> &[&'a str] {
        &self.parts
    }
}
