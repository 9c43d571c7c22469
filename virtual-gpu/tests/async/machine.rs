//! Runs small kernels on buffers of words.

use stheno_jit::{FindOptions, Nvrtc, Request, Target};
use virtual_gpu::{Device, LaunchConfig, LaunchOptions, LaunchReport, Module, Profile};

/// A kernel's text: instructions between the loading of pointers `%p0`, `%p1`, ... and the final `ret`.
/// Declared for use: `%r<64>`, `%f<64>`, `%d<32>`, `%x<16>` (64 bits), `%q<8>` (predicates), `%lane`, and `memory`, 4096
/// bytes of shared memory, whose address is in `%s`.
pub fn kernel(pointers: usize, body: &str) -> String {
    let parameters: Vec<String> = (0..pointers).map(|i| format!(".param .u64 a{i}")).collect();
    let loads: String = (0..pointers)
        .map(|i| format!("ld.param.u64 %p{i}, [a{i}];\ncvta.to.global.u64 %p{i}, %p{i};\n"))
        .collect();
    format!(
        ".version 8.7\n.target sm_90a\n.address_size 64\n.visible .entry test({})\n{{\n\
         .reg .b32 %r<64>;\n.reg .f32 %f<64>;\n.reg .b64 %x<16>;\n.reg .f64 %d<32>;\n.reg .pred %q<8>;\n\
         .reg .b64 %p<8>;\n.reg .b32 %lane, %s;\n.shared .align 128 .b8 memory[4096];\n\
         mov.u32 %lane, %tid.x;\nmov.u32 %s, memory;\n{loads}{body}\nret;\n}}\n",
        parameters.join(", ")
    )
}

/// Runs the kernel `name` of `ptx`; `buffers` go in and come back.
pub fn run(
    ptx: &str,
    name: &str,
    config: LaunchConfig,
    options: LaunchOptions,
    buffers: &mut [Vec<u8>],
    scalars: &[u32],
) -> LaunchReport {
    let module = Module::from_ptx(ptx).unwrap_or_else(|e| panic!("{e}\n{ptx}"));
    let mut device = Device::new(Profile::h100());
    let mut parameters = Vec::new();
    let mut pointers = Vec::new();
    for buffer in buffers.iter() {
        let pointer = device.alloc(buffer.len()).unwrap();
        device.write(pointer, buffer).unwrap();
        parameters.extend(pointer.0.to_le_bytes());
        pointers.push(pointer);
    }
    for scalar in scalars {
        parameters.extend(scalar.to_le_bytes());
    }
    let report = device
        .launch(&module, name, &config, &parameters, &options)
        .unwrap();
    for (buffer, pointer) in buffers.iter_mut().zip(pointers) {
        device.read(pointer, buffer).unwrap();
    }
    report
}

/// Runs a hand-written kernel with one warp, expects no finding, and gives the last buffer as words.
pub fn words(body: &str, mut buffers: Vec<Vec<u8>>) -> Vec<u32> {
    let ptx = kernel(buffers.len(), body);
    let config = LaunchConfig::linear(1, 32);
    let report = run(
        &ptx,
        "test",
        config,
        LaunchOptions::default(),
        &mut buffers,
        &[],
    );
    assert_clean(&report);
    as_words(&buffers[buffers.len() - 1])
}

pub fn assert_clean(report: &LaunchReport) {
    let findings: Vec<String> = report.findings.iter().map(|f| f.to_string()).collect();
    assert!(report.completed && findings.is_empty(), "{findings:#?}");
}

pub fn as_words(bytes: &[u8]) -> Vec<u32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

pub fn bytes_of(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Words without pattern.
pub fn random_words(seed: u64, count: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 29) as u32
    };
    (0..count).map(|_| next()).collect()
}

/// PTX of CUDA C++ for `compute_{arch}`.
pub fn compile(name: &str, source: &str, arch: u32) -> String {
    let nvrtc = Nvrtc::find(&FindOptions::for_project(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut request = Request::new(name, source, Target::Virtual(arch));
    request.line_info = true;
    let compiled = nvrtc.compile(&request).unwrap_or_else(|e| panic!("{e}"));
    compiled.ptx.unwrap()
}
