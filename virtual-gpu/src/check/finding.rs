//! Findings: what a check reports, in the JSON of the kernel case report and as text for people.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The defect that a finding names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An access outside of every live allocation, or past the end of shared or local memory.
    OutOfBounds,
    /// An address that is not a multiple of the access size.
    Misaligned,
    /// A value was used that nobody has written.
    UninitializedRead,
    /// An access to memory that has been freed.
    UseAfterFree,
    /// Two unordered accesses to shared memory, at least one of them a write.
    RaceShared,
    /// Two unordered accesses to global memory, at least one of them a write.
    RaceGlobal,
    /// An access to bytes that an asynchronous copy may still be writing.
    PendingAsyncRead,
    /// The async proxy touches bytes of the generic proxy with no `fence.proxy.async` between.
    MissingProxyFence,
    /// Lanes or warps wait at different barriers, or one has left that is waited for.
    DivergentBarrier,
    /// A member mask names lanes that cannot arrive, or leaves out the executing lane.
    Membermask,
    /// Nobody can go on.
    Deadlock,
    /// An mbarrier was used against its rules.
    MbarrierMisuse,
    /// A cooperative grid has more blocks than fit on the device at once.
    GridNotResident,
    /// A store to constant memory or to kernel parameters.
    WriteToConstOrParam,
    /// The kernel executed `trap` or a failed assertion.
    Trap,
}

impl FindingKind {
    /// The name of the kind in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::OutOfBounds => "out_of_bounds",
            Self::Misaligned => "misaligned",
            Self::UninitializedRead => "uninitialized_read",
            Self::UseAfterFree => "use_after_free",
            Self::RaceShared => "race_shared",
            Self::RaceGlobal => "race_global",
            Self::PendingAsyncRead => "pending_async_read",
            Self::MissingProxyFence => "missing_proxy_fence",
            Self::DivergentBarrier => "divergent_barrier",
            Self::Membermask => "membermask",
            Self::Deadlock => "deadlock",
            Self::MbarrierMisuse => "mbarrier_misuse",
            Self::GridNotResident => "grid_not_resident",
            Self::WriteToConstOrParam => "write_to_const_or_param",
            Self::Trap => "trap",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The memory that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemorySpace {
    /// Device memory.
    Global,
    /// Shared memory of a block.
    Shared,
    /// Local memory of a thread.
    Local,
    /// No memory is involved.
    #[serde(rename = "-")]
    None,
}

/// A line of source text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceLine {
    /// File name as the compiler wrote it.
    pub file: String,
    /// Line, counted from 1.
    pub line: u32,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One warp that waits, as a deadlock lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherWaiter {
    /// Block index.
    pub block: [u32; 3],
    /// Warp within the block.
    pub warp: u32,
    /// Lanes that wait, one bit each.
    pub lanes: u32,
    /// Line of the PTX text.
    pub ptx_line: u32,
    /// Source line, if the PTX carries line information.
    pub source: Option<SourceLine>,
    /// What it waits for.
    pub waits_for: String,
}

/// The second party of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Other {
    /// The earlier access of a race.
    Access {
        /// What it did: `read`, `write`, `atomic`, `async read`, ...
        access: String,
        /// Source line, if the PTX carries line information.
        source: Option<SourceLine>,
        /// Line of the PTX text.
        ptx_line: u32,
        /// Block index.
        block: [u32; 3],
        /// Warp within the block.
        warp: u32,
        /// Lane within the warp.
        lane: u32,
    },
    /// Everybody else who waits in a deadlock.
    Waiters {
        /// The waiting warps.
        waiters: Vec<OtherWaiter>,
    },
}

/// One defect, at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the kernel, for people; the report of a case has one kernel and does not repeat it.
    #[serde(skip)]
    pub kernel: String,
    /// What is wrong.
    pub kind: FindingKind,
    /// The memory that is involved.
    pub space: MemorySpace,
    /// One sentence that says what was found and what to do.
    pub message: String,
    /// Source line, if the PTX carries line information.
    pub source: Option<SourceLine>,
    /// Where the function that holds `source` was inlined.
    pub inlined_at: Option<SourceLine>,
    /// Line of the PTX text.
    pub ptx_line: u32,
    /// Block index.
    pub block: [u32; 3],
    /// Warp within the block.
    pub warp: u32,
    /// Lane within the warp.
    pub lane: u32,
    /// The second access of a race or the other waiters of a deadlock.
    pub other: Option<Other>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.kind, self.kernel)?;
        if let Some(source) = &self.source {
            write!(f, " at {source}")?;
        }
        if let Some(place) = &self.inlined_at {
            write!(f, " (inlined at {place})")?;
        }
        let [x, y, z] = self.block;
        write!(
            f,
            ", PTX line {}, block ({x}, {y}, {z}) warp {} lane {}",
            self.ptx_line, self.warp, self.lane
        )?;
        write!(f, ": {}", self.message)
    }
}

/// The findings of a launch: one per defect, with the number of times it was met.
#[derive(Clone, Debug)]
pub struct Findings {
    entries: Vec<(Finding, u64)>,
    index: HashMap<(FindingKind, u32, Option<u32>), usize>,
    limit: usize,
    dropped: u64,
}

impl Default for Findings {
    fn default() -> Self {
        Self::with_limit(100)
    }
}

impl Findings {
    /// Keeps at most `limit` different findings.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            entries: Vec::new(),
            index: HashMap::new(),
            limit,
            dropped: 0,
        }
    }

    /// Adds a finding at instruction `pc`; `other` is the instruction of the second access. A finding of the same kind
    /// at the same places is only counted. Returns true if the finding is new and was kept.
    pub fn push(&mut self, finding: Finding, pc: u32, other: Option<u32>) -> bool {
        let key = (finding.kind, pc, other);
        if let Some(&at) = self.index.get(&key) {
            self.entries[at].1 += 1;
            return false;
        }
        if self.entries.len() == self.limit {
            self.dropped += 1;
            return false;
        }
        self.index.insert(key, self.entries.len());
        self.entries.push((finding, 1));
        true
    }

    /// The findings in the order in which they were first met, each with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&Finding, u64)> {
        self.entries
            .iter()
            .map(|(finding, count)| (finding, *count))
    }

    /// Number of different findings that were kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nothing was found.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many findings did not fit below the limit.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Serialize for Findings {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.entries.iter().map(|(finding, _)| finding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Finding {
        Finding {
            kernel: "scan".into(),
            kind: FindingKind::RaceShared,
            space: MemorySpace::Shared,
            message: "two warps meet".into(),
            source: Some(SourceLine {
                file: "k.cu".into(),
                line: 15,
            }),
            inlined_at: None,
            ptx_line: 88,
            block: [0, 1, 0],
            warp: 3,
            lane: 17,
            other: Some(Other::Access {
                access: "write".into(),
                source: None,
                ptx_line: 70,
                block: [0, 1, 0],
                warp: 1,
                lane: 2,
            }),
        }
    }

    #[test]
    fn json_has_the_fields_of_the_case_report() {
        let text = serde_json::to_string(&example()).unwrap();
        let expected = concat!(
            r#"{"kind":"race_shared","space":"shared","message":"two warps meet","#,
            r#""source":{"file":"k.cu","line":15},"inlined_at":null,"ptx_line":88,"block":[0,1,0],"warp":3,"lane":17,"#,
            r#""other":{"access":"write","source":null,"ptx_line":70,"block":[0,1,0],"warp":1,"lane":2}}"#
        );
        assert_eq!(text, expected);
        let space = serde_json::to_string(&MemorySpace::None).unwrap();
        assert_eq!(space, r#""-""#);
    }

    #[test]
    fn names_are_those_of_the_json() {
        for kind in [
            FindingKind::UninitializedRead,
            FindingKind::WriteToConstOrParam,
            FindingKind::MbarrierMisuse,
        ] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
    }

    #[test]
    fn text_names_kernel_line_and_thread() {
        assert_eq!(
            example().to_string(),
            "race_shared in scan at k.cu:15, PTX line 88, block (0, 1, 0) warp 3 lane 17: two warps meet"
        );
    }

    #[test]
    fn same_places_are_counted_once_and_the_limit_holds() {
        let mut findings = Findings::with_limit(2);
        assert!(findings.push(example(), 5, Some(9)));
        assert!(!findings.push(example(), 5, Some(9)));
        assert!(findings.push(example(), 5, Some(10)));
        assert!(!findings.push(example(), 6, None));
        assert_eq!(
            findings.iter().map(|(_, count)| count).collect::<Vec<_>>(),
            [2, 1]
        );
        assert_eq!((findings.len(), findings.dropped()), (2, 1));
        assert_eq!(
            serde_json::to_value(&findings)
                .unwrap()
                .as_array()
                .unwrap()
                .len(),
            2
        );
    }
}
