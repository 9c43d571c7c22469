//! Graphs built by hand: nodes, their parameters, dependencies, and what can be asked of them.

use crate::boundary::{Answer, HostCall, In, Out, exports};
use crate::copy::{Copy, Copy3D};
use crate::driver::{Scope, State, enter};
use crate::error::{INVALID_VALUE, NOT_FOUND, NOT_SUPPORTED};
use crate::fill::Fill;
use crate::handle::Handle;
use crate::launch::prepare;
use crate::operation::{Launch, Operation};
use std::sync::Arc;
use virtual_gpu::LaunchConfig;

/// `CUDA_KERNEL_NODE_PARAMS_v2`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelParams {
    function: Handle,
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    parameters: In<usize>,
    extra: In<usize>,
    kernel: Handle,
    context: Handle,
}

/// `CUDA_MEMSET_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemsetParams {
    to: u64,
    pitch: usize,
    value: u32,
    element: u32,
    width: usize,
    height: usize,
}

/// `CUDA_HOST_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostParams {
    function: Option<extern "C" fn(*mut u8)>,
    argument: *mut u8,
}

/// `CUDA_MEM_ALLOC_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AllocateParams {
    pool: [u32; 4],
    security: usize,
    reserved: [u64; 8],
    access: usize,
    access_count: usize,
    bytes: usize,
    address: u64,
}

/// An error unless `count` edges are plain ones, which carry no data.
pub fn plain_edges(edges: In<u64>, count: usize) -> Answer {
    if !edges.is_null() && edges.all(count)?.iter().any(|edge| *edge != 0) {
        eprintln!("virtual-gpu: an edge of a graph with ports or a type is not supported");
        return Err(NOT_SUPPORTED);
    }
    Ok(())
}

/// The launch of a kernel node.
pub fn kernel(scope: Scope, given: In<KernelParams>) -> Answer<Operation> {
    let given = given.get()?;
    let config = LaunchConfig {
        grid: given.grid,
        block: given.block,
        dynamic_shared: given.dynamic_shared,
        cooperative: false,
        // Clusters of nodes made by hand are an attribute, which is refused.
        cluster: None,
    };
    let function = match given.function {
        Handle::NULL => given.kernel,
        function => function,
    };
    let launch = prepare(scope, function, config, given.parameters, given.extra)?;
    Ok(Operation::Kernel(launch))
}

/// The copy of a memcpy node.
pub fn memcpy(scope: Scope, given: In<Copy3D>, context: Handle) -> Answer<Operation> {
    scope.state().contexts.get(context)?;
    Ok(Operation::Copy(Copy::of_3d(scope, given.get()?)?))
}

/// The fill of a memset node.
pub fn memset(scope: Scope, given: In<MemsetParams>, context: Handle) -> Answer<Operation> {
    let state = scope.state();
    state.contexts.get(context)?;
    let given = given.get()?;
    let bytes = given.value.to_le_bytes();
    let pattern = match given.element {
        1 if given.value < 1 << 8 => &bytes[..1],
        2 if given.value < 1 << 16 => &bytes[..2],
        4 => &bytes[..],
        _ => return Err(INVALID_VALUE),
    };
    let fill = Fill::new(given.to, pattern, given.pitch, given.width, given.height)?;
    fill.check(&state.directory, true)?;
    Ok(Operation::Fill(fill))
}

/// The call of a host node.
pub fn host(given: In<HostParams>) -> Answer<Operation> {
    let HostParams { function, argument } = given.get()?;
    let function = function.ok_or(INVALID_VALUE)?;
    Ok(Operation::Host(HostCall { function, argument }))
}

impl AllocateParams {
    /// Sets addresses aside, notes where they begin, and gives what allocates there.
    pub fn plan(&mut self, scope: Scope) -> Answer<Operation> {
        let [kind, _, location, device] = self.pool;
        if kind != 1 || location != 1 || device != 0 || self.bytes == 0 {
            return Err(INVALID_VALUE);
        }
        let bytes = self.bytes as u64;
        self.address = scope.state().directory.plan(bytes)?;
        Ok(Operation::Allocate(self.address, bytes))
    }
}

/// Adds a node to a graph.
pub fn add(
    node: Out<Handle>,
    graph: Handle,
    (needs, count): (In<Handle>, usize),
    operation: impl FnOnce(Scope) -> Answer<Operation>,
) -> Answer {
    node.check()?;
    let scope = enter()?;
    scope.state().graphs.get(graph)?;
    let needs = needs.all(count)?;
    let operation = operation(scope)?;
    let mut state = scope.state();
    let made = state.add_node(graph, needs, operation.clone());
    if let (Err(_), Operation::Child(child)) = (&made, operation) {
        state.remove_graph(child)?;
    }
    node.set(made?)
}

/// Gives a node another operation of the same kind.
fn set(node: Handle, operation: impl FnOnce(Scope) -> Answer<Operation>) -> Answer {
    let scope = enter()?;
    scope.state().nodes.get(node)?;
    let operation = operation(scope)?;
    let mut state = scope.state();
    let node = state.nodes.get_mut(node)?;
    if node.operation.node_type() != operation.node_type() {
        return Err(INVALID_VALUE);
    }
    node.operation = operation;
    Ok(())
}

fn change_edges(
    graph: Handle,
    from: In<Handle>,
    to: In<Handle>,
    count: usize,
    change: fn(&mut State, Handle, Handle, Handle) -> Answer,
) -> Answer {
    let scope = enter()?;
    let mut state = scope.state();
    state.graphs.get(graph)?;
    for (from, to) in from.all(count)?.into_iter().zip(to.all(count)?) {
        change(&mut state, graph, from, to)?;
    }
    Ok(())
}

exports! {
    /// Makes a graph without nodes.
    fn cuGraphCreate(graph: Out<Handle>, flags: u32) {
        graph.check()?;
        let scope = enter()?;
        if flags != 0 {
            return Err(INVALID_VALUE);
        }
        let made = scope.state().new_graph(scope.context);
        graph.set(made)
    }

    /// Ends a graph; what was instantiated from it stays.
    fn cuGraphDestroy(graph: Handle) {
        enter()?.state().remove_graph(graph)
    }

    /// Copies a graph.
    fn cuGraphClone(copy: Out<Handle>, graph: Handle) {
        copy.check()?;
        let made = enter()?.state().clone_graph(graph)?;
        copy.set(made)
    }

    /// Adds a node that runs a kernel.
    fn cuGraphAddKernelNode_v2(
        node: Out<Handle>,
        graph: Handle,
        needs: In<Handle>,
        count: usize,
        given: In<KernelParams>,
    ) {
        add(node, graph, (needs, count), |scope| kernel(scope, given))
    }

    /// Adds a node that copies.
    fn cuGraphAddMemcpyNode(
        node: Out<Handle>,
        graph: Handle,
        needs: In<Handle>,
        count: usize,
        given: In<Copy3D>,
        context: Handle,
    ) {
        add(node, graph, (needs, count), |scope| memcpy(scope, given, context))
    }

    /// Adds a node that fills.
    fn cuGraphAddMemsetNode(
        node: Out<Handle>,
        graph: Handle,
        needs: In<Handle>,
        count: usize,
        given: In<MemsetParams>,
        context: Handle,
    ) {
        add(node, graph, (needs, count), |scope| memset(scope, given, context))
    }

    /// Adds a node that calls a function of the host.
    fn cuGraphAddHostNode(
        node: Out<Handle>,
        graph: Handle,
        needs: In<Handle>,
        count: usize,
        given: In<HostParams>,
    ) {
        add(node, graph, (needs, count), |_| host(given))
    }

    /// Adds a node that does nothing.
    fn cuGraphAddEmptyNode(node: Out<Handle>, graph: Handle, needs: In<Handle>, count: usize) {
        add(node, graph, (needs, count), |_| Ok(Operation::Empty))
    }

    /// Adds a node that runs a copy of another graph.
    fn cuGraphAddChildGraphNode(
        node: Out<Handle>,
        graph: Handle,
        needs: In<Handle>,
        count: usize,
        child: Handle,
    ) {
        add(node, graph, (needs, count), |scope| {
            Ok(Operation::Child(scope.state().clone_graph(child)?))
        })
    }

    /// Adds a node that records an event.
    fn cuGraphAddEventRecordNode(
        node: Out<Handle>,
        graph: Handle,
        needs: In<Handle>,
        count: usize,
        event: Handle,
    ) {
        add(node, graph, (needs, count), |scope| {
            scope.state().events.get(event)?;
            Ok(Operation::Record(event, Arc::default()))
        })
    }

    /// Adds a node that waits for an event.
    fn cuGraphAddEventWaitNode(
        node: Out<Handle>,
        graph: Handle,
        needs: In<Handle>,
        count: usize,
        event: Handle,
    ) {
        add(node, graph, (needs, count), |scope| {
            scope.state().events.get(event)?;
            Ok(Operation::Wait(event))
        })
    }

    /// Adds a node that allocates: always the same address, which is given back in the parameters.
    fn cuGraphAddMemAllocNode(
        node: Out<Handle>,
        graph: Handle,
        needs: In<Handle>,
        count: usize,
        given: Out<AllocateParams>,
    ) {
        let mut params = given.get()?;
        add(node, graph, (needs, count), |scope| params.plan(scope))?;
        given.set(params)
    }

    /// Adds a node that frees.
    fn cuGraphAddMemFreeNode(
        node: Out<Handle>,
        graph: Handle,
        needs: In<Handle>,
        count: usize,
        address: u64,
    ) {
        add(node, graph, (needs, count), |scope| {
            match scope.state().directory.is_planned(address) {
                true => Ok(Operation::Free(address)),
                false => Err(INVALID_VALUE),
            }
        })
    }

    /// Address that a node frees.
    fn cuGraphMemFreeNodeGetParams(node: Handle, address: Out<u64>) {
        match enter()?.state().nodes.get(node)?.operation {
            Operation::Free(found) => address.set(found),
            _ => Err(INVALID_VALUE),
        }
    }

    /// Adds edges.
    fn cuGraphAddDependencies(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) {
        change_edges(graph, from, to, count, State::add_dependency)
    }

    /// The same, with data of the edges, which must be none.
    fn cuGraphAddDependencies_v2(
        graph: Handle,
        from: In<Handle>,
        to: In<Handle>,
        data: In<u64>,
        count: usize,
    ) {
        plain_edges(data, count)?;
        change_edges(graph, from, to, count, State::add_dependency)
    }

    /// Takes edges away.
    fn cuGraphRemoveDependencies(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) {
        change_edges(graph, from, to, count, State::remove_dependency)
    }

    /// The same, with data of the edges, which must be none.
    fn cuGraphRemoveDependencies_v2(
        graph: Handle,
        from: In<Handle>,
        to: In<Handle>,
        data: In<u64>,
        count: usize,
    ) {
        plain_edges(data, count)?;
        change_edges(graph, from, to, count, State::remove_dependency)
    }

    /// Takes a node out of its graph.
    fn cuGraphDestroyNode(node: Handle) {
        enter()?.state().remove_node(node)
    }

    /// The launch of a node. Parameters are those of the node until it is changed or ends.
    fn cuGraphKernelNodeGetParams_v2(node: Handle, params: Out<KernelParams>) {
        params.check()?;
        let scope = enter()?;
        let mut state = scope.state();
        let node = state.nodes.get_mut(node)?;
        let Operation::Kernel(Launch { function, config, parameters }) = &node.operation else {
            return Err(INVALID_VALUE);
        };
        let kernel = function.code.kernel(function.name()).ok_or(NOT_FOUND)?;
        let address = |offset: u32| parameters.as_ptr() as usize + offset as usize;
        node.told = kernel.parameters().iter().map(|each| address(each.offset)).collect();
        let found = function.handle;
        let told = KernelParams {
            function: found,
            grid: config.grid,
            block: config.block,
            dynamic_shared: config.dynamic_shared,
            parameters: In::new(node.told.as_ptr()),
            extra: In::new(std::ptr::null()),
            kernel: Handle::NULL,
            context: function.context,
        };
        params.set(told)
    }

    /// Changes the launch of a node.
    fn cuGraphKernelNodeSetParams_v2(node: Handle, given: In<KernelParams>) {
        set(node, |scope| kernel(scope, given))
    }

    /// Changes the copy of a node.
    fn cuGraphMemcpyNodeSetParams(node: Handle, given: In<Copy3D>) {
        set(node, |scope| memcpy(scope, given, scope.context))
    }

    /// The fill of a node.
    fn cuGraphMemsetNodeGetParams(node: Handle, params: Out<MemsetParams>) {
        let scope = enter()?;
        let state = scope.state();
        let Operation::Fill(fill) = &state.nodes.get(node)?.operation else {
            return Err(INVALID_VALUE);
        };
        let (value, element) = fill.value();
        let [pitch, width, height] = fill.shape();
        params.set(MemsetParams { to: fill.to(), pitch, value, element, width, height })
    }

    /// Changes the fill of a node.
    fn cuGraphMemsetNodeSetParams(node: Handle, given: In<MemsetParams>) {
        set(node, |scope| memset(scope, given, scope.context))
    }

    /// The call of a node.
    fn cuGraphHostNodeGetParams(node: Handle, params: Out<HostParams>) {
        match enter()?.state().nodes.get(node)?.operation {
            Operation::Host(HostCall { function, argument }) => {
                params.set(HostParams { function: Some(function), argument })
            }
            _ => Err(INVALID_VALUE),
        }
    }

    /// Changes the call of a node.
    fn cuGraphHostNodeSetParams(node: Handle, given: In<HostParams>) {
        set(node, |_| host(given))
    }
}
