//! Generic writes that the async proxy may not see.
//!
//! Bulk copies access memory through the async proxy. A write through the generic proxy is visible to them only if a
//! `fence.proxy.async` lies between (PTX ISA, "Proxies" and "Async proxy"): by the writer before it synchronises, by
//! whoever starts the copy after that, or by somebody in between. The fence is a component of the clocks, so it travels
//! along every synchronisation by itself. What the async proxy wrote needs no fence: completion includes one.

use super::clock::PerWarp;
use super::record::{Context, Record};

/// True if `earlier`, which happens before the copy that is being started, may be invisible to it.
pub(crate) fn is_hidden(earlier: &Record, context: &Context) -> bool {
    let component = context.layout.of(PerWarp::Proxied, earlier.warp as u32);
    !earlier.agent.is_async_proxy() && context.clock.knows(earlier.block, component) < earlier.time
}
