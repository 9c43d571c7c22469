//! What ptxas makes of the kernel: registers and bytes of spills, kept in `compiled.txt`.

use crate::models::{self, Sizes, TOY};
use crate::{drafts, program, program_of};
use stheno_codegen::jit::{Compiled, FindOptions, Nvrtc, Request, Target};
use stheno_codegen::layout::{Group, WeightFormat};
use stheno_codegen::plan::Plan;
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

/// Programs whose kernels are measured: every row layout, in the lightest form of weights and in the heaviest of each kind.
fn cases() -> Vec<(String, DeviceProgram)> {
    let int = |group, offset| WeightFormat::Int4 { group, offset };
    let formats = [
        (WeightFormat::Bf16, &[8, 16, 32, 64][..]),
        (WeightFormat::F16, &[16]),
        (WeightFormat::Fp8E4M3 { group: Group::G32 }, &[32]),
        (
            WeightFormat::Int8 {
                group: Group::G16,
                offset: true,
            },
            // Beyond, they have no program: its registers would not suffice.
            &[32],
        ),
        (int(Group::G128, false), &[8, 16, 32, 64]),
        (int(Group::G32, true), &[8, 64]),
    ];
    let case = |(format, rows): (WeightFormat, u32)| {
        let name = format!("{format}, {rows} rows");
        (name, program(TOY, |_| format, 4, rows))
    };
    let all = formats.iter();
    let all = all.flat_map(|(format, rows)| rows.iter().map(|rows| case((*format, *rows))));
    let plain = Plan {
        looks_up: false,
        ..models::plan(Sizes {
            draft: false,
            ..TOY
        })
    };
    let drafts = [
        ("eagle3", drafts::eagle3(), 16),
        ("medusa", drafts::medusa(), 64),
        ("no guesses", plain, 64),
    ];
    let drafts = drafts.into_iter().map(|(name, plan, rows)| {
        let format = int(Group::G128, false);
        let program = program_of(&plan, |_| format, 4, rows).unwrap();
        (format!("{name}, {format}, {rows} rows"), program)
    });
    all.chain(drafts).collect()
}

/// Registers of the kernel, and the bytes that it and the functions which it calls spill.
fn measure(program: &DeviceProgram, architecture: &str) -> String {
    let compiled = compile(program, Target::Real(architecture.to_owned()));
    let kernel = compiled.kernel(KERNEL).unwrap();
    let functions = compiled.resources.iter();
    let of = functions.map(|f| (f.name.as_str(), f.spill_stores + f.spill_loads));
    let of = of.filter(|(_, spilled)| *spilled > 0);
    let of =
        of.inspect(|(name, spilled)| println!("{architecture}: {name} spills {spilled} bytes"));
    let spilled: u32 = of.map(|(_, spilled)| spilled).sum();
    format!("{architecture} {} ({spilled})", kernel.registers)
}

/// The file with the lines of programs whose names contain `which` measured anew.
fn measure_all(file: &str, which: &str) -> String {
    let cases = cases();
    let lines = cases.iter().map(|(name, program)| {
        let known = file
            .lines()
            .find(|line| line.starts_with(&format!("{name}: ")));
        if let Some(line) = known.filter(|_| !name.contains(which)) {
            return format!("{line}\n");
        }
        let halves = [&ARCHITECTURES[..3], &ARCHITECTURES[3..]];
        let found = std::thread::scope(|scope| {
            let of = |half: &'static [&str]| half.iter().map(|a| measure(program, a)).collect();
            let workers = halves.map(|half| scope.spawn(move || -> Vec<String> { of(half) }));
            workers.map(|worker| worker.join().unwrap()).concat()
        });
        format!("{name}: {}\n", found.join(", "))
    });
    lines.collect()
}

/// Each line of the file is `program: architecture registers (spilled bytes), ...`. One of its entries is measured again; with
/// `STHENO_MEASURE_REGISTERS` it is written anew: all of it with 1, otherwise the programs whose names contain what it says.
#[test]
fn registers_are_on_record_and_none_is_spilled() {
    let mut file = std::fs::read_to_string(FILE).unwrap();
    if let Ok(which) = std::env::var("STHENO_MEASURE_REGISTERS") {
        file = measure_all(&file, if which == "1" { "" } else { &which });
        std::fs::write(FILE, &file).unwrap();
    }
    let cases = cases();
    assert_eq!(file.lines().count(), cases.len());
    for (line, (name, program)) in file.lines().zip(&cases) {
        let entries = line.strip_prefix(&format!("{name}: "));
        let entries = entries.unwrap_or_else(|| panic!("{line}: of {name}"));
        let entries: Vec<&str> = entries.split(", ").collect();
        assert_eq!(entries.len(), ARCHITECTURES.len(), "{line}");
        for entry in &entries {
            assert!(entry.ends_with(" (0)"), "{name}: {entry}");
        }
        let again = match name.as_str() {
            "int4 g128, 64 rows" => 3,
            _ => continue,
        };
        assert_eq!(
            measure(program, ARCHITECTURES[again]),
            entries[again],
            "{name}"
        );
    }
}
