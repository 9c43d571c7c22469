use super::GgufStrings;
use std::collections::HashMap;

/// A value of GGUF metadata, its width forgotten.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum GgufValue {
    /// u8, u16, u32 or u64.
    Unsigned(u64),
    /// i8, i16, i32 or i64.
    Signed(i64),
    /// f32 or f64.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// Text.
    String(String),
    /// An array of text.
    Strings(GgufStrings),
    /// An array of integers or booleans.
    Ints(Vec<i64>),
    /// An array of floating-point numbers.
    Floats(Vec<f32>),
    /// An array of arrays: read past, since nothing needs one.
    Nested,
}

/// Metadata of a GGUF file: typed values by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufMetadata {
    values: HashMap<String, GgufValue>,
}

impl GgufMetadata {
    /// Collects pairs; the last of equal keys counts.
    pub fn from_pairs(pairs: Vec<(String, GgufValue)>) -> Self {
        let values = pairs.into_iter().collect();
        GgufMetadata { values }
    }

    /// Adds a pair; false if the key is there already.
    pub(super) fn insert(&mut self, key: String, value: GgufValue) -> bool {
        self.values.insert(key, value).is_none()
    }

    /// The value of a key, of whatever type.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.values.get(key)
    }

    /// Text.
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            GgufValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// A non-negative integer of any width.
    pub fn u64(&self, key: &str) -> Option<u64> {
        match *self.get(key)? {
            GgufValue::Unsigned(value) => Some(value),
            GgufValue::Signed(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// A number of any type.
    pub fn f64(&self, key: &str) -> Option<f64> {
        match *self.get(key)? {
            GgufValue::Float(value) => Some(value),
            GgufValue::Unsigned(value) => Some(value as f64),
            GgufValue::Signed(value) => Some(value as f64),
            _ => None,
        }
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match *self.get(key)? {
            GgufValue::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// An array of text.
    pub fn strings(&self, key: &str) -> Option<&GgufStrings> {
        match self.get(key)? {
            GgufValue::Strings(values) => Some(values),
            _ => None,
        }
    }

    /// An array of floating-point numbers.
    pub fn floats(&self, key: &str) -> Option<&[f32]> {
        match self.get(key)? {
            GgufValue::Floats(values) => Some(values),
            _ => None,
        }
    }

    /// An array of integers (booleans count as 0 and 1).
    pub fn ints(&self, key: &str) -> Option<&[i64]> {
        match self.get(key)? {
            GgufValue::Ints(values) => Some(values),
            _ => None,
        }
    }
}
