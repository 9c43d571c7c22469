//! Findings in the manner of NVIDIA's `compute-sanitizer`.

use std::fmt::Write;

use crate::check::finding::{Finding, FindingKind, MemorySpace, Other, SourceLine};

const MARK: &str = "=========";

/// The findings of a launch of blocks of the shape `block`, with the summary at the end. Where `compute-sanitizer` has an
/// offset in machine code there is the line of the PTX.
pub fn sanitizer(findings: &[Finding], block: [u32; 3]) -> String {
    let mut text = format!("{MARK} VIRTUAL-GPU\n");
    for finding in findings {
        for (index, line) in lines(finding, block).into_iter().enumerate() {
            let indent = if index == 0 { "" } else { "    " };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{MARK} {indent}{line}");
        }
        let _ = writeln!(text, "{MARK}");
    }
    let errors = match findings.len() {
        1 => "1 error".to_string(),
        n => format!("{n} errors"),
    };
    let _ = writeln!(text, "{MARK} ERROR SUMMARY: {errors}");
    text
}

fn lines(finding: &Finding, block: [u32; 3]) -> Vec<String> {
    let space = match finding.space {
        MemorySpace::Global => "__global__ ",
        MemorySpace::Shared => "__shared__ ",
        MemorySpace::Local => "__local__ ",
        MemorySpace::None => "",
    };
    let mut lines = Vec::new();
    let access = Access::of(&finding.message);
    let head = match (finding.kind, &access) {
        (
            FindingKind::OutOfBounds
            | FindingKind::UseAfterFree
            | FindingKind::Misaligned
            | FindingKind::WriteToConstOrParam,
            Some(access),
        ) => format!(
            "Invalid {space}{} of size {} bytes",
            access.verb, access.bytes
        ),
        (FindingKind::OutOfBounds | FindingKind::UseAfterFree | FindingKind::Misaligned, None)
        | (FindingKind::WriteToConstOrParam, None) => format!("Invalid {space}access"),
        (FindingKind::UninitializedRead, _) => format!("Uninitialized {space}memory read"),
        (FindingKind::RaceShared | FindingKind::RaceGlobal, _) => {
            format!("Error: Race reported on {space}memory")
        }
        (FindingKind::PendingAsyncRead, _) => {
            format!("Error: Race reported with an asynchronous copy on {space}memory")
        }
        (FindingKind::MissingProxyFence, _) => {
            format!("Error: Race reported between proxies on {space}memory")
        }
        (FindingKind::DivergentBarrier, _) => {
            "Barrier error detected. Divergent thread(s) in block".into()
        }
        (FindingKind::Membermask, _) => "Barrier error detected. Invalid arguments".into(),
        (FindingKind::MbarrierMisuse, _) => {
            "Barrier error detected. Invalid use of an mbarrier".into()
        }
        (FindingKind::Deadlock, _) => "Error: Nobody in the grid can go on".into(),
        (FindingKind::GridNotResident, _) => {
            "Program hit CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE".into()
        }
        (FindingKind::Trap, _) => "Error: The kernel ended itself".into(),
    };
    lines.push(head);
    lines.push(format!(
        "at {}+PTX:{}{}",
        finding.kernel,
        finding.ptx_line,
        within(finding.source.as_ref())
    ));
    if let Some(place) = &finding.inlined_at {
        lines.push(format!("inlined at {place}"));
    }
    lines.push(thread(finding.block, finding.warp, finding.lane, block));
    match access.filter(|_| finding.kind != FindingKind::UninitializedRead) {
        Some(access) => {
            let what = match finding.kind {
                FindingKind::Misaligned => "is misaligned",
                FindingKind::UseAfterFree => "is in memory that has been freed",
                FindingKind::WriteToConstOrParam => "is read-only",
                _ => "is out of bounds",
            };
            if let Some(address) = access.address {
                lines.push(format!("Address {address} {what}"));
            }
            let detail = access.detail.strip_prefix("it ").unwrap_or(access.detail);
            if !detail.is_empty() {
                lines.push(format!("and {detail}"));
            }
        }
        None => lines.push(finding.message.clone()),
    }
    match &finding.other {
        None => {}
        Some(Other::Access {
            access,
            source,
            ptx_line,
            block: at,
            warp,
            lane,
        }) => {
            lines.push(format!(
                "and the other access, {access}, at {}+PTX:{ptx_line}{}",
                finding.kernel,
                within(source.as_ref())
            ));
            lines.push(thread(*at, *warp, *lane, block));
        }
        Some(Other::Waiters { waiters }) => {
            for waiter in waiters {
                let [x, y, z] = waiter.block;
                lines.push(format!(
                    "warp {} of block ({x},{y},{z}), lanes {:#010x},{} waits: {}",
                    waiter.warp,
                    waiter.lanes,
                    within(waiter.source.as_ref()),
                    waiter.waits_for
                ));
            }
        }
    }
    lines
}

fn within(source: Option<&SourceLine>) -> String {
    source.map_or(String::new(), |source| format!(" in {source}"))
}

/// Threads of a block are counted along x first.
fn thread(at: [u32; 3], warp: u32, lane: u32, block: [u32; 3]) -> String {
    let index = u64::from(warp) * 32 + u64::from(lane);
    let (width, height) = (u64::from(block[0].max(1)), u64::from(block[1].max(1)));
    let [x, y, z] = at;
    format!(
        "by thread ({},{},{}) in block ({x},{y},{z})",
        index % width,
        index / width % height,
        index / (width * height)
    )
}

/// What the message of an access says: `read of 4 bytes: address 0x7000: it is ...`.
struct Access<'a> {
    verb: &'a str,
    bytes: &'a str,
    address: Option<&'a str>,
    detail: &'a str,
}

impl<'a> Access<'a> {
    fn of(message: &'a str) -> Option<Self> {
        let (verb, rest) = message.split_once(" of ")?;
        let (bytes, detail) = rest.split_once(" bytes: ")?;
        if !matches!(verb, "read" | "write" | "atomic") || bytes.parse::<u32>().is_err() {
            return None;
        }
        let address = detail.strip_prefix("address ").map(|rest| {
            let end = rest.find([':', ' ', ',']).unwrap_or(rest.len());
            rest.split_at(end)
        });
        Some(Self {
            verb,
            bytes,
            address: address.map(|(address, _)| address),
            detail: address.map_or(detail, |(_, rest)| rest.trim_start_matches([':', ',', ' '])),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: FindingKind, message: &str) -> Finding {
        Finding {
            kernel: "twice".into(),
            kind,
            space: MemorySpace::Global,
            message: message.into(),
            source: Some(SourceLine {
                file: "twice.cu".into(),
                line: 4,
            }),
            inlined_at: None,
            ptx_line: 46,
            block: [3, 0, 0],
            warp: 1,
            lane: 4,
            other: None,
        }
    }

    #[test]
    fn accesses_look_as_people_know_them() {
        let message = "read of 4 bytes: address 0x700000000190: it is 0 bytes past the end of the allocation x of 400 bytes";
        let text = sanitizer(&[finding(FindingKind::OutOfBounds, message)], [8, 4, 2]);
        let expected = "\
========= VIRTUAL-GPU
========= Invalid __global__ read of size 4 bytes
=========     at twice+PTX:46 in twice.cu:4
=========     by thread (4,0,1) in block (3,0,0)
=========     Address 0x700000000190 is out of bounds
=========     and is 0 bytes past the end of the allocation x of 400 bytes
=========
========= ERROR SUMMARY: 1 error
";
        assert_eq!(text, expected);
    }

    #[test]
    fn races_name_both_sides() {
        let mut race = finding(FindingKind::RaceGlobal, "two blocks meet");
        race.other = Some(Other::Access {
            access: "write".into(),
            source: None,
            ptx_line: 50,
            block: [0, 0, 0],
            warp: 0,
            lane: 31,
        });
        let text = sanitizer(&[race], [64, 1, 1]);
        for line in [
            "========= Error: Race reported on __global__ memory\n",
            "=========     by thread (36,0,0) in block (3,0,0)\n",
            "=========     two blocks meet\n",
            "=========     and the other access, write, at twice+PTX:50\n",
            "=========     by thread (31,0,0) in block (0,0,0)\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(sanitizer(&[], [1, 1, 1]).ends_with("ERROR SUMMARY: 0 errors\n"));
    }
}
