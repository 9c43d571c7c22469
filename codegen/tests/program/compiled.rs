//! What ptxas makes of the kernel: registers and bytes of spills, kept in `compiled.txt`.

use crate::models::TOY;
use crate::program;
use stheno_codegen::jit::{Compiled, FindOptions, Nvrtc, Request, Target};
use stheno_codegen::layout::{Group, WeightFormat};
use stheno_codegen::program::{DeviceProgram, KERNEL};

const ARCHITECTURES: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"];

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/program/compiled.txt");

fn compile(program: &DeviceProgram, target: Target) -> Compiled {
    let options = FindOptions::for_project(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let nvrtc = Nvrtc::find(&options).unwrap_or_else(|error| panic!("{error}"));
    let mut request = Request::new("decode.cu", &*program.source.program, target);
    request.headers = program.source.headers();
    request.options = vec!["--std=c++17".to_owned()];
    nvrtc
        .compile(&request)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Programs whose kernels are measured.
fn cases() -> Vec<(String, DeviceProgram)> {
    let int4 = WeightFormat::Int4 {
        group: Group::G128,
        offset: false,
    };
    let case = |format: WeightFormat, rows| {
        let name = format!("{format}, {rows} rows");
        (name, program(TOY, |_| format, 4, rows))
    };
    vec![case(WeightFormat::Bf16, 8), case(int4, 16)]
}

/// Registers of the kernel, and the bytes that it and the functions which it calls store and load of registers: those that a
/// call saves, where none is wanting.
fn measure(program: &DeviceProgram, architecture: &str) -> String {
    let compiled = compile(program, Target::Real(architecture.to_owned()));
    let kernel = compiled.kernel(KERNEL).unwrap();
    let functions = compiled.resources.iter();
    let saved = functions
        .map(|f| f.spill_stores + f.spill_loads)
        .sum::<u32>();
    format!("{architecture} {} ({saved})", kernel.registers)
}

/// Each line of the file, `program: architecture registers (bytes), ...`, is checked on one of the architectures in turn; with
/// `STHENO_MEASURE_REGISTERS` the file is written anew.
#[test]
fn registers_are_on_record() {
    let cases = cases();
    if std::env::var_os("STHENO_MEASURE_REGISTERS").is_some() {
        let lines = cases.iter().map(|(name, program)| {
            let found = ARCHITECTURES.map(|architecture| measure(program, architecture));
            format!("{name}: {}\n", found.join(", "))
        });
        std::fs::write(FILE, lines.collect::<String>()).unwrap();
    }
    let file = std::fs::read_to_string(FILE).unwrap();
    assert_eq!(file.lines().count(), cases.len());
    for (i, (line, (name, program))) in file.lines().zip(&cases).enumerate() {
        let found = line.strip_prefix(&format!("{name}: ")).unwrap();
        let architecture = 3 - i;
        let expected = found.split(", ").nth(architecture).unwrap();
        assert_eq!(
            measure(program, ARCHITECTURES[architecture]),
            expected,
            "{name}"
        );
    }
}
