/* SPDX-License-Identifier: Apache-2.0 */
/*
 * science.c - the science of the end-to-end tests, as a scientist writes it.
 *
 * in.txt holds STEPS CODE SEED: it works for about STEPS tenths of a second,
 * on a fast or a slow machine, and ends with CODE. What it finds, in out.txt,
 * depends on nothing but that. Standalone it finds the same at once.
 */
#define _POSIX_C_SOURCE 199309L
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "boinc_api.h"

#define ROUNDS 20000 /* of a step */

int main(void)
{
    const struct timespec tenth = {0, 100000000};
    int steps, code;
    uint32_t number;
    FILE *in = fopen("in.txt", "r");
    FILE *out = fopen("out.txt", "w");

    boinc_init();
    if (!in || !out || fscanf(in, "%d %d %u", &steps, &code, &number) != 3) {
        fprintf(stderr, "no input, or no place for results\n");
        boinc_finish(1);
    }
    for (int step = 1; step <= steps; step++) {
        for (int round = 0; round < ROUNDS; round++)
            number = number * 1664525u + 1013904223u;
        fprintf(out, "%d %u\n", step, number);
        boinc_fraction_done((double)step / steps);
        boinc_ops_cumulative(1e6 * step, 2.0 * ROUNDS * step);
        if (!boinc_is_standalone())
            nanosleep(&tenth, 0);
    }
    if (fclose(out) != 0)
        code = 1;
    if (code != 0)
        fprintf(stderr, "the sum does not come out\n");
    boinc_finish(code);
}
