// A libcuda.so.1 without a card: what every call passes through, the device and its context.
//
// It executes what it is asked to, but no sooner or later than a real card might: see
// fake_streams.c. Built by build.py against the real cuda.h, so that a call that differs from
// NVIDIA's does not compile.
#define _GNU_SOURCE
#include "fake_cuda.h"

#include <dlfcn.h>
#include <stdio.h>

Execute fake_execute;
Assemble fake_assemble;

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static int is_there, version = 13000, capability = 80, retained;
static CUresult sticky;
static _Thread_local CUcontext current;
static struct { int unused; } the_context;
#define CONTEXT ((CUcontext)&the_context)

typedef struct Count { char name[64]; long calls; long fail_at; CUresult failure; } Count;
static Count counts[160];
static int names;

static Count *count_of(const char *name) {
    for (int i = 0; i < names; i++)
        if (strcmp(counts[i].name, name) == 0) return &counts[i];
    Count *fresh = &counts[names++];
    snprintf(fresh->name, sizeof fresh->name, "%s", name);
    return fresh;
}

CUresult fake_enter(const char *name, int needs_context) {
    pthread_mutex_lock(&lock);
    Count *count = count_of(name);
    count->calls++;
    if (count->failure && count->calls >= count->fail_at) {
        CUresult failure = count->failure;
        count->failure = CUDA_SUCCESS;
        return failure;
    }
    if (!is_there) return CUDA_ERROR_NO_DEVICE;
    if (!needs_context) return CUDA_SUCCESS;
    if (current != CONTEXT || !retained) return CUDA_ERROR_INVALID_CONTEXT;
    return sticky;
}

CUresult fake_leave(CUresult result) {
    fake_pump();
    pthread_mutex_unlock(&lock);
    return result;
}

CUresult fake_stick(CUresult result) {
    if (result == CUDA_ERROR_ILLEGAL_ADDRESS || result == CUDA_ERROR_MISALIGNED_ADDRESS ||
        result == CUDA_ERROR_LAUNCH_FAILED || result == CUDA_ERROR_LAUNCH_TIMEOUT)
        sticky = result;
    return result;
}

// What a test says to the fake.

void fake_start(int mode, unsigned seed, size_t limit) {
    pthread_mutex_lock(&lock);
    is_there = 1, version = 13000, capability = 80, sticky = CUDA_SUCCESS, retained = 0;
    current = NULL;
    memset(counts, 0, sizeof counts), names = 0;
    fake_reset_streams(mode, seed);
    fake_reset_memory(limit);
    pthread_mutex_unlock(&lock);
}

void fake_stop(void) { is_there = 0; }
void fake_set_version(int number) { version = number; }
void fake_set_capability(int number) { capability = number; }

void fake_set_hooks(Execute execute, Assemble assemble) {
    fake_execute = execute, fake_assemble = assemble;
}

void fake_count(const char *name) { count_of(name)->calls++; }
long fake_calls(const char *name) { return count_of(name)->calls; }

// The `after`-th call from now on (1: the next) returns `failure`, once.
void fake_fail(const char *name, int failure, int after) {
    Count *count = count_of(name);
    count->failure = (CUresult)failure, count->fail_at = count->calls + after;
}

// The driver as such

CUresult cuInit(unsigned flags) { ENTER(0); LEAVE(flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS); }

CUresult cuDriverGetVersion(int *number) { *number = version; return CUDA_SUCCESS; }

CUresult cuGetProcAddress(const char *symbol, void **found, int wanted, cuuint64_t flags,
                          CUdriverProcAddressQueryResult *status) {
    static const char *suffixes[] = {"_v4", "_v3", "_v2", ""};
    char name[128];
    (void)wanted, (void)flags;
    Dl_info self;
    dladdr((void *)fake_enter, &self);
    void *library = dlopen(self.dli_fname, RTLD_NOLOAD | RTLD_NOW);
    *found = NULL;
    for (int i = 0; i < 4 && !*found; i++) {
        snprintf(name, sizeof name, "%s%s", symbol, suffixes[i]);
        *found = dlsym(library, name);
    }
    dlclose(library);
    if (status) *status = *found ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return *found ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

#define ERRORS(E)                                                                             \
    E(CUDA_SUCCESS, "no error") E(CUDA_ERROR_INVALID_VALUE, "invalid argument")               \
    E(CUDA_ERROR_OUT_OF_MEMORY, "out of memory") E(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected") \
    E(CUDA_ERROR_INVALID_CONTEXT, "invalid device context")                                   \
    E(CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed")                                 \
    E(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain.") \
    E(CUDA_ERROR_NOT_FOUND, "named symbol not found") E(CUDA_ERROR_NOT_READY, "device not ready") \
    E(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")                 \
    E(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address")                                    \
    E(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure")                                 \
    E(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch")          \
    E(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing") \
    E(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture") \
    E(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "system has unsupported display driver / cuda driver combination") \
    E(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device")

CUresult cuGetErrorName(CUresult error, const char **text) {
#define NAME(code, words) if (error == code) { *text = #code; return CUDA_SUCCESS; }
    ERRORS(NAME)
    *text = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **text) {
#define WORDS(code, words) if (error == code) { *text = words; return CUDA_SUCCESS; }
    ERRORS(WORDS)
    *text = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

// One device

CUresult cuDeviceGetCount(int *count) { ENTER(0); *count = 1; LEAVE(CUDA_SUCCESS); }

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    ENTER(0);
    *device = 0;
    LEAVE(ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE);
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    ENTER(0);
    (void)device;
    snprintf(name, (size_t)length, "Fake card");
    LEAVE(CUDA_SUCCESS);
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    ENTER(0);
    (void)device;
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = capability / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = capability % 10; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 2; break;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: *value = 1000000; break;       // kHz
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: *value = 64; break;      // bits
    default: LEAVE(CUDA_ERROR_INVALID_VALUE);
    }
    LEAVE(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    ENTER(0);
    (void)device;
    retained++, *context = CONTEXT;
    LEAVE(CUDA_SUCCESS);
}

CUresult cuCtxGetCurrent(CUcontext *context) { ENTER(0); *context = current; LEAVE(CUDA_SUCCESS); }
CUresult cuCtxSetCurrent(CUcontext context) { ENTER(0); current = context; LEAVE(CUDA_SUCCESS); }

CUresult cuCtxSynchronize(void) {
    ENTER(1);
    if (fake_is_any_capturing()) {
        fake_break_captures();
        LEAVE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    LEAVE(fake_drain_all());
}
