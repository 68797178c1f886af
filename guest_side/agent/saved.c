/* SPDX-License-Identifier: Apache-2.0 */
/*
 * saved.c - the program's own state, carried to the host each time the
 * program says that it has saved it (B21).
 *
 * One set of files is under way at most: it is copied, published, and lies in
 * the share until the host has taken it. Of what the program saves meanwhile
 * only the newest goes next, for the older files are no longer there.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FLAG "save" /* in the spool: "1" while the program is asked to save, else "0" */
#define TORN_MOST 3 /* sets in a row that were torn, until people are told */
#define NAME_SIZE 32

static int64_t count; /* the program's own, as it was last seen */
static double cpu_seconds = -1; /* at that checkpoint; negative: not said */

/* Checkpoints are numbered as we see them, whatever program takes them. */
static int64_t noted; /* the newest */
static int64_t tried; /* the last one that was copied, or could not be */
static int64_t copying, copied; /* 0: none */
static int64_t carried; /* the last one that the host has, or will find */
static int64_t asked; /* one is wanted that is newer than this */
static int64_t asked_by; /* the command */

static uint32_t number; /* of the last set that was published */
static bool lies_there; /* it is published and not taken */
static int64_t taken; /* by the host */
static int64_t retry_at;
static int torn;
static char complaint[MESSAGE_SIZE];

static void name_of(char *out)
{
    snprintf(out, NAME_SIZE, "%s.%lu", wire_kind_name(WIRE_SAVED), (unsigned long)number);
}

/* Tell people once; the empty text takes back what they were told. */
static void complain(struct agent *agent, const char *text)
{
    char *told = agent->status.message;

    if (strcmp(text, complaint) == 0)
        return;
    if (*text != '\0')
        say("%s", text);
    if (*text != '\0' || strcmp(told, complaint) == 0) {
        snprintf(told, MESSAGE_SIZE, "%s", text);
        agent->status.changed = true;
    }
    snprintf(complaint, sizeof complaint, "%s", text);
}

/* In place, because the program's library may have mapped it. */
static void set_flag(const struct options *options, bool up)
{
    char path[PATH_MAX];
    int fd;

    snprintf(path, sizeof path, "%s/" FLAG, options->spool);
    fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    if (pwrite(fd, up ? "1\n" : "0\n", 2, 0) != 2)
        say("cannot write " FLAG);
    close(fd);
}

void saved_begin(const struct options *options)
{
    count = 0;
    tried = noted;
    copied = 0;
    set_flag(options, false);
}

void saved_look(const struct agent *agent)
{
    double then = -1;
    int64_t now = mirror_checkpoint(&then);

    /* Another program of the same task counts from 1 again. */
    if (now > 0 && (now != count || then != cpu_seconds)) {
        noted++;
        set_flag(&agent->options, false);
    }
    count = now;
    cpu_seconds = then;
}

void saved_taken(int64_t highest)
{
    taken = highest;
}

/* ----------------------------------------------------------- publish ---- */

static void delete(const struct agent *agent)
{
    const struct list *files = &agent->task.checkpoint_files;
    char name[NAME_SIZE], path[PATH_MAX];
    size_t i;

    name_of(name);
    snprintf(path, sizeof path, "%s/%s", agent->options.guest, name);
    unlink(path);
    for (i = 0; i < files->count; i++) {
        snprintf(path, sizeof path, "%s/saved/%s", agent->options.guest, files->items[i]);
        unlink(path);
    }
}

static void publish(struct agent *agent)
{
    static char buffer[WIRE_FILE_MAX];
    const struct list *files = &agent->task.checkpoint_files;
    struct wire_writer message;
    char name[NAME_SIZE];
    size_t i;

    wire_begin(&message, buffer, sizeof buffer);
    for (i = 0; i < files->count; i++)
        wire_put_text(&message, "file", files->items[i]);
    if (cpu_seconds >= 0)
        wire_put_number(&message, "cpu_seconds", cpu_seconds);
    number++;
    name_of(name);
    if (publish_in(agent->options.guest, name, &message, false) != 0) {
        complain(agent, "the program's state is not kept: the share cannot be written");
        number--; /* the next step tries again */
        return;
    }
    complain(agent, "");
    lies_there = true;
    carried = copied;
    copied = 0;
}

static void start_copy(struct agent *agent, int64_t now)
{
    copying = noted;
    agent->saver = copy_saved(agent);
    if (agent->saver < 0)
        retry_at = now + COLLECT_EVERY;
}

void saved_publish(struct agent *agent, int64_t now, bool may_copy)
{
    if (lies_there && number <= taken) {
        delete(agent);
        lies_there = false;
    }
    if (copied != 0)
        publish(agent);
    if (!may_copy || lies_there || copied != 0 || noted == tried || agent->saver > 0
        || now < retry_at)
        return;
    if (number < taken) { /* we were restored, and the host has one that is further */
        number++;
        tried = carried = noted;
    } else {
        start_copy(agent, now);
    }
}

/* A torn one is not tried again: what is there now belongs to the next one. */
void saved_copied(struct agent *agent, int status)
{
    const char *failure = copy_failure(status);

    if (copy_had_no_room(status)) {
        complain(agent, failure);
        retry_at = milliseconds() + COLLECT_EVERY;
        return;
    }
    tried = copying;
    torn = copy_was_torn(status) ? torn + 1 : 0;
    if (failure == NULL)
        copied = copying;
    else if (torn == 0 || torn >= TORN_MOST)
        complain(agent, failure);
}

/* If the folder is a new one, the host has not seen what lay in the old one. */
void saved_again(const struct options *options)
{
    char name[NAME_SIZE], path[PATH_MAX];

    name_of(name);
    snprintf(path, sizeof path, "%s/%s", options->guest, name);
    if (lies_there && access(path, F_OK) != 0) {
        lies_there = false;
        number--;
        tried = 0;
    }
    if (copied != 0)
        tried = copied = 0;
}

bool saved_pending(const struct agent *agent)
{
    return agent->saver > 0 || copied != 0 || noted != tried;
}

bool saved_carried(void)
{
    return noted > 0 && carried == noted;
}

bool saved_asked(struct agent *agent)
{
    if (asked_by != agent->command.seq) {
        asked_by = agent->command.seq;
        asked = noted;
    }
    if (carried > asked)
        return true;
    if (noted == tried && copied == 0)
        set_flag(&agent->options, true);
    return false;
}
