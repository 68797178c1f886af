/* SPDX-License-Identifier: Apache-2.0 */
/* init_data.c - what the client knows of the job, from the share into the spool (B18). */
#define _GNU_SOURCE
#include "agent.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAME wire_kind_name(WIRE_INIT_DATA)

static void delete_old(const struct options *options)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s", options->spool, NAME);
    unlink(path);
}

void init_data_bring(const struct options *options)
{
    static struct watch watch;
    struct wire_writer file;
    int rule = 0, error;

    delete_old(options);
    watch_forget(&watch);
    if (!watch_look(&watch, options->host, NAME, 0, true))
        return;
    if (wire_decode(WIRE_INIT_DATA, watch.bytes, watch.whole, NULL, NULL, &rule) != WIRE_OK) {
        say("%s breaks R%d", NAME, rule);
        return;
    }
    file = (struct wire_writer){watch.bytes, sizeof watch.bytes, watch.whole, false};
    error = publish_in(options->spool, NAME, &file, false);
    if (error != 0)
        say("cannot write %s: %s", NAME, strerror(-error));
}
