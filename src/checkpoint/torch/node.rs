use crate::checkpoint::tensor::Storage;
use ::safetensors::Dtype as Stored;
use std::fmt;
use stheno_codegen::plan::Dtype;

/// Index of a [`Node`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

/// A value of the pickle. Containers hold indices: they may be in several places, and in themselves.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Int(i64),
    /// None, a boolean, a float or an integer beyond 64 bits: of no use.
    Opaque,
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<StorageRef<'a>>),
    Tensor(Box<TensorRef<'a>>),
}

/// The globals that state dicts need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// The type of a storage, as the encoding of its elements.
    Storage(Storage),
}

/// Elements in an entry of the archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct StorageRef<'a> {
    pub storage: Storage,
    /// Name of the entry under `data/`.
    pub key: &'a str,
    pub elements: usize,
}

/// A tensor as a part of a storage; offset and strides in elements.
#[derive(Debug)]
pub(super) struct TensorRef<'a> {
    pub storage: StorageRef<'a>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

impl Global {
    pub fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", name) => Global::Storage(match name {
                "FloatStorage" => Storage::Float(Dtype::F32),
                "HalfStorage" => Storage::Float(Dtype::F16),
                "BFloat16Storage" => Storage::Float(Dtype::BF16),
                "DoubleStorage" => Storage::Other(Stored::F64),
                "LongStorage" => Storage::Other(Stored::I64),
                "IntStorage" => Storage::Other(Stored::I32),
                "ShortStorage" => Storage::Other(Stored::I16),
                "CharStorage" => Storage::Other(Stored::I8),
                "ByteStorage" => Storage::Other(Stored::U8),
                "BoolStorage" => Storage::Other(Stored::BOOL),
                _ => return None,
            }),
            _ => return None,
        })
    }
}

impl fmt::Display for Global {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Global::OrderedDict => f.write_str("OrderedDict"),
            Global::RebuildTensor => f.write_str("_rebuild_tensor_v2"),
            Global::RebuildParameter => f.write_str("_rebuild_parameter"),
            Global::Storage(storage) => write!(f, "a storage of {storage}"),
        }
    }
}

/// All values of a pickle.
#[derive(Debug, Default)]
pub(super) struct Nodes<'a> {
    nodes: Vec<Node<'a>>,
}

impl<'a> Nodes<'a> {
    /// Takes a value in. Pickles are far shorter than there are indices.
    pub fn add(&mut self, node: Node<'a>) -> Id {
        let id = Id(self.nodes.len() as u32);
        self.nodes.push(node);
        id
    }

    pub fn get(&self, id: Id) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }

    pub fn get_mut(&mut self, id: Id) -> &mut Node<'a> {
        &mut self.nodes[id.0 as usize]
    }

    /// A number of elements.
    pub fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Node::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }
}
