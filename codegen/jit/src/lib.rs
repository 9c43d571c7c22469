//! NVRTC at run time: finds the library, compiles CUDA C++ to PTX and cubin, reports registers and spills, caches.
