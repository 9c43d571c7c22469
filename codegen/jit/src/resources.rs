//! What ptxas reports of each kernel.

use serde::{Deserialize, Serialize};

/// What one kernel takes on one architecture, as ptxas reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelResources {
    /// The lowered name.
    pub name: String,
    /// Whether this is a kernel. If not, it is a device function that was not inlined, of which ptxas reports the stack
    /// and the spills only; its registers are in the count of the kernels that call it.
    pub kernel: bool,
    /// The architecture, such as `sm_80`.
    pub arch: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes that a thread writes to local memory because registers ran out, each place in the code counted once.
    pub spill_stores: u32,
    /// Bytes that a thread reads back, counted likewise.
    pub spill_loads: u32,
    /// Bytes of a thread's stack frame.
    pub stack: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
    /// Bytes of constant memory, parameters included, all banks; 0 on the architectures for which ptxas reports none
    /// (sm_90 and later).
    pub constant: u32,
    /// Named barriers of a block.
    pub barriers: u32,
}

/// The functions in a log of `--ptxas-options=-v`, in its order.
///
/// For each kernel ptxas writes `Compiling entry function 'NAME' for 'sm_80'`, `Function properties for NAME`, `8 bytes
/// stack frame, 0 bytes spill stores, 0 bytes spill loads` and `Used 29 registers, used 1 barriers, 400 bytes smem, 364
/// bytes cmem[0]`; for other functions only the second and third.
pub(crate) fn parse(log: &str) -> Vec<KernelResources> {
    let mut functions: Vec<KernelResources> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let Some((name, arch)) = rest.split_once("' for '") else {
                continue;
            };
            functions.push(KernelResources {
                name: name.to_owned(),
                kernel: true,
                arch: arch.trim_end_matches('\'').to_owned(),
                ..KernelResources::default()
            });
        } else if let Some((_, name)) = line.split_once("Function properties for ") {
            let Some(last) = functions.last().filter(|last| last.name != name) else {
                continue;
            };
            functions.push(KernelResources {
                name: name.to_owned(),
                arch: last.arch.clone(),
                ..KernelResources::default()
            });
        } else if let Some(function) = functions.last_mut() {
            for (number, what) in quantities(line) {
                match what {
                    "bytes stack frame" => function.stack = number,
                    "bytes spill stores" => function.spill_stores = number,
                    "bytes spill loads" => function.spill_loads = number,
                    "registers" => function.registers = number,
                    "barriers" => function.barriers = number,
                    "bytes smem" => function.shared = number,
                    what if what.starts_with("bytes cmem[") => function.constant += number,
                    _ => {}
                }
            }
        }
    }
    functions
}

/// The parts `NUMBER WHAT` of a list with commas; what stands before a number is ignored.
fn quantities(list: &str) -> impl Iterator<Item = (u32, &str)> {
    list.split(',').filter_map(|part| {
        let part = &part[part.find(|c: char| c.is_ascii_digit())?..];
        let (number, what) = part.split_once(' ')?;
        Some((number.parse().ok()?, what.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As NVRTC 13.5 writes it for sm_80: a kernel, a function that was not inlined, a second kernel.
    const LOG: &str = "\
ptxas info    : 0 bytes gmem, 32 bytes cmem[3]
ptxas info    : Compiling entry function '_Z2tkILi3EEvPf' for 'sm_80'
ptxas info    : Function properties for _Z2tkILi3EEvPf
ptxas         .     16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 360 bytes cmem[0], 16 bytes cmem[2]
ptxas info    : Compile time = 10.491 ms
ptxas info    : Function properties for _Z3fooPfi
ptxas         .     24 bytes stack frame, 20 bytes spill stores, 12 bytes spill loads
ptxas info    : Compiling entry function 'k' for 'sm_80'
ptxas info    : Function properties for k
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 29 registers, used 1 barriers, 376 bytes cumulative stack size, 400 bytes smem
";

    #[test]
    fn every_number_goes_to_its_function() {
        let found = parse(LOG);
        let expected = [
            KernelResources {
                name: "_Z2tkILi3EEvPf".to_owned(),
                kernel: true,
                arch: "sm_80".to_owned(),
                registers: 8,
                spill_stores: 8,
                spill_loads: 4,
                stack: 16,
                constant: 376,
                ..KernelResources::default()
            },
            KernelResources {
                name: "_Z3fooPfi".to_owned(),
                arch: "sm_80".to_owned(),
                spill_stores: 20,
                spill_loads: 12,
                stack: 24,
                ..KernelResources::default()
            },
            KernelResources {
                name: "k".to_owned(),
                kernel: true,
                arch: "sm_80".to_owned(),
                registers: 29,
                shared: 400,
                barriers: 1,
                ..KernelResources::default()
            },
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_log_without_a_report_has_no_functions() {
        assert_eq!(parse(""), []);
        assert_eq!(parse("k.cu(3): warning: 8 registers, used 3 barriers"), []);
        assert_eq!(parse("Compiling entry function 'cut"), []);
    }
}
