//! A kernel, lowered: what every launch of it shares.

use super::inst::Inst;
use super::ops::atomic::Operation;
use super::row::Slot;
use crate::num::ScalarType;
use crate::ptx::Location;

/// A lowered kernel with all functions that it can call.
pub struct Program {
    /// Name of the kernel.
    pub name: String,
    /// Instructions; the kernel starts at 0.
    pub code: Vec<Inst>,
    /// Line and opcode of each instruction.
    pub origins: Vec<Origin>,
    /// Rows of constants, filled at launch.
    pub constants: Vec<Constant>,
    /// Further data of instructions.
    pub extras: Vec<Extra>,
    /// Rows of registers that a warp needs.
    pub rows: u32,
    /// Predicates that a warp needs.
    pub predicates: u32,
    /// Bytes of local memory that a lane needs.
    pub local_bytes: u32,
    /// Static shared variables: name, offset and size; guard gaps lie between them.
    pub shared: Vec<SharedVariable>,
    /// Bytes of static shared memory, gaps included; dynamic shared memory starts here.
    pub shared_bytes: u32,
    /// Bytes of static shared memory as a GPU would count them.
    pub shared_declared: u32,
    /// Kernel parameters: offset, size and alignment.
    pub parameters: Vec<ParameterLayout>,
    /// Bytes of all parameters.
    pub parameter_bytes: u32,
    /// Limits that the kernel declares.
    pub limits: Limits,
    /// Who touches registers of products of warpgroups, if there are any.
    pub watch: Option<super::watch::Watch>,
}

impl Program {
    /// Whether the code asks for the workspace of a cooperative launch.
    pub fn uses_workspace(&self) -> bool {
        let asks =
            |constant: &Constant| matches!(constant, Constant::Launch(LaunchValue::WorkspaceLow));
        self.constants.iter().any(asks)
    }
}

/// Where an instruction comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Line of the PTX text.
    pub ptx_line: u32,
    /// Line of the CUDA source, where the PTX says so.
    pub location: Option<Location>,
    /// What the instruction counts as.
    pub class: Class,
    /// What it asks of caches.
    pub hint: CacheHint,
}

/// What a memory access asks of caches. It changes no result.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum CacheHint {
    /// Nothing in particular.
    #[default]
    None,
    /// `.cs`, `.lu`, `.L2::evict_first`, `.L1::evict_first`: not needed again.
    EvictFirst,
    /// `.L2::evict_last`, `.L1::evict_last`: to be kept.
    EvictLast,
    /// `.L1::no_allocate`, `.cg`, `.cv`: past L1.
    NoAllocate,
    /// `.L2::cache_hint`: as a policy in a register says.
    Policy,
}

impl CacheHint {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::EvictFirst => "evict_first",
            Self::EvictLast => "evict_last",
            Self::NoAllocate => "no_allocate",
            Self::Policy => "policy",
        }
    }
}

/// Kinds of instructions that are counted apart.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Class {
    Integer,
    Float32,
    Float64,
    Half,
    Special,
    Convert,
    Move,
    Memory,
    Atomic,
    Branch,
    Sync,
    Tensor,
    Async,
    Other,
}

impl Class {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Half => "half",
            Self::Special => "special",
            Self::Convert => "convert",
            Self::Move => "move",
            Self::Memory => "memory",
            Self::Atomic => "atomic",
            Self::Branch => "branch",
            Self::Sync => "sync",
            Self::Tensor => "tensor",
            Self::Async => "async",
            Self::Other => "other",
        }
    }
}

/// A row (or two) of constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Constant {
    /// The low 32 bits of a value in one row.
    Narrow(u32),
    /// A 64-bit value in two rows; the second is `Rest`.
    Wide(u64),
    /// The address of a module variable plus an addend, two rows.
    Symbol(u32, i64),
    /// The address of a function, two rows.
    Function(u32),
    /// The end of dynamic shared memory and like values that a launch decides, one row.
    Launch(LaunchValue),
    /// The second row of the constant before.
    Rest,
}

/// A value that each launch decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum LaunchValue {
    BlockX,
    BlockY,
    BlockZ,
    GridX,
    GridY,
    GridZ,
    DynamicShared,
    TotalShared,
    MultiProcessors,
    Warps,
    WorkspaceLow,
    WorkspaceHigh,
    ClusterX,
    ClusterY,
    ClusterZ,
    ClusterBlocks,
    ClustersX,
    ClustersY,
    ClustersZ,
    ExplicitCluster,
}

/// A shared variable.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedVariable {
    /// Its name.
    pub name: String,
    /// Offset of its first byte.
    pub offset: u32,
    /// Its size.
    pub bytes: u32,
}

/// A kernel parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterLayout {
    /// Offset in the parameter buffer.
    pub offset: u32,
    /// Size in bytes.
    pub bytes: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// `.maxntid` and its like; 0 where the kernel says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most threads of a block.
    pub max_threads: u32,
    /// Threads that a block must have, by dimension.
    pub required: [u32; 3],
    /// Registers that a thread may use.
    pub max_registers: u32,
    /// Blocks of a cluster, by dimension.
    pub cluster: [u32; 3],
    /// Whether a launch must say the size of its clusters (`.explicitcluster`).
    pub explicit_cluster: bool,
    /// Most blocks of a cluster.
    pub max_cluster: u32,
}

/// Data of an instruction that does not fit into it.
pub enum Extra {
    /// A memory access.
    Access(Access),
    /// A call.
    Call(Call),
    /// Branch targets.
    Table(Vec<u32>),
    /// Parts of a packed register; `None` for those that nobody wants.
    Parts(Vec<Option<Slot>>),
    /// A conversion.
    Convert(crate::num::convert::Convert),
    /// A `cp.async`.
    Copy(AsyncCopy),
    /// An operation on mbarriers.
    Mbarrier(MbarrierAccess),
    /// A bulk copy.
    Bulk(BulkCopy),
    /// A copy of a box of a tensor.
    Tensor(TensorCopy),
    /// A store that an mbarrier counts.
    Store(AsyncStore),
    /// A tensor-core product.
    Mma(crate::num::mma::Mma, Vec<Slot>),
    /// A product of a warpgroup.
    Product(Product),
}

/// Order of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Order {
    #[default]
    Weak,
    Volatile,
    Relaxed,
    Acquire,
    Release,
    AcquireRelease,
}

/// Threads that a fence or an ordered access is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Scope {
    Cta,
    Cluster,
    #[default]
    Gpu,
    System,
}

/// A memory access.
#[derive(Clone, Debug)]
pub struct Access {
    /// Type of an element in memory.
    pub ty: ScalarType,
    /// Registers that are read or written, and whether each is 64 bits wide.
    pub registers: Vec<Option<(Slot, bool)>>,
    /// Added to the address.
    pub offset: i64,
    /// Whether the address register is 64 bits wide.
    pub wide_address: bool,
    /// Memory order.
    pub order: Order,
    /// Its scope.
    pub scope: Scope,
    /// Bytes of the vector that are used; others may be uninitialised (`used_bytes_mask`).
    pub used_bytes: u32,
    /// Whether the warp makes the access as one, whichever lane gives the address (`ldmatrix`).
    pub collective: bool,
    /// Whether a `cp.async` makes it, now or later.
    pub asynchronous: bool,
}

/// Where the address of an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Register of the base.
    pub base: Slot,
    /// Whether it is 64 bits wide.
    pub wide: bool,
    /// Added to it.
    pub offset: i64,
    /// The state space: generic, shared or global.
    pub space: u8,
}

/// What is done to an mbarrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MbarrierOperation {
    /// `init`.
    Init,
    /// `inval`.
    Invalidate,
    /// `expect_tx`.
    ExpectTx,
    /// `complete_tx`.
    CompleteTx,
    /// `arrive` and `arrive_drop`.
    Arrive {
        /// Whether later phases expect an arrival less.
        drop: bool,
        /// Whether the operand is a number of bytes to expect, and one thread arrives.
        expect: bool,
        /// Whether the phase must stay incomplete.
        no_complete: bool,
    },
    /// `test_wait` and `try_wait`.
    Wait {
        /// Whether the thread may be suspended.
        suspends: bool,
        /// Whether the operand is a parity, and not a state.
        parity: bool,
    },
    /// `cp.async.mbarrier.arrive`.
    ArriveAfterCopies {
        /// Whether the phase has to count the arrival anyway.
        no_increment: bool,
    },
}

/// An operation on an mbarrier.
#[derive(Clone, Copy, Debug)]
pub struct MbarrierAccess {
    /// What is done.
    pub operation: MbarrierOperation,
    /// Where the mbarrier is.
    pub pointer: Pointer,
    /// Whether it releases or acquires; `.relaxed` does not.
    pub ordered: bool,
}

/// A bulk copy.
#[derive(Clone, Copy, Debug)]
pub struct BulkCopy {
    /// Destination.
    pub to: Pointer,
    /// Source.
    pub from: Pointer,
    /// The mbarrier that counts the bytes; without one the copy belongs to a group.
    pub mbarrier: Option<Pointer>,
    /// How the destination and the source are combined.
    pub reduce: Option<(Operation, ScalarType)>,
    /// Ranks of the blocks of the cluster that get the bytes, one bit each.
    pub multicast: Option<Slot>,
}

/// `st.async` or `red.async`.
#[derive(Clone, Debug)]
pub struct AsyncStore {
    /// Destination.
    pub to: Pointer,
    /// The mbarrier that counts the bytes.
    pub mbarrier: Pointer,
    /// What is stored, and whether each is 64 bits wide.
    pub registers: Vec<(Slot, bool)>,
    /// Type of each.
    pub ty: ScalarType,
    /// How it is combined with what is there.
    pub reduce: Option<Operation>,
}

/// A copy of a box of a tensor.
#[derive(Clone, Debug)]
pub struct TensorCopy {
    /// The tensor map.
    pub map: Pointer,
    /// Registers of the coordinates of the box, the innermost first.
    pub coordinates: Vec<Slot>,
    /// The box in shared memory.
    pub shared: Pointer,
    /// The mbarrier that counts the bytes; without one the copy belongs to a group.
    pub mbarrier: Option<Pointer>,
    /// Ranks of the blocks of the cluster that get the bytes, one bit each.
    pub multicast: Option<Slot>,
    /// Whether the copy goes to shared memory.
    pub loads: bool,
    /// How the tensor and the box are combined.
    pub reduce: Option<Operation>,
}

/// A product of a warpgroup: `wgmma`.
#[derive(Clone, Debug)]
pub struct Product {
    /// The part of one warp in 8 of the columns.
    pub mma: crate::num::mma::Mma,
    /// Columns.
    pub n: u32,
    /// Registers of the sums, those of 8 columns after the other.
    pub d: Vec<Slot>,
    /// Registers of A, if it is not in shared memory.
    pub a: Option<Vec<Slot>>,
    /// Whether A is negated.
    pub a_negated: bool,
    /// Whether B is negated.
    pub b_negated: bool,
    /// Whether neighbours in a column of A follow each other in shared memory, and not those in a row.
    pub a_transposed: bool,
    /// Whether neighbours in a row of B follow each other, and not those in a column.
    pub b_transposed: bool,
}

impl Product {
    /// Bits of a register of A that negate its elements, if they are to be negated.
    pub fn a_sign(&self) -> u32 {
        if self.a_negated { signs(self.mma.a) } else { 0 }
    }

    /// Bits of a register of B that negate its elements, if they are to be negated.
    pub fn b_sign(&self) -> u32 {
        if self.b_negated { signs(self.mma.b) } else { 0 }
    }
}

/// Sign bits of the elements in 32 bits.
fn signs(ty: ScalarType) -> u32 {
    match ty.bytes() {
        1 => 0x8080_8080,
        2 => 0x8000_8000,
        _ => 0x8000_0000,
    }
}

/// Both sides of a `cp.async`.
#[derive(Clone, Debug)]
pub struct AsyncCopy {
    /// The write to shared memory.
    pub to: Access,
    /// The read of global memory.
    pub from: Access,
    /// How much is read; the rest of the destination becomes zero.
    pub source: CopySource,
}

/// How much of its source a `cp.async` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// All of it.
    Whole,
    /// As many bytes as a register says.
    Size,
    /// All of it or nothing: nothing where a predicate is true, or false with the flag.
    Ignored(bool),
}

/// A call of a device function.
#[derive(Clone, Debug)]
pub struct Call {
    /// Rows copied before: from the caller's `.param` to the callee's.
    pub arguments: Vec<(Slot, Slot)>,
    /// Rows copied after: from the callee's to the caller's.
    pub returns: Vec<(Slot, Slot)>,
    /// First instruction; `None` for a call through a pointer, whose callees are in `candidates`.
    pub target: Option<u32>,
    /// End of its instructions.
    pub end: u32,
    /// By function index: first instruction, arguments and returns of functions that the pointer may name.
    pub candidates: Vec<(u32, Call)>,
}
