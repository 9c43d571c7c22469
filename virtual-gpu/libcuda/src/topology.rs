//! What can be asked of graphs: nodes, edges, kinds, a drawing.

use crate::boundary::{Answer, Out, Text, exports};
use crate::driver::{State, enter};
use crate::error::{INVALID_HANDLE, INVALID_VALUE, UNKNOWN};
use crate::handle::Handle;
use crate::operation::Operation;

/// Gives a list as the driver does: its length alone if there is no place for it, else as much as fits, zeros after it.
fn list(found: &[Handle], places: Out<Handle>, count: Out<usize>) -> Answer {
    count.check()?;
    if places.check().is_ok() {
        let room = count.get()?;
        for at in 0..room {
            places
                .at(at)
                .set(found.get(at).copied().unwrap_or(Handle::NULL))?;
        }
        return count.set(found.len().min(room));
    }
    count.set(found.len())
}

/// Gives edges in the same way, each with data that is none.
fn edges(
    graph: Handle,
    from: Out<Handle>,
    to: Out<Handle>,
    data: Out<u64>,
    count: Out<usize>,
) -> Answer {
    let scope = enter()?;
    let state = scope.state();
    let mut pairs = Vec::new();
    for node in &state.graphs.get(graph)?.nodes {
        let needs = &state.nodes.get(*node)?.needs;
        pairs.extend(needs.iter().map(|need| (*need, *node)));
    }
    let (sources, targets): (Vec<Handle>, Vec<Handle>) = pairs.into_iter().unzip();
    if from.check().is_ok() != to.check().is_ok() {
        return Err(INVALID_VALUE);
    }
    let room = if from.check().is_ok() {
        count.get()?
    } else {
        0
    };
    no_data(data, room)?;
    if from.check().is_ok() {
        list(&sources, from, count)?;
        count.set(room)?;
    }
    list(&targets, to, count)
}

/// Writes as much data of edges as there is room for, if it is wanted.
fn no_data(data: Out<u64>, room: usize) -> Answer {
    if data.check().is_ok() {
        for at in 0..room {
            data.at(at).set(0)?;
        }
    }
    Ok(())
}

fn ask(
    node: Handle,
    places: Out<Handle>,
    data: Out<u64>,
    count: Out<usize>,
    dependents: bool,
) -> Answer {
    count.check()?;
    let scope = enter()?;
    let state = scope.state();
    let found = match dependents {
        true => state.dependents(node)?,
        false => state.nodes.get(node)?.needs.clone(),
    };
    if places.check().is_ok() {
        no_data(data, count.get()?)?;
    }
    list(&found, places, count)
}

fn event_of(node: Handle, event: Out<Handle>, wanted: u32) -> Answer {
    let scope = enter()?;
    let state = scope.state();
    let operation = &state.nodes.get(node)?.operation;
    match operation {
        Operation::Record(found, _) | Operation::Wait(found) if operation.node_type() == wanted => {
            event.set(*found)
        }
        _ => Err(INVALID_VALUE),
    }
}

/// A description in the language of Graphviz.
fn dot(state: &State, graph: Handle) -> Answer<String> {
    let mut text = String::from("digraph graph {\n");
    for handle in &state.graphs.get(graph)?.nodes {
        let node = state.nodes.get(*handle)?;
        text += &format!("  n{:x} [label=\"{}\"];\n", handle.0, node.operation.name());
        for need in &node.needs {
            text += &format!("  n{:x} -> n{:x};\n", need.0, handle.0);
        }
    }
    Ok(text + "}\n")
}

exports! {
    /// The copy of a node in a copy of its graph.
    fn cuGraphNodeFindInClone(copy: Out<Handle>, node: Handle, graph: Handle) {
        let scope = enter()?;
        let state = scope.state();
        let mut nodes = state.graphs.get(graph)?.nodes.iter();
        let is_copy = |other: &&Handle| {
            state.nodes.get(**other).is_ok_and(|other| other.original == Some(node))
        };
        copy.set(*nodes.find(is_copy).ok_or(INVALID_VALUE)?)
    }

    /// What kind of node it is.
    fn cuGraphNodeGetType(node: Handle, kind: Out<u32>) {
        kind.set(enter()?.state().nodes.get(node)?.operation.node_type())
    }

    /// Nodes of a graph.
    fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        list(&enter()?.state().graphs.get(graph)?.nodes, nodes, count)
    }

    /// Nodes of a graph that wait for none.
    fn cuGraphGetRootNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let scope = enter()?;
        let state = scope.state();
        let all = state.graphs.get(graph)?.nodes.iter().copied();
        let is_root = |node: &Handle| state.nodes.get(*node).is_ok_and(|node| node.needs.is_empty());
        list(&all.filter(is_root).collect::<Vec<_>>(), nodes, count)
    }

    /// Edges of a graph.
    fn cuGraphGetEdges(graph: Handle, from: Out<Handle>, to: Out<Handle>, count: Out<usize>) {
        edges(graph, from, to, Out::new(std::ptr::null_mut()), count)
    }

    /// Edges of a graph, with their data.
    fn cuGraphGetEdges_v2(
        graph: Handle,
        from: Out<Handle>,
        to: Out<Handle>,
        data: Out<u64>,
        count: Out<usize>,
    ) {
        edges(graph, from, to, data, count)
    }

    /// Nodes that a node waits for.
    fn cuGraphNodeGetDependencies(node: Handle, places: Out<Handle>, count: Out<usize>) {
        ask(node, places, Out::new(std::ptr::null_mut()), count, false)
    }

    /// The same, with data of the edges.
    fn cuGraphNodeGetDependencies_v2(node: Handle, places: Out<Handle>, data: Out<u64>, count: Out<usize>) {
        ask(node, places, data, count, false)
    }

    /// Nodes that wait for a node.
    fn cuGraphNodeGetDependentNodes(node: Handle, places: Out<Handle>, count: Out<usize>) {
        ask(node, places, Out::new(std::ptr::null_mut()), count, true)
    }

    /// The same, with data of the edges.
    fn cuGraphNodeGetDependentNodes_v2(
        node: Handle,
        places: Out<Handle>,
        data: Out<u64>,
        count: Out<usize>,
    ) {
        ask(node, places, data, count, true)
    }

    /// The graph that a node runs.
    fn cuGraphChildGraphNodeGetGraph(node: Handle, graph: Out<Handle>) {
        match enter()?.state().nodes.get(node)?.operation {
            Operation::Child(child) => graph.set(child),
            _ => Err(INVALID_VALUE),
        }
    }

    /// The event that a node records.
    fn cuGraphEventRecordNodeGetEvent(node: Handle, event: Out<Handle>) {
        event_of(node, event, 7)
    }

    /// The event that a node waits for.
    fn cuGraphEventWaitNodeGetEvent(node: Handle, event: Out<Handle>) {
        event_of(node, event, 6)
    }

    /// Writes nodes and edges to a file, for Graphviz.
    fn cuGraphDebugDotPrint(graph: Handle, path: Text, _flags: u32) {
        let scope = enter()?;
        let text = dot(&scope.state(), graph)?;
        let path = path.get()?;
        std::fs::write(&path, text).map_err(|error| {
            eprintln!("virtual-gpu: {path}: {error}");
            UNKNOWN
        })
    }

    /// A graph's number.
    fn cuGraphGetId(graph: Handle, id: Out<u32>) {
        enter()?.state().graphs.get(graph).map_err(|_| INVALID_HANDLE)?;
        id.set(graph.0 as u32)
    }
}
