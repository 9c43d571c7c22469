//! Fills of device memory, in one and two dimensions.

use crate::boundary::{Answer, exports};
use crate::directory::Directory;
use crate::driver::enter;
use crate::error::{ILLEGAL_ADDRESS, INVALID_VALUE};
use crate::handle::Handle;
use crate::operation::Operation;
use crate::stream::valid;
use virtual_gpu::{Device, DevicePointer};

/// A fill that has been checked, but for the memory that it is of.
#[derive(Clone, Copy)]
pub struct Fill {
    to: u64,
    pattern: [u8; 4],
    element: usize,
    pitch: usize,
    width: usize,
    height: usize,
}

impl Fill {
    /// `height` rows of `width` elements of the bytes of `pattern`, `pitch` bytes from one to the next.
    pub fn new(to: u64, pattern: &[u8], pitch: usize, width: usize, height: usize) -> Answer<Self> {
        let mut bytes = [0; 4];
        bytes[..pattern.len()].copy_from_slice(pattern);
        let fill = Self {
            to,
            pattern: bytes,
            element: pattern.len(),
            pitch,
            width,
            height,
        };
        let aligned = |value: usize| value.is_multiple_of(pattern.len());
        let row = width.checked_mul(pattern.len()).ok_or(INVALID_VALUE)?;
        if !aligned(to as usize) || !aligned(pitch) || (height > 1 && pitch < row) {
            return Err(INVALID_VALUE);
        }
        fill.extent()?;
        Ok(fill)
    }

    /// Bytes from the first to the last.
    fn extent(&self) -> Answer<u64> {
        let row = self.width.checked_mul(self.element);
        let before = self.height.saturating_sub(1).checked_mul(self.pitch);
        let extent = row
            .zip(before)
            .and_then(|(row, before)| row.checked_add(before));
        Ok(extent.ok_or(INVALID_VALUE)? as u64)
    }

    /// An error unless all bytes are of one allocation, or are used in a graph and of memory that it allocates.
    pub fn check(&self, directory: &Directory, in_graph: bool) -> Answer {
        if self.width == 0 || self.height == 0 {
            return Ok(());
        }
        directory.hold_or_plan(self.to, self.extent()?, in_graph)
    }

    /// Fills.
    pub fn run(&self, device: &mut Device) -> Answer {
        let bytes = self.pattern[..self.element].repeat(self.width);
        for row in 0..self.height {
            let at = DevicePointer(self.to + (row * self.pitch) as u64);
            device.write(at, &bytes).map_err(|error| {
                eprintln!("virtual-gpu: a fill failed: {error}");
                ILLEGAL_ADDRESS
            })?;
        }
        Ok(())
    }

    /// The first address.
    pub fn to(&self) -> u64 {
        self.to
    }

    /// The value, and its size in bytes.
    pub fn value(&self) -> (u32, u32) {
        (u32::from_le_bytes(self.pattern), self.element as u32)
    }

    /// Pitch in bytes, width in elements, height.
    pub fn shape(&self) -> [usize; 3] {
        [self.pitch, self.width, self.height]
    }
}

/// Elements of a fill, by row.
struct Shape {
    pitch: usize,
    width: usize,
    height: usize,
}

impl Shape {
    fn linear(count: usize) -> Self {
        Self {
            pitch: 0,
            width: count,
            height: 1,
        }
    }
}

fn fill(to: u64, pattern: &[u8], shape: Shape, stream: Handle) -> Answer {
    let scope = enter()?;
    valid(scope, stream)?;
    if shape.width == 0 || shape.height == 0 {
        return Ok(());
    }
    let fill = Fill::new(to, pattern, shape.pitch, shape.width, shape.height)?;
    let mut state = scope.state();
    fill.check(&state.directory, state.is_captured(stream))?;
    if state
        .divert(scope, stream, Operation::Fill(fill))?
        .is_none()
    {
        return Ok(());
    }
    state.order_work(stream, [&Operation::Fill(fill)]);
    let ticket = scope.queue.submit(move |device| fill.run(device));
    state.note(stream, ticket);
    // As with a GPU, a fill without a stream may come back before it is done; it is in order all the same.
    Ok(())
}

exports! {
    /// Fills with bytes.
    fn cuMemsetD8_v2(to: u64, value: u8, count: usize) {
        fill(to, &[value], Shape::linear(count), Handle::NULL)
    }

    /// Fills with 16-bit values.
    fn cuMemsetD16_v2(to: u64, value: u16, count: usize) {
        fill(to, &value.to_le_bytes(), Shape::linear(count), Handle::NULL)
    }

    /// Fills with 32-bit values.
    fn cuMemsetD32_v2(to: u64, value: u32, count: usize) {
        fill(to, &value.to_le_bytes(), Shape::linear(count), Handle::NULL)
    }

    /// Fills with bytes, in the order of a stream.
    fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: Handle) {
        fill(to, &[value], Shape::linear(count), stream)
    }

    /// Fills with 16-bit values, in the order of a stream.
    fn cuMemsetD16Async(to: u64, value: u16, count: usize, stream: Handle) {
        fill(to, &value.to_le_bytes(), Shape::linear(count), stream)
    }

    /// Fills with 32-bit values, in the order of a stream.
    fn cuMemsetD32Async(to: u64, value: u32, count: usize, stream: Handle) {
        fill(to, &value.to_le_bytes(), Shape::linear(count), stream)
    }

    /// Fills rows with bytes.
    fn cuMemsetD2D8_v2(to: u64, pitch: usize, value: u8, width: usize, height: usize) {
        fill(to, &[value], Shape { pitch, width, height }, Handle::NULL)
    }

    /// Fills rows with 16-bit values.
    fn cuMemsetD2D16_v2(to: u64, pitch: usize, value: u16, width: usize, height: usize) {
        fill(to, &value.to_le_bytes(), Shape { pitch, width, height }, Handle::NULL)
    }

    /// Fills rows with 32-bit values.
    fn cuMemsetD2D32_v2(to: u64, pitch: usize, value: u32, width: usize, height: usize) {
        fill(to, &value.to_le_bytes(), Shape { pitch, width, height }, Handle::NULL)
    }

    /// Fills rows with bytes, in the order of a stream.
    fn cuMemsetD2D8Async(to: u64, pitch: usize, value: u8, width: usize, height: usize, stream: Handle) {
        fill(to, &[value], Shape { pitch, width, height }, stream)
    }

    /// Fills rows with 16-bit values, in the order of a stream.
    fn cuMemsetD2D16Async(to: u64, pitch: usize, value: u16, width: usize, height: usize, stream: Handle) {
        fill(to, &value.to_le_bytes(), Shape { pitch, width, height }, stream)
    }

    /// Fills rows with 32-bit values, in the order of a stream.
    fn cuMemsetD2D32Async(to: u64, pitch: usize, value: u32, width: usize, height: usize, stream: Handle) {
        fill(to, &value.to_le_bytes(), Shape { pitch, width, height }, stream)
    }
}
