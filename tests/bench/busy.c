/* SPDX-License-Identifier: Apache-2.0 */
/*
 * busy.c - a program that fills FILL megabytes with random bytes, says 0.5, and
 * uses all of its processor from then on, looking at the share all the time.
 *
 * Its floating point operations are how often the share was away; its integer
 * operations how long in all, in microseconds of the guest, whose clock stands
 * still with its machine.
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "boinc_api.h"

#define SHARE " /run/vmbridge/guest "

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* By the list of mounts: to look at the share itself is to hold it, and the agent could not let go. */
static int is_there(int mounts)
{
    static char text[8192];
    ssize_t length = pread(mounts, text, sizeof text - 1, 0);

    text[length > 0 ? length : 0] = '\0';
    return strstr(text, SHARE) != 0;
}

int main(int argc, char **argv)
{
    size_t words = (argc > 1 ? strtoul(argv[1], 0, 10) : 0) * (1 << 20) / sizeof(uint64_t);
    volatile uint64_t *memory = malloc(words * sizeof *memory);
    uint64_t x = 88172645463325252u;
    double times = 0, away_us = 0, since;
    int mounts = open("/proc/self/mounts", O_RDONLY);

    boinc_init();
    for (size_t i = 0; i < words; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memory[i] = x;
    }
    boinc_fraction_done(0.5);
    for (;;) {
        if (is_there(mounts))
            continue;
        since = now_us();
        while (!is_there(mounts))
            ;
        away_us += now_us() - since;
        times++;
        boinc_ops_cumulative(times, away_us);
    }
}
