/* A clock that another process moves: preloaded into a process, it adds microseconds, which stand in
 * a mapped file, to the wall clock. The monotonic clock and all time-outs stay those of the machine.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL
/* Deadlines of the wall clock lie after 2001; those of the monotonic clock count from the start of
 * the machine. */
#define WALL_S 1000000000LL

static volatile int64_t *moved_us;
static int64_t none;
static int (*real_gettime)(clockid_t, struct timespec *);

static void *next(const char *name) {
#ifdef __x86_64__
    void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2"); /* an older one has another condition */
    if (found) return found;
#endif
    return dlsym(RTLD_NEXT, name);
}

static void begin(void) {
    if (moved_us) return;
    real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("SIMULATED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
    if (file >= 0) close(file);
    moved_us = found == MAP_FAILED ? &none : found;
}

__attribute__((constructor)) static void start(void) { begin(); }

static void add_ns(struct timespec *at, int64_t ns) {
    int64_t all = at->tv_sec * NS + at->tv_nsec + ns;
    at->tv_sec = all / NS;
    at->tv_nsec = all % NS;
}

static int is_wall(clockid_t id) { return id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE; }

int clock_gettime(clockid_t id, struct timespec *at) {
    begin();
    int failed = real_gettime(id, at);
    if (!failed && is_wall(id)) add_ns(at, *moved_us * 1000);
    return failed;
}

int gettimeofday(struct timeval *at, void *zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *at, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, at) ? base : 0;
}

/* A wait until an instant of the moved clock is one until that of the machine. */
static struct timespec real(const struct timespec *until) {
    struct timespec at = *until;
    begin();
    if (at.tv_sec >= WALL_S) add_ns(&at, -*moved_us * 1000);
    return at;
}

#define WAIT(name, args, ...)                                                 \
    int name args {                                                           \
        static int (*known) args;                                             \
        if (!known) known = (int(*) args)next(#name);                         \
        struct timespec at = real(until);                                     \
        return known(__VA_ARGS__);                                            \
    }

WAIT(pthread_cond_timedwait,
     (pthread_cond_t * c, pthread_mutex_t *m, const struct timespec *until), c, m, &at)
WAIT(pthread_cond_clockwait,
     (pthread_cond_t * c, pthread_mutex_t *m, clockid_t id, const struct timespec *until), c, m, id,
     &at)
WAIT(pthread_mutex_timedlock, (pthread_mutex_t * m, const struct timespec *until), m, &at)
WAIT(sem_timedwait, (sem_t * s, const struct timespec *until), s, &at)
WAIT(sem_clockwait, (sem_t * s, clockid_t id, const struct timespec *until), s, id, &at)
