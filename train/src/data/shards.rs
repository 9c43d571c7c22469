use super::answers::Answered;
use super::resample::Settings;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "answers.json";

/// What a directory of answers was made of; a run with anything else does not go on in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Manifest {
    /// The target's name.
    target: String,
    /// Conversations of the file of prompts.
    prompts: usize,
    settings: Settings,
}

/// Answered conversations on disk: `answers-00000.jsonl` and so on, one conversation a line, never the same one twice.
///
/// A line is there whole or not at all: one that a killed run has left half written is cut off when the directory is
/// opened again, and its conversation answered anew.
#[derive(Debug)]
pub struct Shards {
    dir: PathBuf,
    shard_size: usize,
    ids: HashSet<usize>,
    file: Option<BufWriter<File>>,
    /// Number of the shard that is written, and its lines.
    shard: usize,
    lines: usize,
}

impl Shards {
    /// Opens `dir` to go on there, or begins in it.
    ///
    /// # Errors
    /// If it was begun with another target, other prompts or other settings, or cannot be read or written.
    pub fn open(dir: &Path, target: &str, prompts: usize, settings: &Settings) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let manifest = Manifest {
            target: target.to_owned(),
            prompts,
            settings: settings.clone(),
        };
        let path = dir.join(MANIFEST);
        match fs::read(&path) {
            Ok(bytes) => {
                let found: Manifest = serde_json::from_slice(&bytes)
                    .map_err(|e| Error::malformed(&path, e.to_string()))?;
                if found != manifest {
                    return Err(Error::Invalid(format!(
                        "{} holds answers of another target or prompts, or by other settings; name another directory \
                         or delete it",
                        dir.display()
                    )));
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
                fs::write(&path, text).map_err(Error::io(&path))?;
            }
            Err(e) => return Err(Error::io(&path)(e)),
        }
        let mut shards = Shards {
            dir: dir.to_owned(),
            shard_size: settings.shard_size,
            ids: HashSet::new(),
            file: None,
            shard: 0,
            lines: 0,
        };
        for (shard, path) in files(dir)?.into_iter().enumerate() {
            cut_torn_line(&path)?;
            let answered = read_shard(&path)?;
            (shards.shard, shards.lines) = (shard, answered.len());
            shards.ids.extend(answered.iter().map(|a| a.id));
        }
        Ok(shards)
    }

    /// Whether a conversation has been answered.
    pub fn has(&self, id: usize) -> bool {
        self.ids.contains(&id)
    }

    /// Conversations answered.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Appends a conversation.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn push(&mut self, answered: &Answered) -> Result<()> {
        if self.lines >= self.shard_size {
            self.flush()?;
            self.file = None;
            self.shard += 1;
            self.lines = 0;
        }
        let path = self.dir.join(name(self.shard));
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().create(true).append(true).open(&path);
                self.file
                    .insert(BufWriter::new(file.map_err(Error::io(&path))?))
            }
        };
        let mut line =
            serde_json::to_vec(answered).map_err(|e| Error::malformed(&path, e.to_string()))?;
        line.push(b'\n');
        file.write_all(&line).map_err(Error::io(&path))?;
        self.ids.insert(answered.id);
        self.lines += 1;
        Ok(())
    }

    /// Everything pushed, to the disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        match &mut self.file {
            None => Ok(()),
            Some(file) => file.flush().map_err(Error::io(&self.dir)),
        }
    }

    /// All conversations of a directory, in order of their ids.
    ///
    /// # Errors
    /// If there is none, or a file is not what this type writes.
    pub fn read(dir: &Path) -> Result<Vec<Answered>> {
        let mut all = Vec::new();
        for path in files(dir)? {
            all.extend(read_shard(&path)?);
        }
        if all.is_empty() {
            let reason = "no answers here; make them with `stheno-train resample`";
            return Err(Error::malformed(dir, reason));
        }
        all.sort_by_key(|answered| answered.id);
        Ok(all)
    }
}

fn name(shard: usize) -> String {
    format!("answers-{shard:05}.jsonl")
}

/// The shards there are, in order.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Err(Error::malformed(dir, "no such directory"));
    }
    let paths = (0..).map(|shard| dir.join(name(shard)));
    Ok(paths.take_while(|path| path.exists()).collect())
}

/// Cuts what follows the last line that is whole.
fn cut_torn_line(path: &Path) -> Result<()> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    if whole < bytes.len() {
        let file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(Error::io(path))?;
        file.set_len(whole as u64).map_err(Error::io(path))?;
    }
    Ok(())
}

fn read_shard(path: &Path) -> Result<Vec<Answered>> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let lines = text.lines().enumerate().map(|(i, line)| {
        let fail = |reason: String| Error::malformed(path, format!("line {}: {reason}", i + 1));
        let answered: Answered = serde_json::from_str(line).map_err(|e| fail(e.to_string()))?;
        let fits = |[start, end]: &[usize; 2]| start <= end && *end <= answered.tokens.len();
        match answered.answers.iter().all(fits) {
            true => Ok(answered),
            false => Err(fail("an answer is not within the tokens".to_owned())),
        }
    });
    lines.collect()
}
