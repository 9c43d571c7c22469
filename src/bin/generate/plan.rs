use crate::args::PlanArgs;
use crate::output::{print, print_json};
use crate::{load, speculation};
use anyhow::{Context, Result, bail};
use std::path::Path;
use stheno_codegen::program::Source;

/// Name of the source that is compiled.
const PROGRAM: &str = "decode.cu";

/// `generate plan`. Reads headers only, and for a device's program the weights.
pub fn run(args: &PlanArgs) -> Result<u8> {
    speculation::check_draft(&args.draft)?;
    let builder = load::builder(&args.model, Some(&args.draft))?;
    let plan = builder.plan()?;
    if args.json && args.emit.is_none() {
        print_json(&plan)?;
        return Ok(0);
    }
    let program = builder.device_program()?;
    if let Some(directory) = &args.emit {
        let Some(program) = &program else {
            bail!("the host runs no CUDA source; choose a device with --device cuda:N or virtual");
        };
        emit(&program.source, directory)?;
    }
    if args.json {
        print_json(&plan)?;
        return Ok(0);
    }
    print(&plan.to_string())?;
    if let Some(program) = program {
        print(&format!("device program: {program}"))?;
    }
    Ok(0)
}

/// The source and its headers as files, as the compiler gets them.
fn emit(source: &Source, directory: &Path) -> Result<()> {
    let write = |name: &str, text: &str| -> Result<()> {
        let path = directory.join(name);
        let parent = path.parent().unwrap_or(directory);
        let written = std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, text));
        written.with_context(|| format!("cannot write {}", path.display()))
    };
    for (name, text) in source.headers() {
        write(&name, &text)?;
    }
    write(PROGRAM, &source.program)?;
    eprintln!(
        "{}, for NVRTC with --std=c++17 and --include-path={}",
        directory.join(PROGRAM).display(),
        directory.display()
    );
    Ok(())
}
