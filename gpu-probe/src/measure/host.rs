//! A token to the host and an answer.

use crate::arguments::HostArguments;
use crate::bench::{Bench, elapsed_ns};
use crate::gpu::Launch;
use crate::report::Row;
use anyhow::{Result, ensure};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SLOTS: u32 = 64;
/// Words of the reply and of the tokens, 128 and 256 bytes from the tail.
const REPLY: usize = 32;
const TOKENS: usize = 64;
/// How long the host waits for a token before it gives up; the kernel then gives up as well.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the host does: waits for each token and answers it. Gives whether all came and were right.
fn answer(words: &[AtomicU32], count: u32) -> bool {
    let (Some(tail), Some(reply), Some(tokens)) =
        (words.first(), words.get(REPLY), words.get(TOKENS..))
    else {
        return false;
    };
    for i in 1..=count {
        let begun = Instant::now();
        while tail.load(Ordering::Acquire) < i {
            if begun.elapsed() > PATIENCE {
                return false;
            }
            spin_loop();
        }
        let token = tokens
            .get((i % SLOTS) as usize)
            .map_or(0, |token| token.load(Ordering::Relaxed));
        if token != i.wrapping_mul(0x9e37_79b1) {
            return false;
        }
        reply.store(token.wrapping_add(1), Ordering::Release);
    }
    true
}

/// Round trips of one thread.
pub fn run(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let count = bench.pick(2000, 500, 4);
    let ring = bench.host_words(TOKENS + SLOTS as usize)?;
    let (sum, stamps) = (bench.zeros(4)?, bench.stamp_buffer()?);
    let arguments = HostArguments {
        ring: ring.at,
        sum,
        stamps,
        fault: bench.fault(),
        slots: SLOTS,
        count,
    }
    .to_bytes();
    let expected = (1..=count)
        .map(|i: u32| i.wrapping_mul(0x9e37_79b1).wrapping_add(1))
        .fold(0, u32::wrapping_add);
    let time = bench.repeat(|bench| {
        ring.words
            .iter()
            .for_each(|word| word.store(0, Ordering::Release));
        let mut all_came = false;
        let mut meanwhile = || all_came = answer(ring.words, count);
        let launch = Launch {
            blocks: 1,
            ..bench.plain("host", "host_ring", 1, 1, &arguments)
        };
        bench.launch_beside(&launch, Some(&mut meanwhile))?;
        ensure!(
            all_came,
            "a token did not come to the host, or came before its contents"
        );
        let found = bench.words(sum, 1)?;
        bench.check("the ring to the host", &found, |_| expected)?;
        Ok(elapsed_ns(&bench.stamps(stamps, 1)?) / 1000.0 / f64::from(count))
    })?;
    Ok(vec![
        Row::new("host_round_trip", "us", time),
        Row::new("host_one_way", "us", time.map(|time| time / 2.0)),
    ])
}
