/* A library with the functions of NVRTC that compiles nothing: MAJOR.MINOR stand in for versions that are not here. */
#include <stddef.h>

typedef void *program;

/* A result that no NVRTC of today returns. */
#define UNKNOWN 77

int nvrtcVersion(int *major, int *minor) { *major = MAJOR; *minor = MINOR; return 0; }
const char *nvrtcGetErrorString(int code) { return code == UNKNOWN ? "FAKE_UNKNOWN" : "FAKE"; }
int nvrtcGetNumSupportedArchs(int *count) { *count = 2; return 0; }
int nvrtcGetSupportedArchs(int *archs) { archs[0] = 80; archs[1] = 90; return 0; }
int nvrtcCreateProgram(program *handle, const char *text, const char *name, int count, const char *const *headers,
                       const char *const *names) { *handle = handle; return 0; }
int nvrtcDestroyProgram(program *handle) { *handle = NULL; return 0; }
int nvrtcCompileProgram(program handle, int count, const char *const *options) { return UNKNOWN; }
int nvrtcAddNameExpression(program handle, const char *name) { return 0; }
int nvrtcGetLoweredName(program handle, const char *name, const char **lowered) { return 9; }
int nvrtcGetProgramLogSize(program handle, size_t *size) { *size = 0; return 0; }
int nvrtcGetProgramLog(program handle, char *log) { return 0; }
int nvrtcGetPTXSize(program handle, size_t *size) { *size = 0; return 0; }
int nvrtcGetPTX(program handle, char *ptx) { return 0; }
int nvrtcGetCUBINSize(program handle, size_t *size) { *size = 0; return 0; }
int nvrtcGetCUBIN(program handle, char *cubin) { return 0; }
