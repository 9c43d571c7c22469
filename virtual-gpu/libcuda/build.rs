//! Gives the library the name by which a program that has opened it by its path finds it again.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Loaders take a bare name for a loaded library if that library calls itself so. `libcuda.so` is the first name that
    // cudarc asks for; NVIDIA's library calls itself `libcuda.so.1`.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    }
}
