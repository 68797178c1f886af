/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fast_clock.c - a library for LD_PRELOAD: the clock of one program runs SPEED
 * times as fast, and its waits are as much shorter.
 *
 * FAST_CLOCK_SPEED is the factor; FAST_CLOCK_FROM the moment, in seconds since
 * 1970, at which the fast and the true clock agree, so that a second start
 * does not go back in time. Both, and LD_PRELOAD, are removed from the
 * environment: the programs that this one starts have the true time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int (*true_clock_gettime)(clockid_t, struct timespec *);
static int (*true_nanosleep)(const struct timespec *, struct timespec *);
static int (*true_poll)(struct pollfd *, nfds_t, int);
static int (*true_select)(int, fd_set *, fd_set *, fd_set *, struct timeval *);

static double speed = 1;
static double agreed;       /* on the clock of the day */
static double agreed_steps; /* on the clocks that only count */

static double seconds(const struct timespec *t) { return (double)t->tv_sec + (double)t->tv_nsec / 1e9; }

static void store(double value, struct timespec *t)
{
    t->tv_sec = (time_t)value;
    t->tv_nsec = (long)((value - (double)t->tv_sec) * 1e9);
}

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("FAST_CLOCK_SPEED");
    const char *from = getenv("FAST_CLOCK_FROM");
    struct timespec now;

    true_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    true_nanosleep = dlsym(RTLD_NEXT, "nanosleep");
    true_poll = dlsym(RTLD_NEXT, "poll");
    true_select = dlsym(RTLD_NEXT, "select");
    true_clock_gettime(CLOCK_MONOTONIC, &now);
    agreed_steps = seconds(&now);
    true_clock_gettime(CLOCK_REALTIME, &now);
    agreed = from ? atof(from) : seconds(&now);
    if (text && atof(text) > 0)
        speed = atof(text);
    unsetenv("FAST_CLOCK_SPEED");
    unsetenv("FAST_CLOCK_FROM");
    unsetenv("LD_PRELOAD");
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
    int result;

    if (!true_clock_gettime)
        true_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    result = true_clock_gettime(clock, t);
    if (result != 0 || speed == 1)
        return result;
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
        store(agreed + (seconds(t) - agreed) * speed, t);
        break;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_BOOTTIME:
        store(agreed_steps + (seconds(t) - agreed_steps) * speed, t);
        break;
    default: /* processor time */
        break;
    }
    return result;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *t)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (t)
        *t = now.tv_sec;
    return now.tv_sec;
}

int nanosleep(const struct timespec *wanted, struct timespec *left)
{
    struct timespec shorter;
    int result;

    store(seconds(wanted) / speed, &shorter);
    result = true_nanosleep(&shorter, left);
    if (result != 0 && left)
        store(seconds(left) * speed, left);
    return result;
}

int usleep(useconds_t microseconds)
{
    struct timespec wanted;

    store((double)microseconds / 1e6, &wanted);
    return nanosleep(&wanted, 0);
}

unsigned sleep(unsigned wanted_seconds)
{
    struct timespec wanted = {(time_t)wanted_seconds, 0};
    struct timespec left = {0, 0};

    return nanosleep(&wanted, &left) == 0 ? 0 : (unsigned)left.tv_sec + 1;
}

int poll(struct pollfd *files, nfds_t count, int milliseconds)
{
    if (milliseconds > 0)
        milliseconds = (int)((double)milliseconds / speed) + 1;
    return true_poll(files, count, milliseconds);
}

int select(int count, fd_set *readable, fd_set *writable, fd_set *special, struct timeval *patience)
{
    struct timeval shorter;
    double wanted;

    if (!patience)
        return true_select(count, readable, writable, special, 0);
    wanted = ((double)patience->tv_sec + (double)patience->tv_usec / 1e6) / speed;
    shorter.tv_sec = (time_t)wanted;
    shorter.tv_usec = (suseconds_t)((wanted - (double)shorter.tv_sec) * 1e6);
    return true_select(count, readable, writable, special, &shorter);
}
