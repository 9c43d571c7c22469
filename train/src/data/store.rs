use crate::{Error, Example, Features, Result, Source};
use half::bf16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const HEADER: &str = "features.json";
const INDEX: &str = "index.jsonl";
const DATA: &str = "features.bin";

/// What all examples of a store share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    /// The target's name.
    target: String,
    hidden_size: usize,
    /// Layers whose outputs are side by side, counted from 0.
    aux_layers: [u32; 3],
    /// Examples that it is to hold.
    examples: usize,
}

/// Where an example lies.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Entry {
    /// First byte in the data.
    offset: u64,
    /// Tokens, T.
    tokens: usize,
}

impl Entry {
    fn bytes(self, hidden_size: usize) -> usize {
        self.tokens * bytes_per_token(hidden_size)
    }
}

/// Bytes that a token of an example takes on disk: id, whether it is learnt (4 each), and four hidden states in bf16.
fn bytes_per_token(hidden_size: usize) -> usize {
    8 + 2 * 4 * hidden_size
}

/// Writes examples with their features, to be read by [`FeatureStore`]. Hidden states are rounded to bf16.
#[derive(Debug)]
pub struct FeatureWriter {
    dir: PathBuf,
    hidden_size: usize,
    data: BufWriter<File>,
    index: File,
    offset: u64,
    written: usize,
}

impl FeatureWriter {
    /// Bytes that a store of `tokens` tokens takes.
    pub fn bytes(tokens: usize, hidden_size: usize) -> u64 {
        tokens as u64 * bytes_per_token(hidden_size) as u64
    }

    /// Opens `dir` to go on after the last whole example there, or begins in it.
    ///
    /// # Errors
    /// If it was begun for something else, or cannot be read or written.
    pub fn open(
        dir: &Path,
        target: &str,
        hidden_size: usize,
        aux_layers: [u32; 3],
        examples: usize,
    ) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let header = Header {
            target: target.to_owned(),
            hidden_size,
            aux_layers,
            examples,
        };
        let path = dir.join(HEADER);
        if path.exists() {
            if read_header(dir)? != header {
                return Err(Error::Invalid(format!(
                    "{} holds features of another target or of other answers; name another directory or delete it",
                    dir.display()
                )));
            }
        } else {
            let text = serde_json::to_vec_pretty(&header).unwrap_or_default();
            fs::write(&path, text).map_err(Error::io(&path))?;
        }
        let entries = read_index(dir)?;
        let end = entries
            .last()
            .map_or(0, |e| e.offset + e.bytes(hidden_size) as u64);
        let open = |name: &str, len: u64| -> Result<File> {
            let path = dir.join(name);
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(Error::io(&path))?;
            file.set_len(len).map_err(Error::io(&path))?;
            file.seek(SeekFrom::End(0)).map_err(Error::io(&path))?;
            Ok(file)
        };
        let lines: usize = entries.iter().map(|entry| line(*entry).len()).sum();
        Ok(FeatureWriter {
            dir: dir.to_owned(),
            hidden_size,
            data: BufWriter::new(open(DATA, end)?),
            index: open(INDEX, lines as u64)?,
            offset: end,
            written: entries.len(),
        })
    }

    /// Examples that are there: the next to push is the one after them.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Appends an example.
    ///
    /// # Errors
    /// If its features are of other sizes, or it cannot be written.
    pub fn push(&mut self, example: &Example, features: &Features) -> Result<()> {
        let tokens = example.tokens.len();
        let fits = features.aux.len() == tokens * 3 * self.hidden_size
            && features.last.len() == tokens * self.hidden_size
            && example.answer.len() == tokens;
        if !fits {
            return Err(Error::Invalid(format!(
                "features of {} values for {tokens} tokens of hidden_size {}",
                features.aux.len() + features.last.len(),
                self.hidden_size
            )));
        }
        let entry = Entry {
            offset: self.offset,
            tokens,
        };
        let mut bytes = Vec::with_capacity(entry.bytes(self.hidden_size));
        let answer = example.answer.iter().map(|a| u32::from(*a));
        let ids = example.tokens.iter().copied().chain(answer);
        bytes.extend(ids.flat_map(u32::to_le_bytes));
        for values in [&features.aux, &features.last] {
            let rounded = values.iter().map(|x| bf16::from_f32(*x).to_bits());
            bytes.extend(rounded.flat_map(u16::to_le_bytes));
        }
        self.data
            .write_all(&bytes)
            .map_err(Error::io(self.dir.join(DATA)))?;
        // The index names only what the data holds.
        self.data.flush().map_err(Error::io(self.dir.join(DATA)))?;
        let line = line(entry);
        self.index
            .write_all(line.as_bytes())
            .map_err(Error::io(self.dir.join(INDEX)))?;
        self.offset += bytes.len() as u64;
        self.written += 1;
        Ok(())
    }
}

fn line(entry: Entry) -> String {
    format!(
        "{{\"offset\":{},\"tokens\":{}}}\n",
        entry.offset, entry.tokens
    )
}

fn read_header(dir: &Path) -> Result<Header> {
    let path = dir.join(HEADER);
    let bytes = fs::read(&path).map_err(Error::io(&path))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::malformed(&path, e.to_string()))
}

/// The entries of whole lines.
fn read_index(dir: &Path) -> Result<Vec<Entry>> {
    let path = dir.join(INDEX);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(&path)(e)),
    };
    let mut entries = Vec::new();
    let mut reader = BufReader::new(file);
    let mut text = String::new();
    while reader.read_line(&mut text).map_err(Error::io(&path))? > 0 && text.ends_with('\n') {
        let entry = serde_json::from_str(&text)
            .map_err(|e| Error::malformed(&path, format!("line {}: {e}", entries.len() + 1)))?;
        entries.push(entry);
        text.clear();
    }
    Ok(entries)
}

/// Examples with features on disk.
#[derive(Debug)]
pub struct FeatureStore {
    path: PathBuf,
    header: Header,
    entries: Vec<Entry>,
    data: File,
    bytes: Vec<u8>,
}

impl FeatureStore {
    /// Opens what a [`FeatureWriter`] has written to its end.
    ///
    /// # Errors
    /// If it is not there, not whole, or malformed.
    pub fn open(dir: &Path) -> Result<Self> {
        let header = read_header(dir)?;
        let entries = read_index(dir)?;
        if entries.len() != header.examples {
            let reason = format!(
                "{} of {} examples are there; run `stheno-train features` again, it goes on",
                entries.len(),
                header.examples
            );
            return Err(Error::malformed(dir, reason));
        }
        let path = dir.join(DATA);
        let data = File::open(&path).map_err(Error::io(&path))?;
        let have = data.metadata().map_err(Error::io(&path))?.len();
        let need = entries.iter().map(|e| {
            let bytes = e.tokens.checked_mul(bytes_per_token(header.hidden_size))?;
            e.offset.checked_add(bytes as u64)
        });
        let need = need.max().unwrap_or(Some(0));
        if need.is_none_or(|need| need > have) {
            return Err(Error::malformed(&path, format!("it has only {have} bytes")));
        }
        Ok(FeatureStore {
            path,
            header,
            entries,
            data,
            bytes: Vec::new(),
        })
    }

    /// Layers whose outputs are in [`Features::aux`], counted from 0.
    pub fn aux_layers(&self) -> [u32; 3] {
        self.header.aux_layers
    }

    /// The target's hidden_size.
    pub fn hidden_size(&self) -> usize {
        self.header.hidden_size
    }

    /// Tokens and answers without features, of all examples.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn examples(&mut self) -> Result<Vec<Example>> {
        (0..self.entries.len())
            .map(|index| self.ids(index))
            .collect()
    }

    /// An example; what follows in the data is hidden states.
    fn ids(&mut self, index: usize) -> Result<Example> {
        let entry = *self.entries.get(index).ok_or_else(|| {
            Error::Invalid(format!(
                "example {index} of a store of {}",
                self.entries.len()
            ))
        })?;
        let seek = self.data.seek(SeekFrom::Start(entry.offset));
        seek.map_err(Error::io(&self.path))?;
        self.bytes.resize(8 * entry.tokens, 0);
        self.data
            .read_exact(&mut self.bytes)
            .map_err(Error::io(&self.path))?;
        let words = self
            .bytes
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let words: Vec<u32> = words.collect();
        let (tokens, answer) = words.split_at(entry.tokens);
        Ok(Example {
            tokens: tokens.to_vec(),
            answer: answer.iter().map(|word| *word != 0).collect(),
        })
    }

    fn values(&mut self, count: usize) -> Result<Vec<f32>> {
        self.bytes.resize(2 * count, 0);
        self.data
            .read_exact(&mut self.bytes)
            .map_err(Error::io(&self.path))?;
        let bits = self
            .bytes
            .chunks_exact(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]));
        let bits: Vec<u16> = bits.collect();
        let mut values = vec![0.0; count];
        bits.reinterpret_cast::<bf16>()
            .convert_to_f32_slice(&mut values);
        Ok(values)
    }
}

impl Source for FeatureStore {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn get(&mut self, index: usize) -> Result<(Example, Features)> {
        let example = self.ids(index)?;
        let hidden = example.tokens.len() * self.header.hidden_size;
        let features = Features {
            aux: self.values(3 * hidden)?,
            last: self.values(hidden)?,
        };
        Ok((example, features))
    }
}
