// Modules and launches: the text's entries, what they take, and handing both to the executor.
#include "fake_cuda.h"

#include <ctype.h>
#include <stdio.h>

static unsigned bytes_of(const char *type) {  // ".u64" and its like
    while (*type && !isdigit((unsigned char)*type)) type++;
    return (unsigned)atoi(type) / 8;
}

// Read `.param .u64 name, ... )` from `text`; the offsets are those that the kernel sees.
static void read_params(struct CUfunc_st *function, const char *text, const char *end) {
    for (const char *at = strstr(text, ".param"); at && at < end; at = strstr(at + 6, ".param")) {
        unsigned size = bytes_of(strchr(at + 6, '.'));
        unsigned offset = (function->bytes + size - 1) / size * size;
        function->sizes[function->count] = size, function->offsets[function->count++] = offset;
        function->bytes = offset + size;
    }
}

static void read_entries(CUmodule module) {
    const char *mark = ".entry";
    for (const char *at = strstr(module->text, mark); at; at = strstr(at + 1, mark)) {
        struct CUfunc_st *function = calloc(1, sizeof *function);
        sscanf(at + strlen(mark), " %127[A-Za-z0-9_$]", function->name);
        const char *open = strchr(at, '('), *body = strchr(at, '{');
        if (open && body && open < body) read_params(function, open, strchr(open, ')'));
        const char *shape = strstr(at, ".reqntid");
        unsigned *block = function->reqntid;
        if (shape && body && shape < body) {
            block[1] = block[2] = 1;
            sscanf(shape + 8, " %u , %u , %u", &block[0], &block[1], &block[2]);
        }
        function->module = module, function->next = module->functions;
        module->functions = function;
    }
}

static void *option(unsigned count, CUjit_option *options, void **values, CUjit_option wanted) {
    for (unsigned i = 0; i < count; i++)
        if (options[i] == wanted) return values[i];
    return NULL;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count,
                            CUjit_option *options, void **values) {
    ENTER(1);
    char *log = option(count, options, values, CU_JIT_ERROR_LOG_BUFFER);
    size_t size = (size_t)option(count, options, values, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
    if (log && size) log[0] = 0;
    int result = fake_assemble ? fake_assemble(image, log, size) : CUDA_SUCCESS;
    if (result != CUDA_SUCCESS) LEAVE((CUresult)result);
    char *info = option(count, options, values, CU_JIT_INFO_LOG_BUFFER);
    size = (size_t)option(count, options, values, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES);
    if (info && size) snprintf(info, size, "assembled by the fake");
    *module = calloc(1, sizeof **module);
    (*module)->text = strdup(image);
    read_entries(*module);
    LEAVE(CUDA_SUCCESS);
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    ENTER(1);
    for (*function = module->functions; *function; *function = (*function)->next)
        if (strcmp((*function)->name, name) == 0) LEAVE(CUDA_SUCCESS);
    LEAVE(CUDA_ERROR_NOT_FOUND);
}

static CUresult refusal(CUfunction f, const unsigned *grid, const unsigned *block, unsigned shared) {
    for (int i = 0; i < 3; i++) {
        if (grid[i] == 0 || block[i] == 0) return CUDA_ERROR_INVALID_VALUE;
        if (f->reqntid[0] && block[i] != f->reqntid[i]) return CUDA_ERROR_INVALID_VALUE;
    }
    if (grid[1] > 65535 || grid[2] > 65535) return CUDA_ERROR_INVALID_VALUE;
    if (block[0] * block[1] * block[2] > 1024) return CUDA_ERROR_INVALID_VALUE;
    return shared > 48 * 1024 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                        unsigned by, unsigned bz, unsigned shared, CUstream stream, void **params,
                        void **extra) {
    ENTER(1);
    Op op = {.kind = LAUNCH, .function = f, .grid = {gx, gy, gz}, .block = {bx, by, bz},
             .shared = shared};
    CUresult refused = refusal(f, op.grid, op.block, shared);
    if (refused != CUDA_SUCCESS || extra) LEAVE(refused ? refused : CUDA_ERROR_INVALID_VALUE);
    op.params = calloc(1, f->bytes + 1);  // the driver, too, takes the values at the call
    for (unsigned i = 0; i < f->count; i++)
        memcpy(op.params + f->offsets[i], params[i], f->sizes[i]);
    LEAVE(fake_push(stream, op));
}
