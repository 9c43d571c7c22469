//! What the command refuses, with exit code 2 and one clear message.

use std::fs;

use crate::{DOUBLE, Folder, command, twice};

#[test]
fn cases_that_are_wrong() {
    for (from, to, part) in [
        ("{\"kernel\"", "\"kernel\"", "k.json: "),
        (
            "\"kernel\": \"twice\"",
            "\"kernel\": \"thrice\"",
            "there is no kernel `thrice`",
        ),
        ("[4, 1, 1]", "[0, 1, 1]", "`grid` is [0, 1, 1]"),
        ("\"f32\"", "\"f31\"", "unknown variant `f31`"),
        (
            ", \"args\": [",
            ", \"args\": [{\"scalar\": \"i32\", \"value\": 1},",
            "the case gives 4 arguments, but twice takes 3",
        ),
        (
            "\"i32\"",
            "\"f64\"",
            "argument 2 has 8 bytes, but twice takes 4 there",
        ),
        (
            "compute_80",
            "compute_10",
            "does not compile for compute_10",
        ),
    ] {
        let case = twice(100);
        assert!(case.contains(from), "{from}");
        let outcome = Folder::new(DOUBLE, &case.replacen(from, to, 1)).run(&[]);
        assert_eq!(outcome.code, 2, "{to}: {}{}", outcome.out, outcome.err);
        assert!(outcome.err.contains(part), "{to}: {}", outcome.err);
        assert_eq!(outcome.out, "");
    }
}

#[test]
fn flags_that_are_wrong() {
    let folder = Folder::new(DOUBLE, &twice(100));
    for arguments in [
        &["--frobnicate"][..],
        &["--profile", "h101"],
        &["--checks", "some"],
        &["--sms", "0"],
        &["--seed", "-1"],
        &["--mma", "vague"],
        &["--source", "k.cu", "--ptx", "k.ptx"],
        &["--inputs", "nowhere"],
        &["--source", "nowhere.cu"],
        &["--ptx", "nowhere.ptx"],
    ] {
        let outcome = folder.run(arguments);
        assert_eq!(
            outcome.code, 2,
            "{arguments:?}: {}{}",
            outcome.out, outcome.err
        );
        assert_eq!(outcome.out, "");
    }
    assert_eq!(command(folder.0.path(), &["run", "nowhere.json"]).code, 2);
    assert_eq!(command(folder.0.path(), &[]).code, 2);
    assert_eq!(command(folder.0.path(), &["--help"]).code, 0);
}

#[test]
fn a_source_that_is_missing_is_named() {
    let folder = Folder::new(DOUBLE, &twice(100));
    fs::remove_file(folder.path("k.cu")).unwrap();
    let outcome = folder.run(&[]);
    assert_eq!(outcome.code, 2);
    assert!(
        outcome.err.contains("k.cu cannot be read"),
        "{}",
        outcome.err
    );
}

#[test]
fn a_source_that_does_not_compile_shows_the_log() {
    let folder = Folder::new(&DOUBLE.replace("x[i]", "z[i]"), &twice(100));
    let outcome = folder.run(&["--json"]);
    assert_eq!(outcome.code, 2);
    assert!(
        outcome.err.contains("identifier \"z\" is undefined"),
        "{}",
        outcome.err
    );
    assert!(outcome.err.contains("k.cu(4)"), "{}", outcome.err);
}

const PTX: &str = ".version 8.0
.target sm_80
.address_size 64
.visible .entry twice(.param .u64 x, .param .u64 y, .param .u32 n)
{
    .reg .b32 %r<2>;
    mov.u32 %r1, %tid.x;
    ret;
}
";

#[test]
fn ptx_is_run_and_what_it_does_not_know_is_named_with_its_line() {
    let folder = Folder::new(DOUBLE, &twice(100));
    folder.write("k.ptx", PTX);
    let outcome = folder.run(&["--ptx", "k.ptx"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let info = command(folder.0.path(), &["info", "k.ptx"]);
    assert_eq!(info.code, 0, "{}", info.err);
    assert!(
        info.out.starts_with("k.ptx: PTX 8.0 for sm_80\n\ntwice\n"),
        "{}",
        info.out
    );
    assert!(
        info.out.contains("3, of 8, 8, 4 bytes (20 in all)"),
        "{}",
        info.out
    );

    folder.write(
        "k.ptx",
        &PTX.replace("mov.u32 %r1, %tid.x", "frob.u32 %r1, %r1"),
    );
    for arguments in [&["run", "k.json", "--ptx", "k.ptx"][..], &["info", "k.ptx"]] {
        let outcome = command(folder.0.path(), arguments);
        assert_eq!((outcome.code, outcome.out.as_str()), (2, ""));
        assert!(outcome.err.contains("PTX line 7: "), "{}", outcome.err);
        assert!(outcome.err.contains("frob.u32"), "{}", outcome.err);
    }
}

#[test]
fn profiles_are_listed() {
    let folder = Folder::new(DOUBLE, &twice(100));
    let outcome = command(folder.0.path(), &["profiles"]);
    assert_eq!(outcome.code, 0);
    assert!(
        outcome.out.contains("132 multiprocessors"),
        "{}",
        outcome.out
    );
    assert_eq!(
        outcome.out.lines().count(),
        virtual_gpu::Profile::NAMES.len()
    );
}
