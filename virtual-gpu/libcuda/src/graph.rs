//! Graphs: nodes, what each has to wait for, and the orders in which they can run.

use crate::boundary::Answer;
use crate::driver::State;
use crate::error::{INVALID_HANDLE, INVALID_VALUE, NOT_SUPPORTED};
use crate::handle::Handle;
use crate::operation::Operation;
use std::collections::{BTreeMap, BTreeSet};

/// A graph.
#[derive(Debug)]
pub struct Graph {
    /// Context that was current when it was made.
    pub context: Handle,
    /// Its nodes in the order in which they were added.
    pub nodes: Vec<Handle>,
}

/// A node of a graph.
pub struct Node {
    /// The graph that it is of.
    pub graph: Handle,
    /// What it does.
    pub operation: Operation,
    /// Nodes of the same graph that must have run before it.
    pub needs: Vec<Handle>,
    /// The node that it is a copy of.
    pub original: Option<Handle>,
    /// Addresses that a caller has been given of its parameters.
    pub told: Vec<usize>,
}

/// A node of a graph that is ready to run, children unfolded.
#[derive(Clone)]
pub struct Step {
    /// The node; none for the ends of a child.
    pub node: Option<Handle>,
    /// What it does.
    pub operation: Operation,
    /// Steps that must have run before it.
    pub needs: Vec<usize>,
    /// Whether it does anything.
    pub enabled: bool,
}

fn refused(what: &str) -> crate::error::Code {
    eprintln!("virtual-gpu: {what} is not supported");
    NOT_SUPPORTED
}

impl State {
    /// Makes a graph without nodes.
    pub fn new_graph(&mut self, context: Handle) -> Handle {
        self.graphs.insert(Graph {
            context,
            nodes: Vec::new(),
        })
    }

    /// Adds a node that waits for `needs`, which are nodes of the same graph, each named once.
    pub fn add_node(
        &mut self,
        graph: Handle,
        needs: Vec<Handle>,
        operation: Operation,
    ) -> Answer<Handle> {
        self.graphs.get(graph)?;
        for (index, node) in needs.iter().enumerate() {
            if self.nodes.get(*node)?.graph != graph || needs[..index].contains(node) {
                return Err(INVALID_VALUE);
            }
        }
        let node = self.nodes.insert(Node {
            graph,
            operation,
            needs,
            original: None,
            told: Vec::new(),
        });
        self.graphs.get_mut(graph)?.nodes.push(node);
        Ok(node)
    }

    /// Makes `to` wait for `from`. A circle is found when the graph is instantiated.
    pub fn add_dependency(&mut self, graph: Handle, from: Handle, to: Handle) -> Answer {
        let same = |state: &Self, node: Handle| Ok(state.nodes.get(node)?.graph == graph);
        if from == to || !same(self, from)? || !same(self, to)? {
            return Err(INVALID_VALUE);
        }
        let needs = &mut self.nodes.get_mut(to)?.needs;
        if needs.contains(&from) {
            return Err(INVALID_VALUE);
        }
        needs.push(from);
        Ok(())
    }

    /// Ends that `to` waits for `from`.
    pub fn remove_dependency(&mut self, graph: Handle, from: Handle, to: Handle) -> Answer {
        self.nodes.get(from)?;
        let node = self.nodes.get_mut(to)?;
        let at = node.needs.iter().position(|need| *need == from);
        match at {
            Some(at) if node.graph == graph => {
                node.needs.remove(at);
                Ok(())
            }
            _ => Err(INVALID_VALUE),
        }
    }

    /// Ends a graph, its nodes and the graphs inside of it.
    pub fn remove_graph(&mut self, graph: Handle) -> Answer {
        for node in self.graphs.remove(graph)?.nodes {
            if let Operation::Child(child) = self.nodes.remove(node)?.operation {
                self.remove_graph(child)?;
            }
        }
        Ok(())
    }

    /// Takes a node out of its graph.
    pub fn remove_node(&mut self, node: Handle) -> Answer {
        let found = self.nodes.get(node)?;
        if found.operation.manages_memory() {
            return Err(refused(
                "to take a node that allocates or frees out of its graph",
            ));
        }
        let graph = found.graph;
        if let Operation::Child(child) = found.operation {
            self.remove_graph(child)?;
        }
        self.nodes.remove(node)?;
        let nodes = &mut self.graphs.get_mut(graph)?.nodes;
        nodes.retain(|other| *other != node);
        for other in nodes.clone() {
            self.nodes
                .get_mut(other)?
                .needs
                .retain(|need| *need != node);
        }
        Ok(())
    }

    /// Copies a graph and the graphs inside of it.
    pub fn clone_graph(&mut self, graph: Handle) -> Answer<Handle> {
        let source = self.graphs.get(graph)?;
        let (context, nodes) = (source.context, source.nodes.clone());
        for node in &nodes {
            if self.nodes.get(*node)?.operation.manages_memory() {
                return Err(refused("to copy a graph whose nodes allocate or free"));
            }
        }
        let copy = self.new_graph(context);
        let mut known = BTreeMap::new();
        for original in &nodes {
            let operation = match self.nodes.get(*original)?.operation.clone() {
                Operation::Child(child) => Operation::Child(self.clone_graph(child)?),
                other => other,
            };
            let node = self.add_node(copy, Vec::new(), operation)?;
            known.insert(*original, node);
        }
        for (original, node) in &known {
            let needs = &self.nodes.get(*original)?.needs;
            let needs = needs.iter().filter_map(|need| known.get(need).copied());
            let needs = needs.collect();
            let node = self.nodes.get_mut(*node)?;
            (node.needs, node.original) = (needs, Some(*original));
        }
        Ok(copy)
    }

    /// Nodes that wait for `node`.
    pub fn dependents(&self, node: Handle) -> Answer<Vec<Handle>> {
        let graph = self.graphs.get(self.nodes.get(node)?.graph)?;
        let waits = |other: &&Handle| {
            let other = self.nodes.get(**other);
            other.is_ok_and(|other| other.needs.contains(&node))
        };
        Ok(graph.nodes.iter().filter(waits).copied().collect())
    }

    /// `nodes` and all that must have run before them.
    pub fn ancestors(&self, nodes: &[Handle]) -> BTreeSet<Handle> {
        let mut found = BTreeSet::new();
        let mut open = nodes.to_vec();
        while let Some(node) = open.pop() {
            if found.insert(node)
                && let Ok(node) = self.nodes.get(node)
            {
                open.extend(&node.needs);
            }
        }
        found
    }

    /// The steps of a graph in the order in which its nodes were added. A child becomes its nodes between two steps that
    /// do nothing.
    pub fn steps(&self, graph: Handle) -> Answer<Vec<Step>> {
        let mut steps = Vec::new();
        self.unfold(graph, None, &mut steps)?;
        Ok(steps)
    }

    fn unfold(&self, graph: Handle, after: Option<usize>, steps: &mut Vec<Step>) -> Answer {
        let nodes = &self.graphs.get(graph)?.nodes;
        // A node may wait for one that was added after it: what each becomes is known only at the end.
        let mut last = BTreeMap::new();
        let mut first = Vec::new();
        for handle in nodes {
            let node = self.nodes.get(*handle)?;
            first.push(steps.len());
            let step = |node, operation: &Operation, needs| Step {
                node,
                operation: operation.clone(),
                needs,
                enabled: true,
            };
            steps.push(step(Some(*handle), &node.operation, Vec::new()));
            if let Operation::Child(child) = node.operation {
                let begin = steps.len() - 1;
                self.unfold(child, Some(begin), steps)?;
                let inner = (begin..steps.len()).collect();
                steps.push(step(None, &Operation::Empty, inner));
            }
            last.insert(*handle, steps.len() - 1);
        }
        for (handle, first) in nodes.iter().zip(first) {
            let needs = self.nodes.get(*handle)?.needs.iter();
            let mut needs: Vec<usize> = needs.filter_map(|need| last.get(need).copied()).collect();
            needs.extend(after);
            needs.sort_unstable();
            steps[first].needs = needs;
        }
        Ok(())
    }
}

/// An order in which the steps can run; none if they wait for each other in a circle. Seed 0 gives the order in which nodes
/// were added, as far as dependencies allow; any other seed one of the others, so that a dependency that is missing shows.
pub fn order(steps: &[Step], seed: u64) -> Option<Vec<usize>> {
    let mut waits: Vec<usize> = steps.iter().map(|step| step.needs.len()).collect();
    let mut followers = vec![Vec::new(); steps.len()];
    for (index, step) in steps.iter().enumerate() {
        for need in &step.needs {
            followers[*need].push(index);
        }
    }
    let mut ready: BTreeSet<usize> = (0..steps.len())
        .filter(|index| waits[*index] == 0)
        .collect();
    let mut order = Vec::new();
    let mut state = seed;
    while !ready.is_empty() {
        let pick = match seed {
            0 => 0,
            _ => {
                // Steps of splitmix64.
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                (mixed >> 32) as usize % ready.len()
            }
        };
        let next = *ready.iter().nth(pick)?;
        ready.remove(&next);
        order.push(next);
        for follower in &followers[next] {
            waits[*follower] -= 1;
            if waits[*follower] == 0 {
                ready.insert(*follower);
            }
        }
    }
    (order.len() == steps.len()).then_some(order)
}

/// The handle of `node` in `graph`; an error if it is not of that graph.
pub fn within(state: &State, node: Handle, graph: Handle) -> Answer {
    match state.nodes.get(node)?.graph == graph {
        true => Ok(()),
        false => Err(INVALID_HANDLE),
    }
}
