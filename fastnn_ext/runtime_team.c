#include "runtime_team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

#include "simd/isa.h"

/* A phase below this cost is run by whoever finished the one before: waking the others and moving
 * the data to them costs more than it saves. A program whose shareable phases cost less than
 * TEAM_NS together does not open a parallel region at all. */
#define PHASE_NS 2500.0
#define TEAM_NS 10000.0
/* Signals are looked for this often, between chunks and while the calling thread waits. */
#define POLL_NS 500000.0
#define POLL_SECONDS 0.01
/* How often a thread that finds no chunk looks again before it sleeps: for some 0.1 ms (a pause takes 20 to 40 ns),
 * as waking takes about that long and phases that only one thread works at are shorter. Where there are more
 * threads than processors, the one that is waited for may need this one's: then it sleeps after a hundred looks. */
#define SPINS 4000
#define CROWDED_SPINS 100

#define CACHE_LINE 64

/* ---- memory ------------------------------------------------------------------------------- */

static _Atomic int64_t fail_countdown, held;

int64_t fnn_fail_allocation(int64_t nth) {
    int64_t left = atomic_exchange(&fail_countdown, nth < 1 ? 0 : nth);
    return left < 0 ? 0 : left;
}

int64_t fnn_held_allocations(void) { return atomic_load(&held); }

void *fnn_allocate(size_t bytes) {
    if (atomic_load(&fail_countdown) > 0 && atomic_fetch_sub(&fail_countdown, 1) == 1) return NULL;
    void *memory = NULL;
    if (bytes > SIZE_MAX - CACHE_LINE) return NULL;
    bytes = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    if (posix_memalign(&memory, CACHE_LINE, bytes ? bytes : CACHE_LINE)) return NULL;
    memset(memory, 0, bytes);
    atomic_fetch_add(&held, 1);
    return memory;
}

void fnn_free(void *memory) {
    if (memory) atomic_fetch_sub(&held, 1);
    free(memory);
}

/* ---- time --------------------------------------------------------------------------------- */

double fnn_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- threads ------------------------------------------------------------------------------ */

/* OpenMP's setting is per thread: threadpoolctl and omp_set_num_threads change it for the thread
 * that calls them. A fn.set_num_threads reaches the other threads when they next ask, unless they
 * have been given a setting of their own. */
static int startup_threads = 1, processors = 1, most_threads = 64;
static _Atomic int chosen = 0, cap = 0;
static _Atomic unsigned version = 0;
static _Thread_local unsigned seen_version = 0;

int fnn_openmp(void) {
#ifdef _OPENMP
    return _OPENMP;
#else
    return 0;
#endif
}

/* More than these only take turns, and a process that has too many ends. */
int fnn_most_threads(void) { return most_threads; }

int fnn_startup_threads(void) { return startup_threads; }

void fnn_set_threads(int n, int limit) {
    if (limit > 0) atomic_store(&cap, limit);
    if (n <= 0) return;
    if (n > most_threads) n = most_threads;
    atomic_store(&chosen, n);
    seen_version = atomic_fetch_add(&version, 1) + 1;
#ifdef _OPENMP
    omp_set_num_threads(n);
#endif
}

int fnn_threads(void) {
#ifdef _OPENMP
    unsigned now = atomic_load(&version);
    if (seen_version != now) {
        seen_version = now;
        if (omp_get_max_threads() == startup_threads) omp_set_num_threads(atomic_load(&chosen));
    }
    int n = omp_get_max_threads(), limit = atomic_load(&cap);
    if (omp_in_parallel()) return 1;
    if (now == 0 && limit > 0 && n == startup_threads && n > limit) n = limit;
    return n > most_threads ? most_threads : n;
#else
    return 1;
#endif
}

/* libgomp ends the process where it cannot make a thread. So those that a team wants anew are made and joined by
 * ourselves first; where that fails, for a limit of processes or of memory, the team is smaller, and it is tried again
 * later. Each thread that opens teams has a pool of its own, which has as many as its last team, and none after a
 * fork. */
#define TRY_AGAIN_SECONDS 10.0
/* Bytes that must be left beside the threads' own, for a team and for each of them. */
enum { TEAM_BYTES = 1 << 16, MEMBER_BYTES = 1 << 12 };

static _Atomic unsigned pools = 0; /* counts the times that all have been given back */
static _Thread_local struct {
    unsigned pools;
    int threads; /* of the last team, the caller among them */
    int most;    /* that could be had when it was last tried in vain */
    double again;
} pool;

static void *pass(void *gate) {
    pthread_mutex_lock(gate);
    pthread_mutex_unlock(gate);
    return NULL;
}

/* How many of n threads can be made at once. */
static int makeable(int n) {
    pthread_mutex_t gate;
    pthread_t *made = fnn_allocate((size_t)n * sizeof *made);
    int count = 0;
    if (!made) return 0;
    pthread_mutex_init(&gate, NULL);
    pthread_mutex_lock(&gate);
    while (count < n && pthread_create(&made[count], NULL, pass, &gate) == 0) count++;
    void *room = fnn_allocate(TEAM_BYTES + (size_t)n * MEMBER_BYTES);
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < count; i++) pthread_join(made[i], NULL);
    pthread_mutex_destroy(&gate);
    fnn_free(made);
    fnn_free(room);
    return room ? count : 0;
}

/* How many of the threads that a team asks for it can have. */
static int available(int threads) {
    unsigned now = atomic_load(&pools);
    if (pool.threads < 1 || pool.pools != now) {
        pool.pools = now;
        pool.threads = 1;
        pool.again = 0;
    }
    if (threads <= pool.threads) return threads;
    if (pool.again == 0 || fnn_seconds() >= pool.again) {
        int wanted = threads - pool.threads, count = makeable(wanted);
        if (count == wanted) return threads;
        /* Others may take some of what there is. */
        pool.most = pool.threads + (count < 2 ? 0 : count - 1 - count / 8);
        pool.again = fnn_seconds() + TRY_AGAIN_SECONDS;
    }
    return threads < pool.most ? threads : pool.most;
}

/* ---- the team ----------------------------------------------------------------------------- */

/* A share's state in one word, so that a thread that wakes late cannot take a chunk of a round that
 * it does not know of: the turn, which numbers rounds, in the high half, the next chunk in the low half. */
typedef struct {
    _Atomic uint64_t next;
    char pad[CACHE_LINE - sizeof(uint64_t)];
} share;

struct fnn_team {
    _Atomic uint32_t turn;
    char pad1[CACHE_LINE - 4];
    _Atomic int64_t done;
    int64_t chunks; /* of the turn */
    char pad2[CACHE_LINE - 16];
    _Atomic int sleepers;
    _Atomic int status;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int threads, capacity;
    int runs;                     /* that could be shared, up to WARM_UP */
    double shared_time, alone_time; /* recent seconds a run, over the estimate; 0: unknown */
    double probe_at;              /* when the other way is to be tried again */
    char *scratch; /* capacity * scratch_bytes */
    size_t scratch_bytes;
    char *common; /* common_bytes, shared by an op's chunks */
    size_t common_bytes;
    share *shares; /* capacity */
};

static inline void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* What one thread knows while it runs a program. */
typedef struct {
    fnn_program *program;
    fnn_team *team;
    fnn_poll_fn poll; /* NULL on all threads but the caller's */
    double polled, unpolled; /* when it last looked for signals; estimated work since it last thought of it */
    fnn_profile *profile; /* or NULL */
    char *scratch;
    int thread;
    int late; /* a signal arrived, but the program had committed */
} worker;

/* A program either stops before its commit phase or runs to its end: parameters are never left
 * half updated. The status word decides which of the two came first. */
enum { COMMITTED = 1 };

static int stop(worker *w) {
    int ok = FNN_OK;
    return atomic_compare_exchange_strong(&w->team->status, &ok, FNN_FAILED);
}

static int stopped(const worker *w) { return atomic_load_explicit(&w->team->status, memory_order_relaxed) < 0; }

/* True if the program may go on with this phase. */
static int enter(worker *w, int32_t phase) {
    int ok = FNN_OK;
    if (phase == w->program->commit) atomic_compare_exchange_strong(&w->team->status, &ok, COMMITTED);
    return !stopped(w);
}

/* Looks for signals every POLL_SECONDS; reads the clock only after about POLL_NS of work. */
static void poll_signals(worker *w, int phase) {
    if (!w->poll || phase >= w->program->commit || w->unpolled < POLL_NS) return;
    w->unpolled = 0;
    double now = fnn_seconds();
    if (now - w->polled < POLL_SECONDS) return;
    w->polled = now;
    if (w->poll()) {
        w->poll = NULL;
        if (!stop(w)) w->late = 1;
    }
}

static void run_chunk(worker *w, int32_t op_index, int64_t chunk) {
    const fnn_op *op = &w->program->ops[op_index];
    w->unpolled += op->cost / (double)(op->chunks * op->rounds);
    fnn_profile *profile = w->profile;
    if (profile) {
        fnn_event event = {fnn_seconds(), 0, op_index, w->thread};
        if (op->run(op, chunk, w->scratch)) stop(w);
        event.end = fnn_seconds();
        profile->op_seconds[op_index * (int64_t)profile->threads + w->thread] += event.end - event.begin;
        int64_t place = atomic_fetch_add_explicit(&profile->count, 1, memory_order_relaxed);
        if (profile->events && place < profile->room) profile->events[place] = event;
    } else if (op->run(op, chunk, w->scratch)) {
        stop(w);
    }
}

/* Of an op, in a round of its phase. */
static inline int64_t chunks_of(const fnn_op *op, int64_t round) { return round < op->rounds ? op->chunks : 0; }

static void run_phase_alone(worker *w, int phase) {
    const fnn_phase *ph = &w->program->phases[phase];
    for (int64_t round = 0; round < ph->rounds; round++)
        for (int32_t i = ph->first; i < ph->first + ph->count; i++)
            for (int64_t c = 0, n = chunks_of(&w->program->ops[i], round); c < n; c++) {
                poll_signals(w, phase);
                if (stopped(w)) return;
                run_chunk(w, i, round * n + c);
            }
}

/* Thread t's part of n chunks is [part(n, t), part(n, t + 1)); a single chunk is thread 0's. */
static inline int64_t part(int64_t n, int t, int threads) { return (n * t + threads - 1) / threads; }

static int64_t share_size(const fnn_program *program, const fnn_phase *ph, int64_t round, int t, int threads) {
    int64_t size = 0;
    for (int32_t i = ph->first; i < ph->first + ph->count; i++) {
        const int64_t n = chunks_of(&program->ops[i], round);
        size += part(n, t + 1, threads) - part(n, t, threads);
    }
    return size;
}

/* Takes the next chunk of thread t's share, if there is one. */
static int take(worker *w, const fnn_phase *ph, uint32_t turn, int t, int32_t *op_index, int64_t *chunk) {
    const fnn_program *program = w->program;
    int threads = w->team->threads;
    const int64_t round = turn - ph->turn;
    _Atomic uint64_t *next = &w->team->shares[t].next;
    uint64_t seen = atomic_load_explicit(next, memory_order_acquire);
    int64_t size = share_size(program, ph, round, t, threads);
    do {
        if ((uint32_t)(seen >> 32) != turn || (int64_t)(uint32_t)seen >= size) return 0;
    } while (!atomic_compare_exchange_weak_explicit(next, &seen, seen + 1, memory_order_acq_rel, memory_order_acquire));
    int64_t k = (int64_t)(uint32_t)seen;
    for (int32_t i = ph->first; i < ph->first + ph->count; i++) {
        const int64_t n = chunks_of(&program->ops[i], round);
        int64_t begin = part(n, t, threads), end = part(n, t + 1, threads);
        if (k < end - begin) {
            *op_index = i;
            *chunk = round * n + begin + k;
            return 1;
        }
        k -= end - begin;
    }
    return 0;
}

/* The first turn of a phase, or the end of all. */
static uint32_t turn_of(const fnn_program *program, int32_t phase) {
    return phase < program->n_phases ? program->phases[phase].turn : program->turns;
}

static void open_turn(worker *w, int32_t phase, uint32_t turn) {
    const fnn_phase *ph = &w->program->phases[phase];
    fnn_team *team = w->team;
    team->chunks = 0;
    for (int32_t i = ph->first; i < ph->first + ph->count; i++)
        team->chunks += chunks_of(&w->program->ops[i], turn - ph->turn);
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    for (int t = 0; t < team->threads; t++)
        atomic_store_explicit(&team->shares[t].next, (uint64_t)turn << 32, memory_order_release);
}

static void publish(fnn_team *team, uint32_t turn) {
    atomic_store(&team->turn, turn);
    if (atomic_load(&team->sleepers) > 0) {
        pthread_mutex_lock(&team->mutex);
        pthread_cond_broadcast(&team->changed);
        pthread_mutex_unlock(&team->mutex);
    }
}

/* The thread that finished the last chunk of a round opens the next one; or runs the small phases that follow, and
 * opens the next shared one. */
static void advance(worker *w, int32_t phase, uint32_t turn) {
    fnn_program *program = w->program;
    int32_t q = phase + 1;
    if (++turn < turn_of(program, q) && !stopped(w)) {
        open_turn(w, phase, turn);
        publish(w->team, turn);
        return;
    }
    while (q < program->end_shared && enter(w, q) && program->phases[q].serial &&
           !(program->phases[q].on_caller && w->thread != 0))
        run_phase_alone(w, q++);
    if (stopped(w)) q = program->end_shared;
    if (q < program->end_shared) open_turn(w, q, turn_of(program, q));
    publish(w->team, turn_of(program, q));
}

static void wait_for_change(worker *w, int32_t phase, uint32_t turn) {
    fnn_team *team = w->team;
    int spins = team->threads <= processors ? SPINS : CROWDED_SPINS;
    for (int i = 0; i < spins; i++) {
        if (atomic_load_explicit(&team->turn, memory_order_acquire) != turn) return;
        pause_briefly();
    }
    atomic_fetch_add(&team->sleepers, 1);
    pthread_mutex_lock(&team->mutex);
    while (atomic_load(&team->turn) == turn) {
        if (w->poll && phase < w->program->commit) {
            struct timespec t;
            clock_gettime(CLOCK_REALTIME, &t);
            t.tv_nsec += (long)(POLL_SECONDS * 1e9);
            if (t.tv_nsec >= 1000000000L) t.tv_sec++, t.tv_nsec -= 1000000000L;
            pthread_cond_timedwait(&team->changed, &team->mutex, &t);
            pthread_mutex_unlock(&team->mutex);
            w->unpolled = POLL_NS;
            poll_signals(w, phase);
            pthread_mutex_lock(&team->mutex);
        } else {
            pthread_cond_wait(&team->changed, &team->mutex);
        }
    }
    pthread_mutex_unlock(&team->mutex);
    atomic_fetch_sub(&team->sleepers, 1);
}

static void work(worker *w) {
    fnn_team *team = w->team;
    fnn_program *program = w->program;
    const uint32_t last = turn_of(program, program->end_shared);
    int32_t phase = program->first_shared;
    for (uint32_t turn; (turn = atomic_load_explicit(&team->turn, memory_order_acquire)) < last;) {
        int32_t op_index = 0;
        int64_t chunk = 0;
        int found = 0;
        while (turn >= turn_of(program, phase + 1)) phase++;
        poll_signals(w, phase);
        if (program->phases[phase].on_caller) {
            if (w->thread == 0) {
                run_phase_alone(w, phase);
                advance(w, phase, turn);
                continue;
            }
        } else {
            for (int i = 0; i < team->threads && !found; i++) {
                int t = w->thread + i < team->threads ? w->thread + i : w->thread + i - team->threads;
                found = take(w, &program->phases[phase], turn, t, &op_index, &chunk);
            }
        }
        if (found) {
            const int64_t chunks = team->chunks; /* of this turn, which cannot end before this chunk does */
            /* After a stop the remaining chunks are only counted, so that all threads leave alike. */
            if (!stopped(w)) run_chunk(w, op_index, chunk);
            if (atomic_fetch_add_explicit(&team->done, 1, memory_order_acq_rel) + 1 == chunks) advance(w, phase, turn);
        } else {
            wait_for_change(w, phase, turn);
        }
    }
}

static void work_as(worker *caller, int thread) {
    if (thread == 0) {
        work(caller);
    } else {
        fnn_team *team = caller->team;
        char *scratch = team->scratch + (size_t)thread * team->scratch_bytes;
        worker member = {caller->program, team, NULL, 0, 0, caller->profile, scratch, thread, 0};
        work(&member);
    }
}

/* ThreadSanitizer does not see into libgomp: it is told that a region begins after what its caller did before, and
 * ends after what its threads did. What gcc makes of the pragma is not looked at, as that comes before it is told. */
#if defined(__SANITIZE_THREAD__)
#define PASS_ON(address) __tsan_release(address)
#define TAKE_OVER(address) __tsan_acquire(address)
__attribute__((no_sanitize("thread")))
#else
#define PASS_ON(address) ((void)0)
#define TAKE_OVER(address) ((void)0)
#endif
static void open_region(worker *caller, int threads) {
#ifdef _OPENMP
    PASS_ON(caller);
#pragma omp parallel num_threads(threads)
    {
        TAKE_OVER(caller);
        work_as(caller, omp_get_thread_num());
        PASS_ON(caller);
    }
    TAKE_OVER(caller);
#endif
}

static fnn_team *team_for(fnn_program *program, int threads) {
    fnn_team *team = program->team;
    if (!team) {
        team = fnn_allocate(sizeof *team);
        if (!team) return NULL;
        pthread_mutex_init(&team->mutex, NULL);
        pthread_cond_init(&team->changed, NULL);
        program->team = team;
    }
    size_t scratch_bytes = ((size_t)program->scratch + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE + CACHE_LINE;
    if (threads > team->capacity || scratch_bytes > team->scratch_bytes) {
        int capacity = threads > team->capacity ? threads : team->capacity;
        if (scratch_bytes < team->scratch_bytes) scratch_bytes = team->scratch_bytes;
        share *shares = fnn_allocate((size_t)capacity * sizeof *shares);
        char *scratch = shares ? fnn_allocate((size_t)capacity * scratch_bytes) : NULL;
        if (!scratch) {
            fnn_free(shares);
            return NULL;
        }
        fnn_free(team->shares);
        fnn_free(team->scratch);
        team->shares = shares;
        team->scratch = scratch;
        team->scratch_bytes = scratch_bytes;
        team->capacity = capacity;
    }
    if ((size_t)program->shared > team->common_bytes) {
        char *common = fnn_allocate((size_t)program->shared);
        if (!common) return NULL;
        fnn_free(team->common);
        team->common = common;
        team->common_bytes = (size_t)program->shared;
    }
    for (int32_t p = 0; program->shared && p < program->n_phases; p++) {
        const fnn_phase *ph = &program->phases[p];
        char *at = team->common;
        for (int32_t i = ph->first; i < ph->first + ph->count; at += program->ops[i++].shared)
            program->ops[i].common = at;
    }
    team->threads = threads;
    return team;
}

void fnn_prepare(fnn_program *program) {
    program->scratch = program->shared = 0;
    program->shared_cost = 0;
    program->turns = 0;
    program->begin = program->first_shared = program->end_shared = 0;
    for (int32_t p = 0; p < program->n_phases; p++) {
        fnn_phase *ph = &program->phases[p];
        int64_t side_by_side = 0, shared = 0;
        ph->chunks = 0;
        ph->rounds = 1;
        ph->cost = 0;
        for (int32_t i = ph->first; i < ph->first + ph->count; i++) {
            fnn_op *op = &program->ops[i];
            op->rounds = 1;
            op->shared = 0;
            op->prepare(op);
            op->shared = (op->shared + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
            shared += op->shared;
            side_by_side += op->chunks;
            ph->chunks += op->chunks * op->rounds;
            if (op->chunks && op->rounds > ph->rounds) ph->rounds = op->rounds;
            if (op->chunks) ph->cost += op->cost;
            if (op->scratch > program->scratch) program->scratch = op->scratch;
        }
        ph->turn = program->turns;
        program->turns += (uint32_t)ph->rounds;
        if (shared > program->shared) program->shared = shared;
        ph->serial = ph->on_caller || side_by_side < 2 || ph->cost < PHASE_NS;
        if (!ph->serial) {
            if (!program->end_shared) program->first_shared = p;
            program->end_shared = p + 1;
            if (p >= program->constant) program->shared_cost += ph->cost;
        }
    }
}

/* Whether a team helps depends on the neighbours: a region ends only when each of its threads has had
 * a core, and with a busy one small steps ran 20 times slower on two threads than on one. So a program
 * measures both ways, takes the faster, and tries the other again from time to time, seldom enough to
 * cost a percent. The bits do not depend on it. */
#define WARM_UP 3
#define PROBE_PATIENCE 100.0

static _Atomic int always_share = 0;

void fnn_always_share(int yes) { atomic_store(&always_share, yes); }

static int shared_is_better(fnn_team *team, double now, int *probing) {
    if (team->runs < WARM_UP || atomic_load(&always_share)) return 1;
    int better = team->alone_time > 0 && team->shared_time <= team->alone_time;
    *probing = now >= team->probe_at;
    return *probing ? !better : better;
}

static void remember(fnn_team *team, int shared, int probing, double begun, double estimate) {
    double now = fnn_seconds(), time = (now - begun) / estimate;
    double *recent = shared ? &team->shared_time : &team->alone_time;
    if (team->runs < WARM_UP) { /* page faults and threads being made */
        team->runs++;
        *recent = time;
        return;
    }
    *recent = probing || *recent == 0 ? time : 0.8 * *recent + 0.2 * time;
    if (probing) team->probe_at = now + PROBE_PATIENCE * (now - begun);
}

/* A lock that another thread held at the fork stays locked in the child: whoever owns locks looks at
 * this number and makes them anew when it has changed. */
static unsigned forks = 0;

/* Programs that run at once on several threads, each called from a Python thread of its own, share the processors: the
 * next one takes what the others leave of its threads, and its fair share at least. */
static _Atomic uint64_t sharing = 0; /* how many run, times ONE_RUN, and the threads that they took */
#define ONE_RUN ((uint64_t)1 << 32)

int fnn_threads_taken(void) { return (int)(atomic_load(&sharing) % ONE_RUN); }

static int take_share(int threads) {
    uint64_t now = atomic_load(&sharing);
    int own;
    do {
        int fair = threads / (1 + (int)(now / ONE_RUN)), left = threads - (int)(now % ONE_RUN);
        own = left > fair ? left : fair > 1 ? fair : 1;
    } while (!atomic_compare_exchange_weak(&sharing, &now, now + ONE_RUN + (uint64_t)own));
    return own;
}

static int execute(fnn_program *program, int threads, fnn_poll_fn poll, fnn_profile *profile);

int fnn_execute(fnn_program *program, int threads, fnn_poll_fn poll, fnn_profile *profile) {
    if (threads < 2 || program->shared_cost < TEAM_NS) return execute(program, 1, poll, profile);
    unsigned then = forks;
    int own = take_share(threads), status = execute(program, own, poll, profile);
    if (then == forks) atomic_fetch_sub(&sharing, ONE_RUN + (uint64_t)own); /* a child counts none of before the fork */
    return status;
}

static int execute(fnn_program *program, int threads, fnn_poll_fn poll, fnn_profile *profile) {
    if (threads > 1) threads = available(threads);
    double begun = threads > 1 || poll ? fnn_seconds() : 0;
    int sharable = threads > 1, probing = 0;
    if (sharable && program->team && !shared_is_better(program->team, begun, &probing)) threads = 1;
    fnn_team *team = team_for(program, threads);
    if (!team) return FNN_NO_MEMORY;
    atomic_store(&team->status, FNN_OK);
    worker caller = {program, team, poll, begun, 0, profile, team->scratch, 0, 0};
    const int32_t first = program->begin;
    /* A team is opened at a phase that it shares: one without chunks would never end. */
    int32_t begin = threads > 1 && first < program->first_shared ? program->first_shared : first;
    while (threads > 1 && begin < program->end_shared && program->phases[begin].serial) begin++;
    int32_t end = threads > 1 && begin < program->end_shared ? program->end_shared : begin;
    for (int32_t p = first; p < begin && enter(&caller, p); p++) run_phase_alone(&caller, p);
    if (begin < end && enter(&caller, begin)) {
        open_turn(&caller, begin, program->phases[begin].turn);
        atomic_store(&team->turn, program->phases[begin].turn);
        pool.threads = threads;
        open_region(&caller, threads);
    }
    for (int32_t p = end; p < program->n_phases && enter(&caller, p); p++) run_phase_alone(&caller, p);
    if (stopped(&caller)) return FNN_FAILED;
    program->begin = program->constant;
    if (sharable && first == program->constant) remember(team, threads > 1, probing, begun, program->shared_cost);
    return caller.late ? FNN_LATE : FNN_OK;
}

void fnn_release(fnn_program *program) {
    fnn_team *team = program->team;
    if (!team) return;
    fnn_free(team->shares);
    fnn_free(team->scratch);
    fnn_free(team->common);
    pthread_mutex_destroy(&team->mutex);
    pthread_cond_destroy(&team->changed);
    fnn_free(team);
    program->team = NULL;
}

/* ---- start-up ----------------------------------------------------------------------------- */

/* libgomp's child hangs at its first region if the parent had threads (gcc PR60035); giving the
 * pool back before the fork cures it, and the parent's next region makes a new one. */
static void before_fork(void) {
#ifdef _OPENMP
    if (!omp_in_parallel()) {
        omp_pause_resource_all(omp_pause_hard);
        atomic_fetch_add(&pools, 1);
    }
#endif
}

static void in_child(void) {
    forks++;
    atomic_store(&sharing, 0); /* the parent's runs are none of the child's */
}

unsigned fnn_forks(void) { return forks; }

void fnn_runtime_init(void) {
#ifdef _OPENMP
    startup_threads = omp_get_max_threads();
    processors = omp_get_num_procs();
    if (most_threads < 8 * processors) most_threads = 8 * processors;
#endif
    pthread_atfork(before_fork, NULL, in_child);
}

int fnn_best_isa(void) {
#if defined(__x86_64__) && defined(FNN_BUILT_AVX512)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return FNN_AVX512;
#endif
#if defined(__x86_64__) && defined(FNN_BUILT_AVX2)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return FNN_AVX2;
#endif
    return FNN_BASELINE;
}
