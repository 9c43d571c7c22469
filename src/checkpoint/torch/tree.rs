use super::node::{Id, Node, Nodes, TensorRef};

/// Containers in containers.
const MAX_DEPTH: usize = 16;

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    pub nodes: Nodes<'a>,
    pub root: Id,
    /// Bytes of the pickle.
    pub len: usize,
}

impl<'a> Tree<'a> {
    /// The tensors of the dictionary that the pickle is, in their order. Those of containers in it are under the
    /// keys on the way to them (in lists: places from 0), with dots between.
    ///
    /// # Errors
    /// A sentence, if it is no dictionary, or is nested too deeply.
    pub fn tensors(&self) -> Result<Vec<(String, &TensorRef<'a>)>, String> {
        if !matches!(self.nodes.get(self.root), Node::Dict(_)) {
            return Err("data.pkl holds no dictionary of tensors".to_owned());
        }
        let mut walk = Walk {
            nodes: &self.nodes,
            // Containers in several places multiply their content: no real file comes near.
            budget: (1 << 20) + 16 * self.len,
            tensors: Vec::new(),
        };
        walk.visit(self.root, "", 0)?;
        Ok(walk.tensors)
    }
}

struct Walk<'n, 'a> {
    nodes: &'n Nodes<'a>,
    /// Values and bytes of names that may still be met.
    budget: usize,
    tensors: Vec<(String, &'n TensorRef<'a>)>,
}

impl<'n> Walk<'n, '_> {
    fn visit(&mut self, id: Id, name: &str, depth: usize) -> Result<(), String> {
        let nodes = self.nodes;
        match nodes.get(id) {
            Node::Tensor(tensor) => self.tensors.push((name.to_owned(), tensor)),
            Node::Dict(items) => {
                for (key, value) in items {
                    let number;
                    let key = match nodes.get(*key) {
                        Node::Text(text) => text,
                        Node::Int(value) => {
                            number = value.to_string();
                            number.as_str()
                        }
                        // Nothing that is kept under other keys is a parameter.
                        _ => continue,
                    };
                    self.descend(*value, name, key, depth)?;
                }
            }
            Node::List(items) | Node::Tuple(items) => {
                for (place, value) in items.iter().enumerate() {
                    self.descend(*value, name, &place.to_string(), depth)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn descend(&mut self, id: Id, name: &str, key: &str, depth: usize) -> Result<(), String> {
        let named = matches!(
            self.nodes.get(id),
            Node::Tensor(_) | Node::Dict(_) | Node::List(_) | Node::Tuple(_)
        );
        let cost = if named { name.len() + key.len() + 1 } else { 1 };
        self.budget = (self.budget.checked_sub(cost))
            .ok_or_else(|| "data.pkl has containers in too many places".to_owned())?;
        if !named {
            return Ok(());
        }
        if depth == MAX_DEPTH {
            return Err("data.pkl nests containers too deeply".to_owned());
        }
        match name {
            "" => self.visit(id, key, depth + 1),
            _ => self.visit(id, &format!("{name}.{key}"), depth + 1),
        }
    }
}
