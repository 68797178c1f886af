/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.c - what a client and a program say to each other, once a second,
 * put into the words of the spool.
 *
 * We look around twice a second as it is, so there is no clock of our own. A
 * program that never takes the slot costs one look for its lock file.
 */
#define _GNU_SOURCE
#include "client.h"

#include "../../libboinc/numbered.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRICKLE_FILE "trickle_up.xml"
#define TELL_EVERY 900 /* milliseconds: with each second look */
#define MEASURE_EVERY 10000

static struct {
    bool talks; /* the program has taken the slot */
    bool told_to_quit;
    double counted_from; /* CPU seconds, as the program says them */
    double before; /* those of its earlier starts in this machine */
    double checkpoint; /* the last value of it; a new one is a new checkpoint */
    int64_t checkpoints;
    double fraction, fpops, intops; /* negative: not said */
    bool has_trickle, has_answer; /* news for the program */
    uint32_t last_trickle, last_request; /* numbers in the spool */
    uint32_t *requests; /* of each output; 0: none, or answered */
    int64_t tell_at, measure_at;
    double memory;
} client;

/* Numbers are rounded on their way. */
static double as_it_is_said(double value)
{
    char text[64];

    snprintf(text, sizeof text, "%e", value);
    return strtod(text, NULL);
}

void client_begin(const struct agent *agent)
{
    double before = client.before + agent->program.cpu_seconds;

    free(client.requests);
    memset(&client, 0, sizeof client);
    client.before = before;
    client.counted_from = slot_prepare(agent, client.before);
    client.checkpoint = as_it_is_said(client.counted_from);
    client.fraction = client.fpops = client.intops = -1;
    client.requests = calloc(agent->task.outputs.count + 1, sizeof *client.requests);
    if (client.requests == NULL)
        abort();
}

/* ------------------------------------------------- what the program says -- */

/* The number after a tag; false if there is none that makes sense. */
static bool number_after(const char *text, const char *tag, double *value)
{
    const char *found = strstr(text, tag);
    char *end;

    if (found == NULL)
        return false;
    found += strlen(tag);
    *value = strtod(found, &end);
    return end != found && isfinite(*value) && *value >= 0;
}

static void hear_fraction(const struct options *options, const char *text)
{
    char buffer[WIRE_NUMBER_FILE_MAX];
    struct wire_writer file;
    double value;

    if (!number_after(text, "<fraction_done>", &value) || value == client.fraction)
        return;
    client.fraction = value;
    wire_begin(&file, buffer, sizeof buffer);
    wire_put_fraction(&file, value);
    publish_in(options->spool, wire_kind_name(WIRE_FRACTION_DONE), &file, false);
}

/* Libraries until 2012 counted operations. */
static void hear_operations(const struct options *options, const char *text)
{
    double fpops = 0, intops = 0;
    bool some = number_after(text, "<fpops_cumulative>", &fpops);
    char buffer[256];
    struct wire_writer file;

    some |= number_after(text, "<intops_cumulative>", &intops);
    if (!some || (fpops == client.fpops && intops == client.intops))
        return;
    client.fpops = fpops;
    client.intops = intops;
    wire_begin(&file, buffer, sizeof buffer);
    wire_put_number(&file, "fpops", fpops);
    wire_put_number(&file, "intops", intops);
    publish_in(options->spool, wire_kind_name(WIRE_CREDITREPORT), &file, false);
}

/* The client counts from the beginning of the job, the spool from the start of the program. */
static void hear_checkpoint(const struct options *options, const char *text)
{
    char buffer[256];
    struct wire_writer file;
    double value;

    if (!number_after(text, "<checkpoint_cpu_time>", &value) || value == client.checkpoint)
        return;
    client.checkpoint = value;
    client.checkpoints++;
    wire_begin(&file, buffer, sizeof buffer);
    wire_put_integer(&file, "count", client.checkpoints);
    wire_put_number(&file, "cpu_seconds", value - client.counted_from);
    publish_in(options->spool, wire_kind_name(WIRE_CHECKPOINT), &file, false);
}

static void hear_status(const struct options *options)
{
    char text[CHANNEL_SIZE];

    if (!channels_get(APP_STATUS, text))
        return;
    channels_free(APP_STATUS);
    hear_fraction(options, text);
    hear_operations(options, text);
    hear_checkpoint(options, text);
}

/* ------------------------------------------------- trickles and uploads -- */

/* The first line is <variety>V</variety>, and the rest is the message. */
static bool put_trickle(struct wire_writer *message, const char *text)
{
    static const char begin[] = "<variety>", end[] = "</variety>";
    const char *variety = strstr(text, begin), *after = strstr(text, end), *rest;
    char word[WIRE_TEXT_MAX + 1];

    if (variety == NULL || after == NULL || after < variety + strlen(begin))
        return false;
    variety += strlen(begin);
    if (after - variety > WIRE_TEXT_MAX || memchr(variety, '\n', (size_t)(after - variety)) != NULL)
        return false;
    snprintf(word, sizeof word, "%.*s", (int)(after - variety), variety);
    if (!wire_is_utf8(word, strlen(word)))
        return false;
    wire_put_text(message, "variety", word);
    rest = after + strlen(end);
    return numbered_put_lines(message, rest + (*rest == '\n'));
}

/* The client moves the file away, and then the program may write the next one. False: that has to wait. */
static bool take_trickle(const struct options *options)
{
    static char buffer[WIRE_FILE_MAX];
    const char *text = slot_read(options, TRICKLE_FILE);
    struct wire_writer message;

    wire_begin(&message, buffer, sizeof buffer);
    if (text == NULL || !put_trickle(&message, text))
        say(TRICKLE_FILE " is no message that can be sent");
    else if (numbered_send(options->spool, "trickle_up", &message, &client.last_trickle) != 0)
        return false;
    slot_remove(options, TRICKLE_FILE);
    return true;
}

static void name_of(char *out, const char *beginning, const char *output)
{
    snprintf(out, NAME_MAX + 1, "%s%s", beginning, output);
}

static void take_requests(const struct agent *agent)
{
    const struct list *outputs = &agent->task.outputs;
    char name[NAME_MAX + 1], buffer[512];
    struct wire_writer message;
    size_t i;

    for (i = 0; i < outputs->count; i++) {
        name_of(name, "boinc_ufr_", outputs->items[i]);
        if (!slot_has(&agent->options, name))
            continue;
        wire_begin(&message, buffer, sizeof buffer);
        wire_put_text(&message, "name", outputs->items[i]);
        if (numbered_send(agent->options.spool, "upload", &message, &client.last_request) != 0)
            continue;
        client.requests[i] = client.last_request;
        slot_remove(&agent->options, name);
    }
}

static void hear_messages(const struct agent *agent)
{
    char text[CHANNEL_SIZE];

    if (!channels_get(FROM_PROGRAM, text))
        return;
    if (strstr(text, "<have_new_upload_file/>") != NULL)
        take_requests(agent);
    if (strstr(text, "<have_new_trickle_up/>") == NULL || take_trickle(&agent->options))
        channels_free(FROM_PROGRAM);
}

static void bring_trickles(const struct options *options)
{
    int work = open(options->work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char name[NUMBERED_NAME_SIZE];

    if (work < 0)
        return;
    client.has_trickle |= numbered_bring(options->spool, work, name);
    close(work);
}

static void bring_answers(const struct agent *agent)
{
    const struct list *outputs = &agent->task.outputs;
    char name[NAME_MAX + 1], text[64];
    size_t i;
    int code;

    for (i = 0; i < outputs->count; i++) {
        if (client.requests[i] == 0 || !numbered_answer(agent->options.spool, client.requests[i], &code))
            continue;
        client.requests[i] = 0;
        name_of(name, "boinc_ufs_", outputs->items[i]);
        snprintf(text, sizeof text, "<status>%d</status>\n", code);
        client.has_answer |= slot_write(&agent->options, name, text);
    }
}

/* ------------------------------------------------- what the client says -- */

static void tell_news(void)
{
    char text[CHANNEL_SIZE] = "";

    if (client.has_trickle)
        strcat(text, "<have_trickle_down/>\n");
    if (client.has_answer)
        strcat(text, "<upload_file_status/>\n");
    if (text[0] != '\0' && channels_put(TO_PROGRAM, text))
        client.has_trickle = client.has_answer = false;
}

/* The machine's memory is all for the program. */
static void tell_heartbeat(const struct agent *agent, int64_t now)
{
    double most = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    char text[CHANNEL_SIZE];

    if (now >= client.measure_at) {
        client.measure_at = now + MEASURE_EVERY;
        client.memory = tree_memory(agent->program.pid);
    }
    snprintf(text, sizeof text, "<heartbeat/><wss>%e</wss><max_wss>%e</max_wss>", client.memory, most);
    channels_put(HEARTBEAT, text);
}

int64_t client_quit(void)
{
    if (client.talks && !client.told_to_quit)
        client.told_to_quit = channels_put(CONTROL, "<quit/>\n");
    return client.talks ? KILL_AFTER : 0;
}

/* --------------------------------------------------------------- rhythm -- */

void client_look(const struct agent *agent, int64_t now)
{
    if (!client.talks && !(client.talks = slot_is_taken(&agent->options)))
        return;
    channels_look();
    hear_status(&agent->options);
    hear_messages(agent);
    bring_trickles(&agent->options);
    bring_answers(agent);
    tell_news();
    if (now < client.tell_at)
        return;
    client.tell_at = now + TELL_EVERY;
    tell_heartbeat(agent, now);
}

/*
 * What it wrote in its last second it may not have told. The client would not
 * look for that; but it would be lost for a second.
 */
void client_end(const struct agent *agent)
{
    const struct options *options = &agent->options;

    if (!client.talks && !slot_is_taken(options) && !endings_left(options))
        return;
    channels_look();
    hear_status(options);
    if (slot_has(options, TRICKLE_FILE))
        take_trickle(options);
    take_requests(agent);
    endings_tell(options, &agent->program);
}
