/* SPDX-License-Identifier: Apache-2.0 */
/*
 * whole_life.c - a program that lives through everything: it works, talks to
 * its project, uploads a part of its results early, and cannot end before it
 * has been told to.
 *
 * in.txt holds STEPS SEED: it works for about STEPS tenths of a second, on a
 * fast or a slow machine. What it finds, in early.txt and out.txt, depends on
 * nothing but that. Standalone it finds the same at once and talks to nobody.
 */
#define _POSIX_C_SOURCE 199309L
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "boinc_api.h"

#define ROUNDS 20000 /* of a step */

static void wait_a_tenth(void)
{
    const struct timespec tenth = {0, 100000000};

    nanosleep(&tenth, 0);
}

/* A quarter is done: say so, and hand in what is known so far. */
static void tell(uint32_t number)
{
    FILE *early = fopen("early.txt", "w");

    fprintf(early, "early %u\n", number);
    fclose(early);
    if (!boinc_is_standalone()
        && (boinc_send_trickle_up("test", "a quarter") != 0 || boinc_upload_file("early.txt") != 0))
        boinc_finish(2);
}

/* Wait until the early file is at the server and the project has sent its word; say what it was. */
static void listen(void)
{
    char name[64], line[64] = "", answer[128];
    FILE *message;

    if (boinc_is_standalone())
        return;
    while (boinc_upload_status("early.txt") != 0)
        wait_a_tenth();
    while (!boinc_receive_trickle_down(name, sizeof name))
        wait_a_tenth();
    message = fopen(name, "r");
    while (message && !strstr(line, "the word") && fgets(line, sizeof line, message))
        ;
    snprintf(answer, sizeof answer, "heard %s", strstr(line, "the word") ? "the word" : "nothing");
    if (boinc_send_trickle_up("test", answer) != 0)
        boinc_finish(3);
}

int main(void)
{
    int steps;
    uint32_t number;
    FILE *in = fopen("in.txt", "r");
    FILE *out = fopen("out.txt", "w");

    boinc_init();
    if (!in || !out || fscanf(in, "%d %u", &steps, &number) != 2)
        boinc_finish(1);
    for (int step = 1; step <= steps; step++) {
        for (int round = 0; round < ROUNDS; round++)
            number = number * 1664525u + 1013904223u;
        fprintf(out, "%d %u\n", step, number);
        boinc_fraction_done((double)step / steps);
        if (step == steps / 4)
            tell(number);
        if (step == steps * 9 / 10)
            listen();
        if (!boinc_is_standalone())
            wait_a_tenth();
    }
    boinc_finish(fclose(out) != 0);
}
