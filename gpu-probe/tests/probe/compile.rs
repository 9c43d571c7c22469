//! What ptxas makes of the kernels.

use gpu_probe::{ARCHITECTURES, MODULES, compile};
use std::collections::BTreeSet;
use stheno_jit::Target;

#[test]
fn six_architectures_compile_without_spills() {
    let nvrtc = crate::nvrtc();
    for architecture in ARCHITECTURES {
        let mut kernels = BTreeSet::new();
        for module in MODULES {
            let compiled = compile(&nvrtc, module, Target::Real(architecture.to_owned()))
                .unwrap_or_else(|error| panic!("{error:#}"));
            assert!(
                compiled
                    .cubin
                    .is_some_and(|cubin| cubin.starts_with(b"\x7fELF"))
            );
            for function in &compiled.resources {
                assert_eq!(
                    (function.spill_stores, function.spill_loads),
                    (0, 0),
                    "{} for {architecture}",
                    function.name
                );
                assert!(
                    function.kernel,
                    "{} is not inlined for {architecture}",
                    function.name
                );
                kernels.insert(function.name.clone());
            }
        }
        let bulk = !matches!(architecture, "sm_80" | "sm_86" | "sm_89");
        assert!(kernels.contains("ring_async"));
        assert_eq!(
            (
                kernels.contains("ring_bulk"),
                kernels.contains("edge_loaded_bulk")
            ),
            (bulk, bulk),
            "{architecture}"
        );
    }
}
