use crate::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file that appears under its name when it is complete, or not at all.
///
/// What exists and is no regular file (a pipe, a device) is written to directly, since replacing it is never meant.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    /// Where the bytes go first; `None` if they go to `path` itself.
    temporary: Option<PathBuf>,
    out: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// Starts a file.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let special = fs::metadata(path).is_ok_and(|m| !m.is_file());
        let temporary = (!special).then(|| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{}.tmp", std::process::id()));
            PathBuf::from(name)
        });
        let target = temporary.as_deref().unwrap_or(path);
        let options = if special {
            File::options().write(true).open(target)
        } else {
            File::create(target)
        };
        let file = options.map_err(|e| Error::io(path, e))?;
        Ok(AtomicFile {
            path: path.to_owned(),
            temporary,
            out: Some(BufWriter::with_capacity(1 << 18, file)),
        })
    }

    /// The name it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Flushes to the disk and puts the file into its place.
    ///
    /// # Errors
    /// If the last bytes cannot be written, as on a full disk; nothing is left behind then.
    pub fn finish(mut self) -> Result<()> {
        let result = self.flush_and_rename();
        result.map_err(|e| Error::io(&self.path, e))
    }

    fn flush_and_rename(&mut self) -> std::io::Result<()> {
        if let Some(out) = self.out.take() {
            let file = out.into_inner().map_err(|e| e.into_error())?;
            if let Some(temporary) = &self.temporary {
                file.sync_all()?;
                fs::rename(temporary, &self.path)?;
                self.temporary = None;
            }
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.out {
            Some(out) => out.write(bytes),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(out) = self.out.take() {
            // Unfinished: what is still buffered has nowhere to go.
            let _ = out.into_parts();
        }
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_when_finished_and_leaves_nothing_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(!path.exists());
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let mut file = AtomicFile::create(Path::new("/dev/full")).unwrap();
        file.write_all(b"x").unwrap();
        let error = file.finish().unwrap_err().to_string();
        assert!(error.starts_with("/dev/full: "), "{error}");
    }
}
