//! The arguments of the kernels: the structures of the same names in `kernels/`, field by field.

macro_rules! arguments {
    ($($(#[$about:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name {
            $(pub $field: $type,)*
        }

        impl $name {
            /// The structure as C lays it out. Words of 8 bytes come first and words of 4 in pairs: nothing pads.
            pub fn to_bytes(self) -> Vec<u8> {
                let mut bytes = Vec::new();
                $(bytes.extend(self.$field.to_le_bytes());)*
                bytes
            }
        }
    )*};
}

arguments! {
    /// Of `stream.cu`.
    StreamArguments { from: u64, to: u64, vectors: u64, sum: u64, }
    /// Of `ring.cuh`.
    RingArguments {
        tape: u64, block_stride: u64, stage_stride: u64, sums: u64, stamps: u64, fault: u64,
        stage_bytes: u32, stages: u32, wrap: u32, count: u32, hint: u32, producers: u32,
    }
    /// Of `ring.cu`.
    PrefetchArguments { tape: u64, block_bytes: u64, }
    /// Of `edge.cuh`.
    EdgeArguments {
        counters: u64, payload: u64, sums: u64, stamps: u64, fault: u64,
        kind: u32, spread: u32, count: u32, warm: u32,
    }
    /// Of `broadcast.cu`.
    BroadcastArguments { from: u64, sums: u64, stamps: u64, vectors: u32, rounds: u32, }
    /// Of `mma.cu`.
    MmaArguments { sums: u64, stamps: u64, count: u32, pad: u32, }
    /// Of `drain.cu`.
    DrainArguments {
        weights: u64, activations: u64, results: u64, stamps: u64, fault: u64, stages: u32, count: u32,
    }
    /// Of `host.cu`.
    HostArguments { ring: u64, sum: u64, stamps: u64, fault: u64, slots: u32, count: u32, }
    /// Of `release.cu`.
    ReleaseArguments { counter: u64, sink: u64, clocks: u64, count: u32, pad: u32, }
}
