// The launch, and every access to its memory: bounds, alignment, races, poison.
// The structures are mirrored in structures.py.

enum { NONE, BOUNDS, ALIGNMENT, RACE, WRITE_WRITE, POISON, BARRIER, MEMBERMASK, RUNAWAY,
       DIVERGENCE };
// what a fault says beyond its kind; texts in faults.py
enum {
    PLAIN, NULL_POINTER, NO_BUFFER, PAST_BUFFER, READ_ONLY, READ_AFTER_WRITE, WRITE_AFTER_READ,
    NOT_WRITTEN, REGISTER, UNDEFINED, EXITED, ELSEWHERE, NOT_IN_MASK, NO_LANE, OTHER_MASK, SOURCE,
    NC_WRITTEN
};

typedef struct { uint32_t writer, reader; } Shadow;  // who touched a byte; 0 nobody

typedef struct {
    uint64_t base, size;       // address in the kernel's eyes, bytes
    unsigned char *data;
    Shadow *shadow;            // one a byte
    unsigned char *written;    // one a byte, 0 where nothing was written; NULL: all was
    uint64_t is_read_only;
} Buffer;

typedef struct {
    uint32_t kind, detail, at, size;  // at: index of the instruction
    uint64_t address;
    int64_t buffer;                   // index, or -1
    uint32_t is_shared, block, thread, other;  // linear; other + 1, 0: unknown
} Fault;

typedef struct {
    uint32_t grid[3], block[3];
    uint32_t order, epoch, first_epoch, me;  // me: the stamp of the thread that runs
    uint64_t seed, limit;
    double perturb;
    const unsigned char *params;
    uint64_t buffers, arrays;  // how many
    Buffer *buffer, *array;    // in global and in shared memory
    uint64_t *counts;
    uint32_t block_index, thread_index, ctaid[3], contract;
    uint64_t sites;            // branches that must be uniform
    uint64_t variant;          // of a schema: which of its mutants runs, 0: none
    unsigned char *outcomes;   // of each branch, warp and turn: 0, or 1 + the guard
    uint32_t *turns;           // how often each thread came to each branch
    Fault fault;
} Run;

typedef struct {
    uint32_t pc, status, at, lane;
    uint64_t steps, draws;
    uint32_t tid[3];
    uint32_t op, value, b, c, mask;  // what a lane brings to a collective
    uint32_t result, flag;           // what it takes from it
} Thread;

enum { READY, AT_BARRIER, AT_COLLECTIVE, GONE, FAILED };

#define UNLIKELY(x) __builtin_expect(!!(x), 0)

static __attribute__((cold, noinline)) int
fail(Run *R, uint32_t kind, uint32_t detail, uint32_t at, uint32_t other)
{
    Fault *f = &R->fault;
    f->kind = kind, f->detail = detail, f->at = at, f->other = other;
    f->block = R->block_index, f->thread = R->thread_index, f->buffer = -1;
    return FAILED;
}

static __attribute__((cold, noinline)) unsigned char *
fail_access(Run *R, uint32_t kind, uint32_t detail, uint32_t at, int is_shared, uint64_t address,
            uint32_t size, int64_t buffer, uint32_t other)
{
    fail(R, kind, detail, at, other);
    R->fault.is_shared = is_shared, R->fault.address = address;
    R->fault.size = size, R->fault.buffer = buffer;
    return NULL;
}

// A stamp names a thread: of the launch for global memory; for shared memory of the block,
// with the epoch, which counts barriers. SEVERAL stands for more than one thread.
#define ATOMIC (is_shared ? 1u << 11 : 1u << 31)
#define SEVERAL (is_shared ? 0x7ffu : 0x3fffffffu)
#define EPOCH_BITS 12
enum { READ, READ_NC, WRITE, UPDATE };

static inline __attribute__((always_inline)) uint32_t now(Run *R, uint32_t stamp, int is_shared)
{
    if (!is_shared) return stamp;
    return stamp >> EPOCH_BITS == R->epoch ? stamp & ((1u << EPOCH_BITS) - 1) : 0;
}

static inline __attribute__((always_inline)) unsigned char *
find(Run *R, int is_shared, uint64_t address, uint32_t size, uint32_t at, int mode, Buffer **found)
{
    uint64_t slot = address >> (is_shared ? 24 : 36);
    uint64_t slots = is_shared ? R->arrays : R->buffers;
    if (UNLIKELY(slot == 0))
        return fail_access(R, BOUNDS, NULL_POINTER, at, is_shared, address, size, -1, 0);
    if (UNLIKELY(slot > slots))
        return fail_access(R, BOUNDS, NO_BUFFER, at, is_shared, address, size, -1, 0);
    Buffer *b = (is_shared ? R->array : R->buffer) + slot - 1;
    uint64_t offset = address - b->base;
    if (UNLIKELY(offset > b->size || size > b->size - offset))
        return fail_access(R, BOUNDS, PAST_BUFFER, at, is_shared, address, size, slot - 1, 0);
    if (UNLIKELY(address & (size - 1)))
        return fail_access(R, ALIGNMENT, PLAIN, at, is_shared, address, size, slot - 1, 0);
    if (UNLIKELY(mode >= WRITE && b->is_read_only))
        return fail_access(R, BOUNDS, READ_ONLY, at, is_shared, address, size, slot - 1, 0);
    *found = b;
    return b->data + offset;
}

static inline __attribute__((always_inline)) unsigned char *
access_memory(Run *R, int is_shared, uint64_t address, uint32_t size, uint32_t at, int mode)
{
    Buffer *b = NULL;
    unsigned char *data = find(R, is_shared, address, size, at, mode, &b);
    if (UNLIKELY(!data)) return NULL;
    uint64_t offset = address - b->base;
    uint32_t me = is_shared ? R->thread_index + 1 : R->me;
    uint32_t stamp = is_shared ? R->epoch << EPOCH_BITS : 0;
    for (uint32_t k = 0; k < size; k++) {
        Shadow *s = b->shadow + offset + k;
        uint32_t writer = now(R, s->writer, is_shared), reader = now(R, s->reader, is_shared);
        uint32_t who = writer & ~ATOMIC, kind = NONE, detail = PLAIN, other = who;
        int is_unwritten = is_shared ? s->writer >> EPOCH_BITS < R->first_epoch
                                     : b->written && !b->written[offset + k];
        if (mode == READ || mode == READ_NC) {
            if (UNLIKELY(writer && who != me)) kind = RACE, detail = READ_AFTER_WRITE;
            else if (UNLIKELY(mode == READ_NC && writer)) kind = RACE, detail = NC_WRITTEN;
            // a read through the read-only cache allows no write in the launch, by nobody
            s->reader = stamp | ((reader && reader != me) || mode == READ_NC ? SEVERAL : me);
        } else if (mode == WRITE) {
            if (UNLIKELY(writer && who != me)) kind = WRITE_WRITE;
            else if (UNLIKELY(reader && reader != me))
                kind = RACE, detail = WRITE_AFTER_READ, other = reader;
            s->writer = stamp | me;
            if (!is_shared && b->written) b->written[offset + k] = 1;
        } else {
            if (UNLIKELY(writer && !(writer & ATOMIC) && who != me)) kind = WRITE_WRITE;
            else if (UNLIKELY(reader && reader != me))
                kind = RACE, detail = WRITE_AFTER_READ, other = reader;
            // one's own plain write stays on record: nobody else's atomic may meet it
            if (!writer || (writer & ATOMIC))
                s->writer = stamp | ATOMIC | (!writer || who == me ? me : SEVERAL);
        }
        if (UNLIKELY(mode != WRITE && is_unwritten && kind == NONE))
            kind = POISON, detail = NOT_WRITTEN, other = 0;
        if (UNLIKELY(kind != NONE)) {
            if (is_shared && kind == WRITE_WRITE) kind = RACE;
            if (other == SEVERAL) other = 0;
            return fail_access(R, kind, detail, at, is_shared, address, size, b - (is_shared ? R->array : R->buffer), other);
        }
    }
    return data;
}

#define ACCESS(name, is_shared, mode) \
    static __attribute__((noinline, unused)) unsigned char * \
    name(Run *R, uint64_t address, uint32_t size, uint32_t at) \
    { \
        return access_memory(R, is_shared, address, size, at, mode); \
    }
ACCESS(read_global, 0, READ)
ACCESS(read_global_nc, 0, READ_NC)
ACCESS(write_global, 0, WRITE)
ACCESS(update_global, 0, UPDATE)
ACCESS(read_shared, 1, READ)
ACCESS(write_shared, 1, WRITE)
ACCESS(update_shared, 1, UPDATE)

#define TURNS 1024  // of a branch in a thread, that are compared
#define WARPS 32

// Whether a thread's guard at a uniform branch is what its warp's others have in this turn.
static __attribute__((noinline, unused)) int
agree(Run *R, Thread *T, uint32_t site, uint8_t guard, uint32_t at)
{
    uint32_t turn = R->turns[R->thread_index * R->sites + site]++;
    if (turn >= TURNS) return 1;
    unsigned char *seen = R->outcomes + (site * WARPS + R->thread_index / 32) * TURNS + turn;
    if (*seen && *seen != 1 + guard) return fail(R, DIVERGENCE, PLAIN, at, 0) != FAILED;
    *seen = 1 + guard;
    return 1;
}

// A number in [-1, 1] times the wanted share of an approximation's error.
static inline double draw(Run *R, Thread *T)
{
    if (R->perturb == 0) return 0;
    uint64_t x = R->seed + 0x9e3779b97f4a7c15ull * (((uint64_t)R->me << 32) + ++T->draws);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return (x ^ x >> 31) & 1 ? R->perturb : -R->perturb;
}
#define DRAW draw(R, T)
