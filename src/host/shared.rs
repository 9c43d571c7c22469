use super::kernels::prefetch;
use std::cell::UnsafeCell;

/// A slice that the members of a team write in disjoint parts.
///
/// Safe code cannot prove that units of a phase write disjoint ranges, so the two accessors are unsafe and every
/// caller says which unit owns which range.
pub(super) struct SharedSlice<'a, T>(&'a [UnsafeCell<T>]);

// SAFETY: access goes through the unsafe methods, whose callers promise that no two threads touch the same
// element at the same time unless both only read.
unsafe impl<T: Send + Sync> Sync for SharedSlice<'_, T> {}
// SAFETY: as above; the slice itself is a plain reference.
unsafe impl<T: Send + Sync> Send for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    /// Shares a slice for as long as it is borrowed.
    pub fn new(slice: &'a mut [T]) -> Self {
        let pointer = std::ptr::from_mut(slice) as *const [UnsafeCell<T>];
        // SAFETY: `UnsafeCell<T>` has the layout of `T`, and the exclusive borrow lives as long as the result.
        SharedSlice(unsafe { &*pointer })
    }

    /// Elements `start..start + len` for writing. Panics if they are out of bounds.
    ///
    /// # Safety
    /// Until the result is dropped, no other access to these elements may happen on any thread.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn write(&self, start: usize, len: usize) -> &mut [T] {
        let cells = &self.0[start..][..len];
        // SAFETY: in bounds, and exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(UnsafeCell::raw_get(cells.as_ptr()), len) }
    }

    /// Asks for the cache lines of the first and the last of `len` elements that will be wanted soon.
    pub fn prefetch(&self, start: usize, len: usize) {
        let first = self.0.as_ptr().wrapping_add(start);
        prefetch(first.cast());
        prefetch(first.wrapping_add(len.saturating_sub(1)).cast());
    }

    /// Elements `start..start + len` for reading. Panics if they are out of bounds.
    ///
    /// # Safety
    /// Until the result is dropped, no other thread may write these elements.
    pub unsafe fn read(&self, start: usize, len: usize) -> &[T] {
        let cells = &self.0[start..][..len];
        // SAFETY: in bounds, and unwritten by the caller's promise.
        unsafe { std::slice::from_raw_parts(UnsafeCell::raw_get(cells.as_ptr()), len) }
    }
}
