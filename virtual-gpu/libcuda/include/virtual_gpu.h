/*
 * What the virtual GPU's driver library offers beside the CUDA driver API: reading findings, counters and coverage, and
 * changing what is checked, from C and from whatever can call C. The library is the `libcuda` that a program has loaded:
 * link with it, or look the functions up in it; NVIDIA's library has none of them.
 *
 * Functions return a CUresult: 0 for success, 3 before cuInit, 1 for a wrong argument, 800 if they are called by a function
 * that a stream calls. All but virtualGpuSetOption wait for the work that has been queued, and say nothing about
 * whether it went well: that is what they are asked for. They may be called by any thread and need no context.
 */
#ifndef VIRTUAL_GPU_H
#define VIRTUAL_GPU_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 1; a program finds it by dlsym in this library alone. */
extern const unsigned int VIRTUAL_GPU_DRIVER;

/* How virtualGpuGetReport writes. */
enum virtualGpuFormat {
    /* {"launches": 3, "findings": [...], "dropped": 0, "warnings": [...]}; a finding has the fields of the report of
     * `virtual-gpu run --json`, and "kernel" and "block_shape". */
    VIRTUAL_GPU_JSON = 0,
    /* As compute-sanitizer prints it. */
    VIRTUAL_GPU_SANITIZER = 1,
    /* The sections of the last launch, as Nsight Compute prints them; it must have been counted. */
    VIRTUAL_GPU_NCU = 2,
    /* {"kernel": ..., "counters": {...}, "estimate": {...}} of the last launch; it must have been counted. */
    VIRTUAL_GPU_COUNTERS = 3
};

/*
 * Sets an option for the launches that begin from now on:
 *   "checks"    "none", "bounds" or "all"
 *   "counters"  "0" or "1": whether launches are counted, which counters and coverage need
 *   "seed"      the order in which warps and blocks take turns
 *   "strict"    "0" or "1": whether findings that a GPU would not notice fail the launch
 * The variables VIRTUAL_GPU_CHECKS, ... of the environment set them at cuInit. Another name or value is CUresult 1.
 */
int virtualGpuSetOption(const char *name, const char *value);

/* The number of findings since the start or the last virtualGpuResetFindings. */
int virtualGpuGetFindingCount(size_t *count);

/*
 * Writes a report, with a NUL after it, as much as fits into `size` bytes at `text`, which may be NULL if `size` is 0.
 * `needed`, if it is not NULL, gets the bytes of the whole report, without the NUL. CUresult 500 if the last launch was not
 * counted.
 */
int virtualGpuGetReport(enum virtualGpuFormat format, char *text, size_t size, size_t *needed);

/* Forgets findings, warnings and the number of launches. A fault of the device stays until its context ends. */
int virtualGpuResetFindings(void);

/*
 * Writes what of the sources has run in all launches that were counted, for genhtml and editors (lcov). The variable
 * VIRTUAL_GPU_COVERAGE names a file to which this is done at the end of the process. CUresult 301 if it cannot be written.
 */
int virtualGpuWriteCoverage(const char *path);

/* Forgets what has run. */
int virtualGpuResetCoverage(void);

#ifdef __cplusplus
}
#endif

#endif
