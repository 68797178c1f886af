/* SPDX-License-Identifier: Apache-2.0 */
/*
 * messenger.c - a program that talks to its project before it ends: three
 * trickles at once, its output uploaded early, and an answer to what it hears.
 */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "boinc_api.h"

static void wait_a_moment(void)
{
    const struct timespec moment = {0, 100000000};

    nanosleep(&moment, 0);
}

static void say(const char *text)
{
    if (boinc_send_trickle_up("test", text) != 0)
        boinc_finish(2);
}

int main(void)
{
    char name[64], line[64] = "", answer[128];
    FILE *out = fopen("out.txt", "w"), *message;

    boinc_init();
    fputs("early\n", out);
    fclose(out);
    say("one");
    say("two");
    say("three");
    if (boinc_upload_file("out.txt") != 0)
        boinc_finish(3);
    while (boinc_upload_status("out.txt") == -161)
        wait_a_moment();
    if (boinc_upload_status("out.txt") != 0)
        boinc_finish(4);
    while (!boinc_receive_trickle_down(name, sizeof name))
        wait_a_moment();
    message = fopen(name, "r");
    while (message && !strstr(line, "the word") && fgets(line, sizeof line, message))
        ;
    snprintf(answer, sizeof answer, "heard %s", strstr(line, "the word") ? "the word" : "nothing");
    say(answer);
    boinc_finish(0);
}
