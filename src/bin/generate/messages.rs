use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Lets the library's spans and events out on standard error. What `-v` and `-vv` show is a default: `RUST_LOG`,
/// where it is set, chooses instead.
pub fn install(verbose: u8) {
    let default = match verbose {
        0 => return,
        1 => "stheno=info",
        2 => "stheno=debug",
        _ => "stheno=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // A program has one subscriber; if there is one already, it has the messages.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}
