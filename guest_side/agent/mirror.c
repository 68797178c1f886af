/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mirror.c - what the program reports, from its spool into the share.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define VALUES 3
#define CPU_SECONDS 2 /* its place in a creditreport */
#define REPORTS 3

/* One report: the last good values, and what is still to be done. */
struct report {
    enum wire_kind kind;
    bool in_tmp; /* B20 */
    struct watch spool, tmp;
    bool from_spool; /* the spool has spoken: it goes before */
    bool present[VALUES];
    double values[VALUES];
    bool changed;
    bool failed;
    struct pace pace;
};

static const enum wire_kind kinds[REPORTS] = {
    WIRE_FRACTION_DONE, WIRE_CREDITREPORT, WIRE_CHECKPOINT};
static struct report reports[REPORTS];

static void delete(const char *folder, enum wire_kind kind)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s", folder, wire_kind_name(kind));
    unlink(path);
}

/* Its pace stays: a program that starts again may not publish faster for it. */
static void begin(struct report *report, enum wire_kind kind, const struct options *options)
{
    report->kind = kind;
    report->in_tmp = options->machine && kind != WIRE_CHECKPOINT;
    watch_forget(&report->spool);
    watch_forget(&report->tmp);
    report->from_spool = report->changed = false;
    memset(report->present, 0, sizeof report->present);
    delete(options->spool, kind);
    if (report->in_tmp)
        delete("/tmp", kind);
}

void mirror_begin(const struct options *options)
{
    int i;

    for (i = 0; i < REPORTS; i++)
        begin(&reports[i], kinds[i], options);
    delete(options->spool, WIRE_FINISHED);
    delete(options->spool, WIRE_TEMPORARY_EXIT);
}

/* ------------------------------------------------------------- look ---- */

static void take(void *user, const struct wire_value *value)
{
    struct report *report = user;
    size_t i;

    for (i = 0; i < VALUES && wire_key_name(report->kind, i) != value->key; i++)
        ;
    report->present[i] = true;
    report->values[i] = value->type == WIRE_COUNT ? (double)value->integer : value->number;
}

static bool decode(struct report *report, const struct watch *watch, const char *folder)
{
    int rule = 0;

    if (wire_decode(report->kind, watch->bytes, watch->whole, NULL, NULL, &rule) != WIRE_OK) {
        say("%s/%s breaks R%d", folder, watch->name, rule);
        return false;
    }
    memset(report->present, 0, sizeof report->present);
    wire_decode(report->kind, watch->bytes, watch->whole, take, report, &rule);
    report->changed = true;
    return true;
}

static void look(struct report *report, const struct options *options, int64_t now, bool over)
{
    const char *name = wire_kind_name(report->kind);

    if (watch_look(&report->spool, options->spool, name, now, over))
        report->from_spool |= decode(report, &report->spool, options->spool);
    if (report->in_tmp && !report->from_spool
        && watch_look(&report->tmp, "/tmp", name, now, over))
        decode(report, &report->tmp, "/tmp");
}

void mirror_look(const struct options *options, int64_t now, bool over)
{
    int i;

    for (i = 0; i < REPORTS; i++)
        look(&reports[i], options, now, over);
}

/* ---------------------------------------------------------- publish ---- */

static void put_values(const struct report *report, struct wire_writer *writer)
{
    int i;

    for (i = 0; i < VALUES; i++) {
        const char *key = wire_key_name(report->kind, (size_t)i);
        if (!report->present[i])
            continue;
        if (report->kind == WIRE_FRACTION_DONE)
            wire_put_fraction(writer, report->values[i]);
        else if (report->kind == WIRE_CHECKPOINT && i == 0)
            wire_put_integer(writer, key, (int64_t)report->values[i]);
        else
            wire_put_number(writer, key, report->values[i]);
    }
}

/* The program may count more than we see (other machines' time), or nothing. */
static void add_cpu(struct report *report, double cpu_seconds)
{
    if (!report->present[CPU_SECONDS] || report->values[CPU_SECONDS] < cpu_seconds)
        report->values[CPU_SECONDS] = cpu_seconds;
    report->present[CPU_SECONDS] = true;
}

static void publish(struct report *report, const struct options *options)
{
    const char *name = wire_kind_name(report->kind);
    char buffer[256];
    struct wire_writer writer;
    int error;

    wire_begin(&writer, buffer, sizeof buffer);
    put_values(report, &writer);
    error = publish_in(options->guest, name, &writer, false);
    if (error != 0 && !report->failed)
        say("cannot write %s: %s", name, strerror(-error));
    report->failed = report->changed = error != 0;
    pace_note(&report->pace, milliseconds());
}

bool mirror_publish(const struct options *options, int64_t now, double cpu_seconds)
{
    bool all = true;
    int i;

    for (i = 0; i < REPORTS; i++) {
        struct report *report = &reports[i];
        if (report->changed && pace_allows(&report->pace, now)) {
            if (report->kind == WIRE_CREDITREPORT)
                add_cpu(report, cpu_seconds);
            publish(report, options);
        }
        all = all && !report->changed;
    }
    return all;
}

void mirror_again(void)
{
    int i, j;

    for (i = 0; i < REPORTS; i++)
        for (j = 0; j < VALUES; j++)
            reports[i].changed |= reports[i].present[j];
}

void mirror_credit(void)
{
    int i;

    for (i = 0; i < REPORTS; i++)
        reports[i].changed |= reports[i].kind == WIRE_CREDITREPORT;
}

int64_t mirror_checkpoint(double *cpu_seconds)
{
    int i;

    for (i = 0; i < REPORTS; i++)
        if (reports[i].kind == WIRE_CHECKPOINT && reports[i].present[0]) {
            if (reports[i].present[1])
                *cpu_seconds = reports[i].values[1];
            return (int64_t)reports[i].values[0];
        }
    return 0;
}

/* --------------------------------------------------------- finished ---- */

struct finished {
    int code;
    char message[MESSAGE_SIZE];
};

static void take_finished(void *user, const struct wire_value *value)
{
    struct finished *finished = user;

    if (value->type == WIRE_CODE)
        finished->code = (int)value->integer;
    else
        snprintf(finished->message, sizeof finished->message, "%.*s", (int)value->len,
                 value->text);
}

/* An exit status holds the low eight bits of a code. */
static bool goes_with(const struct finished *finished, const struct program *program)
{
    return program->message[0] == '\0'
        && (program->code == 0 || program->code == (finished->code & 0xff));
}

void mirror_finished(const struct options *options, struct program *program)
{
    static struct watch watch;
    struct finished finished = {0, ""};
    int rule = 0;

    watch_forget(&watch);
    if (!watch_look(&watch, options->spool, wire_kind_name(WIRE_FINISHED), 0, true))
        return;
    if (wire_decode(WIRE_FINISHED, watch.bytes, watch.whole, take_finished, &finished, &rule)
        != WIRE_OK) {
        say("%s/finished breaks R%d", options->spool, rule);
    } else if (goes_with(&finished, program)) {
        program->code = finished.code;
        memcpy(program->message, finished.message, sizeof program->message);
    }
}
