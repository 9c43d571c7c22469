//! What ptxas reports of each kernel.

/// What one kernel takes on one architecture, as ptxas reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelResources {
    /// The lowered name of the kernel.
    pub name: String,
    /// The architecture, such as `sm_80`.
    pub arch: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes that a thread writes to local memory because registers ran out (a static count).
    pub spill_stores: u32,
    /// Bytes that a thread reads back.
    pub spill_loads: u32,
    /// Bytes of a thread's stack frame.
    pub stack: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
    /// Bytes of constant memory, all banks.
    pub constant: u32,
    /// Named barriers of a block.
    pub barriers: u32,
}

/// The kernels in a log of `--ptxas-options=-v`, in its order.
///
/// For each kernel ptxas writes `Compiling entry function 'NAME' for 'sm_80'`, then `Function properties for NAME` and
/// `8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads`, then `Used 29 registers, used 1 barriers, 400
/// bytes smem, 364 bytes cmem[0]`. Functions that are not kernels have properties of their own and are not counted.
pub(crate) fn parse(log: &str) -> Vec<KernelResources> {
    let mut kernels: Vec<KernelResources> = Vec::new();
    // Whether the next line with a stack frame is of the last kernel and not of a device function.
    let mut of_kernel = false;
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let mut parts = rest.split('\'');
            let name = parts.next().unwrap_or_default().to_owned();
            let arch = parts.nth(1).unwrap_or_default().to_owned();
            kernels.push(KernelResources {
                name,
                arch,
                ..KernelResources::default()
            });
        } else if let Some((_, name)) = line.split_once("Function properties for ") {
            of_kernel = kernels
                .last()
                .is_some_and(|kernel| kernel.name == name.trim());
        } else if let Some(kernel) = kernels.last_mut() {
            if of_kernel && line.contains("bytes stack frame") {
                for (number, what) in quantities(line) {
                    match what {
                        "bytes stack frame" => kernel.stack = number,
                        "bytes spill stores" => kernel.spill_stores = number,
                        "bytes spill loads" => kernel.spill_loads = number,
                        _ => {}
                    }
                }
            } else if let Some((_, used)) = line.split_once(": Used ") {
                for (number, what) in quantities(used) {
                    match what {
                        "registers" => kernel.registers = number,
                        "barriers" => kernel.barriers = number,
                        "bytes smem" => kernel.shared = number,
                        what if what.starts_with("bytes cmem[") => kernel.constant += number,
                        _ => {}
                    }
                }
            }
        }
    }
    kernels
}

/// The parts `NUMBER WHAT` of a list with commas; what stands before a number is ignored.
fn quantities(list: &str) -> impl Iterator<Item = (u32, &str)> {
    list.split(',').filter_map(|part| {
        let part = &part[part.find(|c: char| c.is_ascii_digit())?..];
        let (number, what) = part.split_once(' ')?;
        Some((number.parse().ok()?, what.trim()))
    })
}
