//! Copies between host and device, in one and two dimensions.

use crate::boundary::{Answer, In, Span, exports};
use crate::driver::{Scope, State, enter};
use crate::error::{ILLEGAL_ADDRESS, INVALID_VALUE, NOT_SUPPORTED};
use crate::handle::Handle;
use crate::operation::Operation;
use crate::stream::valid;
use virtual_gpu::{Device, DevicePointer, MemoryError};

/// One side of a copy.
#[derive(Clone, Copy)]
enum Side {
    /// An address that the device knows.
    Device(u64),
    /// Memory of the program.
    Host(Span),
}

/// Rows of bytes at one side.
#[derive(Clone, Copy)]
struct Rows {
    side: Side,
    pitch: usize,
}

/// A copy that has been checked.
#[derive(Clone, Copy)]
pub struct Copy {
    to: Rows,
    from: Rows,
    width: usize,
    height: usize,
}

/// When a call comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// When the copy is done.
    Done,
    /// At once, if the host memory allows.
    Queued,
}

fn failed(error: MemoryError) -> crate::error::Code {
    eprintln!("virtual-gpu: a copy failed: {error}");
    ILLEGAL_ADDRESS
}

impl Copy {
    fn linear(to: Side, from: Side, bytes: usize) -> Self {
        Self {
            to: Rows {
                side: to,
                pitch: bytes,
            },
            from: Rows {
                side: from,
                pitch: bytes,
            },
            width: bytes,
            height: 1,
        }
    }

    /// The copy of a node of a graph, in two dimensions.
    pub fn of_3d(scope: Scope, given: Copy3D) -> Answer<Self> {
        if given.depth > 1 {
            eprintln!("virtual-gpu: a copy in three dimensions is not supported");
            return Err(NOT_SUPPORTED);
        }
        let copy = Self {
            to: given.to.plane()?.rows(scope, given.width)?,
            from: given.from.plane()?.rows(scope, given.width)?,
            width: given.width,
            height: if given.depth == 0 { 0 } else { given.height },
        };
        if copy.width > 0 && copy.height > 0 {
            copy.check(&scope.state(), true)?;
        }
        Ok(copy)
    }

    /// Copies.
    pub fn run(&self, device: &mut Device) -> Answer {
        let mut to_side = self.to.side;
        for row in 0..self.height {
            let (to, from) = (row * self.to.pitch, row * self.from.pitch);
            match (&mut to_side, &self.from.side) {
                (Side::Device(target), Side::Device(source)) => device.copy(
                    DevicePointer(*target + to as u64),
                    DevicePointer(*source + from as u64),
                    self.width,
                ),
                (Side::Device(target), Side::Host(span)) => device.write(
                    DevicePointer(*target + to as u64),
                    span.bytes(from, self.width),
                ),
                (Side::Host(span), Side::Device(source)) => device.read(
                    DevicePointer(*source + from as u64),
                    span.bytes_mut(to, self.width),
                ),
                (Side::Host(target), Side::Host(source)) => {
                    target
                        .bytes_mut(to, self.width)
                        .copy_from_slice(source.bytes(from, self.width));
                    Ok(())
                }
            }
            .map_err(failed)?;
        }
        Ok(())
    }

    /// The addresses of the device at its sides.
    pub fn addresses(&self) -> Vec<u64> {
        let sides = [self.to.side, self.from.side];
        let address = |side| match side {
            Side::Device(address) => Some(address),
            Side::Host(_) => None,
        };
        sides.into_iter().filter_map(address).collect()
    }

    /// Bytes from the first of one side to the last.
    fn extent(&self, rows: Rows) -> Answer<usize> {
        if self.width > rows.pitch && self.height > 1 {
            return Err(INVALID_VALUE);
        }
        let before = (self.height - 1)
            .checked_mul(rows.pitch)
            .ok_or(INVALID_VALUE)?;
        before.checked_add(self.width).ok_or(INVALID_VALUE)
    }

    fn check(&self, state: &State, in_graph: bool) -> Answer {
        for rows in [self.to, self.from] {
            if let Side::Device(address) = rows.side {
                let bytes = self.extent(rows)? as u64;
                state.directory.hold_or_plan(address, bytes, in_graph)?;
            }
        }
        Ok(())
    }

    /// Copies from memory that the program may change as soon as the call is back: takes the bytes now.
    fn staged(self, span: Span) -> Answer<(Self, Vec<u8>)> {
        let bytes = span.bytes(0, self.extent(self.from)?).to_vec();
        let copy = Self {
            from: Rows {
                side: Side::Host(Span::new(bytes.as_ptr())?),
                ..self.from
            },
            ..self
        };
        Ok((copy, bytes))
    }
}

fn submit(scope: Scope, copy: Copy, stream: Handle, wait: Wait) -> Answer {
    valid(scope, stream)?;
    if copy.width == 0 || copy.height == 0 {
        return Ok(());
    }
    let mut state = scope.state();
    copy.check(&state, state.is_captured(stream))?;
    if state
        .divert(scope, stream, Operation::Copy(copy))?
        .is_none()
    {
        return Ok(());
    }
    if wait == Wait::Done {
        state.guard_unsafe()?;
    }
    state.order_work(stream, [&Operation::Copy(copy)]);
    let to_pageable = matches!(copy.to.side, Side::Host(_));
    let ticket = match copy.from.side {
        Side::Host(span) if wait == Wait::Queued && !to_pageable => {
            let (copy, bytes) = copy.staged(span)?;
            scope.queue.submit(move |device| {
                let done = copy.run(device);
                drop(bytes);
                done
            })
        }
        _ => scope.queue.submit(move |device| copy.run(device)),
    };
    state.note(stream, ticket);
    drop(state);
    if wait == Wait::Done || to_pageable {
        scope.queue.wait(ticket)?;
        scope.state().host_saw_stream(stream);
    }
    Ok(())
}

/// A side at an address of host or device.
fn unified(scope: Scope, address: u64) -> Answer<Side> {
    let state = scope.state();
    if state.directory.find(address).is_some() || state.directory.is_planned(address) {
        return Ok(Side::Device(address));
    }
    drop(state);
    Ok(Side::Host(Span::new(address as *const u8)?))
}

fn copy(to: u64, from: u64, bytes: usize, stream: Handle, wait: Wait) -> Answer {
    let scope = enter()?;
    if bytes == 0 {
        return valid(scope, stream);
    }
    let copy = Copy::linear(unified(scope, to)?, unified(scope, from)?, bytes);
    submit(scope, copy, stream, wait)
}

fn to_device(to: u64, from: u64, bytes: usize, stream: Handle, wait: Wait) -> Answer {
    let scope = enter()?;
    if bytes == 0 {
        return valid(scope, stream);
    }
    let copy = Copy::linear(Side::Device(to), unified(scope, from)?, bytes);
    submit(scope, copy, stream, wait)
}

fn to_host(to: u64, from: u64, bytes: usize, stream: Handle, wait: Wait) -> Answer {
    let scope = enter()?;
    if bytes == 0 {
        return valid(scope, stream);
    }
    let copy = Copy::linear(unified(scope, to)?, Side::Device(from), bytes);
    submit(scope, copy, stream, wait)
}

fn in_device(to: u64, from: u64, bytes: usize, stream: Handle, wait: Wait) -> Answer {
    let copy = Copy::linear(Side::Device(to), Side::Device(from), bytes);
    submit(enter()?, copy, stream, wait)
}

/// `CUDA_MEMCPY2D`: one side.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Side2D {
    x: usize,
    y: usize,
    memory: u32,
    host: u64,
    device: u64,
    array: usize,
    pitch: usize,
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Copy2D {
    from: Side2D,
    to: Side2D,
    width: usize,
    height: usize,
}

/// `CUDA_MEMCPY3D`: one side.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Side3D {
    x: usize,
    y: usize,
    z: usize,
    level: usize,
    memory: u32,
    host: u64,
    device: u64,
    array: usize,
    reserved: usize,
    pitch: usize,
    height: usize,
}

/// `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Copy3D {
    from: Side3D,
    to: Side3D,
    width: usize,
    height: usize,
    depth: usize,
}

impl Side3D {
    /// The plane that a copy of depth 1 is about.
    fn plane(&self) -> Answer<Side2D> {
        if self.level != 0 {
            return Err(INVALID_VALUE);
        }
        let above = self.z.checked_mul(self.height).ok_or(INVALID_VALUE)?;
        Ok(Side2D {
            x: self.x,
            y: self.y.checked_add(above).ok_or(INVALID_VALUE)?,
            memory: self.memory,
            host: self.host,
            device: self.device,
            array: self.array,
            pitch: self.pitch,
        })
    }
}

impl Side2D {
    fn rows(&self, scope: Scope, width: usize) -> Answer<Rows> {
        let pitch = if self.pitch == 0 { width } else { self.pitch };
        let before = self
            .y
            .checked_mul(pitch)
            .and_then(|bytes| bytes.checked_add(self.x));
        let start = |base: u64| {
            before
                .and_then(|bytes| base.checked_add(bytes as u64))
                .filter(|_| base != 0)
                .ok_or(INVALID_VALUE)
        };
        let side = match self.memory {
            1 => unified(scope, start(self.host)?)?,
            2 => Side::Device(start(self.device)?),
            3 => return Err(NOT_SUPPORTED),
            4 => unified(scope, start(self.device)?)?,
            _ => return Err(INVALID_VALUE),
        };
        Ok(Rows { side, pitch })
    }
}

fn copy_2d(copy: In<Copy2D>, stream: Handle, wait: Wait) -> Answer {
    let scope = enter()?;
    let given = copy.get()?;
    let copy = Copy {
        to: given.to.rows(scope, given.width)?,
        from: given.from.rows(scope, given.width)?,
        width: given.width,
        height: given.height,
    };
    submit(scope, copy, stream, wait)
}

exports! {
    /// Copies between any two places.
    fn cuMemcpy(to: u64, from: u64, bytes: usize) {
        copy(to, from, bytes, Handle::NULL, Wait::Done)
    }

    /// Copies between any two places, in the order of a stream.
    fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: Handle) {
        copy(to, from, bytes, stream, Wait::Queued)
    }

    /// Copies to the device.
    fn cuMemcpyHtoD_v2(to: u64, from: u64, bytes: usize) {
        to_device(to, from, bytes, Handle::NULL, Wait::Done)
    }

    /// Copies to the device, in the order of a stream. Bytes of pageable memory are taken before the call is back.
    fn cuMemcpyHtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        to_device(to, from, bytes, stream, Wait::Queued)
    }

    /// Copies from the device.
    fn cuMemcpyDtoH_v2(to: u64, from: u64, bytes: usize) {
        to_host(to, from, bytes, Handle::NULL, Wait::Done)
    }

    /// Copies from the device, in the order of a stream. To pageable memory, the call waits.
    fn cuMemcpyDtoHAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        to_host(to, from, bytes, stream, Wait::Queued)
    }

    /// Copies inside the device.
    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) {
        in_device(to, from, bytes, Handle::NULL, Wait::Done)
    }

    /// Copies inside the device, in the order of a stream.
    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        in_device(to, from, bytes, stream, Wait::Queued)
    }

    /// Copies between contexts, which share the device here.
    fn cuMemcpyPeer(to: u64, to_context: Handle, from: u64, from_context: Handle, bytes: usize) {
        contexts(to_context, from_context)?;
        in_device(to, from, bytes, Handle::NULL, Wait::Done)
    }

    /// The same, in the order of a stream.
    fn cuMemcpyPeerAsync(
        to: u64,
        to_context: Handle,
        from: u64,
        from_context: Handle,
        bytes: usize,
        stream: Handle,
    ) {
        contexts(to_context, from_context)?;
        in_device(to, from, bytes, stream, Wait::Queued)
    }

    /// Copies a rectangle.
    fn cuMemcpy2D_v2(copy: In<Copy2D>) {
        copy_2d(copy, Handle::NULL, Wait::Done)
    }

    /// Copies a rectangle of any alignment.
    fn cuMemcpy2DUnaligned_v2(copy: In<Copy2D>) {
        copy_2d(copy, Handle::NULL, Wait::Done)
    }

    /// Copies a rectangle, in the order of a stream.
    fn cuMemcpy2DAsync_v2(copy: In<Copy2D>, stream: Handle) {
        copy_2d(copy, stream, Wait::Queued)
    }
}

fn contexts(to: Handle, from: Handle) -> Answer {
    let scope = enter()?;
    let state = scope.state();
    state
        .contexts
        .get(to)
        .and(state.contexts.get(from))
        .map(|_| ())
}
