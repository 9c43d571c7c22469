/// Why a device program cannot be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TuneError {
    /// No layout for that many rows.
    #[error("{max_rows} rows are no layout, expected 8, 16, 32 or 64")]
    Rows {
        /// The rows asked for.
        max_rows: u32,
    },
    /// The architecture cannot run the program at all.
    #[error(
        "{name} has compute capability {major}.{minor}, the program needs 8.0 (asynchronous copies, bf16)"
    )]
    Architecture {
        /// The architecture.
        name: String,
        /// Of its compute capability.
        major: u32,
        /// Of its compute capability.
        minor: u32,
    },
    /// Shared memory or registers do not suffice.
    #[error("{max_rows} rows do not fit {name}: {missing}; {}", would_fit(*fits))]
    DoesNotFit {
        /// The rows asked for.
        max_rows: u32,
        /// The architecture.
        name: String,
        /// What is missing.
        missing: String,
        /// The most rows that fit.
        fits: Option<u32>,
    },
}

fn would_fit(fits: Option<u32>) -> String {
    match fits {
        Some(rows) => format!("{rows} rows fit"),
        None => "no number of rows does".to_owned(),
    }
}
