// What the parts of the fake share: handles, the queues' operations, the lock, the counters.
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <cuda.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LATE, EARLY, RANDOM };  // when a stream's queue is drained, see fake_streams.c

typedef enum { COPY, FILL, FILL32, LAUNCH, RECORD, WAIT } Kind;

typedef struct Op {
    Kind kind;
    CUdeviceptr to, from;     // COPY, FILL*; host addresses are taken as they are
    size_t bytes;
    unsigned value;           // FILL: a byte, FILL32: a word
    CUfunction function;      // LAUNCH
    unsigned grid[3], block[3], shared;
    uint8_t *params;          // a copy, packed as the kernel's offsets say
    CUevent event;            // RECORD, WAIT
    unsigned long generation;
    CUstream source;          // WAIT: where the event was recorded
    struct Op *next;
} Op;

struct CUgraph_st { Op *head, *tail; };
struct CUgraphExec_st { Op *head; };

struct CUstream_st {
    Op *head, *tail;
    int mode, is_capturing, is_broken;  // broken: the capture was
    struct CUgraph_st capture;
    struct CUstream_st *next;
};

struct CUevent_st {
    unsigned long recorded, done;
    CUstream source;
    int is_captured;
};

#define MOST_PARAMETERS 48
struct CUfunc_st {
    CUmodule module;
    char name[128];
    unsigned count, sizes[MOST_PARAMETERS], offsets[MOST_PARAMETERS], bytes, reqntid[3];
    struct CUfunc_st *next;
};
struct CUmod_st { char *text; struct CUfunc_st *functions; };

// Python's part: run one kernel, assemble one text. Both return a CUresult.
typedef int (*Execute)(const char *text, const char *name, const unsigned *grid,
                       const unsigned *block, unsigned shared, const uint8_t *params);
typedef int (*Assemble)(const char *text, char *log, size_t bytes);

extern Execute fake_execute;
extern Assemble fake_assemble;

CUresult fake_enter(const char *name, int needs_context);  // counts, injects, sticks; takes the lock
CUresult fake_leave(CUresult result);                      // pumps the eager streams; frees the lock
void fake_count(const char *name);
CUresult fake_stick(CUresult result);                      // an error that the context keeps
int fake_is_pinned(const void *host, size_t bytes);
uint8_t *fake_memory(CUdeviceptr address, size_t bytes);   // NULL: not all of it is allocated
CUstream fake_stream(CUstream stream);                     // the default stream for NULL
CUresult fake_push(CUstream stream, Op op);
CUresult fake_drain(CUstream stream);
CUresult fake_drain_all(void);
void fake_pump(void);
int fake_is_any_capturing(void);
void fake_break_captures(void);
void fake_reset_streams(int mode, unsigned seed);
void fake_reset_memory(size_t limit);

// `return` between the two would keep the lock
#define ENTER(needs_context)                                      \
    do {                                                          \
        CUresult entered = fake_enter(__func__, needs_context);   \
        if (entered != CUDA_SUCCESS) return fake_leave(entered);  \
    } while (0)
#define LEAVE(result) return fake_leave(result)

#endif
