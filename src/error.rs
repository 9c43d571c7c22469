use std::path::PathBuf;

/// Result of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, each with what was at fault and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("{path}: {cause}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said. The message has it, so that it is no `source` of the error: it would be told twice.
        cause: std::io::Error,
    },
    /// A model, tokenizer or configuration file contradicts its format.
    #[error("{path}: {reason}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// A tensor is missing from the checkpoint.
    #[error("{path}: tensor `{tensor}` is missing", path = path.display())]
    MissingTensor {
        /// File or directory of the checkpoint.
        path: PathBuf,
        /// Hugging Face name of the tensor.
        tensor: String,
    },
    /// A tensor has another shape or type than the model needs.
    #[error("{path}: tensor `{tensor}` is {found}, expected {expected}", path = path.display())]
    Tensor {
        /// File or directory of the checkpoint.
        path: PathBuf,
        /// Hugging Face name of the tensor.
        tensor: String,
        /// What the model needs.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// The model asks for something that this version does not do.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A chat template is not a template, or refuses the conversation.
    #[error("chat template{at}: {reason}", at = line.map(|line| format!(" line {line}")).unwrap_or_default())]
    ChatTemplate {
        /// Line of the template, from 1.
        line: Option<usize>,
        /// What is wrong, or what the template said.
        reason: String,
    },
    /// A plan that cannot be run; a fault of whoever built it.
    #[error(transparent)]
    Plan(#[from] stheno_codegen::plan::PlanError),
    /// The device or its driver.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
    /// An argument of a call is out of range.
    #[error("{0}")]
    Invalid(String),
    /// A [`crate::engine::CancellationToken`] ended a call that returns nothing unless it is complete.
    #[error("cancelled")]
    Cancelled,
    /// The prompt and the tokens to come do not fit the context.
    #[error(
        "{needed} tokens do not fit the context of {context_length}; shorten the prompt or raise -c/--ctx-size"
    )]
    ContextOverflow {
        /// Positions asked for.
        needed: usize,
        /// Positions there are.
        context_length: usize,
    },
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, cause: std::io::Error) -> Self {
        let path = path.into();
        Error::Io { path, cause }
    }

    pub(crate) fn malformed(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        let (path, reason) = (path.into(), reason.into());
        Error::Malformed { path, reason }
    }
}
