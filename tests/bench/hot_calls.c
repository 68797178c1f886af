/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hot_calls - what a call from a science program's inner loop costs.
 *
 *   hot_calls [CALLS]     prints `NAME nanoseconds` lines
 *
 * Compiles against BOINC's own library too; there with -DNO_OPS.
 */
#include "boinc_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

#define MEASURE(name, call)                                              \
    do {                                                                 \
        double begin = now();                                            \
        for (long i = 0; i < calls; i++)                                 \
            call;                                                        \
        printf("%s %.2f\n", name, (now() - begin) / (double)calls);      \
    } while (0)

int main(int argc, char **argv)
{
    long calls = argc > 1 ? atol(argv[1]) : 100000000;
    double step = 1.0 / (double)calls;
    volatile int due = 0;

    boinc_init();
    MEASURE("fraction_done", boinc_fraction_done((double)i * step));
    MEASURE("time_to_checkpoint", due = boinc_time_to_checkpoint());
    MEASURE("critical_section", (boinc_begin_critical_section(), boinc_end_critical_section()));
#ifndef NO_OPS
    MEASURE("ops_cumulative", boinc_ops_cumulative((double)i, 0));
#endif
    (void)due;
    return boinc_finish(0);
}
