// Streams as queues that run as late, as early or as randomly as a card might run them.
//
// LATE: an operation runs only when somebody waits for it. EARLY: as soon as what it waits for
// has run. RANDOM: every call lets each stream advance by a few operations. A result that is the
// same in all modes, and for mixes of them, does not hang on luck; a forgotten event wait shows.
#include "fake_cuda.h"

#include <stdio.h>

static CUstream streams;  // all of them; none is ever freed, a handle that dangles is an error
static struct CUstream_st the_default;
static int default_mode;
static unsigned seed;

void fake_reset_streams(int mode, unsigned start) {
    for (CUstream s = streams; s; s = s->next) s->head = s->tail = NULL, s->is_capturing = 0;
    streams = NULL, default_mode = mode, seed = start;
    memset(&the_default, 0, sizeof the_default);
    the_default.mode = mode, streams = &the_default;
}

void fake_set_stream_mode(CUstream stream, int mode) { fake_stream(stream)->mode = mode; }

CUstream fake_stream(CUstream stream) { return stream ? stream : &the_default; }

static int is_known(CUstream stream) {
    for (CUstream s = streams; s; s = s->next)
        if (s == stream) return 1;
    return 0;
}

int fake_is_any_capturing(void) {
    for (CUstream s = streams; s; s = s->next)
        if (s->is_capturing) return 1;
    return 0;
}

void fake_break_captures(void) {
    for (CUstream s = streams; s; s = s->next) s->is_broken |= s->is_capturing;
}

static void append(Op **head, Op **tail, Op op) {
    Op *copy = malloc(sizeof op);
    *copy = op, copy->next = NULL;
    if (*tail) (*tail)->next = copy; else *head = copy;
    *tail = copy;
}

CUresult fake_push(CUstream stream, Op op) {
    CUstream s = fake_stream(stream);
    if (!is_known(s)) return CUDA_ERROR_INVALID_HANDLE;
    if (s->is_broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (s->is_capturing) append(&s->capture.head, &s->capture.tail, op);
    else append(&s->head, &s->tail, op);
    return CUDA_SUCCESS;
}

static uint8_t *reachable(CUdeviceptr address, size_t bytes) {
    uint8_t *memory = fake_memory(address, bytes);
    if (memory) return memory;
    return fake_is_pinned((void *)address, bytes) ? (uint8_t *)address : NULL;
}

static CUresult run(Op *op) {
    uint8_t *to, *from;
    switch (op->kind) {
    case COPY:
        to = reachable(op->to, op->bytes), from = reachable(op->from, op->bytes);
        if (!to || !from) return fake_stick(CUDA_ERROR_ILLEGAL_ADDRESS);
        memmove(to, from, op->bytes);
        return CUDA_SUCCESS;
    case FILL:
    case FILL32:
        to = fake_memory(op->to, op->bytes);
        if (!to) return fake_stick(CUDA_ERROR_ILLEGAL_ADDRESS);
        if (op->kind == FILL) memset(to, (int)op->value, op->bytes);
        else for (size_t i = 0; i < op->bytes; i += 4) memcpy(to + i, &op->value, 4);
        return CUDA_SUCCESS;
    case LAUNCH:
        return fake_stick((CUresult)fake_execute(op->function->module->text, op->function->name,
                                                 op->grid, op->block, op->shared, op->params));
    case RECORD:
        if (op->event->done < op->generation) op->event->done = op->generation;
        return CUDA_SUCCESS;
    case WAIT:
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_UNKNOWN;
}

// Run a stream's first operation. 0: there is none, or it waits and `force` is not set; 1: done.
static int step(CUstream s, int force, CUresult *result) {
    Op *op = s->head;
    if (!op) return 0;
    if (op->kind == WAIT && op->event->done < op->generation) {
        if (!force) return 0;
        while (op->event->done < op->generation && step(op->source, 1, result)) {}
    }
    s->head = op->next;
    if (!s->head) s->tail = NULL;
    CUresult own = run(op);
    if (*result == CUDA_SUCCESS) *result = own;
    return 1;
}

CUresult fake_drain(CUstream stream) {
    CUresult result = CUDA_SUCCESS;
    while (step(stream, 1, &result)) {}
    return result;
}

CUresult fake_drain_all(void) {
    CUresult result = CUDA_SUCCESS;
    for (CUstream s = streams; s; s = s->next) {
        CUresult own = fake_drain(s);
        if (result == CUDA_SUCCESS) result = own;
    }
    return result;
}

static unsigned dice(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed >> 16;
}

void fake_pump(void) {
    CUresult ignored = CUDA_SUCCESS;  // it sticks, and the next call tells
    for (int again = 1; again;) {
        again = 0;
        for (CUstream s = streams; s; s = s->next)
            if (s->mode == EARLY)
                while (step(s, 0, &ignored)) again = 1;
    }
    for (CUstream s = streams; s; s = s->next)
        if (s->mode == RANDOM)
            for (unsigned n = dice() % 4; n && step(s, 0, &ignored); n--) {}
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    ENTER(1);
    (void)flags;
    *stream = calloc(1, sizeof **stream);
    (*stream)->mode = default_mode, (*stream)->next = streams, streams = *stream;
    LEAVE(CUDA_SUCCESS);
}

CUresult cuStreamDestroy(CUstream stream) {
    ENTER(1);
    fake_drain(stream);
    for (CUstream *s = &streams; *s; s = &(*s)->next)
        if (*s == stream) {
            *s = stream->next;
            LEAVE(CUDA_SUCCESS);
        }
    LEAVE(CUDA_ERROR_INVALID_HANDLE);
}

CUresult cuStreamSynchronize(CUstream stream) {
    ENTER(1);
    CUstream s = fake_stream(stream);
    if (!is_known(s)) LEAVE(CUDA_ERROR_INVALID_HANDLE);
    if (fake_is_any_capturing()) {
        fake_break_captures();
        LEAVE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    LEAVE(fake_drain(s));
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
    ENTER(1);
    (void)flags;
    CUstream s = fake_stream(stream);
    if (s->is_capturing != event->is_captured) {
        s->is_broken = s->is_capturing;
        LEAVE(CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    }
    if (!event->recorded) LEAVE(CUDA_SUCCESS);  // as the driver has it: an event never recorded is past
    Op op = {.kind = WAIT, .event = event, .generation = event->recorded, .source = event->source};
    LEAVE(fake_push(stream, op));
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
    ENTER(1);
    (void)flags;
    *event = calloc(1, sizeof **event);
    LEAVE(CUDA_SUCCESS);
}

// A queue may still name the event: it is left to the end of the process.
CUresult cuEventDestroy(CUevent event) { ENTER(1); (void)event; LEAVE(CUDA_SUCCESS); }

CUresult cuEventRecord(CUevent event, CUstream stream) {
    ENTER(1);
    CUstream s = fake_stream(stream);
    event->source = s, event->is_captured = s->is_capturing;
    Op op = {.kind = RECORD, .event = event, .generation = ++event->recorded};
    LEAVE(fake_push(stream, op));
}

CUresult cuEventQuery(CUevent event) {
    ENTER(1);
    LEAVE(event->done < event->recorded ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS);
}

CUresult cuEventSynchronize(CUevent event) {
    ENTER(1);
    CUresult result = CUDA_SUCCESS;
    while (event->done < event->recorded && step(event->source, 1, &result)) {}
    LEAVE(result);
}

CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end) {
    ENTER(1);
    int is_past = start->done == start->recorded && end->done == end->recorded;
    *ms = 1.0f;  // the fake has no clock
    LEAVE(is_past ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY);
}

// Graphs: what one stream captured, replayed as it was.

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
    ENTER(1);
    (void)mode;
    if (!stream || stream->is_capturing) LEAVE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    stream->is_capturing = 1, stream->is_broken = 0;
    stream->capture = (struct CUgraph_st){NULL, NULL};
    LEAVE(CUDA_SUCCESS);
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    ENTER(1);
    *graph = NULL;
    int was_broken = stream->is_broken;
    stream->is_capturing = stream->is_broken = 0;
    if (was_broken) LEAVE(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    *graph = malloc(sizeof **graph);
    **graph = stream->capture;
    LEAVE(CUDA_SUCCESS);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    ENTER(1);
    (void)flags;
    *exec = malloc(sizeof **exec);
    (*exec)->head = graph->head;
    LEAVE(CUDA_SUCCESS);
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    ENTER(1);
    for (Op *op = exec->head; op; op = op->next) {
        CUresult result = fake_push(stream, *op);
        if (result != CUDA_SUCCESS) LEAVE(result);
    }
    LEAVE(CUDA_SUCCESS);
}

CUresult cuGraphDestroy(CUgraph graph) { ENTER(1); free(graph); LEAVE(CUDA_SUCCESS); }
CUresult cuGraphExecDestroy(CUgraphExec exec) { ENTER(1); free(exec); LEAVE(CUDA_SUCCESS); }
