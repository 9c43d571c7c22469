//! Handles: opaque numbers, so that a wrong one is recognised and never dereferenced.

use crate::boundary::Answer;
use crate::error::INVALID_HANDLE;
use std::collections::BTreeMap;

/// A handle as it crosses the boundary. Callers take it for a pointer.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub usize);

impl Handle {
    /// No object.
    pub const NULL: Self = Self(0);
}

/// Objects of one kind by handle. Handles are not given a second time.
#[derive(Debug)]
pub struct Table<T> {
    next: usize,
    objects: BTreeMap<Handle, T>,
}

impl<T> Table<T> {
    /// An empty table whose handles start at `kind`, a number below 256 that no other table has.
    pub fn new(kind: usize) -> Self {
        Self {
            next: kind << 40 | 16,
            objects: BTreeMap::new(),
        }
    }

    /// Adds an object.
    pub fn insert(&mut self, object: T) -> Handle {
        let handle = Handle(self.next);
        self.next += 16;
        self.objects.insert(handle, object);
        handle
    }

    /// The object of `handle`.
    pub fn get(&self, handle: Handle) -> Answer<&T> {
        self.objects.get(&handle).ok_or(INVALID_HANDLE)
    }

    /// The object of `handle`.
    pub fn get_mut(&mut self, handle: Handle) -> Answer<&mut T> {
        self.objects.get_mut(&handle).ok_or(INVALID_HANDLE)
    }

    /// Takes an object out.
    pub fn remove(&mut self, handle: Handle) -> Answer<T> {
        self.objects.remove(&handle).ok_or(INVALID_HANDLE)
    }

    /// Puts an object back that has been taken out, under its handle.
    pub fn put_back(&mut self, handle: Handle, object: T) {
        self.objects.insert(handle, object);
    }

    /// Keeps the objects for which `keep` says so.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.objects.retain(|_, object| keep(object));
    }

    /// Changes all of them.
    pub fn each_mut(&mut self, change: impl FnMut(&mut T)) {
        self.objects.values_mut().for_each(change);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.objects
            .iter()
            .map(|(handle, object)| (*handle, object))
    }
}
