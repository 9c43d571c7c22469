//! The state of the driver, and how calls come to it.

use crate::boundary::Answer;
use crate::capture::Captures;
use crate::config::{Config, Settings};
use crate::context::Context;
use crate::directory::{Directory, Kind};
use crate::error::{INVALID_CONTEXT, INVALID_DEVICE, INVALID_VALUE, NOT_INITIALIZED};
use crate::event::Event;
use crate::executable::Executable;
use crate::function::Function;
use crate::graph::{Graph, Node};
use crate::handle::{Handle, Table};
use crate::module::Loaded;
use crate::ordering::Ordering;
use crate::pool::Pools;
use crate::queue::{Queue, Ticket, lock};
use crate::record::{Record, at_exit};
use crate::stream::Stream;
use std::cell::RefCell;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, OnceLock};
use virtual_gpu::DevicePointer;

/// The driver of a process.
pub struct Driver {
    /// What the environment asks for.
    pub config: Config,
    /// The device behind its queue.
    pub queue: Queue,
    /// What launches have left behind.
    pub record: Mutex<Record>,
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

/// What the host knows. Nobody waits for the queue while it is locked.
pub struct State {
    /// Contexts.
    pub contexts: Table<Context>,
    /// The primary context and how often it is retained.
    pub primary: Option<(Handle, usize)>,
    /// Flags for the primary context.
    pub primary_flags: u32,
    /// Memory.
    pub directory: Directory,
    /// Streams other than the default ones.
    pub streams: Table<Stream>,
    /// Events.
    pub events: Table<Event>,
    /// Modules and libraries: a library is a module.
    pub modules: Table<Loaded>,
    /// Functions and kernels.
    pub functions: Table<Function>,
    /// Memory pools.
    pub pools: Pools,
    /// Graphs.
    pub graphs: Table<Graph>,
    /// Nodes of graphs.
    pub nodes: Table<Node>,
    /// Graphs that have been instantiated.
    pub executables: Table<Executable>,
    /// What streams know of each other.
    pub ordering: Ordering,
    /// Captures of streams that are under way.
    pub captures: Captures,
}

static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();

thread_local! {
    static CURRENT: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

fn start() -> Result<Driver, String> {
    let config = Config::from_environment()?;
    let queue = Queue::new(config.profile.clone())
        .map_err(|error| format!("the thread of the device could not be started: {error}"))?;
    let state = State {
        contexts: Table::new(1),
        primary: None,
        primary_flags: 0,
        directory: Directory::new(config.profile.memory),
        streams: Table::new(2),
        events: Table::new(3),
        modules: Table::new(4),
        functions: Table::new(5),
        pools: Pools::new(),
        graphs: Table::new(8),
        nodes: Table::new(9),
        executables: Table::new(10),
        captures: Captures::default(),
        ordering: Ordering::default(),
    };
    if config.coverage.is_some() {
        unsafe extern "C" {
            fn atexit(function: extern "C" fn()) -> i32;
        }
        // SAFETY: the C library's function, which calls the other once at the end of the process.
        unsafe { atexit(at_exit) };
    }
    Ok(Driver {
        record: Mutex::default(),
        settings: Mutex::new(config.settings),
        config,
        queue,
        state: Mutex::new(state),
    })
}

/// Starts the driver, if it has not been started.
pub fn initialise() -> Answer {
    match DRIVER.get_or_init(|| start().inspect_err(|error| eprintln!("virtual-gpu: {error}"))) {
        Ok(_) => Ok(()),
        Err(_) => Err(INVALID_VALUE),
    }
}

/// The driver, once it has been started.
pub fn driver() -> Answer<&'static Driver> {
    match DRIVER.get() {
        Some(Ok(driver)) => Ok(driver),
        _ => Err(NOT_INITIALIZED),
    }
}

/// The driver, for a call about device `ordinal`.
pub fn on_device(ordinal: i32) -> Answer<&'static Driver> {
    let driver = driver()?;
    if ordinal != 0 {
        return Err(INVALID_DEVICE);
    }
    Ok(driver)
}

/// The driver as a call in a context sees it.
#[derive(Clone, Copy)]
pub struct Scope {
    driver: &'static Driver,
    /// The current context.
    pub context: Handle,
}

impl Deref for Scope {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        self.driver
    }
}

/// Begins a call that needs a context: an error if there is none or if its device is known to have a fault.
pub fn enter() -> Answer<Scope> {
    let driver = driver()?;
    let context = current().ok_or(INVALID_CONTEXT)?;
    driver
        .state()
        .contexts
        .get(context)
        .map_err(|_| INVALID_CONTEXT)?;
    driver.queue.check()?;
    Ok(Scope { driver, context })
}

/// The context that is current to the calling thread.
pub fn current() -> Option<Handle> {
    CURRENT.with_borrow(|stack| stack.last().copied())
}

/// Changes the calling thread's stack of contexts.
pub fn with_stack<T>(change: impl FnOnce(&mut Vec<Handle>) -> T) -> T {
    CURRENT.with_borrow_mut(change)
}

impl Driver {
    /// What the host knows.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// How launches run that begin now.
    pub fn settings(&self) -> Settings {
        *lock(&self.settings)
    }

    /// Changes how launches run from now on.
    pub fn change_settings<T>(&self, change: impl FnOnce(&mut Settings) -> T) -> T {
        change(&mut lock(&self.settings))
    }

    /// Waits for all work; an error if the device has a fault.
    pub fn synchronise(&self) -> Answer {
        self.wait(self.queue.last())?;
        self.state().host_saw_all();
        Ok(())
    }

    /// Waits for a job; an error if the device has a fault. Pools give back what they need not keep.
    pub fn wait(&self, ticket: Ticket) -> Answer {
        self.queue.wait(ticket)?;
        self.state().pools.settle();
        Ok(())
    }

    /// Ends a context: waits for its work and frees all that it owns. With the last one, the device starts anew.
    pub fn destroy(&self, context: Handle) -> Answer {
        self.queue.finish(self.queue.last())?;
        let (ranges, modules, last) = {
            let mut state = self.state();
            state
                .contexts
                .remove(context)
                .map_err(|_| INVALID_CONTEXT)?;
            if state.primary.is_some_and(|(primary, _)| primary == context) {
                state.primary = None;
            }
            state.streams.retain(|stream| stream.context != context);
            state.events.retain(|event| event.context != context);
            state
                .functions
                .retain(|function| function.context != context);
            state.pools.end(context);
            state.end_captures(context);
            // All of it has ended.
            state.host_saw_all();
            state.executables.retain(|made| made.context != context);
            let graphs: Vec<Handle> = state
                .graphs
                .iter()
                .filter(|(_, graph)| graph.context == context)
                .map(|(handle, _)| handle)
                .collect();
            for graph in graphs {
                // One that was inside of another may have gone with it.
                let _ = state.remove_graph(graph);
            }
            let modules: Vec<_> = state
                .modules
                .iter()
                .filter(|(_, loaded)| loaded.context == context)
                .map(|(_, loaded)| loaded.module.clone())
                .collect();
            state.modules.retain(|loaded| loaded.context != context);
            let ranges = state.directory.remove_all(context);
            for range in &ranges {
                state.order_end(range.base);
                if let Kind::Device(Some(pool)) = range.kind {
                    state.pools.got_back(pool, range.bytes);
                }
            }
            state.pools.settle();
            (ranges, modules, state.contexts.is_empty())
        };
        if last {
            self.queue.reset(self.config.profile.clone())?;
        } else {
            let bases: Vec<u64> = ranges
                .iter()
                .filter(|range| !matches!(range.kind, Kind::Variable))
                .map(|range| range.base)
                .collect();
            self.queue.ask(move |device| {
                for base in bases {
                    let _ = device.free(DevicePointer(base));
                }
                for module in modules {
                    let _ = device.unload(&module);
                }
            })?;
        }
        // Only now that the device does not see them any more may blocks of host memory go.
        drop(ranges);
        Ok(())
    }
}

impl State {
    /// Remembers the last job of a stream; the default ones need none, as they wait for everything.
    pub fn note(&mut self, stream: Handle, ticket: Ticket) {
        if let Ok(stream) = self.streams.get_mut(stream) {
            stream.last = ticket;
        }
    }
}
