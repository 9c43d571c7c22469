//! What can be asked about a pointer.

use crate::boundary::{Answer, In, Out, exports};
use crate::directory::{Kind, Range};
use crate::driver::enter;
use crate::error::{INVALID_VALUE, NOT_SUPPORTED};

/// Writes an attribute of `address`, which lies in `range`.
fn write(data: Out<u32>, attribute: u32, address: u64, range: &Range) -> Answer {
    let managed = matches!(range.kind, Kind::Managed(_));
    let pool = match range.kind {
        Kind::Device(Some(pool)) => pool.0 as u64,
        _ => 0,
    };
    match attribute {
        1 => data.cast::<u64>().set(range.context.0 as u64),
        2 => data.set(if range.is_host() && !managed { 1 } else { 2 }),
        3 => data.cast::<u64>().set(address),
        4 if range.is_host() => data.cast::<u64>().set(address),
        4 => Err(INVALID_VALUE),
        6 => data.set(1),
        7 => data.cast::<u64>().set(range.id),
        8 => data.cast::<u8>().set(u8::from(managed)),
        9 => data.set(0),
        10 | 15 => data.cast::<u8>().set(0),
        11 => data.cast::<u64>().set(range.base),
        12 => data.cast::<u64>().set(range.bytes),
        13 => data.cast::<u8>().set(1),
        14 => data.cast::<u64>().set(0),
        16 => data.set(3),
        17 => data.cast::<u64>().set(pool),
        5 => Err(NOT_SUPPORTED),
        _ => Err(INVALID_VALUE),
    }
}

exports! {
    /// One attribute of a pointer.
    fn cuPointerGetAttribute(data: Out<u32>, attribute: u32, pointer: u64) {
        data.check()?;
        let scope = enter()?;
        let state = scope.state();
        write(data, attribute, pointer, state.directory.find(pointer).ok_or(INVALID_VALUE)?)
    }

    /// Several attributes of a pointer; of one that is not known, the values are left alone.
    fn cuPointerGetAttributes(count: u32, attributes: In<u32>, data: In<usize>, pointer: u64) {
        let scope = enter()?;
        let state = scope.state();
        let attributes = attributes.all(count as usize)?;
        let places = data.all(count as usize)?;
        let Some(range) = state.directory.find(pointer) else {
            return Ok(());
        };
        for (attribute, place) in attributes.into_iter().zip(places) {
            write(Out::new(place as *mut u32), attribute, pointer, range).or_else(|code| {
                if attribute == 4 { Ok(()) } else { Err(code) }
            })?;
        }
        Ok(())
    }
}
