/* Ops, phases, programs, and the team of threads that runs them: the only door to OpenMP.
 *
 * A program is a list of phases; a phase is a set of ops that do not depend on each other; an op is
 * a struct with pointers to its buffers, its sizes and the driver function that computes one chunk
 * of it. Chunks are cut by shape alone, never by the number of threads, and a chunk writes what no
 * other chunk of the phase reads or writes: so the bits do not depend on who runs it, or when.
 *
 * A phase ends when its chunks are done, not when its threads arrive: a thread that lost its core
 * between two chunks holds nobody up. Each thread works off its own share first, then helps.
 *
 * What cannot be cut into short chunks that do not depend on each other (a long row's softmax, a sum that
 * goes on in the same memory) is cut into rounds: an op's chunks run once in each, and a round begins when
 * all of the one before are done. So a chunk stays short, whatever the sizes: signals are heard between chunks.
 */
#ifndef FNN_RUNTIME_TEAM_H
#define FNN_RUNTIME_TEAM_H

#include <stddef.h>
#include <stdint.h>

#define FNN_MAX_BUF 16
#define FNN_MAX_DIM 40
#define FNN_MAX_SCALAR 8
/* Nanoseconds of work, by estimate, that drivers give a chunk at most. */
#define FNN_MOST_NS 500000

typedef struct fnn_op fnn_op;

/* Computes chunk `chunk` (0 <= chunk < op->rounds * op->chunks: those of a round side by side). `scratch` is
 * op->scratch bytes, 64-byte aligned, private to the calling thread, with undefined contents. Returns 0, or -1 to abort
 * the program: ops that call Python, which have set a Python error, and "finite", which has not. */
typedef int (*fnn_run_fn)(const fnn_op *op, int64_t chunk, void *scratch);

/* Reads dim, dtype and isa; sets chunks, scratch, cost and, if it likes, kernels, rounds and shared. */
typedef void (*fnn_prepare_fn)(fnn_op *op);

struct fnn_op {
    fnn_run_fn run;
    fnn_prepare_fn prepare;
    int32_t dtype; /* FNN_F32 or FNN_F64 */
    int32_t isa;
    void *buf[FNN_MAX_BUF];        /* outputs first, then inputs; NULL where absent */
    int64_t dim[FNN_MAX_DIM];      /* sizes, strides (in elements) and small integers */
    double scalar[FNN_MAX_SCALAR]; /* constants of the op */
    const void *kernels;           /* for the driver: its table for this isa and dtype */
    void *object;                  /* the Python object an op calls, else NULL */
    /* set by prepare */
    int64_t chunks;  /* independent pieces, of each round; 0 where there is nothing to do */
    int64_t rounds;  /* 1 before prepare */
    int64_t scratch; /* bytes */
    int64_t shared;  /* bytes that all chunks see, from round to round; 0 before prepare */
    double cost;     /* estimated nanoseconds on one thread */
    void *common;    /* the shared bytes, 64-byte aligned: undefined contents in the first round */
};

typedef struct {
    int32_t first, count; /* ops[first .. first + count) */
    int32_t on_caller;    /* must run on the calling thread (ops that call Python) */
    int32_t serial;       /* set by fnn_prepare: too small to share */
    int64_t chunks;       /* of all rounds */
    int64_t rounds;       /* the most that one of its ops has, at least 1 */
    uint32_t turn;        /* the number of its first round among those of all phases */
    double cost;
} fnn_phase;

/* One chunk as it ran, in seconds of fnn_seconds(). */
typedef struct {
    double begin, end;
    int32_t op, thread;
} fnn_event;

/* Where a profiled run writes. Chunks that find no room among the events are in op_seconds alone. */
typedef struct {
    double *op_seconds; /* (n_ops, threads), added to */
    int threads;
    fnn_event *events; /* (room,) or NULL */
    int64_t room;
    _Atomic int64_t count; /* chunks so far, room or not */
} fnn_profile;

typedef struct fnn_team fnn_team;

typedef struct {
    fnn_op *ops;
    fnn_phase *phases;
    int32_t n_ops, n_phases;
    int32_t commit; /* from this phase on the program no longer stops for signals */
    int32_t constant; /* the phases before this one run in the first run after fnn_prepare: what they write stays */
    /* set by fnn_prepare */
    int32_t begin;                    /* the next run's first phase: 0, later `constant` */
    int32_t first_shared, end_shared; /* the phases between run on the team */
    double shared_cost;               /* nanoseconds that a team could share */
    int64_t scratch;                  /* bytes a thread */
    int64_t shared;                   /* bytes of what ops share, of a phase at most */
    uint32_t turns;                   /* rounds of all phases */
    fnn_team *team;
} fnn_program;

/* FNN_FAILED: stopped before its commit phase; a Python error is set unless "finite" did it. FNN_LATE: ran to its end,
 * and a Python error (KeyboardInterrupt) is set all the same. */
enum { FNN_OK = 0, FNN_LATE = 1, FNN_FAILED = -1, FNN_NO_MEMORY = -2 };

/* Returns nonzero if the program should stop (a Python error is then set). Called on the calling
 * thread only, at most every few milliseconds. */
typedef int (*fnn_poll_fn)(void);

void fnn_prepare(fnn_program *program); /* after a change of sizes */
/* Runs all phases on up to `threads` threads. `profile` may be NULL. */
int fnn_execute(fnn_program *program, int threads, fnn_poll_fn poll, fnn_profile *profile);
void fnn_release(fnn_program *program);
void fnn_always_share(int yes); /* for tests: a team even where one thread measures faster */

/* 64-byte aligned, zeroed; NULL when there is no memory. The one allocator of the native floor:
 * For tests, fnn_fail_allocation(n) makes the n-th call from now fail (n < 1: none), and returns how many calls were
 * left until the one that was to fail; fnn_held_allocations() says how many there are that were not freed. */
void *fnn_allocate(size_t bytes);
void fnn_free(void *memory);
int64_t fnn_fail_allocation(int64_t nth);
int64_t fnn_held_allocations(void);

void fnn_runtime_init(void); /* fork guard; called once at import */
unsigned fnn_forks(void);    /* how many forks lie between this process and the one that imported */
int fnn_openmp(void);        /* the _OPENMP date, or 0 in a serial build */
void fnn_set_threads(int n, int cap); /* at most fnn_most_threads() */
int fnn_most_threads(void);
int fnn_startup_threads(void); /* what OpenMP was told before fastnn was imported */
int fnn_threads_taken(void); /* by the programs that run now on several */
int fnn_threads(void); /* how many threads a program started now, on this thread, may use */
int fnn_best_isa(void);
double fnn_seconds(void);

#endif
