use super::super::{Context, DeviceBuffer, DeviceError, Event};

/// Bytes of one copy: more than any L2 holds.
const BYTES: u64 = 512 << 20;

/// Copies that are measured, after one that is not.
const COPIES: u32 = 5;

/// Share of the bandwidth by clock and width that copies reach, about.
const REACHED: f64 = 0.9;

/// Bytes a second that a copy within device memory reads and writes, the best of a few. For a virtual device what the
/// imitated one would reach by its clock and width.
pub(in crate::device) fn copy_rate(context: &Context) -> Result<f64, DeviceError> {
    if context.facts().is_virtual {
        return Ok(REACHED * context.facts().bandwidth);
    }
    let (free, _) = context.memory()?;
    let bytes = BYTES.min(free / 4);
    let from = DeviceBuffer::zeroed(context, bytes, "a copy to measure its rate")?;
    let to = DeviceBuffer::zeroed(context, bytes, "a copy to measure its rate")?;
    to.copy_async(0, &from, 0..bytes)?;
    let mut best: f64 = 0.0;
    for _ in 0..COPIES {
        let (begin, end) = (Event::new(context)?, Event::new(context)?);
        begin.record()?;
        to.copy_async(0, &from, 0..bytes)?;
        end.record()?;
        end.synchronize()?;
        let seconds = end.since(&begin)?.as_secs_f64();
        if seconds > 0.0 {
            best = best.max(2.0 * bytes as f64 / seconds);
        }
    }
    Ok(best)
}
