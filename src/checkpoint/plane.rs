use std::ops::Deref;

/// Bytes that start on a cache line, since kernels read them in whole vector registers.
pub(super) struct Plane {
    storage: Vec<u8>,
    start: usize,
    len: usize,
}

impl Plane {
    const ALIGN: usize = 64;

    /// Zeros (which the system hands out untouched, so that planes are paged in by whoever fills them).
    pub fn zeroed(len: usize) -> Self {
        let storage = vec![0; if len == 0 { 0 } else { len + Self::ALIGN - 1 }];
        let start = match len {
            0 => 0,
            _ => storage.as_ptr().align_offset(Self::ALIGN),
        };
        Plane {
            storage,
            start,
            len,
        }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.len]
    }
}

impl Deref for Plane {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl Clone for Plane {
    fn clone(&self) -> Self {
        let mut plane = Plane::zeroed(self.len);
        plane.as_mut_slice().copy_from_slice(self);
        plane
    }
}

impl PartialEq for Plane {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plane({} bytes)", self.len)
    }
}
