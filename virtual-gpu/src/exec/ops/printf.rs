//! `vprintf` and `__assertfail`, which device code calls.

use crate::check::finding::{FindingKind, MemorySpace};
use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::{Lanes, Machine};
use crate::memory::{DevicePointer, Window};

/// Text that a launch may print; more is dropped, as a GPU's buffer drops it.
const MAX_PRINTED: usize = 1 << 20;

/// `vprintf(format, arguments)`: both addresses are 64-bit words in rows `a`, `a + 1` and `b`, `b + 1`; the result, the
/// number of arguments, goes to `d`.
pub struct Print;

impl Code for Print {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract.
        let (formats, arguments) = unsafe { (machine.words(inst.a), machine.words(inst.b)) };
        for lane in Lanes(machine.mask) {
            let format = machine.c_string(formats[lane]);
            let mut at = arguments[lane];
            let text = expand(
                &format,
                |bytes| {
                    at = at.next_multiple_of(bytes);
                    let value = machine.peek_generic(at, bytes as usize, lane);
                    at += bytes;
                    value
                },
                |address| machine.c_string(address),
            );
            if machine.grid.printed.len() < MAX_PRINTED {
                machine.grid.printed.push_str(&text);
            }
        }
        // SAFETY: the handler's contract.
        unsafe { machine.set_row(inst.d, &[0; 32]) };
        Flow::Next
    }
}

/// `__assertfail(message, file, line, function, size)`: message, file and line are in `a`, `b` and `c`.
pub struct AssertFail;

impl Code for AssertFail {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract.
        let (messages, files, lines) = unsafe {
            (
                machine.words(inst.a),
                machine.words(inst.b),
                machine.row(inst.c),
            )
        };
        let lane = machine.mask.trailing_zeros() as usize;
        let (message, file) = (
            machine.c_string(messages[lane]),
            machine.c_string(files[lane]),
        );
        let text = format!("assertion `{message}` failed at {file}:{}", lines[lane]);
        machine.fault(FindingKind::Trap, MemorySpace::None, lane, text)
    }
}

impl Machine<'_> {
    /// 64-bit words that are two rows, low and high.
    unsafe fn words(&self, slot: crate::exec::row::Slot) -> [u64; 32] {
        // SAFETY: passed on.
        let (low, high) = unsafe { (self.row(slot), self.row(slot.offset(1))) };
        std::array::from_fn(|lane| u64::from(low[lane]) | u64::from(high[lane]) << 32)
    }

    fn peek_generic(&self, address: u64, bytes: usize, lane: usize) -> u64 {
        let mut value = [0u8; 8];
        let size = self.grid.program.local_bytes as usize;
        let part = match Window::of(address) {
            Window::Local(offset) => self
                .warp
                .local
                .get(lane * size + offset as usize..)
                .and_then(|b| b.get(..bytes)),
            Window::Shared(offset) => self
                .block
                .shared
                .as_slice()
                .get(offset as usize..)
                .and_then(|b| b.get(..bytes)),
            _ => {
                let mut buffer = [0u8; 8];
                if self
                    .grid
                    .memory
                    .read(DevicePointer(address), &mut buffer[..bytes])
                    .is_ok()
                {
                    value = buffer;
                }
                None
            }
        };
        if let Some(part) = part {
            value[..bytes].copy_from_slice(part);
        }
        u64::from_le_bytes(value)
    }

    /// The text at a generic address, up to its zero byte.
    fn c_string(&self, address: u64) -> String {
        let bytes: Vec<u8> = (0..4096)
            .map(|offset| self.peek_generic(address + offset, 1, 0) as u8)
            .take_while(|byte| *byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Expands a C format. `next` gives the next argument of 4 or 8 bytes, `text` the string at an address.
fn expand(format: &str, mut next: impl FnMut(u64) -> u64, text: impl Fn(u64) -> String) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut flags, mut width, mut precision, mut long) =
            (String::new(), String::new(), None::<String>, false);
        let conversion = loop {
            match chars.next() {
                Some(c @ ('-' | '+' | ' ' | '#')) if width.is_empty() && precision.is_none() => {
                    flags.push(c)
                }
                Some('0') if width.is_empty() && precision.is_none() => flags.push('0'),
                Some('*') => {
                    let value = (next(4) as i32).to_string();
                    match &mut precision {
                        Some(precision) => *precision = value,
                        None => width = value,
                    }
                }
                Some(c @ '0'..='9') => match &mut precision {
                    Some(precision) => precision.push(c),
                    None => width.push(c),
                },
                Some('.') => precision = Some(String::new()),
                Some('l' | 'z' | 't' | 'j') => long = true,
                Some('h') => {}
                Some(c) => break c,
                None => return out,
            }
        };
        let bytes = if long { 8 } else { 4 };
        let places = precision.as_deref().map(|p| p.parse().unwrap_or(0usize));
        let signed = |value: u64| {
            if long {
                value as i64
            } else {
                i64::from(value as i32)
            }
        };
        let body = match conversion {
            'd' | 'i' => signed(next(bytes)).to_string(),
            'u' => next(bytes).to_string(),
            'x' => format!("{:x}", next(bytes)),
            'X' => format!("{:X}", next(bytes)),
            'o' => format!("{:o}", next(bytes)),
            'p' => format!("{:#x}", next(8)),
            'c' => char::from(next(4) as u8).to_string(),
            's' => {
                let body = text(next(8));
                places.map_or(body.clone(), |places| body.chars().take(places).collect())
            }
            'f' | 'F' => format!("{:.*}", places.unwrap_or(6), f64::from_bits(next(8))),
            'e' | 'E' => exponential(f64::from_bits(next(8)), places.unwrap_or(6)),
            'g' | 'G' => general(f64::from_bits(next(8)), places.unwrap_or(6)),
            '%' => "%".into(),
            other => format!("%{other}"),
        };
        let numeric = matches!(conversion, 'd' | 'i' | 'f' | 'F' | 'e' | 'E' | 'g' | 'G');
        let body = match flags.chars().find(|c| matches!(c, '+' | ' ')) {
            Some(sign) if numeric && !body.starts_with('-') => format!("{sign}{body}"),
            _ => body,
        };
        out.push_str(&pad(body, &flags, width.parse().unwrap_or(0)));
    }
    out
}

fn pad(body: String, flags: &str, width: usize) -> String {
    if flags.contains('-') {
        format!("{body:<width$}")
    } else if flags.contains('0') {
        let (sign, digits) = body.split_at(usize::from(body.starts_with(['-', '+'])));
        format!(
            "{sign}{digits:0>rest$}",
            rest = width.saturating_sub(sign.len())
        )
    } else {
        format!("{body:>width$}")
    }
}

/// C's `%e`: a sign and at least two digits of exponent.
fn exponential(value: f64, places: usize) -> String {
    let text = format!("{value:.places$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or(0);
            format!(
                "{digits}e{}{:02}",
                if exponent < 0 { '-' } else { '+' },
                exponent.abs()
            )
        }
        None => text,
    }
}

/// C's `%g`: the shorter of `%e` and `%f`, without trailing zeros.
fn general(value: f64, places: usize) -> String {
    let places = places.max(1);
    let trim = |text: String| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        } else {
            text
        }
    };
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let text = exponential(value, places - 1);
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= places as i32 {
        return format!(
            "{}e{}{:02}",
            trim(digits.to_string()),
            if exponent < 0 { '-' } else { '+' },
            exponent.abs()
        );
    }
    trim(format!(
        "{value:.*}",
        (places as i32 - 1 - exponent).max(0) as usize
    ))
}

#[cfg(test)]
mod tests {
    use super::expand;

    fn formatted(format: &str, arguments: &[u64]) -> String {
        let mut arguments = arguments.iter();
        expand(format, |_| *arguments.next().unwrap(), |_| "text".into())
    }

    #[test]
    fn formats_as_c_does() {
        assert_eq!(
            formatted("a %d|%5d|%-5d|%05d|%+d", &[!0, 42, 42, 42, 7]),
            "a -1|   42|42   |00042|+7"
        );
        assert_eq!(
            formatted("%x %X %o %c %s %p%%", &[255, 255, 8, 65, 0, 4096]),
            "ff FF 10 A text 0x1000%"
        );
        let pi = std::f64::consts::PI.to_bits();
        assert_eq!(
            formatted("%f %.2f %8.3f %e %g", &[pi; 5]),
            "3.141593 3.14    3.142 3.141593e+00 3.14159"
        );
        assert_eq!(
            formatted(
                "%g %g %lld",
                &[1e-7f64.to_bits(), 1e6f64.to_bits(), 1 << 40]
            ),
            "1e-07 1e+06 1099511627776"
        );
    }
}
