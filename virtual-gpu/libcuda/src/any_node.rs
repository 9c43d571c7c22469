//! `cuGraphAddNode`: nodes of any kind by one structure.

use crate::boundary::{Answer, In, Out, exports};
use crate::driver::{Scope, enter};
use crate::error::{INVALID_VALUE, NOT_SUPPORTED};
use crate::handle::Handle;
use crate::node::{AllocateParams, add, host, kernel, memcpy, memset, plain_edges};
use crate::operation::Operation;
use std::sync::Arc;

/// Bytes before what depends on the kind in `CUgraphNodeParams`.
const HEAD: usize = 16;

/// What a node of the structure at `given` does. An allocation's address is written there.
fn operation(scope: Scope, given: Out<u8>) -> Answer<Operation> {
    const KERNEL: u32 = 0;
    const MEMCPY: u32 = 1;
    const MEMSET: u32 = 2;
    const HOST: u32 = 3;
    const GRAPH: u32 = 4;
    const EMPTY: u32 = 5;
    const WAIT: u32 = 6;
    const RECORD: u32 = 7;
    const ALLOCATE: u32 = 10;
    const FREE: u32 = 11;
    const CONDITIONAL: u32 = 13;
    let at = |offset: usize| given.at(HEAD + offset);
    let handle = || at(0).cast::<Handle>().get();
    let refuse = |what: &str| {
        eprintln!("virtual-gpu: {what} is not supported");
        Err(NOT_SUPPORTED)
    };
    let event = || {
        let event = handle()?;
        scope.state().events.get(event).map(|_| event)
    };
    match given.cast::<u32>().get()? {
        KERNEL => kernel(scope, at(0).cast().as_in()),
        MEMCPY => {
            // Flags, the context, the copy.
            let context = at(8).cast::<Handle>().get()?;
            memcpy(scope, at(16).cast().as_in(), own_or(scope, context))
        }
        MEMSET => {
            let context = at(40).cast::<Handle>().get()?;
            memset(scope, at(0).cast().as_in(), own_or(scope, context))
        }
        HOST => host(at(0).cast().as_in()),
        GRAPH => {
            let child = handle()?;
            Ok(Operation::Child(scope.state().clone_graph(child)?))
        }
        EMPTY => Ok(Operation::Empty),
        WAIT => Ok(Operation::Wait(event()?)),
        RECORD => Ok(Operation::Record(event()?, Arc::default())),
        ALLOCATE => {
            let place = at(0).cast::<AllocateParams>();
            let mut params = place.get()?;
            let allocate = params.plan(scope)?;
            place.set(params)?;
            Ok(allocate)
        }
        FREE => {
            let address = at(0).cast::<u64>().get()?;
            match scope.state().directory.is_planned(address) {
                true => Ok(Operation::Free(address)),
                false => Err(INVALID_VALUE),
            }
        }
        CONDITIONAL => refuse("a conditional node of a graph"),
        8 | 9 => refuse("an external semaphore in a graph"),
        12 => refuse("a node of memory operations in a graph"),
        _ => Err(INVALID_VALUE),
    }
}

/// Null stands for the current context.
fn own_or(scope: Scope, context: Handle) -> Handle {
    match context {
        Handle::NULL => scope.context,
        context => context,
    }
}

exports! {
    /// Adds a node of any kind but conditional ones.
    fn cuGraphAddNode(
        node: Out<Handle>,
        graph: Handle,
        needs: In<Handle>,
        count: usize,
        given: Out<u8>,
    ) {
        enter()?;
        add(node, graph, (needs, count), |scope| operation(scope, given))
    }

    /// The same, with data of the edges, which must be none.
    fn cuGraphAddNode_v2(
        node: Out<Handle>,
        graph: Handle,
        needs: In<Handle>,
        data: In<u64>,
        count: usize,
        given: Out<u8>,
    ) {
        enter()?;
        plain_edges(data, count)?;
        add(node, graph, (needs, count), |scope| operation(scope, given))
    }
}
