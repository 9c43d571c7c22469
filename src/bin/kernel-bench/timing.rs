use anyhow::Result;
use serde::Serialize;
use std::ops::Range;
use std::time::Duration;
use stheno::device::{Context, DeviceBuffer, DeviceError, Event, Stepper};

/// Seconds of one launch, over repeated measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timed {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub measurements: usize,
}

impl Timed {
    /// Measures `once` several times, which queues `launches` launches of about equal work; the first time is not counted.
    pub fn measure(
        context: &Context,
        measurements: u32,
        launches: usize,
        mut prepare: impl FnMut() -> Result<(), DeviceError>,
        mut once: impl FnMut() -> Result<(), DeviceError>,
    ) -> Result<Timed, DeviceError> {
        let (begin, end) = (Event::new(context)?, Event::new(context)?);
        let mut times = Vec::new();
        for measurement in 0..=measurements {
            prepare()?;
            begin.record()?;
            once()?;
            end.record()?;
            end.synchronize()?;
            if measurement > 0 {
                times.push(end.since(&begin)?);
            }
        }
        Ok(Self::of(&mut times, launches.max(1)))
    }

    fn of(times: &mut [Duration], launches: usize) -> Timed {
        times.sort_unstable();
        let at = |index: usize| {
            let time = times.get(index).copied().unwrap_or_default();
            time.as_secs_f64() / launches as f64
        };
        let middle = times.len() / 2;
        let median = match times.len() % 2 {
            0 if middle > 0 => (at(middle - 1) + at(middle)) / 2.0,
            _ => at(middle),
        };
        Timed {
            median,
            least: at(0),
            most: at(times.len().saturating_sub(1)),
            measurements: times.len(),
        }
    }
}

/// The same op in every layer, one launch after the other: each has other weights.
pub fn phases(stepper: &Stepper, phases: &[usize], measurements: u32) -> Result<Timed> {
    let once = || {
        let mut phases = phases.iter();
        phases.try_for_each(|phase| stepper.launch(*phase..phase + 1))
    };
    let timed = Timed::measure(
        stepper.context(),
        measurements,
        phases.len(),
        || Ok(()),
        once,
    );
    stepper.synchronize()?;
    Ok(timed?)
}

/// Launches that run no phase: what every launch of a single phase takes besides its work.
pub fn empty_launch(stepper: &Stepper, measurements: u32) -> Result<Timed> {
    const LAUNCHES: usize = 16;
    let none: Range<usize> = 1..1;
    let once = || (0..LAUNCHES).try_for_each(|_| stepper.launch(none.clone()));
    let timed = Timed::measure(stepper.context(), measurements, LAUNCHES, || Ok(()), once);
    stepper.synchronize()?;
    Ok(timed?)
}

/// The whole call. `swept` is written before each, so that nothing of it is left in the cache if that is smaller; `None` leaves
/// there what fits.
pub fn whole(stepper: &Stepper, measurements: u32, swept: Option<&DeviceBuffer>) -> Result<Timed> {
    let context = stepper.context();
    let begin = || {
        swept.map_or(Ok(()), |buffer| buffer.fill_async(0..buffer.len(), 0))?;
        stepper.begin()
    };
    let timed = Timed::measure(context, measurements, 1, begin, || stepper.launch_whole());
    stepper.synchronize()?;
    Ok(timed?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let of = |micros: &[u64]| {
            let mut times: Vec<_> = micros.iter().map(|t| Duration::from_micros(*t)).collect();
            Timed::of(&mut times, 2)
        };
        let odd = of(&[9, 1, 5]);
        assert_eq!((odd.median, odd.least, odd.most), (2.5e-6, 0.5e-6, 4.5e-6));
        assert_eq!(of(&[1, 2, 4, 8]).median, 1.5e-6);
        assert_eq!(of(&[]).measurements, 0);
    }
}
