//! A call in launches of a few phases each leaves the bits of one launch.

use crate::chains::{executor, outputs, rows, sequence};
use crate::{shared, tokens};
use stheno::device::DeviceForward;
use stheno::plan::SegmentKind;

#[test]
fn calls_in_steps_equal_whole_calls() {
    let executor = executor(shared());
    let prefix = sequence(executor, &tokens(126, 8));
    for (segment, count) in [(SegmentKind::Target, 5), (SegmentKind::Prefill, 20)] {
        let tokens = tokens(count, 9);
        let path: Vec<u32> = (0..count as u32).collect();
        let phases = executor.phases_of(segment);
        let (mut kv, mut whole) = (prefix.clone(), DeviceForward::default());
        let mut rows = rows(&kv, &tokens);
        // Fewer outputs than rows, so that the residual is narrowed on the way.
        rows[0].output = false;
        executor
            .forward(segment, &rows, &mut kv, &mut whole)
            .unwrap();
        executor.commit(&mut kv, &whole, &path).unwrap();
        let each: Vec<u32> = (1..phases).collect();
        let splits = [1, 2, 5, phases / 2, phases - 2, phases - 1];
        let splits = splits.iter().map(|split| vec![*split]);
        for starts in splits.chain([vec![], vec![3, 4, phases - 3], each]) {
            let (mut stepped_kv, mut stepped) = (prefix.clone(), DeviceForward::default());
            let before = executor.context().calls().launches;
            executor
                .forward_stepped(segment, &rows, &starts, &mut stepped_kv, &mut stepped)
                .unwrap();
            let launches = executor.context().calls().launches - before;
            // Tests beside this one launch as well.
            assert!(launches > starts.len() as u64);
            executor.commit(&mut stepped_kv, &stepped, &path).unwrap();
            assert!(
                outputs(executor, &stepped) == outputs(executor, &whole),
                "{segment} in launches from {starts:?}"
            );
            assert!(stepped_kv.read().unwrap() == kv.read().unwrap());
        }
    }
}

#[test]
fn launches_that_do_not_ascend_are_refused() {
    let executor = executor(shared());
    let mut kv = sequence(executor, &tokens(3, 1));
    let phases = executor.phases_of(SegmentKind::Target);
    let rows = rows(&kv, &[1]);
    for starts in [vec![0], vec![2, 2], vec![3, 2], vec![phases]] {
        let mut forward = DeviceForward::default();
        let segment = SegmentKind::Target;
        let refused = executor.forward_stepped(segment, &rows, &starts, &mut kv, &mut forward);
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("do not ascend"), "{starts:?}: {error}");
    }
}
