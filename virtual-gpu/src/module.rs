//! A loaded PTX module.

use crate::exec::{Limits, ParameterLayout, Program};
use crate::lower;
use crate::ptx::{self, Initialiser, PtxError, Space, Statement, Variable};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A PTX module whose kernels have been lowered. It belongs to no device: each device gives its variables a place.
pub struct Module {
    id: u64,
    target: String,
    version: (u32, u32),
    programs: Vec<Arc<Program>>,
    files: Arc<Vec<(u32, String)>>,
    variables: Vec<Variable>,
    functions: HashMap<String, u32>,
    /// Kernels that wait, themselves or in a function of the module, for the launch before theirs.
    waiting: HashSet<String>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("target", &self.target)
            .field("kernels", &self.kernels().collect::<Vec<_>>())
            .finish()
    }
}

impl Module {
    /// Parses and lowers PTX text. What is not known is refused here, with its line, not when it is run.
    pub fn from_ptx(text: &str) -> Result<Arc<Self>, PtxError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let module = ptx::parse(text)?;
        let kernels = module
            .functions
            .iter()
            .enumerate()
            .filter(|(_, function)| function.entry && function.body.is_some());
        let programs: Result<Vec<_>, _> = kernels
            .map(|(index, _)| lower::kernel(&module, index, text).map(Arc::new))
            .collect();
        let names = module.functions.iter().map(|function| &function.name);
        let functions = names
            .filter_map(|name| Some((name.clone(), module.function(name)? as u32)))
            .collect();
        let waiting = waiting(&module);
        Ok(Arc::new(Self {
            waiting,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            target: module.target,
            version: module.version,
            programs: programs?,
            files: Arc::new(module.files),
            variables: module.variables,
            functions,
        }))
    }

    /// The kernels of a PTX text that cannot be lowered, each with the first line that is in the way. A text that cannot
    /// even be parsed is an error.
    pub fn unsupported(text: &str) -> Result<Vec<(String, PtxError)>, PtxError> {
        let module = ptx::parse(text)?;
        let kernels = module
            .functions
            .iter()
            .enumerate()
            .filter(|(_, function)| function.entry && function.body.is_some());
        Ok(kernels
            .filter_map(|(index, function)| {
                let error = lower::kernel(&module, index, text).err()?;
                Some((function.name.clone(), error))
            })
            .collect())
    }

    /// `.target` of the text: `sm_90`, ...
    pub fn target(&self) -> &str {
        &self.target
    }

    /// `.version` of the text.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Names of the kernels.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.programs.iter().map(|program| program.name.as_str())
    }

    /// What a kernel is.
    pub fn kernel(&self, name: &str) -> Option<KernelInfo<'_>> {
        self.program(name).map(|program| KernelInfo {
            program,
            waits_for_launch_before: self.waiting.contains(name),
        })
    }

    /// Names of the variables in global and constant memory that the module defines.
    pub fn globals(&self) -> impl Iterator<Item = &str> {
        self.variables
            .iter()
            .filter(|variable| has_place(variable))
            .map(|variable| variable.name.as_str())
    }

    pub(crate) fn program(&self, name: &str) -> Option<&Arc<Program>> {
        self.programs.iter().find(|program| program.name == name)
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn files(&self) -> &Arc<Vec<(u32, String)>> {
        &self.files
    }

    /// Variables of module scope, by the index that constants name them by.
    pub(crate) fn variables(&self) -> &[Variable] {
        &self.variables
    }

    pub(crate) fn function_index(&self, name: &str) -> Option<u32> {
        self.functions.get(name).copied()
    }
}

/// Names of the kernels that contain `griddepcontrol.wait`; all of them if a function of the module does, which any may call.
fn waiting(module: &ptx::Module) -> HashSet<String> {
    let waits = |function: &&ptx::Function| {
        let mut statements = function.body.iter().flatten();
        statements.any(|statement| {
            matches!(statement, Statement::Instruction(inst) if inst.opcode == "griddepcontrol.wait")
        })
    };
    let found: Vec<&ptx::Function> = module.functions.iter().filter(waits).collect();
    let everywhere = found.iter().any(|function| !function.entry);
    let kernels = module.functions.iter().filter(|function| function.entry);
    kernels
        .filter(|kernel| everywhere || found.iter().any(|function| function.name == kernel.name))
        .map(|kernel| kernel.name.clone())
        .collect()
}

/// Whether a variable has a place in the memory of a device.
pub(crate) fn has_place(variable: &Variable) -> bool {
    !variable.external && matches!(variable.space, Space::Global | Space::Const)
}

/// The bytes of a variable before addresses are filled in.
pub(crate) fn initial_bytes(variable: &Variable) -> Vec<u8> {
    let mut bytes = vec![0; variable.bytes as usize];
    for part in &variable.initialiser {
        if let Initialiser::Bytes(at, data) = part {
            bytes[*at as usize..][..data.len()].copy_from_slice(data);
        }
    }
    bytes
}

/// What can be known of a kernel without running it.
#[derive(Clone, Copy)]
pub struct KernelInfo<'a> {
    program: &'a Program,
    waits_for_launch_before: bool,
}

impl KernelInfo<'_> {
    /// Offset, size and alignment of each parameter, in bytes.
    pub fn parameters(&self) -> &[ParameterLayout] {
        &self.program.parameters
    }

    /// Bytes of all parameters.
    pub fn parameter_bytes(&self) -> u32 {
        self.program.parameter_bytes
    }

    /// Bytes of static shared memory.
    pub fn static_shared(&self) -> u32 {
        self.program.shared_declared
    }

    /// Bytes of local memory of a thread.
    pub fn local_bytes(&self) -> u32 {
        self.program.local_bytes
    }

    /// `.maxntid` and its like.
    pub fn limits(&self) -> Limits {
        self.program.limits
    }

    /// Rows of 32-bit registers that a warp has, where a 64-bit register takes two.
    pub fn register_rows(&self) -> u32 {
        self.program.rows
    }

    /// Predicate registers that a warp has.
    pub fn predicates(&self) -> u32 {
        self.program.predicates
    }

    /// Whether it contains `griddepcontrol.wait`, or may call a function that does: a kernel without it must not be launched
    /// with programmatic stream serialization if it uses what the launch before it writes.
    pub fn waits_for_launch_before(&self) -> bool {
        self.waits_for_launch_before
    }

    /// PTX instructions, called functions included.
    pub fn instructions(&self) -> usize {
        self.program.code.len()
    }
}
