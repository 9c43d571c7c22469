//! What the attention phase needs of the workspace (see `attention.cuh`).

/// Partial results of a query head while they are of less than spans, `PARTIAL_LIMIT` of `attention_split.cuh`.
const PARTIAL_LIMIT: u64 = 256;
/// Positions of a span.
const SPAN: u64 = 8192;

/// Query heads that may share a KV head: up to here `Split::node_of` of `attention_split.cuh` is exact.
pub const GROUP_LIMIT: u32 = 512;

/// Bytes at `AttentionPhase::partials`, for calls of up to `rows` rows at positions below `context`, with `query_heads` heads
/// of `head_dim`. Nothing has to be there when a phase begins.
pub fn partial_bytes(rows: u32, query_heads: u32, head_dim: u32, context: u32) -> u64 {
    let spans = u64::from(context).div_ceil(SPAN);
    let of_head = PARTIAL_LIMIT.max(u64::from(rows) * spans);
    of_head * u64::from(query_heads) * (u64::from(head_dim) + 4) * 4
}

/// Bytes at `AttentionPhase::counters`, for calls of up to `rows` rows. They are zero before the first phase.
pub fn counter_bytes(rows: u32, query_heads: u32, kv_heads: u32) -> u64 {
    let group = u64::from(query_heads / kv_heads);
    let row_blocks = (u64::from(rows) * group).div_ceil(16);
    (1 + row_blocks) * u64::from(kv_heads) * 4
}

#[cfg(test)]
mod tests {
    use super::GROUP_LIMIT;

    /// Of the query rows of 64 rows, and the one after them, for each size of a group.
    #[test]
    fn products_divide_like_divisions() {
        for group in 1..=GROUP_LIMIT {
            let factor = (1u32 << 24).div_ceil(group);
            for row in 0..=64 * group {
                assert_eq!(
                    row.checked_mul(factor).unwrap() >> 24,
                    row / group,
                    "{group}"
                );
            }
        }
    }

    use super::*;

    #[test]
    fn partials_grow_with_rows_and_context_only_when_they_must() {
        assert_eq!(partial_bytes(1, 32, 128, 4096), 256 * 32 * 132 * 4);
        assert_eq!(partial_bytes(64, 32, 128, 32768), 256 * 32 * 132 * 4);
        assert_eq!(partial_bytes(64, 32, 128, 131_072), 1024 * 32 * 132 * 4);
    }

    #[test]
    fn counters_are_of_heads_and_of_their_row_blocks() {
        assert_eq!(counter_bytes(1, 32, 8), 2 * 8 * 4);
        assert_eq!(counter_bytes(64, 9, 1), 37 * 4);
    }
}
