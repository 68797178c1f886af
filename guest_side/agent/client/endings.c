/* SPDX-License-Identifier: Apache-2.0 */
/* endings.c - how a program of BOINC's says that it has ended, and what of it the spool is told. */
#define _GNU_SOURCE
#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FINISH_FILE "boinc_finish_called"
#define REST_FILE "boinc_temporary_exit"
#define LONGEST_REST 86400 /* seconds; longer, or none that makes sense, is DEFAULT_REST: so the client has it */
#define DEFAULT_REST 300

/* Both files are a number, a line for people, and `notice` if the volunteer has to see it. */
struct ending {
    char *number, *message, *notice; /* NULL: there is no such line */
};

/* The lines are parts of `text`. */
static struct ending split(char *text)
{
    struct ending ending;

    ending.number = strsep(&text, "\n");
    ending.message = text == NULL || *text == '\0' ? NULL : strsep(&text, "\n");
    ending.notice = text == NULL || *text == '\0' ? NULL : strsep(&text, "\n");
    return ending;
}

static bool read_ending(const struct options *options, const char *name, char *buffer, size_t size,
                        struct ending *ending)
{
    const char *text = slot_read(options, name);

    if (text == NULL)
        return false;
    snprintf(buffer, size, "%s", text);
    *ending = split(buffer);
    return true;
}

bool endings_left(const struct options *options)
{
    return slot_has(options, FINISH_FILE) || slot_has(options, REST_FILE);
}

static void publish(const struct options *options, const char *name, const struct wire_writer *file)
{
    int error = publish_in(options->spool, name, file, false);

    if (error != 0)
        say("cannot write %s: %s", name, strerror(-error));
}

static void put_message(struct wire_writer *file, const char *message)
{
    if (message != NULL && *message != '\0' && wire_is_utf8(message, strlen(message)))
        wire_put_text(file, "message", message);
}

/* With the exit status 0 the client does not ask for the number in the file. */
static void tell_finished(const struct options *options, const struct program *program, const struct ending *ending)
{
    char buffer[2048];
    struct wire_writer file;

    wire_begin(&file, buffer, sizeof buffer);
    wire_put_integer(&file, "code", program->code == 0 ? 0 : strtol(ending->number, NULL, 10));
    put_message(&file, ending->message);
    publish(options, wire_kind_name(WIRE_FINISHED), &file);
}

static long rest_of(const char *text)
{
    char *end;
    long delay = strtol(text, &end, 10);

    return end == text || delay < 0 || delay > LONGEST_REST ? DEFAULT_REST : delay;
}

static void tell_rest(const struct options *options, long delay, const char *message, bool notice)
{
    char buffer[2048];
    struct wire_writer file;

    wire_begin(&file, buffer, sizeof buffer);
    wire_put_integer(&file, "delay", delay);
    put_message(&file, message);
    if (notice)
        wire_put_integer(&file, "notice", 1);
    publish(options, wire_kind_name(WIRE_TEMPORARY_EXIT), &file);
}

/* A temporary exit goes before all else, but only with a reason; who says nothing at all is started again at once. */
void endings_tell(const struct options *options, const struct program *program)
{
    static char buffer[WIRE_FILE_MAX + 1];
    struct ending ending;

    if (program->message[0] != '\0')
        return; /* it was killed */
    if (read_ending(options, REST_FILE, buffer, sizeof buffer, &ending) && ending.message != NULL)
        tell_rest(options, rest_of(ending.number), ending.message,
                  ending.notice != NULL && strstr(ending.notice, "notice") != NULL);
    else if (read_ending(options, FINISH_FILE, buffer, sizeof buffer, &ending))
        tell_finished(options, program, &ending);
    else if (program->code == 0)
        tell_rest(options, 0, "the program has ended without saying that it has finished", false);
}
