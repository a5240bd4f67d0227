// Memory: device addresses that no host code can read, poison in what is fresh, pinned pages.
#define _GNU_SOURCE
#include "fake_cuda.h"

#include <sys/mman.h>

enum { POISON = 0xFF };  // NaN as float32 and as float16, -1 as an integer
static const size_t RESERVED = (size_t)1 << 34, GAP = 4096, ALIGNMENT = 256;

typedef struct Block { CUdeviceptr address; size_t bytes; uint8_t *memory; struct Block *next; } Block;
static Block *device, *pinned;
static CUdeviceptr base, following;
static size_t limit, used;

static void forget(Block **list, int is_device) {
    while (*list) {
        Block *block = *list;
        *list = block->next;
        // a pinned page stays: an array of an earlier test may still be alive
        if (is_device) free(block->memory);
        free(block);
    }
}

void fake_reset_memory(size_t bytes) {
    // no host access is possible there: a pointer that is used without a copy faults
    if (!base) base = (CUdeviceptr)mmap(NULL, RESERVED, PROT_NONE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    forget(&device, 1), forget(&pinned, 0);
    following = base, limit = bytes, used = 0;
}

size_t fake_used(void) { return used; }

static uint8_t *find(Block *list, CUdeviceptr address, size_t bytes) {
    for (Block *b = list; b; b = b->next)
        if (address >= b->address && address - b->address < b->bytes) {
            size_t offset = address - b->address;
            return bytes <= b->bytes - offset ? b->memory + offset : NULL;
        }
    return NULL;
}

uint8_t *fake_memory(CUdeviceptr address, size_t bytes) { return find(device, address, bytes); }

int fake_is_pinned(const void *host, size_t bytes) {
    return find(pinned, (CUdeviceptr)host, bytes) != NULL;
}

// For the executor: the host memory of the allocation that an address lies in, and how far in.
uint8_t *fake_locate(CUdeviceptr address, size_t *bytes, size_t *offset) {
    for (Block *b = device; b; b = b->next)
        if (address >= b->address && address - b->address < b->bytes) {
            *bytes = b->bytes, *offset = address - b->address;
            return b->memory;
        }
    return NULL;
}

static int is_capturing(void) {
    if (!fake_is_any_capturing()) return 0;
    fake_break_captures();
    return 1;
}

static Block *insert(Block **list, size_t bytes, CUdeviceptr address, uint8_t *memory) {
    Block *block = malloc(sizeof *block);
    *block = (Block){address, bytes, memory, *list};
    memset(memory, POISON, bytes);
    return *list = block;
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
    ENTER(1);
    if (is_capturing()) LEAVE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    if (bytes == 0) LEAVE(CUDA_ERROR_INVALID_VALUE);
    if (used + bytes > limit) LEAVE(CUDA_ERROR_OUT_OF_MEMORY);
    *address = following;
    following += (bytes + GAP + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    used += bytes;
    insert(&device, bytes, *address, aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT));
    LEAVE(CUDA_SUCCESS);
}

static CUresult release(Block **list, CUdeviceptr address) {
    for (Block **b = list; *b; b = &(*b)->next)
        if ((*b)->address == address) {
            Block *gone = *b;
            *b = gone->next;
            if (list == &device) used -= gone->bytes;
            memset(gone->memory, POISON, gone->bytes);
            free(gone->memory), free(gone);
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_INVALID_VALUE;
}

// The driver's own waits for the device; this one does not, so that whoever frees what is still
// in use gets ILLEGAL_ADDRESS.
CUresult cuMemFree(CUdeviceptr address) {
    ENTER(1);
    if (is_capturing()) LEAVE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    LEAVE(release(&device, address));
}

CUresult cuMemGetInfo(size_t *free_bytes, size_t *total) {
    ENTER(1);
    *free_bytes = limit - used, *total = limit;
    LEAVE(CUDA_SUCCESS);
}

CUresult cuMemHostAlloc(void **host, size_t bytes, unsigned flags) {
    ENTER(1);
    (void)flags;
    if (is_capturing()) LEAVE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    if (bytes == 0) LEAVE(CUDA_ERROR_INVALID_VALUE);
    *host = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    insert(&pinned, bytes, (CUdeviceptr)*host, *host);
    LEAVE(CUDA_SUCCESS);
}

CUresult cuMemFreeHost(void *host) { ENTER(1); LEAVE(release(&pinned, (CUdeviceptr)host)); }

// Copies. Pageable memory makes the driver copy at once (in) or wait (out): counted, as no path
// for pictures may do it, and refused while a graph is captured.

static CUresult copy(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    Op op = {.kind = COPY, .to = to, .from = from, .bytes = bytes};
    return fake_push(stream, op);
}

static CUresult wait_for(CUstream stream) {
    if (is_capturing()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    fake_count("pageable");
    return fake_drain(fake_stream(stream));
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    ENTER(1);
    if (!fake_memory(to, bytes)) LEAVE(CUDA_ERROR_INVALID_VALUE);
    if (fake_is_pinned(from, bytes)) LEAVE(copy(to, (CUdeviceptr)from, bytes, stream));
    CUresult result = wait_for(stream);
    if (result == CUDA_SUCCESS) memcpy(fake_memory(to, bytes), from, bytes);
    LEAVE(result);
}

CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    ENTER(1);
    if (!fake_memory(from, bytes)) LEAVE(CUDA_ERROR_INVALID_VALUE);
    if (fake_is_pinned(to, bytes)) LEAVE(copy((CUdeviceptr)to, from, bytes, stream));
    CUresult result = wait_for(stream);
    if (result == CUDA_SUCCESS) memcpy(to, fake_memory(from, bytes), bytes);
    LEAVE(result);
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    ENTER(1);
    if (!fake_memory(to, bytes) || !fake_memory(from, bytes)) LEAVE(CUDA_ERROR_INVALID_VALUE);
    LEAVE(copy(to, from, bytes, stream));
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
    ENTER(1);
    if (!fake_memory(to, count)) LEAVE(CUDA_ERROR_INVALID_VALUE);
    Op op = {.kind = FILL, .to = to, .bytes = count, .value = value};
    LEAVE(fake_push(stream, op));
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
    ENTER(1);
    if (!fake_memory(to, 4 * count)) LEAVE(CUDA_ERROR_INVALID_VALUE);
    Op op = {.kind = FILL32, .to = to, .bytes = 4 * count, .value = value};
    LEAVE(fake_push(stream, op));
}
