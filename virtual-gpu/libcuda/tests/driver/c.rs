//! The header `virtual_gpu.h`, from C: a program that uses all of it.

use crate::harness::{command, folder, library, ptx, succeeded};
use std::path::Path;
use std::process::Command;

/// Launches `write` on 16 bytes with more threads than they have room for, and asks for everything.
const PROGRAM: &str = r#"
#include "virtual_gpu.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of cuda.h, which need not be installed. */
extern int cuInit(unsigned), cuDevicePrimaryCtxRetain(void **, int), cuCtxSetCurrent(void *), cuCtxSynchronize(void);
extern int cuModuleLoad(void **, const char *), cuModuleGetFunction(void **, void *, const char *);
extern int cuMemAlloc_v2(unsigned long long *, size_t), cuMemcpyHtoD_v2(unsigned long long, const void *, size_t);
extern int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);

#define OK(call) do { int code = (call); if (code) { fprintf(stderr, "%s: %d\n", #call, code); exit(1); } } while (0)
#define IS(call, wanted) do { int code = (call); if (code != (wanted)) { fprintf(stderr, "%s: %d\n", #call, code); exit(1); } } while (0)

static void show(enum virtualGpuFormat format) {
    size_t needed = 0;
    OK(virtualGpuGetReport(format, NULL, 0, &needed));
    char *text = malloc(needed + 1);
    OK(virtualGpuGetReport(format, text, needed + 1, NULL));
    if (strlen(text) != needed) exit(2);
    puts(text);
    free(text);
}

int main(int count, char **arguments) {
    size_t found = 7;
    if (count != 3) return 2;
    IS(virtualGpuGetFindingCount(&found), 3);
    OK(cuInit(0));
    void *context, *module, *function;
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    OK(cuModuleLoad(&module, arguments[1]));
    OK(cuModuleGetFunction(&function, module, "store"));
    unsigned long long x = 0;
    OK(cuMemAlloc_v2(&x, 16));
    int n = 4;
    void *parameters[] = {&x, &n};
    IS(virtualGpuSetOption("checks", "some"), 1);
    IS(virtualGpuSetOption("colour", "red"), 1);
    OK(virtualGpuSetOption("checks", "all"));
    OK(virtualGpuSetOption("seed", "3"));
    OK(virtualGpuSetOption("strict", "1"));
    IS(virtualGpuGetReport(VIRTUAL_GPU_COUNTERS, NULL, 0, NULL), 500);
    OK(virtualGpuSetOption("counters", "1"));
    OK(cuLaunchKernel(function, 1, 1, 1, 4, 1, 1, 0, NULL, parameters, NULL));
    OK(virtualGpuGetFindingCount(&found));
    if (found != 0) return 2;
    show(VIRTUAL_GPU_COUNTERS);
    show(VIRTUAL_GPU_NCU);
    OK(virtualGpuWriteCoverage(arguments[2]));
    OK(virtualGpuResetCoverage());
    n = 5;
    OK(cuLaunchKernel(function, 1, 1, 1, 4, 2, 1, 0, NULL, parameters, NULL));
    IS(cuCtxSynchronize(), 700);
    OK(virtualGpuGetFindingCount(&found));
    if (found != 1) return 2;
    show(VIRTUAL_GPU_JSON);
    show(VIRTUAL_GPU_SANITIZER);
    IS(virtualGpuGetReport((enum virtualGpuFormat)9, NULL, 0, NULL), 1);
    char few[12];
    OK(virtualGpuGetReport(VIRTUAL_GPU_SANITIZER, few, sizeof few, NULL));
    if (strcmp(few, "========= V") != 0) return 2;
    OK(virtualGpuResetFindings());
    OK(virtualGpuGetFindingCount(&found));
    return found != 0 || VIRTUAL_GPU_DRIVER != 1;
}
"#;

const STORE: &str = r#"extern "C" __global__ void store(unsigned* x, int n) {
    int i = threadIdx.y * blockDim.x + threadIdx.x;
    if (i < n) {
        x[i] = i;
    } else {
        asm volatile("nanosleep.u32 1;");
    }
}
"#;

#[test]
fn a_program_in_c_reads_findings_counters_and_coverage() {
    if Command::new("cc").arg("--version").output().is_err() {
        println!("left out: there is no C compiler `cc`");
        return;
    }
    let folder = folder();
    let place = |name: &str| folder.path().join(name);
    std::fs::write(place("main.c"), PROGRAM).unwrap();
    std::fs::write(place("k.ptx"), ptx(STORE)).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let compiled = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-std=c99", "-o"])
        .arg(place("main"))
        .arg(place("main.c"))
        .arg("-I")
        .arg(include)
        .arg(library())
        .output()
        .unwrap();
    succeeded("cc", compiled);
    let settings = [("VIRTUAL_GPU_COVERAGE", place("end.info"))];
    let output = command(&place("main"), folder.path(), &[])
        .envs(settings)
        .arg(place("k.ptx"))
        .arg(place("own.info"))
        .output()
        .unwrap();
    let run = succeeded("the program", output);
    for told in [
        r#""kernel":"store","counters":{"kernel":"store""#,
        "Section: Memory Workload Analysis",
        r#""launches":2,"#,
        r#""kind":"out_of_bounds""#,
        r#""block_shape":[4,2,1]"#,
        "========= Invalid __global__ write of size 4 bytes\n=========     at store+PTX:",
        "=========     by thread (0,1,0) in block (0,0,0)\n",
        "=========     and is 0 bytes past the end of the allocation 0x710000000000 of 16 bytes\n",
        "========= ERROR SUMMARY: 1 error\n",
    ] {
        assert!(
            run.stdout.contains(told),
            "{told}\n{}\n{}",
            run.stdout,
            run.stderr
        );
    }
    // Of the first launch no thread slept; of the second, those behind the fifth did.
    let counts = |name: &str| {
        let text = std::fs::read_to_string(place(name)).unwrap();
        let of = |line: &str| {
            text.lines()
                .find_map(|found| found.strip_prefix(line))
                .map(str::to_owned)
        };
        (of("DA:4,"), of("DA:6,"))
    };
    assert_eq!(counts("own.info"), (Some("4".into()), Some("0".into())));
    assert!(counts("end.info").0.is_some());
}
