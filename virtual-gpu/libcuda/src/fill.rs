//! Fills of device memory, in one and two dimensions.

use crate::boundary::{Answer, exports};
use crate::driver::enter;
use crate::error::{ILLEGAL_ADDRESS, INVALID_VALUE};
use crate::handle::Handle;
use crate::stream::valid;
use virtual_gpu::DevicePointer;

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
    let Shape {
        pitch,
        width,
        height,
    } = shape;
    if width == 0 || height == 0 {
        return Ok(());
    }
    let row = width.checked_mul(pattern.len()).ok_or(INVALID_VALUE)?;
    let before = (height - 1).checked_mul(pitch).ok_or(INVALID_VALUE)?;
    let extent = before.checked_add(row).ok_or(INVALID_VALUE)?;
    let aligned = |value: usize| value.is_multiple_of(pattern.len());
    if !aligned(to as usize) || !aligned(pitch) || (height > 1 && pitch < row) {
        return Err(INVALID_VALUE);
    }
    let mut state = scope.state();
    state.directory.hold(to, extent as u64)?;
    let bytes = pattern.repeat(width);
    let ticket = scope.queue.submit(move |device| {
        for row in 0..height {
            let at = DevicePointer(to + (row * pitch) as u64);
            device.write(at, &bytes).map_err(|error| {
                eprintln!("virtual-gpu: a fill failed: {error}");
                ILLEGAL_ADDRESS
            })?;
        }
        Ok(())
    });
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
