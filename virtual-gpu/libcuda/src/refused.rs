//! What the virtual GPU does not do. The functions are there so that programs are told, instead of failing to load.

use crate::boundary::{Answer, Out, exports};
use crate::driver::enter;
use crate::error::NOT_SUPPORTED;
use crate::handle::Handle;

fn refuse(what: &str) -> Answer {
    eprintln!("virtual-gpu: {what} is not supported");
    Err(NOT_SUPPORTED)
}

exports! {
    /// Conditional nodes are refused, and with them what they hang on.
    fn cuGraphConditionalHandleCreate(_handle: Out<u64>, _graph: Handle, _context: Handle, _value: u32, _flags: u32) {
        enter()?;
        refuse("a conditional node of a graph")
    }

    /// Nodes that write and wait for words of memory are refused.
    fn cuGraphAddBatchMemOpNode(_node: Out<Handle>, _graph: Handle, _needs: usize, _count: usize, _params: usize) {
        enter()?;
        refuse("a node of memory operations in a graph")
    }

    /// Semaphores of other interfaces are refused.
    fn cuGraphAddExternalSemaphoresSignalNode(
        _node: Out<Handle>,
        _graph: Handle,
        _needs: usize,
        _count: usize,
        _params: usize,
    ) {
        enter()?;
        refuse("an external semaphore in a graph")
    }

    /// Semaphores of other interfaces are refused.
    fn cuGraphAddExternalSemaphoresWaitNode(
        _node: Out<Handle>,
        _graph: Handle,
        _needs: usize,
        _count: usize,
        _params: usize,
    ) {
        enter()?;
        refuse("an external semaphore in a graph")
    }

    /// Attributes of kernel nodes are refused.
    fn cuGraphKernelNodeSetAttribute(_node: Handle, _attribute: u32, _value: usize) {
        enter()?;
        refuse("an attribute of a kernel node")
    }
}
