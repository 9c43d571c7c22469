use super::excerpt;
use super::node::{Global, Id, Node, Nodes, StorageRef, TensorRef};
use super::tree::Tree;
use std::collections::HashMap;

/// Longest pickle that is read; those of models with a hundred thousand tensors stay below half of it.
const MAX_PICKLE: usize = 32 << 20;
/// Values on the stack; torch's pickler writes items of containers in batches of a thousand.
const MAX_STACK: usize = 1 << 20;
/// Dimensions of a tensor, torch's own limit.
const MAX_RANK: usize = 64;

/// Reads a pickle of protocol 2 as far as state dicts use it. Nothing is executed: a global is one of [`Global`] or
/// an error, and what it builds are [`Node`]s. An opcode makes at most one node, so memory is linear in the pickle.
///
/// # Errors
/// A sentence with the byte offset.
pub(super) fn read(pickle: &[u8]) -> Result<Tree<'_>, String> {
    let mut machine = Machine {
        bytes: pickle,
        offset: 0,
        nodes: Nodes::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    match machine.run() {
        Ok(root) => Ok(Tree {
            nodes: machine.nodes,
            root,
            len: pickle.len(),
        }),
        Err(reason) => Err(format!("data.pkl: {reason} (at byte {})", machine.offset)),
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    offset: usize,
    nodes: Nodes<'a>,
    stack: Vec<Id>,
    /// Lengths of the stack at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, String> {
        if self.bytes.len() > MAX_PICKLE {
            return Err(format!("{} bytes are too many", self.bytes.len()));
        }
        if self.u8()? != op::PROTO {
            return Err("not a pickle of protocol 2".to_owned());
        }
        match self.u8()? {
            2 => {}
            other => {
                let advice = "save with torch's default, protocol 2";
                return Err(format!(
                    "pickle protocol {other} is not supported; {advice}"
                ));
            }
        }
        loop {
            match self.u8()? {
                op::STOP => break,
                code => self.step(code)?,
            }
            if self.stack.len() > MAX_STACK || self.marks.len() > MAX_STACK {
                return Err("the stack is too deep".to_owned());
            }
        }
        self.pop()
    }

    fn step(&mut self, code: u8) -> Result<(), String> {
        match code {
            op::MARK => self.marks.push(self.stack.len()),
            op::POP => match self.marks.last() {
                Some(mark) if *mark == self.stack.len() => {
                    self.marks.truncate(self.marks.len() - 1)
                }
                _ => drop(self.pop()?),
            },
            op::POP_MARK => drop(self.since_mark()?),
            op::DUP => {
                let top = self.top()?;
                self.stack.push(top);
            }
            op::NONE | op::TRUE | op::FALSE => self.push(Node::Opaque),
            op::INT1 => {
                let value = self.u8()?;
                self.push(Node::Int(value.into()));
            }
            op::INT2 => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()));
            }
            op::INT4 => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()));
            }
            op::LONG1 => {
                let len = self.u8()?;
                self.long(len.into())?;
            }
            op::LONG4 => {
                let len = self.length()?;
                self.long(len)?;
            }
            op::FLOAT => {
                self.array::<8>()?;
                self.push(Node::Opaque);
            }
            op::UNICODE => {
                let len = self.length()?;
                self.text(len)?;
            }
            op::STRING1 => {
                let len = self.u8()?;
                self.text(len.into())?;
            }
            op::STRING4 => {
                let len = self.length()?;
                self.text(len)?;
            }
            op::EMPTY_DICT => self.push(Node::Dict(Vec::new())),
            op::EMPTY_LIST => self.push(Node::List(Vec::new())),
            op::EMPTY_TUPLE => self.push(Node::Tuple(Vec::new())),
            op::TUPLE => {
                let items = self.since_mark()?;
                self.push(Node::Tuple(items));
            }
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let start = self.below(usize::from(code - op::TUPLE1) + 1)?;
                let items = self.stack.split_off(start);
                self.push(Node::Tuple(items));
            }
            op::APPEND => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            op::APPENDS => {
                let items = self.since_mark()?;
                self.extend_list(items)?;
            }
            op::SET_ITEM => {
                let start = self.below(2)?;
                let items = self.stack.split_off(start);
                self.extend_dict(&items)?;
            }
            op::SET_ITEMS => {
                let items = self.since_mark()?;
                self.extend_dict(&items)?;
            }
            op::PUT1 => {
                let slot = self.u8()?;
                self.remember(slot.into())?;
            }
            op::PUT4 => {
                let slot = u32::from_le_bytes(self.array()?);
                self.remember(slot)?;
            }
            op::GET1 => {
                let slot = self.u8()?;
                self.recall(slot.into())?;
            }
            op::GET4 => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)?;
            }
            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                let global = Global::named(module, name).ok_or_else(|| refused(module, name))?;
                self.push(Node::Global(global));
            }
            op::REDUCE => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.reduce(callable, arguments)?;
            }
            op::BUILD => {
                // What state an ordered dict has beyond its items (`_metadata` of modules) is of no use here.
                self.pop()?;
                let top = self.top()?;
                if !matches!(self.nodes.get(top), Node::Dict(_)) {
                    return Err("state is set of something other than a dictionary".to_owned());
                }
            }
            op::PERSISTENT_ID => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Node::Storage(Box::new(storage)));
            }
            other => return Err(format!("opcode {other:#04x} has no place in a state dict")),
        }
        Ok(())
    }

    fn reduce(&mut self, callable: Id, arguments: Id) -> Result<(), String> {
        let (Node::Global(global), Node::Tuple(arguments)) =
            (self.nodes.get(callable), self.nodes.get(arguments))
        else {
            return Err("a call of something that is no function".to_owned());
        };
        match (global, &arguments[..]) {
            (Global::OrderedDict, []) => self.push(Node::Dict(Vec::new())),
            // data, requires_grad, backward_hooks
            (Global::RebuildParameter, [tensor, _, _]) => {
                let tensor = *tensor;
                if !matches!(self.nodes.get(tensor), Node::Tensor(_)) {
                    return Err("a parameter is made of something other than a tensor".to_owned());
                }
                self.stack.push(tensor);
            }
            // storage, storage_offset, size, stride, requires_grad, backward_hooks, and metadata since 2.0
            (
                Global::RebuildTensor,
                [storage, offset, size, stride, _, _] | [storage, offset, size, stride, _, _, _],
            ) => {
                let Node::Storage(storage) = self.nodes.get(*storage) else {
                    return Err("a tensor is made of something other than a storage".to_owned());
                };
                let (offset, shape, strides) = (
                    self.nodes.size(*offset),
                    self.sizes(*size),
                    self.sizes(*stride),
                );
                let (Some(offset), Some(shape), Some(strides)) = (offset, shape, strides) else {
                    return Err("offset, size or stride of a tensor are no such numbers".to_owned());
                };
                if shape.len() != strides.len() {
                    return Err("size and stride of a tensor differ in length".to_owned());
                }
                let tensor = TensorRef {
                    storage: **storage,
                    offset,
                    shape,
                    strides,
                };
                self.push(Node::Tensor(Box::new(tensor)));
            }
            (global, arguments) => {
                let count = arguments.len();
                return Err(format!("{global} is called with {count} arguments"));
            }
        }
        Ok(())
    }

    fn sizes(&self, tuple: Id) -> Option<Vec<usize>> {
        match self.nodes.get(tuple) {
            Node::Tuple(items) if items.len() <= MAX_RANK => {
                items.iter().map(|item| self.nodes.size(*item)).collect()
            }
            _ => None,
        }
    }

    /// `("storage", type, key, location, number of elements)`.
    fn storage(&self, id: Id) -> Result<StorageRef<'a>, String> {
        if let Node::Tuple(items) = self.nodes.get(id)
            && let [tag, kind, key, _, elements] = items[..]
            && let (Node::Text("storage"), Node::Global(Global::Storage(storage)), Node::Text(key)) = (
                self.nodes.get(tag),
                self.nodes.get(kind),
                self.nodes.get(key),
            )
            && let Some(elements) = self.nodes.size(elements)
        {
            return Ok(StorageRef {
                storage: *storage,
                key,
                elements,
            });
        }
        Err("a persistent id that names no storage".to_owned())
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Result<(), String> {
        let top = self.top()?;
        match self.nodes.get_mut(top) {
            Node::List(list) => list.extend(items),
            _ => return Err("items are appended to something other than a list".to_owned()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match self.nodes.get_mut(top) {
            Node::Dict(dict) if rest.is_empty() => {
                dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
            }
            Node::Dict(_) => return Err("a key without a value".to_owned()),
            _ => return Err("items are set of something other than a dictionary".to_owned()),
        }
        Ok(())
    }

    fn remember(&mut self, slot: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), String> {
        let id = self.memo.get(&slot);
        let id = id.ok_or_else(|| format!("nothing is remembered under {slot}"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn push(&mut self, node: Node<'a>) {
        let id = self.nodes.add(node);
        self.stack.push(id);
    }

    /// Where the topmost `count` values begin.
    fn below(&self, count: usize) -> Result<usize, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        (self.stack.len().checked_sub(count))
            .filter(|start| *start >= floor)
            .ok_or_else(|| "the stack is empty".to_owned())
    }

    fn top(&self) -> Result<Id, String> {
        let id = self.below(1).ok().and_then(|at| self.stack.get(at));
        id.copied().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len());
        let mark = mark.ok_or_else(|| "there is no mark on the stack".to_owned())?;
        Ok(self.stack.split_off(mark))
    }

    /// A signed little-endian integer of any length; those beyond 64 bits are of no use.
    fn long(&mut self, len: usize) -> Result<(), String> {
        let bytes = self.take(len)?;
        let fill = match bytes.last() {
            Some(last) if last & 0x80 != 0 => 0xff,
            _ => 0,
        };
        let mut wide = [fill; 8];
        let node = match wide.get_mut(..len) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Node::Int(i64::from_le_bytes(wide))
            }
            None => Node::Opaque,
        };
        self.push(node);
        Ok(())
    }

    fn text(&mut self, len: usize) -> Result<(), String> {
        let text = std::str::from_utf8(self.take(len)?);
        let text = text.map_err(|_| "a string is not UTF-8".to_owned())?;
        self.push(Node::Text(text));
        Ok(())
    }

    fn length(&mut self) -> Result<usize, String> {
        let len = u32::from_le_bytes(self.array()?);
        usize::try_from(len).map_err(|e| e.to_string())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| "a line does not end".to_owned())?;
        let line = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| "a name is not UTF-8".to_owned())
    }

    fn u8(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let taken = rest.get(..len);
        let taken = taken.ok_or_else(|| {
            let left = rest.len();
            format!("{len} bytes are wanted and {left} are left")
        })?;
        self.offset += len;
        Ok(taken)
    }
}

fn refused(module: &str, name: &str) -> String {
    let global = format!("{module}.{name}");
    format!(
        "global `{}` is refused: only dictionaries of dense tensors are read, and nothing is executed",
        excerpt(&global)
    )
}

/// Opcodes of protocol 2, as Python's pickletools documents them.
mod op {
    pub const MARK: u8 = b'(';
    pub const STOP: u8 = b'.';
    pub const POP: u8 = b'0';
    pub const POP_MARK: u8 = b'1';
    pub const DUP: u8 = b'2';
    pub const FLOAT: u8 = b'G';
    pub const INT4: u8 = b'J';
    pub const INT1: u8 = b'K';
    pub const INT2: u8 = b'M';
    pub const NONE: u8 = b'N';
    pub const PERSISTENT_ID: u8 = b'Q';
    pub const REDUCE: u8 = b'R';
    pub const STRING4: u8 = b'T';
    pub const STRING1: u8 = b'U';
    pub const UNICODE: u8 = b'X';
    pub const EMPTY_LIST: u8 = b']';
    pub const APPEND: u8 = b'a';
    pub const BUILD: u8 = b'b';
    pub const GLOBAL: u8 = b'c';
    pub const APPENDS: u8 = b'e';
    pub const GET1: u8 = b'h';
    pub const GET4: u8 = b'j';
    pub const PUT1: u8 = b'q';
    pub const PUT4: u8 = b'r';
    pub const SET_ITEM: u8 = b's';
    pub const TUPLE: u8 = b't';
    pub const SET_ITEMS: u8 = b'u';
    pub const EMPTY_DICT: u8 = b'}';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const PROTO: u8 = 0x80;
    pub const TUPLE1: u8 = 0x85;
    pub const TUPLE2: u8 = 0x86;
    pub const TUPLE3: u8 = 0x87;
    pub const TRUE: u8 = 0x88;
    pub const FALSE: u8 = 0x89;
    pub const LONG1: u8 = 0x8a;
    pub const LONG4: u8 = 0x8b;
}
