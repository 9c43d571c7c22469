//! What can be wrong with a case file.

use std::path::PathBuf;

/// A case file that cannot be used, in one sentence that names the file and the place in it.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The text is not JSON, or a field is missing, unknown or of the wrong type.
    #[error("{}: {cause}", path.display())]
    Json {
        /// The case file.
        path: PathBuf,
        /// What the JSON reader found, with line and column.
        cause: serde_json::Error,
    },
    /// A field of the case itself has a value that no launch can have.
    #[error("{}: {message}", path.display())]
    Field {
        /// The case file.
        path: PathBuf,
        /// The field, its value and what is allowed.
        message: String,
    },
    /// One argument is wrong.
    #[error("{}: argument {index}: {message}", path.display())]
    Arg {
        /// The case file.
        path: PathBuf,
        /// Position in `args`, counted from 0.
        index: usize,
        /// What was found and what is allowed.
        message: String,
    },
    /// The kernel that the case names is not in the module.
    #[error("{}: there is no kernel `{kernel}`; the module has: {available}", path.display())]
    UnknownKernel {
        /// The case file.
        path: PathBuf,
        /// The name in the case.
        kernel: String,
        /// The entry points of the module, separated by commas.
        available: String,
    },
}
