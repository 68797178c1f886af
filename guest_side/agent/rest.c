/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rest.c - a program that has ended to be started again later (B23).
 *
 * A rest is over when its delay has passed on either of two clocks. The one
 * that nobody sets stands still while the machine is paused or saved; the
 * time of day, which the host sets forward after that, may also be set back.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SHORTEST 1.0 /* seconds: a program that always ends at once does not keep the machine busy */
#define MOST_RESTS 100 /* in a row without a checkpoint of the program's: what the client allows a native one */
#define TOO_MANY_EXITS (-226) /* and how it numbers that error */

struct rest {
    double delay; /* seconds, as the program said */
    char message[MESSAGE_SIZE];
    int64_t notice;
    double began, began_by_day;
    bool published;
    bool failed;
};

static struct rest rest;
static int rests;

static double seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double left(void)
{
    double delay = rest.delay < SHORTEST ? SHORTEST : rest.delay;
    double passed = seconds(CLOCK_MONOTONIC) - rest.began;
    double by_day = seconds(CLOCK_REALTIME) - rest.began_by_day;

    delay -= by_day > passed ? by_day : passed;
    return delay > 0 ? delay : 0;
}

static void take(void *user, const struct wire_value *value)
{
    struct rest *asked = user;

    if (value->type == WIRE_NUMBER)
        asked->delay = value->number;
    else if (value->type == WIRE_COUNT)
        asked->notice = value->integer;
    else
        snprintf(asked->message, sizeof asked->message, "%.*s", (int)value->len, value->text);
}

static bool read_spool(const struct options *options)
{
    static struct watch watch;
    int rule = 0;

    watch_forget(&watch);
    if (!watch_look(&watch, options->spool, wire_kind_name(WIRE_TEMPORARY_EXIT), 0, true))
        return false;
    memset(&rest, 0, sizeof rest);
    if (wire_decode(WIRE_TEMPORARY_EXIT, watch.bytes, watch.whole, take, &rest, &rule) == WIRE_OK)
        return true;
    say("%s/%s breaks R%d", options->spool, watch.name, rule);
    return false;
}

bool rest_asked(const struct options *options, struct program *program)
{
    double unused;

    if (program->code != 0 || program->message[0] != '\0' || !read_spool(options))
        return false;
    rests = mirror_checkpoint(&unused) > 0 ? 1 : rests + 1;
    if (rests > MOST_RESTS) {
        program->code = TOO_MANY_EXITS;
        snprintf(program->message, sizeof program->message,
                 "it has asked %d times to be started again later, and saved nothing in between", rests);
        return false;
    }
    rest.began = seconds(CLOCK_MONOTONIC);
    rest.began_by_day = seconds(CLOCK_REALTIME);
    say("the program rests for %.0f seconds%s%s", rest.delay, rest.message[0] != '\0' ? ": " : "", rest.message);
    return true;
}

bool rest_is_over(void)
{
    return left() <= 0;
}

void rest_publish(const struct options *options)
{
    const char *name = wire_kind_name(WIRE_TEMPORARY_EXIT);
    char buffer[2048];
    struct wire_writer writer;
    int error;

    if (rest.published)
        return;
    wire_begin(&writer, buffer, sizeof buffer);
    wire_put_number(&writer, "delay", left());
    if (rest.message[0] != '\0')
        wire_put_text(&writer, "message", rest.message);
    if (rest.notice > 0)
        wire_put_integer(&writer, "notice", 1);
    error = publish_in(options->guest, name, &writer, false);
    if (error != 0 && !rest.failed)
        say("cannot write %s: %s", name, strerror(-error));
    rest.failed = error != 0;
    rest.published = error == 0;
}

void rest_again(void)
{
    rest.published = false;
}

void rest_end(const struct options *options)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s", options->guest, wire_kind_name(WIRE_TEMPORARY_EXIT));
    unlink(path);
}
