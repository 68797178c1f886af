/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz - vectors that have been changed a little, to all C code of the guest that reads messages.
 *
 *   fuzz SECONDS SEED VECTOR...     in a directory of its own; exit status 1, and the bytes in `found`: they differ
 *
 * The decoder is the measure of the others: what it takes, the library's own readers (init_data, a trickle for the
 * program, the answer to an upload) take with the same meaning. Whatever the bytes are, nobody may step beyond what
 * is theirs: that is for the sanitizers to say. The same seed makes the same bytes.
 */
#include "../../guest_side/agent/agent.h"
#include "../../guest_side/libboinc/init_data.h"
#include "../../guest_side/libboinc/numbered.h"

#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SPOOL "spool"
#define LONGEST (WIRE_FILE_MAX + 16)
#define NOTHING 1e-280 /* what is less is 0 to one reader, and not to the other; it stands for nothing in any message */

struct bytes {
    char *at;
    size_t len;
};

static struct bytes *vectors;
static size_t vector_count;
static struct bytes now; /* what is judged; `at` has room for LONGEST */

/* ------------------------------------------------------- what is wrong -- */

static void write_whole(const char *path, const char *bytes, size_t len)
{
    FILE *file = fopen(path, "w");

    if (file == NULL || fwrite(bytes, 1, len, file) != len || fclose(file) != 0) {
        perror(path);
        exit(2);
    }
}

static void keep_them(void)
{
    write_whole("found", now.at, now.len);
}

/* Of the sanitizers, if there are any. */
void __sanitizer_set_death_callback(void (*function)(void)) __attribute__((weak));

static void fail(const char *what)
{
    keep_them();
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

static void check(bool good, const char *what)
{
    if (!good)
        fail(what);
}

/* The agent's own, which has no life here. */

void say(const char *format, ...)
{
    char line[4096];
    va_list values;

    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
}

void life_fail(struct agent *agent, const char *format, ...)
{
    (void)agent;
    (void)format;
}

/* -------------------------------------------------------------- changes -- */

static uint64_t state;

static size_t below(size_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return limit == 0 ? 0 : (size_t)(state >> 11) % limit;
}

static void splice(size_t at, size_t cut, const char *with, size_t len)
{
    if (at > now.len)
        at = now.len;
    if (cut > now.len - at)
        cut = now.len - at;
    if (now.len - cut + len > LONGEST)
        return;
    memmove(now.at + at + len, now.at + at + cut, now.len - at - cut);
    memmove(now.at + at, with, len);
    now.len += len - cut;
}

static const char *const words[] = {
    "\n", "\r\n", "\r", " ", "\t", "", "-", "-0", "0", "1", "1e308", "1e999", "-2147483648", "2147483648", "4294967296",
    "9007199254740991", "9007199254740992", "99999999999999999999", "0.1", ".", "e", "1e", "1e-999", "nan", "inf", "0x1",
    "\x80", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff", "\x7f", "\x1b", "../x", ".x", "a/b", "A=b", "=",
    "protocol 1\n", "protocol 2\n", "status 0\n", "status -\n", "text \n", "text\n", "text x\n", "seq 1\n", "state run\n",
    "wu_name x\n", "ncpus 1\n", "release 1e30\n", "x ", "\n\n\n",
};

/* A line that is there once more, a word, a byte, a piece of another vector, or a long run of one byte. */
static void change(void)
{
    size_t at = below(now.len + 1);
    const struct bytes *other = &vectors[below(vector_count)];
    const char *word = words[below(sizeof words / sizeof *words)];
    char byte = (char)below(256), run[5000];
    size_t from = below(other->len);

    switch (below(7)) {
    case 0: splice(at, below(3), &byte, 1); break;
    case 1: splice(at, below(8), word, strlen(word)); break;
    case 2: splice(at, below(64), "", 0); break;
    case 3: splice(at, below(64), other->at + from, below(other->len - from + 1)); break;
    case 4:
        memset(run, byte, sizeof run);
        splice(at, 0, run, below(1 + below(sizeof run)));
        break;
    case 5:
        if (now.len > 0)
            now.at[below(now.len)] ^= (char)(1 << below(8));
        break;
    default: splice(now.len, 0, "\n", 1);
    }
}

/* Mostly a small one: what happens with much is found no more often for being tried more often. */
static void choose(void)
{
    const struct bytes *vector = &vectors[below(vector_count)];
    size_t changes = below(6);

    while (vector->len > 1000 && below(64) > 0)
        vector = &vectors[below(vector_count)];

    memcpy(now.at, vector->at, vector->len);
    now.len = vector->len;
    while (changes-- > 0)
        change();
}

/* ----------------------------------------------------------- the decoder -- */

static size_t touched;

static void touch(void *user, const struct wire_value *value)
{
    (void)user;
    for (size_t i = 0; i < value->len; i++)
        touched += (unsigned char)value->text[i];
    check(value->text >= now.at || value->len == 0 || value->text != NULL, "a value is nowhere");
}

/* Returns 0 if the decoder takes the bytes, else the rule that they break; from memory that ends with them. */
static int broken_rule(enum wire_kind kind, wire_handler handler, void *user)
{
    char *exactly = malloc(now.len > 0 ? now.len : 1);
    int rule = 0;
    enum wire_status verdict;

    memcpy(exactly, now.at, now.len);
    verdict = wire_decode(kind, exactly, now.len, handler, user, &rule);
    check(verdict != WIRE_INVALID || rule > 0, "no rule is named");
    free(exactly);
    return verdict == WIRE_OK ? 0 : verdict == WIRE_INCOMPLETE ? 3 : rule;
}

static bool decode(enum wire_kind kind, wire_handler handler, void *user)
{
    return broken_rule(kind, handler, user) == 0;
}

static void judge_all(void)
{
    const char *version;
    enum wire_kind kind;
    uint32_t number;

    for (int i = 0; i < 4; i++)
        decode((enum wire_kind)below(WIRE_KINDS), touch, NULL);
    wire_judge_filename(now.at, now.len, &kind, &number);
    wire_claimed_version(now.at, now.len, &version);
}

/* ------------------------------------------------------------- the agent -- */

static void free_list(struct list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
}

static void judge_task(void)
{
    struct task task;
    int rule = 0;

    if (task_decode(&task, now.at, now.len, &rule) != WIRE_OK)
        return;
    check(task.argv.count > 0, "a task without a program");
    struct list *lists[] = {&task.argv, &task.env, &task.inputs, &task.outputs, &task.checkpoint_files, &task.packages};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        free_list(lists[i]);
    free(task.path);
    free(task.stdin_name);
    free(task.stdout_name);
    free(task.stderr_name);
}

static void judge_command(void)
{
    static struct agent agent = {.options = {.host = SPOOL}};
    static int64_t clock;

    agent.command.seq = 0;
    write_whole(SPOOL "/command", now.at, now.len);
    command_look(&agent, clock += 10000);
    check(agent.command.seq >= 0, "a command counts from 1");
}

/* ----------------------------------------------------------- the library -- */

static void compare(void *user, const struct wire_value *value)
{
    const struct APP_INIT_DATA *data = user;
    char text[2 * APP_INIT_DATA_TEXT] = "";
    size_t len = value->len < APP_INIT_DATA_TEXT - 1 ? value->len : APP_INIT_DATA_TEXT - 1;
    double here;

    if (value->type == WIRE_TEXT) {
        init_data_text(data, value->key, text, sizeof text);
        check(strlen(text) == len && memcmp(text, value->text, len) == 0, "init_data: another text");
        return;
    }
    here = init_data_number(data, value->key);
    if (value->type == WIRE_COUNT)
        check(here == (double)value->integer || (value->integer >= INT32_MAX && here == INT32_MAX), "init_data: a count");
    else
        check(fabs(here - value->number) <= 1e-9 * fabs(value->number) + NOTHING, "init_data: another number");
}

static void judge_init_data(void)
{
    static struct APP_INIT_DATA data;

    write_whole(SPOOL "/init_data", now.at, now.len);
    init_data_read(&data, SPOOL);
    if (now.len <= WIRE_FILE_MAX)
        decode(WIRE_INIT_DATA, compare, &data);
}

struct text {
    char bytes[LONGEST];
    size_t len, lines;
};

static void join(void *user, const struct wire_value *value)
{
    struct text *text = user;

    if (text->lines++ > 0)
        text->bytes[text->len++] = '\n';
    memcpy(text->bytes + text->len, value->text, value->len);
    text->len += value->len;
}

static void judge_trickle_down(void)
{
    static struct text wanted;
    static char found[LONGEST];
    char name[NUMBERED_NAME_SIZE];
    ssize_t len;

    wanted.len = wanted.lines = 0;
    write_whole(SPOOL "/trickle_down.3", now.at, now.len);
    if (numbered_receive(SPOOL, name, sizeof name)) {
        len = wire_read(AT_FDCWD, name, found, sizeof found);
        check(len >= 0, "a message that is not there");
        if (decode(WIRE_TRICKLE_DOWN, join, &wanted))
            check((size_t)len == wanted.len && memcmp(found, wanted.bytes, wanted.len) == 0, "another message");
        unlink(name);
    } else {
        check(!decode(WIRE_TRICKLE_DOWN, join, &wanted), "a message was lost");
    }
    unlink(SPOOL "/trickle_down.3");
}

static void take_code(void *user, const struct wire_value *value)
{
    *(int64_t *)user = value->integer;
}

static void judge_answer(void)
{
    int64_t wanted = 0;
    int code = 0;
    bool there;
    int rule;

    write_whole(SPOOL "/uploaded.3", now.at, now.len);
    there = numbered_answer(SPOOL, 3, &code);
    rule = broken_rule(WIRE_UPLOADED, take_code, &wanted);
    check(!there || rule != 13, "an answer that is no number");
    if (now.len < 256 && rule == 0)
        check(there && code == wanted, "another answer");
}

static void judge_lines(void)
{
    static char buffer[WIRE_FILE_MAX];
    struct wire_writer writer;

    now.at[now.len] = '\0';
    wire_begin(&writer, buffer, sizeof buffer);
    if (!numbered_put_lines(&writer, now.at) || writer.len == 0)
        return;
    wire_put_text(&writer, "variety", "x");
    if (!writer.full) {
        memcpy(now.at, buffer, writer.len);
        now.len = writer.len;
        check(decode(WIRE_TRICKLE_UP, NULL, NULL), "a trickle that breaks a rule was made");
    }
}

/* --------------------------------------------------------------- the loop -- */

static double seconds(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void load(const char *path, struct bytes *vector)
{
    static char all[LONGEST];
    FILE *file = fopen(path, "r");

    if (file == NULL) {
        perror(path);
        exit(2);
    }
    vector->len = fread(all, 1, WIRE_FILE_MAX, file);
    fclose(file);
    vector->at = malloc(vector->len + 1);
    memcpy(vector->at, all, vector->len);
}

int main(int argc, char **argv)
{
    double until = seconds() + (argc > 3 ? atof(argv[1]) : 0);
    unsigned long rounds = 0;

    if (argc < 4)
        return 2;
    state = strtoull(argv[2], NULL, 10) * 2654435769u + 1;
    vector_count = (size_t)(argc - 3);
    vectors = calloc(vector_count, sizeof *vectors);
    for (size_t i = 0; i < vector_count; i++)
        load(argv[i + 3], &vectors[i]);
    now.at = malloc(LONGEST + 1);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(keep_them);
    mkdir(SPOOL, 0755);
    do {
        choose();
        judge_all();
        judge_task();
        judge_command();
        judge_init_data();
        judge_trickle_down();
        judge_answer();
        judge_lines();
        rounds++;
    } while (seconds() < until);
    printf("%lu rounds\n", rounds);
    return 0;
}
