// A word through memory of the host and back.
#include "probe.cuh"

struct HostArguments {
    u64 ring;    // mapped host memory: u32 tail, at byte 128 u32 reply, from byte 256 `slots` tokens of u32
    u64 sum;     // u32: the sum of the replies
    u64 stamps;  // Stamp
    u64 fault;
    u32 slots;
    u32 count;
};

// One thread: writes a token and then the tail, and waits for the host to say that it has seen it.
KERNEL host_ring(const HostArguments arguments) {
    const Stamp stamp = stamp_begin();
    u32 sum = 0;
    for (u32 i = 1; i <= arguments.count; i++) {
        const u64 slot = arguments.ring + 256 + i % arguments.slots * 4;
        asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(slot), "r"(i * 0x9e3779b1u) : "memory");
        asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(arguments.ring), "r"(i) : "memory");
        u32 reply = 0;
        for (u32 polls = 0; reply != i * 0x9e3779b1u + 1;) {
            asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(reply) : "l"(arguments.ring + 128) : "memory");
            if (++polls == POLLS) give_up(arguments.fault, WAIT_HOST);
        }
        sum += reply;
    }
    stamp_end(stamp, arguments.count, arguments.stamps);
    *(u32*)arguments.sum = sum;
}
