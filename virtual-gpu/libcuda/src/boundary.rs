//! The C boundary: pointers that callers give, answers that they get. All dereferencing of foreign pointers is here.

use crate::error::{Code, INVALID_VALUE, UNKNOWN};
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a call answers: nothing, or the code of an error.
pub type Answer<T = ()> = Result<T, Code>;

/// Runs the body of an exported function: its answer as a code, a panic as `CUDA_ERROR_UNKNOWN`.
pub fn answer(body: impl FnOnce() -> Answer) -> u32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code as u32,
        Err(_) => UNKNOWN as u32,
    }
}

/// Defines functions of the driver API, exported under their names, and `symbols`, which lists them.
macro_rules! exports {
    ($($(#[$meta:meta])* fn $name:ident($($argument:ident: $ty:ty),* $(,)?) $body:block)*) => {
        $(
            $(#[$meta])*
            #[allow(non_snake_case, clippy::too_many_arguments)]
            #[unsafe(no_mangle)]
            pub extern "C" fn $name($($argument: $ty),*) -> u32 {
                $crate::boundary::answer(move || $body)
            }
        )*

        /// Names and addresses of the functions that this file exports.
        pub fn symbols() -> Vec<(&'static str, usize)> {
            vec![$((stringify!($name), $name as *const () as usize)),*]
        }
    };
}
pub(crate) use exports;

/// A pointer through which a call gives a value back.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T> Out<T> {
    /// The place at `pointer`.
    pub const fn new(pointer: *mut T) -> Self {
        Self(pointer)
    }

    /// An error for a null pointer; to be asked before anything is changed.
    pub fn check(self) -> Answer {
        if self.0.is_null() || !self.0.is_aligned() {
            return Err(INVALID_VALUE);
        }
        Ok(())
    }

    /// Gives `value` back.
    pub fn set(self, value: T) -> Answer {
        self.check()?;
        // SAFETY: not null and aligned; the driver API demands that it points to a place for the value.
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// The value that is there before.
    pub fn get(self) -> Answer<T>
    where
        T: Copy,
    {
        self.check()?;
        // SAFETY: not null and aligned; the driver API demands that it points to a value.
        Ok(unsafe { self.0.read() })
    }

    /// Gives `value` back if the caller wants it.
    pub fn set_if_wanted(self, value: T) {
        let _ = self.set(value);
    }

    /// The same pointer to another type.
    pub fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// The pointer `index` places on.
    pub fn at(self, index: usize) -> Self {
        Self(self.0.wrapping_add(index))
    }
}

impl<T: Copy> Out<T> {
    /// The same pointer, to be read.
    pub fn as_in(self) -> In<T> {
        In(self.0)
    }
}

impl Out<u8> {
    /// Writes as much of `text` as fits into `len` bytes, and a NUL.
    pub fn set_text(self, text: &str, len: usize) -> Answer {
        self.check()?;
        let room = len.checked_sub(1).ok_or(INVALID_VALUE)?;
        let text = &text.as_bytes()[..text.len().min(room)];
        // SAFETY: not null; the driver API demands room for `len` bytes, and no more are written.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), self.0, text.len());
            self.0.add(text.len()).write(0);
        }
        Ok(())
    }
}

/// A pointer to values that a caller gives.
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<T> {}

impl<T: Copy> In<T> {
    /// The pointer.
    pub fn new(pointer: *const T) -> Self {
        Self(pointer)
    }

    /// The pointer itself.
    pub fn address(self) -> *const T {
        self.0
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The value, which need not be aligned.
    pub fn get(self) -> Answer<T> {
        self.at(0)
    }

    /// The value `index` places on.
    pub fn at(self, index: usize) -> Answer<T> {
        if self.0.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: not null; the driver API demands that as many values are there as the call says.
        Ok(unsafe { self.0.wrapping_add(index).read_unaligned() })
    }

    /// `count` values; none need be there if the count is zero.
    pub fn all(self, count: usize) -> Answer<Vec<T>> {
        (0..count).map(|index| self.at(index)).collect()
    }
}

impl In<u8> {
    /// Copies of `len` bytes.
    pub fn bytes(self, len: usize) -> Answer<Vec<u8>> {
        if self.0.is_null() {
            return Err(INVALID_VALUE);
        }
        let mut bytes = vec![0; len];
        // SAFETY: not null; the driver API demands that `len` bytes are there.
        unsafe { std::ptr::copy_nonoverlapping(self.0, bytes.as_mut_ptr(), len) };
        Ok(bytes)
    }
}

/// A C string that a caller gives.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Text(*const c_char);

impl Text {
    /// The string at `pointer`.
    pub fn new(pointer: *const u8) -> Self {
        Self(pointer.cast())
    }

    /// The string.
    pub fn get(self) -> Answer<String> {
        if self.0.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: not null; the driver API demands a string that ends with a NUL.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map(str::to_owned).map_err(|_| INVALID_VALUE)
    }
}

/// Memory of the caller that the worker reads or writes.
#[derive(Clone, Copy)]
pub struct Span(*mut u8);

// SAFETY: the driver API demands that the memory is good until the copy is done, from whatever thread that happens.
unsafe impl Send for Span {}

impl Span {
    /// Memory at `pointer`, which must not be null.
    pub fn new(pointer: *const u8) -> Answer<Self> {
        if pointer.is_null() {
            return Err(INVALID_VALUE);
        }
        Ok(Self(pointer.cast_mut()))
    }

    /// Its bytes for reading.
    pub fn bytes(&self, at: usize, len: usize) -> &[u8] {
        // SAFETY: not null; the driver API demands that the bytes of a copy are there and are not written meanwhile.
        unsafe { std::slice::from_raw_parts(self.0.wrapping_add(at), len) }
    }

    /// Its bytes for writing.
    pub fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        // SAFETY: not null; the driver API demands that the bytes of a copy are there and that nobody else uses them.
        unsafe { std::slice::from_raw_parts_mut(self.0.wrapping_add(at), len) }
    }
}

/// A function of the host that a stream calls, and its argument.
#[derive(Clone, Copy)]
pub struct HostCall {
    /// The function.
    pub function: extern "C" fn(*mut u8),
    /// Its argument.
    pub argument: *mut u8,
}

// SAFETY: the driver API says that the function is called from a thread of the driver.
unsafe impl Send for HostCall {}
