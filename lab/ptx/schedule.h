// Blocks one after another; in a block every thread runs until it must wait.

enum {
    SHFL_UP, SHFL_DOWN, SHFL_BFLY, SHFL_IDX, VOTE_ALL, VOTE_ANY, VOTE_BALLOT
};
enum { FORWARD, REVERSE, SHUFFLED };

typedef int (*Step)(Run *, Thread *, void *);

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static void arrange(uint32_t *order, uint32_t count, uint32_t how, uint64_t *state)
{
    for (uint32_t k = 0; k < count; k++) order[k] = how == REVERSE ? count - 1 - k : k;
    for (uint32_t k = count; how == SHUFFLED && k > 1; k--) {
        uint32_t other = next_random(state) % k, kept = order[k - 1];
        order[k - 1] = order[other], order[other] = kept;
    }
}

static int shuffle(Run *R, Thread *warp, uint32_t lane)
{
    Thread *T = warp + lane;
    uint32_t b = T->b & 31, clamp = T->c & 31, segment = T->c >> 8 & 31;
    uint32_t last = (lane & segment) | (clamp & ~segment & 31), source = lane;
    if (T->op == SHFL_UP) T->flag = (int)(lane - b) >= (int)last, source = lane - b;
    if (T->op == SHFL_DOWN) source = lane + b, T->flag = source <= last;
    if (T->op == SHFL_BFLY) source = lane ^ b, T->flag = source <= last;
    if (T->op == SHFL_IDX) source = (lane & segment) | (b & ~segment), T->flag = source <= last;
    if (!T->flag) source = lane;
    if (!(T->mask >> source & 1)) {
        R->thread_index = R->thread_index / 32 * 32 + lane;
        return fail(R, MEMBERMASK, SOURCE, T->at, source + 1);
    }
    T->result = warp[source].value;
    return READY;
}

static void vote(Thread *warp, uint32_t lane)
{
    Thread *T = warp + lane;
    uint32_t ballot = 0;
    for (uint32_t k = 0; k < 32; k++)
        if (T->mask >> k & 1 && warp[k].value) ballot |= 1u << k;
    T->result = T->op == VOTE_BALLOT ? ballot : T->op == VOTE_ANY ? ballot != 0 : ballot == T->mask;
}

// Looks whether the lane that has just arrived completes its collective; then all its lanes go on.
static int meet(Run *R, Thread *threads, uint32_t count, uint32_t index)
{
    Thread *T = threads + index, *warp = threads + index / 32 * 32;
    uint32_t lanes = count - index / 32 * 32;
    if (!(T->mask >> (index & 31) & 1)) return fail(R, MEMBERMASK, NOT_IN_MASK, T->at, 0);
    int is_complete = 1;
    for (uint32_t k = 0; k < 32; k++) {
        if (!(T->mask >> k & 1)) continue;
        if (k >= lanes) return fail(R, MEMBERMASK, NO_LANE, T->at, k + 1);
        if (warp[k].status == GONE) return fail(R, MEMBERMASK, EXITED, T->at, k + 1);
        if (warp[k].status != AT_COLLECTIVE || warp[k].at != T->at) is_complete = 0;
        else if (warp[k].mask != T->mask) return fail(R, MEMBERMASK, OTHER_MASK, T->at, k + 1);
    }
    if (!is_complete) return READY;
    for (uint32_t k = 0; k < 32; k++) {
        if (!(T->mask >> k & 1)) continue;
        if (T->op >= VOTE_ALL) vote(warp, k);
        else if (shuffle(R, warp, k) == FAILED) return FAILED;
    }
    for (uint32_t k = 0; k < 32; k++)
        if (T->mask >> k & 1) warp[k].status = READY;
    return READY;
}

// Nobody can run: opens the barrier if all wait there, or says who is missing.
static int resolve(Run *R, Thread *threads, uint32_t count)
{
    for (uint32_t t = 0; t < count; t++) {
        if (threads[t].status != AT_COLLECTIVE) continue;
        R->thread_index = t;
        Thread *warp = threads + t / 32 * 32;
        for (uint32_t k = 0; k < 32; k++)
            if (threads[t].mask >> k & 1 && (warp[k].status != AT_COLLECTIVE || warp[k].at != threads[t].at))
                return fail(R, MEMBERMASK, warp[k].status == GONE ? EXITED : ELSEWHERE, threads[t].at, k + 1);
    }
    uint32_t first = 0;
    while (threads[first].status == GONE) first++;
    R->thread_index = first;
    // stricter than the hardware, which takes a thread that has exited as arrived
    for (uint32_t t = 0; t < count; t++) {
        if (threads[t].status == GONE) return fail(R, BARRIER, EXITED, threads[first].at, t + 1);
        if (threads[t].at != threads[first].at)
            return fail(R, BARRIER, ELSEWHERE, threads[first].at, t + 1);
    }
    for (uint32_t t = 0; t < count; t++) threads[t].status = READY;
    if (++R->epoch >> 20) return fail(R, RUNAWAY, PLAIN, threads[first].at, 0);  // stamps hold 20 bits
    return READY;
}

static int run_block(Run *R, Step step, Thread *threads, char *registers, size_t stride,
                     uint32_t *order, uint64_t *state)
{
    uint32_t count = R->block[0] * R->block[1] * R->block[2], gone = 0;
    R->first_epoch = ++R->epoch;
    memset(threads, 0, count * sizeof(Thread));
    memset(R->outcomes, 0, R->sites * WARPS * TURNS);
    memset(R->turns, 0, R->sites * count * sizeof(uint32_t));
    for (uint32_t t = 0; t < count; t++) {
        threads[t].tid[0] = t % R->block[0];
        threads[t].tid[1] = t / R->block[0] % R->block[1];
        threads[t].tid[2] = t / (R->block[0] * R->block[1]);
        threads[t].lane = t & 31;
    }
    while (gone < count) {
        int has_run = 0;
        arrange(order, count, R->order, state);
        for (uint32_t k = 0; k < count; k++) {
            uint32_t t = order[k];
            if (threads[t].status != READY) continue;
            R->thread_index = t, R->me = R->block_index * count + t + 1, has_run = 1;
            int status = step(R, threads + t, registers + t * stride);
            if (status == FAILED) return FAILED;
            threads[t].status = status;
            gone += status == GONE;
            if (status == AT_COLLECTIVE && meet(R, threads, count, t) == FAILED) return FAILED;
        }
        if (!has_run && resolve(R, threads, count) == FAILED) return FAILED;
    }
    return GONE;
}

// Returns 0, 1 for a fault (which is in R->fault), 2 where memory ran out.
static int run_grid(Run *R, Step step, size_t stride)
{
    uint32_t count = R->block[0] * R->block[1] * R->block[2];
    uint32_t blocks = R->grid[0] * R->grid[1] * R->grid[2];
    Thread *threads = malloc(count * sizeof(Thread));
    char *registers = malloc(count * stride);
    uint32_t *order = malloc(count * sizeof(uint32_t)), *sequence = malloc(blocks * sizeof(uint32_t));
    R->outcomes = malloc(R->sites * WARPS * TURNS + 1);
    R->turns = malloc(R->sites * count * sizeof(uint32_t) + 1);
    int has_memory = threads && registers && order && sequence && R->outcomes && R->turns;
    int status = has_memory ? GONE : 2;
    uint64_t state = R->seed;
    if (status == GONE) arrange(sequence, blocks, R->order, &state);
    for (uint32_t k = 0; status == GONE && k < blocks; k++) {
        uint32_t b = R->block_index = sequence[k];
        R->ctaid[0] = b % R->grid[0];
        R->ctaid[1] = b / R->grid[0] % R->grid[1];
        R->ctaid[2] = b / (R->grid[0] * R->grid[1]);
        if (R->epoch >> 19) {  // room for a block's barriers
            for (uint64_t a = 0; a < R->arrays; a++)
                memset(R->array[a].shadow, 0, R->array[a].size * sizeof(Shadow));
            R->epoch = 0;
        }
        status = run_block(R, step, threads, registers, stride, order, &state);
    }
    free(threads), free(registers), free(order), free(sequence);
    free(R->outcomes), free(R->turns);
    return status == GONE ? 0 : status == FAILED ? 1 : 2;
}
