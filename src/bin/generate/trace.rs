use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use stheno::engine::Round;

/// A line of JSON for every round. A file that takes no more of them is said so once; the answer goes on without.
#[derive(Debug)]
pub struct Trace {
    path: PathBuf,
    out: BufWriter<File>,
    failed: bool,
}

impl Trace {
    /// Starts the file. It grows as rounds come, so that what there is can be read whatever happens.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("{}", path.display()))?;
        Ok(Trace {
            path: path.to_owned(),
            out: BufWriter::new(file),
            failed: false,
        })
    }

    pub fn write(&mut self, round: &Round) {
        let line = serde_json::to_vec(round).map_err(std::io::Error::from);
        self.attempt(|out| {
            out.write_all(&line?)?;
            out.write_all(b"\n")
        });
    }

    /// Hands over what is buffered; whether all of it was written.
    pub fn flush(&mut self) -> bool {
        self.attempt(Write::flush);
        !self.failed
    }

    fn attempt(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) {
        if self.failed {
            return;
        }
        if let Err(error) = write(&mut self.out) {
            self.failed = true;
            let path = self.path.display();
            eprintln!("generate: {path}: {error}; the trace of rounds ends here");
        }
    }
}
