//! Graphs that have been instantiated: launched any number of times, changed without being made anew.

use crate::boundary::{Answer, In, Out, exports};
use crate::copy::Copy3D;
use crate::directory::Kind;
use crate::driver::{Scope, State, enter};
use crate::error::{GRAPH_EXEC_UPDATE_FAILURE, INVALID_HANDLE, INVALID_VALUE, NOT_SUPPORTED};
use crate::graph::{Step, order};
use crate::handle::Handle;
use crate::node::{HostParams, KernelParams, MemsetParams, host, kernel, memcpy, memset};
use crate::operation::Operation;
use crate::pool::GRAPH_POOL;
use crate::stream::valid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A graph that has been instantiated.
pub struct Executable {
    /// Context that it belongs to.
    pub context: Handle,
    flags: u64,
    steps: Vec<Step>,
    /// Indices of the steps in the order in which they run.
    order: Vec<usize>,
}

/// `CUgraphInstantiate_flags`.
const AUTO_FREE: u64 = 1;
const DEVICE_LAUNCH: u64 = 4;
const FLAGS: u64 = 15;

/// `CUgraphExecUpdateResult`.
const UPDATED: u32 = 0;
const TOPOLOGY_CHANGED: u32 = 2;
const TYPE_CHANGED: u32 = 3;
const PARAMETERS_CHANGED: u32 = 5;

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct InstantiateParams {
    flags: u64,
    stream: Handle,
    error_node: Handle,
    result: u32,
}

/// `CUgraphExecUpdateResultInfo`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct UpdateResult {
    result: u32,
    node: Handle,
    from: Handle,
}

fn instantiate(executable: Out<Handle>, graph: Handle, flags: u64) -> Answer {
    executable.check()?;
    let scope = enter()?;
    if flags & !FLAGS != 0 {
        return Err(INVALID_VALUE);
    }
    if flags & DEVICE_LAUNCH != 0 {
        eprintln!("virtual-gpu: a graph that kernels launch is not supported");
        return Err(NOT_SUPPORTED);
    }
    let mut state = scope.state();
    let steps = state.steps(graph)?;
    let Some(order) = order(&steps, scope.settings().options.seed) else {
        eprintln!("virtual-gpu: the nodes of a graph wait for each other in a circle");
        return Err(INVALID_VALUE);
    };
    let handle = state.executables.insert(Executable {
        context: scope.context,
        flags,
        steps,
        order,
    });
    executable.set(handle)
}

/// What the device has to do, and how the books of memory change: allocations and what is freed of those that were there.
struct Run {
    operations: Vec<Operation>,
    events: Vec<(Handle, Arc<std::sync::OnceLock<std::time::Instant>>)>,
}

impl Executable {
    /// Enters allocations into the books and gives what the device has to do; an error, and nothing changed, if the graph
    /// cannot run as things are.
    fn run(&self, state: &mut State, context: Handle) -> Answer<Run> {
        let mut live: BTreeMap<u64, Option<u64>> = BTreeMap::new();
        let (mut operations, mut events) = (Vec::new(), Vec::new());
        let steps = self.order.iter().map(|index| &self.steps[*index]);
        for step in steps.filter(|step| step.enabled) {
            let operation = step.operation.clone();
            match &operation {
                Operation::Kernel(launch) => {
                    if state.modules.get(launch.function.module).is_err() {
                        let name = launch.function.name();
                        eprintln!(
                            "virtual-gpu: the module of {name}, which a graph runs, has been unloaded"
                        );
                        return Err(INVALID_HANDLE);
                    }
                }
                Operation::Allocate(base, bytes) => {
                    let there = state.directory.find(*base).is_some();
                    if live.get(base).map_or(there, Option::is_some) {
                        if self.flags & AUTO_FREE == 0 {
                            eprintln!(
                                "virtual-gpu: the memory at {base:#x} that a graph allocates has not been freed since its \
                                 last launch"
                            );
                            return Err(INVALID_VALUE);
                        }
                        operations.push(Operation::Free(*base));
                    }
                    live.insert(*base, Some(*bytes));
                }
                Operation::Free(base) => {
                    let there = state
                        .directory
                        .find(*base)
                        .is_some_and(|range| range.base == *base);
                    if live.get(base).map_or(!there, Option::is_none) {
                        eprintln!("virtual-gpu: a graph frees {base:#x}, which is not allocated");
                        return Err(INVALID_VALUE);
                    }
                    live.insert(*base, None);
                }
                Operation::Record(event, _) => {
                    state.events.get(*event)?;
                    let time = Arc::default();
                    events.push((*event, Arc::clone(&time)));
                    operations.push(Operation::Record(*event, time));
                    continue;
                }
                Operation::Wait(event) => state.events.get(*event).map(|_| ())?,
                Operation::Empty | Operation::Child(_) => continue,
                Operation::Copy(_) | Operation::Fill(_) | Operation::Host(_) => {}
            }
            operations.push(operation);
        }
        for (base, bytes) in live {
            if let Some(range) = state
                .directory
                .remove(base, |kind| matches!(kind, Kind::Device(_)))
            {
                state.pools.got_back(GRAPH_POOL, range.bytes);
            }
            if let Some(bytes) = bytes {
                state
                    .directory
                    .add(base, bytes, Kind::Device(Some(GRAPH_POOL)), context);
                state.pools.took(GRAPH_POOL, bytes);
            }
        }
        Ok(Run { operations, events })
    }

    fn index(&self, node: Handle) -> Answer<usize> {
        let mut steps = self.steps.iter();
        steps
            .position(|step| step.node == Some(node))
            .ok_or(INVALID_VALUE)
    }
}

/// The graph of a launch in a stream that is captured.
fn as_child(state: &mut State, executable: Handle, context: Handle) -> Answer<Operation> {
    let steps = state.executables.get(executable)?.steps.clone();
    if steps.iter().any(|step| step.operation.manages_memory()) {
        eprintln!(
            "virtual-gpu: to capture the launch of a graph that allocates or frees is not supported"
        );
        return Err(NOT_SUPPORTED);
    }
    let graph = state.new_graph(context);
    let mut nodes: Vec<Handle> = Vec::new();
    for step in &steps {
        let operation = match (&step.operation, step.enabled) {
            // Its nodes follow as they are.
            (Operation::Child(_), _) | (_, false) => Operation::Empty,
            (operation, true) => operation.clone(),
        };
        nodes.push(state.add_node(graph, Vec::new(), operation)?);
    }
    for (step, node) in steps.iter().zip(&nodes) {
        state.nodes.get_mut(*node)?.needs = step.needs.iter().map(|need| nodes[*need]).collect();
    }
    Ok(Operation::Child(graph))
}

fn launch(executable: Handle, stream: Handle) -> Answer {
    let scope = enter()?;
    valid(scope, stream)?;
    let mut state = scope.state();
    state.executables.get(executable)?;
    if state.is_captured(stream) {
        let child = as_child(&mut state, executable, scope.context)?;
        let diverted = state.divert(scope, stream, child.clone());
        if let (Err(_), Operation::Child(graph)) = (&diverted, child) {
            state.remove_graph(graph)?;
        }
        return diverted.map(|_| ());
    }
    // Nothing is diverted, but the legacy stream may be forbidden.
    state.divert(scope, stream, Operation::Empty)?;
    // Taken out while it changes the rest of the state.
    let found = state.executables.remove(executable)?;
    let run = found.run(&mut state, scope.context);
    state.executables.put_back(executable, found);
    let Run { operations, events } = run?;
    state.order_work(stream, &operations);
    let ticket = scope.queue.submit(move |device| {
        let mut operations = operations.iter();
        operations.try_for_each(|operation| operation.run(&scope, device))
    });
    for (event, time) in events {
        let after = state.order_record(stream);
        state
            .events
            .get_mut(event)?
            .was_recorded(ticket, time, after);
    }
    state.note(stream, ticket);
    Ok(())
}

/// Gives a node of an instantiated graph another operation of the same kind.
fn set(
    executable: Handle,
    node: Handle,
    operation: impl FnOnce(Scope) -> Answer<Operation>,
) -> Answer {
    let scope = enter()?;
    scope.state().executables.get(executable)?;
    let operation = operation(scope)?;
    let mut state = scope.state();
    let executable = state.executables.get_mut(executable)?;
    let at = executable.index(node)?;
    let step = &mut executable.steps[at];
    if step.operation.node_type() != operation.node_type() {
        return Err(INVALID_VALUE);
    }
    step.operation = operation;
    Ok(())
}

/// Takes over what the nodes of `graph` do, which has the nodes and edges that the executable was made of. Gives the result
/// and the node in the way.
fn update(executable: Handle, graph: Handle) -> Answer<(u32, Handle)> {
    let scope = enter()?;
    let mut state = scope.state();
    let found = state.steps(graph)?;
    let own = state.executables.get_mut(executable)?;
    let node = |step: &Step| step.node.unwrap_or(Handle::NULL);
    if found.len() != own.steps.len() {
        return Ok((TOPOLOGY_CHANGED, Handle::NULL));
    }
    for (new, old) in found.iter().zip(&own.steps) {
        if new.needs != old.needs {
            return Ok((TOPOLOGY_CHANGED, node(new)));
        }
        if new.operation.node_type() != old.operation.node_type() {
            return Ok((TYPE_CHANGED, node(new)));
        }
        let same = match (&new.operation, &old.operation) {
            (Operation::Allocate(a, n), Operation::Allocate(b, m)) => (a, n) == (b, m),
            (Operation::Free(a), Operation::Free(b)) => a == b,
            _ => true,
        };
        if !same {
            return Ok((PARAMETERS_CHANGED, node(new)));
        }
    }
    for (new, old) in found.into_iter().zip(&mut own.steps) {
        old.operation = new.operation;
    }
    Ok((UPDATED, Handle::NULL))
}

fn updated(result: u32) -> Answer {
    match result {
        UPDATED => Ok(()),
        _ => Err(GRAPH_EXEC_UPDATE_FAILURE),
    }
}

exports! {
    /// Instantiates a graph.
    fn cuGraphInstantiateWithFlags(executable: Out<Handle>, graph: Handle, flags: u64) {
        instantiate(executable, graph, flags)
    }

    /// The older form, with a log that stays empty.
    fn cuGraphInstantiate_v2(
        executable: Out<Handle>,
        graph: Handle,
        error: Out<Handle>,
        log: Out<u8>,
        size: usize,
    ) {
        error.set_if_wanted(Handle::NULL);
        let _ = log.set_text("", size);
        instantiate(executable, graph, 0)
    }

    /// The newer form.
    fn cuGraphInstantiateWithParams(executable: Out<Handle>, graph: Handle, params: Out<InstantiateParams>) {
        let given = params.get()?;
        let made = instantiate(executable, graph, given.flags);
        let result = u32::from(made.is_err());
        params.set(InstantiateParams { error_node: Handle::NULL, result, ..given })?;
        made
    }

    /// Ends an instantiated graph; launches that are queued are still done.
    fn cuGraphExecDestroy(executable: Handle) {
        enter()?.state().executables.remove(executable).map(|_| ())
    }

    /// Flags that a graph was instantiated with.
    fn cuGraphExecGetFlags(executable: Handle, flags: Out<u64>) {
        flags.set(enter()?.state().executables.get(executable)?.flags)
    }

    /// Queues all nodes of a graph.
    fn cuGraphLaunch(executable: Handle, stream: Handle) {
        launch(executable, stream)
    }

    /// Uploads a graph, which needs nothing here.
    fn cuGraphUpload(executable: Handle, stream: Handle) {
        let scope = enter()?;
        valid(scope, stream)?;
        scope.state().executables.get(executable).map(|_| ())
    }

    /// Changes the launch of a node.
    fn cuGraphExecKernelNodeSetParams_v2(executable: Handle, node: Handle, given: In<KernelParams>) {
        set(executable, node, |scope| kernel(scope, given))
    }

    /// Changes the copy of a node.
    fn cuGraphExecMemcpyNodeSetParams(
        executable: Handle,
        node: Handle,
        given: In<Copy3D>,
        context: Handle,
    ) {
        set(executable, node, |scope| memcpy(scope, given, context))
    }

    /// Changes the fill of a node.
    fn cuGraphExecMemsetNodeSetParams(
        executable: Handle,
        node: Handle,
        given: In<MemsetParams>,
        context: Handle,
    ) {
        set(executable, node, |scope| memset(scope, given, context))
    }

    /// Changes the call of a node.
    fn cuGraphExecHostNodeSetParams(executable: Handle, node: Handle, given: In<HostParams>) {
        set(executable, node, |_| host(given))
    }

    /// Takes over what the nodes of another graph of the same shape do.
    fn cuGraphExecUpdate_v2(executable: Handle, graph: Handle, info: Out<UpdateResult>) {
        info.check()?;
        let (result, node) = update(executable, graph)?;
        info.set(UpdateResult { result, node, from: Handle::NULL })?;
        updated(result)
    }

    /// The older form.
    fn cuGraphExecUpdate(executable: Handle, graph: Handle, node: Out<Handle>, result: Out<u32>) {
        let (found, at) = update(executable, graph)?;
        node.set_if_wanted(at);
        result.set(found)?;
        updated(found)
    }

    /// Switches a kernel, copy or fill off or on.
    fn cuGraphNodeSetEnabled(executable: Handle, node: Handle, enabled: u32) {
        let scope = enter()?;
        let mut state = scope.state();
        let executable = state.executables.get_mut(executable)?;
        let at = executable.index(node)?;
        let step = &mut executable.steps[at];
        if step.operation.node_type() > 2 || enabled > 1 {
            return Err(INVALID_VALUE);
        }
        step.enabled = enabled == 1;
        Ok(())
    }

    /// Whether a node is switched on.
    fn cuGraphNodeGetEnabled(executable: Handle, node: Handle, enabled: Out<u32>) {
        let scope = enter()?;
        let state = scope.state();
        let executable = state.executables.get(executable)?;
        let step = &executable.steps[executable.index(node)?];
        enabled.set(u32::from(step.enabled))
    }
}
