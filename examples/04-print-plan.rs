//! The plan of a model: every op that its decoding consists of.
//!
//! cargo run --release --example 04-print-plan -- MODEL

use stheno::engine::Engine;

fn main() -> stheno::Result<()> {
    let Some(model) = std::env::args().nth(1) else {
        eprintln!("usage: 04-print-plan MODEL");
        std::process::exit(2);
    };
    // Headers only: no weight is read.
    let plan = Engine::builder().model(&model)?.plan()?;
    print!("{plan}");
    Ok(())
}
