/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boinc_guest.c - see boinc_guest.h. Each call is a process of its own, so
 * what one call must know of another lies in the spool. Never calls setlocale.
 */
#define _GNU_SOURCE
#include "boinc_guest.h"
#include "../libboinc/numbered.h"
#include "../wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NO 1
#define NONSENSE 2
#define DEFAULT_PERIOD 300
#define VARIETY_LONGEST 255
#define NAME_LONGEST 200 /* as in boinc_api.c */
#define NOTICE "--notice"

static const char usage[] =
    "usage: boinc-guest COMMAND\n"
    "\n"
    "Report from a task's program, if it can only start other programs.\n"
    "\n"
    "  fraction-done F        so much of the work is done, 0 to 1\n"
    "  ops FP [INT]           so many operations since the work began\n"
    "  time-to-checkpoint     exit status 0: save your state now; 1: not yet\n"
    "  checkpointed           the state is saved\n"
    "  trickle VARIETY [FILE] send the project what is in FILE, or comes in\n"
    "  receive                print the name of a file in the working directory\n"
    "                         with a message of the project; 1: there is none\n"
    "  upload NAME            upload this output now, which is complete\n"
    "  finish CODE [MESSAGE]  the work is over; exit with CODE. 0 is success\n"
    "  temporary-exit SECONDS [MESSAGE] [--notice]\n"
    "                         when the program has ended with status 0, start it\n"
    "                         again so much later; --notice: show the volunteer\n"
    "                         the message\n"
    "\n"
    "The exit status is 0, 1 if it cannot be written, 2 for a command that makes\n"
    "no sense. Without VMBRIDGE_SPOOL nothing is written.\n";

static const char *spool; /* NULL: there is nobody to tell */

static int complain(const char *what, const char *value)
{
    fprintf(stderr, "boinc-guest: %s%s\n", what, value);
    return NONSENSE;
}

/* ------------------------------------------------------------ the spool -- */

static int open_spool(void)
{
    return open(spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int publish(const char *name, const char *bytes, size_t len)
{
    int dirfd, error;

    if (spool == NULL)
        return 0;
    dirfd = open_spool();
    error = dirfd < 0 ? -errno : wire_publish(dirfd, name, bytes, len, false);
    if (dirfd >= 0)
        close(dirfd);
    if (error == 0)
        return 0;
    fprintf(stderr, "boinc-guest: cannot write %s/%s: %s\n", spool, name, strerror(-error));
    return NO;
}

static ssize_t read_spool(const char *name, char *buffer, size_t size)
{
    int dirfd = spool == NULL ? -1 : open_spool();
    ssize_t len = dirfd < 0 ? -1 : wire_read(dirfd, name, buffer, size);

    if (dirfd >= 0)
        close(dirfd);
    return len;
}

/* Publish what the command line says as it stands, if the host would take it. */
static int publish_judged(enum wire_kind kind, const char *text)
{
    int rule = 0;

    if (wire_decode(kind, text, strlen(text), NULL, NULL, &rule) != WIRE_OK) {
        fprintf(stderr, "boinc-guest: this breaks rule R%d of the protocol: %s", rule, text);
        return NONSENSE;
    }
    return publish(wire_kind_name(kind), text, strlen(text));
}

/* -------------------------------------------------------------- reports -- */

/* A line break would bring a key along. */
static bool is_one_line(const char *text)
{
    return text[strcspn(text, "\r\n")] == '\0';
}

static int fraction_done(char **args)
{
    char text[WIRE_NUMBER_FILE_MAX];

    if ((size_t)snprintf(text, sizeof text, "%s\n", args[0]) >= sizeof text)
        return complain("no number: ", args[0]);
    return publish_judged(WIRE_FRACTION_DONE, text);
}

static int ops(char **args)
{
    const char *integer = args[1] != NULL ? args[1] : "0";
    char text[256];
    int len = snprintf(text, sizeof text, "fpops %s\nintops %s\n", args[0], integer);

    if ((size_t)len >= sizeof text || !is_one_line(args[0]) || !is_one_line(integer))
        return complain("no numbers: ", args[0]);
    return publish_judged(WIRE_CREDITREPORT, text);
}

static void take_integer(void *user, const struct wire_value *value)
{
    if (value->type == WIRE_CODE || value->type == WIRE_COUNT)
        *(int64_t *)user = value->integer;
}

static int finish(char **args)
{
    char text[64], buffer[2048];
    struct wire_writer writer;
    int64_t code = 0;
    int rule;

    snprintf(text, sizeof text, "code %.32s\n", args[0]);
    if (!is_one_line(args[0])
        || wire_decode(WIRE_FINISHED, text, strlen(text), take_integer, &code, &rule) != WIRE_OK)
        return complain("no code: ", args[0]);
    wire_begin(&writer, buffer, sizeof buffer);
    wire_put_integer(&writer, "code", code);
    if (args[1] != NULL)
        wire_put_any(&writer, "message", args[1]);
    if (code == 0)
        publish("fraction_done", "1\n", 2);
    if (publish("finished", buffer, writer.len) != 0 && code == 0)
        return NO;
    return (int)(code & 0xff);
}

static int temporary_exit(char **args)
{
    const char *message = args[1], *flag = args[1] != NULL ? args[2] : NULL;
    char text[64], buffer[2048];
    struct wire_writer writer;
    int rule;

    if (message != NULL && flag == NULL && strcmp(message, NOTICE) == 0) {
        flag = message;
        message = NULL;
    }
    if (flag != NULL && strcmp(flag, NOTICE) != 0)
        return complain("this is not " NOTICE ": ", flag);
    snprintf(text, sizeof text, "delay %.40s\n", args[0]);
    if (!is_one_line(args[0])
        || wire_decode(WIRE_TEMPORARY_EXIT, text, strlen(text), NULL, NULL, &rule) != WIRE_OK)
        return complain("no number of seconds up to a day: ", args[0]);
    wire_begin(&writer, buffer, sizeof buffer);
    wire_put_text(&writer, "delay", args[0]);
    if (message != NULL)
        wire_put_any(&writer, "message", message);
    wire_put_integer(&writer, "notice", flag != NULL);
    return publish("temporary_exit", buffer, writer.len);
}

/* ---------------------------------------------------------- checkpoints -- */

static double now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static int begin_period(void)
{
    char text[64];
    int len = snprintf(text, sizeof text, "%.3f\n", now());

    return publish(BOINC_GUEST_BEGAN, text, (size_t)len);
}

static double period(void)
{
    const char *text = getenv("VMBRIDGE_CHECKPOINT_PERIOD");

    return text != NULL && *text != '\0' ? strtod(text, NULL) : DEFAULT_PERIOD;
}

static bool is_asked(void)
{
    char flag[8];

    return read_spool("save", flag, sizeof flag) > 0 && flag[0] == '1';
}

/* The period begins with the first question; a clock that went back is another computer start's. */
static int time_to_checkpoint(char **args)
{
    char text[64] = "";
    double began;

    (void)args;
    if (is_asked())
        return 0;
    if (read_spool(BOINC_GUEST_BEGAN, text, sizeof text - 1) <= 0) {
        if (spool != NULL)
            begin_period();
        return spool != NULL && period() <= 0 ? 0 : NO;
    }
    began = strtod(text, NULL);
    return now() < began || now() - began >= period() ? 0 : NO;
}

/* Before the checkpoint is told: the agent may ask for another one as soon as it has seen this. */
static void take_question_back(void)
{
    int dirfd = open_spool(), fd = dirfd < 0 ? -1 : openat(dirfd, "save", O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd >= 0 && pwrite(fd, "0", 1, 0) != 1)
        complain("cannot write to save: ", strerror(errno));
    if (fd >= 0)
        close(fd);
    if (dirfd >= 0)
        close(dirfd);
}

static int checkpointed(char **args)
{
    char buffer[256];
    struct wire_writer writer;
    int64_t count = 0;
    ssize_t len;
    int rule;

    (void)args;
    if (spool == NULL)
        return 0;
    take_question_back();
    begin_period();
    len = read_spool("checkpoint", buffer, sizeof buffer);
    if (len > 0)
        wire_decode(WIRE_CHECKPOINT, buffer, (size_t)len, take_integer, &count, &rule);
    wire_begin(&writer, buffer, sizeof buffer);
    wire_put_integer(&writer, "count", count + 1);
    return publish("checkpoint", buffer, writer.len);
}

/* ------------------------------------------------- trickles and uploads -- */

static bool is_line(const char *text, size_t longest)
{
    size_t len = strcspn(text, "\r\n<");

    return len > 0 && len <= longest && text[len] == '\0' && wire_is_utf8(text, len);
}

static int send(const char *stem, const struct wire_writer *message)
{
    uint32_t last = 0;
    int error = spool == NULL ? 0 : numbered_send(spool, stem, message, &last);

    if (error == 0)
        return 0;
    fprintf(stderr, "boinc-guest: cannot send it: %s\n",
            error == -EAGAIN ? "too many wait already, try later" : strerror(-error));
    return NO;
}

/* Read a whole text; returns false if it is none, or too long. */
static bool read_text(FILE *file, char *text, size_t size)
{
    size_t len = fread(text, 1, size, file);

    if (len == size || ferror(file) || memchr(text, '\0', len) != NULL)
        return false;
    text[len] = '\0';
    return true;
}

static int trickle(char **args)
{
    static char text[WIRE_FILE_MAX], buffer[WIRE_FILE_MAX];
    struct wire_writer message;
    FILE *file = args[1] == NULL || strcmp(args[1], "-") == 0 ? stdin : fopen(args[1], "rb");

    if (file == NULL || !read_text(file, text, sizeof text))
        return complain("this file cannot be read as a text: ", args[1] != NULL ? args[1] : "-");
    if (!is_line(args[0], VARIETY_LONGEST))
        return complain("this cannot be a variety: ", args[0]);
    wire_begin(&message, buffer, sizeof buffer);
    wire_put_text(&message, "variety", args[0]);
    if (!numbered_put_lines(&message, text))
        return complain("a trickle is UTF-8 without control characters, at most 1,000 lines, 1,024 bytes each", "");
    return send("trickle_up", &message);
}

static int receive(char **args)
{
    char name[64];

    (void)args;
    if (spool == NULL || !numbered_receive(spool, name, sizeof name))
        return NO;
    puts(name);
    return 0;
}

static int upload(char **args)
{
    char buffer[512];
    struct wire_writer message;
    const char *name = args[0];

    if (!is_line(name, NAME_LONGEST) || *name == '.' || strpbrk(name, "/\\:") != NULL)
        return complain("this cannot be the name of an output: ", name);
    if (access(name, R_OK) != 0)
        return complain("there is no ", name);
    wire_begin(&message, buffer, sizeof buffer);
    wire_put_text(&message, "name", name);
    return send("upload", &message);
}

/* ------------------------------------------------------------- commands -- */

static const struct command {
    const char *name;
    int least, most; /* words after the name */
    int (*run)(char **args);
} commands[] = {
    {"fraction-done", 1, 1, fraction_done}, {"ops", 1, 2, ops},
    {"time-to-checkpoint", 0, 0, time_to_checkpoint}, {"checkpointed", 0, 0, checkpointed},
    {"trickle", 1, 2, trickle}, {"receive", 0, 0, receive},
    {"upload", 1, 1, upload}, {"finish", 1, 2, finish},
    {"temporary-exit", 1, 3, temporary_exit},
};

int boinc_guest(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    size_t i;

    spool = getenv("VMBRIDGE_SPOOL");
    if (spool != NULL && *spool == '\0')
        spool = NULL;
    for (i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(name, commands[i].name) == 0 && argc - 2 >= commands[i].least && argc - 2 <= commands[i].most)
            return commands[i].run(argv + 2);
    fputs(usage, strcmp(name, "--help") == 0 ? stdout : stderr);
    return strcmp(name, "--help") == 0 ? 0 : NONSENSE;
}
