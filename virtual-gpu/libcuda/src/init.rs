//! Start, version, and the functions by name.

use crate::boundary::{Answer, Out, Text, exports};
use crate::driver::initialise;
use crate::error::{INVALID_VALUE, NOT_FOUND, NOT_SUPPORTED};
use crate::{
    any_node, capture, context, copy, device, error, event, executable, fill, function, host,
    launch, library, memory, module, node, occupancy, pointer, pool, record, refused, stream,
    tensor_map, topology,
};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The driver version that is answered: CUDA 12.8.
const VERSION: i32 = 12_080;

/// Tells programs that look before they use a library that this one is the virtual GPU's.
#[unsafe(no_mangle)]
pub static VIRTUAL_GPU_DRIVER: u32 = 1;

/// Status of a look-up: found, or no such symbol.
const FOUND: u32 = 0;
const MISSING: u32 = 1;

/// All exported functions.
fn table() -> &'static BTreeMap<&'static str, usize> {
    static TABLE: OnceLock<BTreeMap<&'static str, usize>> = OnceLock::new();
    TABLE.get_or_init(|| {
        [
            symbols(),
            any_node::symbols(),
            capture::symbols(),
            context::symbols(),
            copy::symbols(),
            device::symbols(),
            error::symbols(),
            event::symbols(),
            executable::symbols(),
            fill::symbols(),
            function::symbols(),
            host::symbols(),
            launch::symbols(),
            library::symbols(),
            memory::symbols(),
            module::symbols(),
            node::symbols(),
            occupancy::symbols(),
            pointer::symbols(),
            pool::symbols(),
            record::symbols(),
            refused::symbols(),
            tensor_map::symbols(),
            stream::symbols(),
            topology::symbols(),
        ]
        .concat()
        .into_iter()
        .collect()
    })
}

/// Functions that have their number in the name up to this version of CUDA, and take the plain name over with it: before, that
/// means an older function with other arguments.
const LATER: [(&str, i32); 13] = [
    ("cuCtxCreate_v3", i32::MAX),
    ("cuCtxCreate_v4", 13_000),
    ("cuEventElapsedTime_v2", 13_000),
    ("cuGraphAddDependencies_v2", 13_000),
    ("cuGraphAddNode_v2", 13_000),
    ("cuGraphGetEdges_v2", 13_000),
    ("cuGraphNodeGetDependencies_v2", 13_000),
    ("cuGraphNodeGetDependentNodes_v2", 13_000),
    ("cuGraphRemoveDependencies_v2", 13_000),
    ("cuMemAdvise_v2", 13_000),
    ("cuMemPrefetchAsync_v2", 13_000),
    ("cuStreamGetCaptureInfo_v3", 13_000),
    ("cuStreamUpdateCaptureDependencies_v2", 13_000),
];

/// The newest function of a name that a program for this version of CUDA means by it.
fn find(name: &str, version: i32) -> Option<usize> {
    let is_meant = |name: &String| {
        let mut later = LATER.iter();
        !later.any(|(other, since)| other == name && version < *since)
    };
    // A name for streams per thread means the same: all work is in order.
    let name = name.trim_end_matches("_ptsz").trim_end_matches("_ptds");
    (2..=4)
        .rev()
        .map(|number| format!("{name}_v{number}"))
        .filter(is_meant)
        .chain([name.to_string()])
        .find_map(|name| table().get(name.as_str()).copied())
}

fn look_up(name: Text, function: Out<usize>, version: i32) -> Answer<bool> {
    function.check()?;
    if version < 0 {
        return Err(INVALID_VALUE);
    }
    let found = find(&name.get()?, version);
    function.set(found.unwrap_or(0))?;
    Ok(found.is_some())
}

exports! {
    /// Starts the driver.
    fn cuInit(flags: u32) {
        if flags != 0 {
            return Err(INVALID_VALUE);
        }
        initialise()
    }

    /// Version of the driver.
    fn cuDriverGetVersion(version: Out<i32>) {
        version.set(VERSION)
    }

    /// A function by name.
    fn cuGetProcAddress_v2(name: Text, function: Out<usize>, version: i32, _flags: u64, status: Out<u32>) {
        let found = look_up(name, function, version)?;
        status.set_if_wanted(if found { FOUND } else { MISSING });
        if found { Ok(()) } else { Err(NOT_FOUND) }
    }

    /// The older form, without status.
    fn cuGetProcAddress(name: Text, function: Out<usize>, version: i32, _flags: u64) {
        if look_up(name, function, version)? { Ok(()) } else { Err(NOT_FOUND) }
    }

    /// Tables of functions that have no names: there is none.
    fn cuGetExportTable(table: Out<usize>, _id: usize) {
        table.set(0)?;
        Err(NOT_SUPPORTED)
    }

    /// Profilers find nothing to start here; `VIRTUAL_GPU_COUNTERS` counts.
    fn cuProfilerStart() {
        Ok(())
    }

    /// As `cuProfilerStart`.
    fn cuProfilerStop() {
        Ok(())
    }
}
