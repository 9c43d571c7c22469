//! Stream capture: what streams are asked to do becomes nodes of a graph. A stream that waits for an event of a capture
//! takes part in it; what a capture forbids gives the driver's error and spoils the capture.

use crate::boundary::{Answer, In, Out, exports};
use crate::driver::{Scope, State, enter};
use crate::error::{
    CAPTURE_IMPLICIT, CAPTURE_INVALIDATED, CAPTURE_ISOLATION, CAPTURE_MERGE, CAPTURE_UNJOINED,
    CAPTURE_UNMATCHED, CAPTURE_UNSUPPORTED, CAPTURE_WRONG_THREAD, CAPTURED_EVENT, Code,
    ILLEGAL_STATE, INVALID_VALUE, NOT_SUPPORTED,
};
use crate::graph::within;
use crate::handle::Handle;
use crate::operation::Operation;
use crate::stream::{is_legacy, valid};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::thread::{self, ThreadId};

/// `CUstreamCaptureMode`: whether calls that might disturb a capture are forbidden to all threads, to this one, to none.
const GLOBAL: u32 = 0;
const RELAXED: u32 = 2;

/// `CUstreamCaptureStatus`.
const NONE: u32 = 0;
const ACTIVE: u32 = 1;
const INVALIDATED: u32 = 2;

thread_local! {
    /// How the thread wants to be guarded.
    static MODE: Cell<u32> = const { Cell::new(GLOBAL) };
}

/// A capture that is under way.
#[derive(Debug)]
pub struct Capture {
    graph: Handle,
    /// The stream that it was begun in.
    origin: Handle,
    mode: u32,
    thread: ThreadId,
    intact: bool,
    context: Handle,
}

/// A stream's place in a capture.
#[derive(Debug)]
struct Branch {
    capture: u64,
    /// Nodes that the next one will wait for.
    frontier: Vec<Handle>,
    /// The same, where a caller may look until the next call, and as many edges without data.
    told: (Box<[Handle]>, Box<[u64]>),
}

/// All captures.
#[derive(Debug, Default)]
pub struct Captures {
    list: BTreeMap<u64, Capture>,
    streams: BTreeMap<Handle, Branch>,
    last: u64,
}

/// What an event that was recorded in a capture stands for.
#[derive(Clone, Debug)]
pub struct Captured {
    capture: u64,
    nodes: Vec<Handle>,
}

impl State {
    fn branch(&self, stream: Handle) -> Option<(&Branch, &Capture)> {
        let branch = self.captures.streams.get(&stream)?;
        Some((branch, self.captures.list.get(&branch.capture)?))
    }

    /// Whether a stream is being captured.
    pub fn is_captured(&self, stream: Handle) -> bool {
        self.captures.streams.contains_key(&stream)
    }

    fn spoil(&mut self, capture: u64) {
        if let Some(capture) = self.captures.list.get_mut(&capture) {
            capture.intact = false;
        }
    }

    fn spoil_where(&mut self, wanted: impl Fn(&Self, u64, &Capture) -> bool) -> bool {
        let list = &self.captures.list;
        let hit: Vec<u64> = list
            .iter()
            .filter(|(id, capture)| wanted(self, **id, capture))
            .map(|(id, _)| *id)
            .collect();
        for id in &hit {
            self.spoil(*id);
        }
        !hit.is_empty()
    }

    /// Work in the legacy stream would wait for all blocking streams: an error while one of them is captured.
    fn guard_legacy(&mut self, context: Handle, stream: Handle) -> Answer {
        if !is_legacy(stream) {
            return Ok(());
        }
        let blocks = |state: &Self, id: u64, capture: &Capture| {
            let mut streams = state.captures.streams.iter();
            capture.context == context
                && streams.any(|(stream, branch)| {
                    branch.capture == id
                        && state
                            .streams
                            .get(*stream)
                            .is_ok_and(|stream| stream.is_blocking())
                })
        };
        match self.spoil_where(blocks) {
            true => Err(CAPTURE_IMPLICIT),
            false => Ok(()),
        }
    }

    /// Nothing may ask how far a stream is, or wait for it, while it is captured.
    pub fn guard_stream(&mut self, context: Handle, stream: Handle) -> Answer {
        if let Some(branch) = self.captures.streams.get(&stream) {
            let capture = branch.capture;
            self.spoil(capture);
            return Err(CAPTURE_UNSUPPORTED);
        }
        self.guard_legacy(context, stream)
    }

    /// Nothing may wait for a context while one of its streams is captured.
    pub fn guard_context(&mut self, context: Handle) -> Answer {
        match self.spoil_where(|_, _, capture| capture.context == context) {
            true => Err(CAPTURE_UNSUPPORTED),
            false => Ok(()),
        }
    }

    /// Calls that may wait for the device, such as allocations, are forbidden while a capture is under way that asks
    /// for it.
    pub fn guard_unsafe(&mut self) -> Answer {
        let (here, mode) = (thread::current().id(), MODE.get());
        let forbids = |_: &Self, _: u64, capture: &Capture| match mode {
            RELAXED => false,
            _ if capture.thread == here => capture.mode != RELAXED,
            GLOBAL => capture.mode == GLOBAL,
            _ => false,
        };
        match self.spoil_where(forbids) {
            true => Err(CAPTURE_UNSUPPORTED),
            false => Ok(()),
        }
    }

    /// An event that was recorded in a capture can be neither asked nor waited for by the host.
    pub fn guard_event(&mut self, event: Handle) -> Answer {
        let Some(captured) = self.events.get(event)?.captured.clone() else {
            return self.guard_unsafe();
        };
        self.spoil(captured.capture);
        Err(CAPTURED_EVENT)
    }

    /// Adds `operation` to the graph that `stream` is captured into; gives it back to be queued if it is not captured.
    pub fn divert(
        &mut self,
        scope: Scope,
        stream: Handle,
        operation: Operation,
    ) -> Answer<Option<Operation>> {
        self.guard_legacy(scope.context, stream)?;
        let Some((branch, capture)) = self.branch(stream) else {
            return Ok(Some(operation));
        };
        if !capture.intact {
            return Err(CAPTURE_INVALIDATED);
        }
        let (graph, needs) = (capture.graph, branch.frontier.clone());
        let node = self.add_node(graph, needs, operation)?;
        if let Some(branch) = self.captures.streams.get_mut(&stream) {
            branch.frontier = vec![node];
        }
        Ok(None)
    }

    /// What an event stands for that is recorded in `stream` now, if the stream is captured.
    pub fn captured_now(&mut self, scope: Scope, stream: Handle) -> Answer<Option<Captured>> {
        self.guard_legacy(scope.context, stream)?;
        match self.branch(stream) {
            None => Ok(None),
            Some((_, capture)) if !capture.intact => Err(CAPTURE_INVALIDATED),
            Some((branch, _)) => Ok(Some(Captured {
                capture: branch.capture,
                nodes: branch.frontier.clone(),
            })),
        }
    }

    /// Makes `stream` wait for `event`, as far as captures are concerned.
    pub fn wait_captured(&mut self, scope: Scope, stream: Handle, event: Handle) -> Answer {
        self.guard_legacy(scope.context, stream)?;
        let found = self.events.get(event)?;
        let recorded = found.is_recorded();
        let own = self
            .captures
            .streams
            .get(&stream)
            .map(|branch| branch.capture);
        let Some(captured) = found.captured.clone() else {
            return match own {
                // Work before the capture is no part of it.
                Some(capture) if recorded => self.refuse(&[capture], CAPTURE_ISOLATION),
                _ => Ok(()),
            };
        };
        match self.captures.list.get(&captured.capture) {
            // The capture is over; its event stands for nothing that could be waited for.
            None => return Err(CAPTURED_EVENT),
            Some(capture) if !capture.intact => return Err(CAPTURE_INVALIDATED),
            Some(_) => {}
        }
        match own {
            Some(own) if own != captured.capture => {
                self.refuse(&[own, captured.capture], CAPTURE_MERGE)
            }
            Some(_) => {
                if let Some(branch) = self.captures.streams.get_mut(&stream) {
                    for node in captured.nodes {
                        if !branch.frontier.contains(&node) {
                            branch.frontier.push(node);
                        }
                    }
                }
                Ok(())
            }
            // The legacy stream takes part in no capture.
            None if is_legacy(stream) => self.refuse(&[captured.capture], CAPTURE_IMPLICIT),
            None => {
                self.join(stream, captured.capture, captured.nodes);
                Ok(())
            }
        }
    }

    fn refuse(&mut self, captures: &[u64], code: Code) -> Answer {
        for capture in captures {
            self.spoil(*capture);
        }
        Err(code)
    }

    fn join(&mut self, stream: Handle, capture: u64, frontier: Vec<Handle>) {
        let branch = Branch {
            capture,
            frontier,
            told: Default::default(),
        };
        self.captures.streams.insert(stream, branch);
    }

    /// Ends a capture: its streams do again what they are asked.
    fn end(&mut self, capture: u64) -> Option<Capture> {
        self.captures
            .streams
            .retain(|_, branch| branch.capture != capture);
        self.captures.list.remove(&capture)
    }

    /// A stream goes: a capture that began in it ends, and one that it takes part in is spoilt.
    pub fn leave_captures(&mut self, stream: Handle) {
        let Some(branch) = self.captures.streams.get(&stream) else {
            return;
        };
        let id = branch.capture;
        self.spoil(id);
        if self
            .captures
            .list
            .get(&id)
            .is_some_and(|capture| capture.origin == stream)
            && let Some(capture) = self.end(id)
        {
            let _ = self.remove_graph(capture.graph);
        }
        self.captures.streams.remove(&stream);
    }

    /// A context goes: so do its captures.
    pub fn end_captures(&mut self, context: Handle) {
        let list = self.captures.list.iter();
        let ids: Vec<u64> = list
            .filter(|(_, capture)| capture.context == context)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.end(id);
        }
    }
}

fn begin(stream: Handle, mode: u32, graph: Option<(Handle, Vec<Handle>)>) -> Answer {
    let scope = enter()?;
    valid(scope, stream)?;
    if mode > RELAXED {
        return Err(INVALID_VALUE);
    }
    let mut state = scope.state();
    if is_legacy(stream) {
        return Err(CAPTURE_UNSUPPORTED);
    }
    if state.streams.get(stream).is_err() {
        eprintln!("virtual-gpu: capture of the default stream of a thread is not supported");
        return Err(NOT_SUPPORTED);
    }
    if state.is_captured(stream) {
        return Err(ILLEGAL_STATE);
    }
    let (graph, frontier) = match graph {
        Some((graph, frontier)) => {
            state.graphs.get(graph)?;
            for node in &frontier {
                within(&state, *node, graph)?;
            }
            (graph, frontier)
        }
        None => (state.new_graph(scope.context), Vec::new()),
    };
    state.captures.last += 1;
    let id = state.captures.last;
    let capture = Capture {
        graph,
        origin: stream,
        mode,
        thread: thread::current().id(),
        intact: true,
        context: scope.context,
    };
    state.captures.list.insert(id, capture);
    state.join(stream, id, frontier);
    Ok(())
}

fn end(stream: Handle, graph: Out<Handle>) -> Answer {
    graph.check()?;
    graph.set(Handle::NULL)?;
    let scope = enter()?;
    valid(scope, stream)?;
    let mut state = scope.state();
    let Some((branch, capture)) = state.branch(stream) else {
        return Err(ILLEGAL_STATE);
    };
    let (id, frontier) = (branch.capture, branch.frontier.clone());
    if capture.origin != stream {
        return state.refuse(&[id], CAPTURE_UNMATCHED);
    }
    if capture.mode != RELAXED && capture.thread != thread::current().id() {
        return state.refuse(&[id], CAPTURE_WRONG_THREAD);
    }
    // Nodes that nobody waits for, in any stream but this one, are work that was never joined.
    let joined = state.ancestors(&frontier);
    let forks = state.captures.streams.values();
    let loose = forks
        .filter(|other| other.capture == id)
        .any(|other| other.frontier.iter().any(|node| !joined.contains(node)));
    let intact = capture_is_intact(&state, id);
    let Some(capture) = state.end(id) else {
        return Err(ILLEGAL_STATE);
    };
    let failure = match (intact, loose) {
        (false, _) => Some(CAPTURE_INVALIDATED),
        (true, true) => Some(CAPTURE_UNJOINED),
        (true, false) => None,
    };
    match failure {
        None => graph.set(capture.graph),
        Some(code) => {
            state.remove_graph(capture.graph)?;
            Err(code)
        }
    }
}

fn capture_is_intact(state: &State, id: u64) -> bool {
    state
        .captures
        .list
        .get(&id)
        .is_some_and(|capture| capture.intact)
}

/// Where a caller wants to be told of a capture.
struct Told {
    status: Out<u32>,
    id: Out<u64>,
    graph: Out<Handle>,
    nodes: Out<usize>,
    edges: Out<usize>,
    count: Out<usize>,
}

fn tell(stream: Handle, told: Told) -> Answer {
    told.status.check()?;
    let scope = enter()?;
    valid(scope, stream)?;
    let mut state = scope.state();
    state.guard_legacy(scope.context, stream)?;
    let Some((branch, capture)) = state.branch(stream) else {
        return told.status.set(NONE);
    };
    let (id, graph, frontier) = (branch.capture, capture.graph, branch.frontier.clone());
    if !capture.intact {
        return told.status.set(INVALIDATED);
    }
    told.id.set_if_wanted(id);
    told.graph.set_if_wanted(graph);
    told.count.set_if_wanted(frontier.len());
    if let Some(branch) = state.captures.streams.get_mut(&stream) {
        let edges = vec![0; frontier.len()].into();
        branch.told = (frontier.into(), edges);
        told.nodes.set_if_wanted(branch.told.0.as_ptr() as usize);
        told.edges.set_if_wanted(branch.told.1.as_ptr() as usize);
    }
    told.status.set(ACTIVE)
}

fn update(stream: Handle, nodes: In<Handle>, count: usize, flags: u32) -> Answer {
    let scope = enter()?;
    valid(scope, stream)?;
    let nodes = nodes.all(count)?;
    let mut state = scope.state();
    let Some((branch, capture)) = state.branch(stream) else {
        return Err(ILLEGAL_STATE);
    };
    if !capture.intact {
        return Err(CAPTURE_INVALIDATED);
    }
    let (graph, mut frontier) = (capture.graph, branch.frontier.clone());
    match flags {
        0 => {}
        1 => frontier.clear(),
        _ => return Err(INVALID_VALUE),
    }
    for node in nodes {
        within(&state, node, graph)?;
        if !frontier.contains(&node) {
            frontier.push(node);
        }
    }
    if let Some(branch) = state.captures.streams.get_mut(&stream) {
        branch.frontier = frontier;
    }
    Ok(())
}

const fn nowhere<T>() -> Out<T> {
    Out::new(std::ptr::null_mut())
}

exports! {
    /// Begins to capture a stream.
    fn cuStreamBeginCapture_v2(stream: Handle, mode: u32) {
        begin(stream, mode, None)
    }

    /// Begins to capture a stream into a graph that there is, after nodes of it.
    fn cuStreamBeginCaptureToGraph(
        stream: Handle,
        graph: Handle,
        nodes: In<Handle>,
        edges: In<u64>,
        count: usize,
        mode: u32,
    ) {
        crate::node::plain_edges(edges, count)?;
        begin(stream, mode, Some((graph, nodes.all(count)?)))
    }

    /// Ends a capture and gives its graph.
    fn cuStreamEndCapture(stream: Handle, graph: Out<Handle>) {
        end(stream, graph)
    }

    /// Whether a stream is captured.
    fn cuStreamIsCapturing(stream: Handle, status: Out<u32>) {
        let (id, count) = (nowhere(), nowhere());
        tell(stream, Told { status, id, graph: nowhere(), nodes: nowhere(), edges: nowhere(), count })
    }

    /// The capture of a stream: status, number, graph, and the nodes that the next one will wait for.
    fn cuStreamGetCaptureInfo_v2(
        stream: Handle,
        status: Out<u32>,
        id: Out<u64>,
        graph: Out<Handle>,
        nodes: Out<usize>,
        count: Out<usize>,
    ) {
        tell(stream, Told { status, id, graph, nodes, edges: nowhere(), count })
    }

    /// The same, with the data of edges, which is none.
    fn cuStreamGetCaptureInfo_v3(
        stream: Handle,
        status: Out<u32>,
        id: Out<u64>,
        graph: Out<Handle>,
        nodes: Out<usize>,
        edges: Out<usize>,
        count: Out<usize>,
    ) {
        tell(stream, Told { status, id, graph, nodes, edges, count })
    }

    /// Changes what the next node of a captured stream will wait for.
    fn cuStreamUpdateCaptureDependencies(stream: Handle, nodes: In<Handle>, count: usize, flags: u32) {
        update(stream, nodes, count, flags)
    }

    /// The same, with the data of edges.
    fn cuStreamUpdateCaptureDependencies_v2(
        stream: Handle,
        nodes: In<Handle>,
        edges: In<u64>,
        count: usize,
        flags: u32,
    ) {
        crate::node::plain_edges(edges, count)?;
        update(stream, nodes, count, flags)
    }

    /// Changes how the thread is guarded against calls that disturb captures, and gives how it was.
    fn cuThreadExchangeStreamCaptureMode(mode: Out<u32>) {
        mode.check()?;
        let wanted = mode.get()?;
        if wanted > RELAXED {
            return Err(INVALID_VALUE);
        }
        mode.set(MODE.replace(wanted))
    }
}
