//! The code for any processor, where this one has code of its own: in another process, as the choice is made once.

use std::process::Command;

#[test]
fn code_for_any_processor_gives_the_same_results() {
    let own = std::env::current_exe().unwrap();
    let modules = [
        "bits::",
        "compare::",
        "convert::",
        "float::",
        "half::",
        "integer::",
        "moves::",
        "warp::",
    ];
    let output = Command::new(own)
        .args(modules)
        .env("VIRTUAL_GPU_PORTABLE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains(" 0 passed"), "{said}");
}
