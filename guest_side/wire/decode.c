/* SPDX-License-Identifier: Apache-2.0 */
/* decode.c - bytes to messages. The table below is docs/PROTOCOL.md, "All messages". */
#include "wire.h"

#include <stdlib.h>
#include <string.h>

#define LINES_MAX 1024
#define LINE_MAX_BYTES 4096
#define KEY_MAX 32
#define NUMBER_MAX 32
#define NAME_MAX_BYTES 255
#define COUNT_MAX 9007199254740991
#define KEYS_MAX 20

struct key {
    const char *name;
    enum wire_type type;
    bool required;
    bool many;
    double limit; /* the highest number, or the lowest count */
    const char *words; /* each followed by one space */
};

struct message {
    const char *name;
    bool numbered;
    struct key keys[KEYS_MAX];
};

#define PROTOCOL {"protocol", WIRE_VERSION, true, false, 0, NULL}
#define R true
#define MANY true

static const struct message messages[WIRE_KINDS] = {
    [WIRE_COMMAND] = {"command", false, {
        PROTOCOL,
        {"seq", WIRE_COUNT, R, 0, 1, NULL},
        {"state", WIRE_WORD, R, 0, 0, "run prepare save stop "},
        {"time", WIRE_NUMBER, 0, 0, 1e11, NULL},
        {"away", WIRE_NUMBER, 0, 0, 60, NULL}}},
    [WIRE_TASK] = {"task", false, {
        PROTOCOL,
        {"program", WIRE_NAME, R, 0, 0, NULL},
        {"arg", WIRE_TEXT, 0, MANY, 0, NULL},
        {"env", WIRE_SETTING, 0, MANY, 0, NULL},
        {"input", WIRE_NAME, 0, MANY, 0, NULL},
        {"output", WIRE_NAME, 0, MANY, 0, NULL},
        {"stdin", WIRE_NAME, 0, 0, 0, NULL},
        {"stdout", WIRE_NAME, 0, 0, 0, NULL},
        {"stderr", WIRE_NAME, 0, 0, 0, NULL},
        {"checkpoint_period", WIRE_NUMBER, 0, 0, 1e10, NULL},
        {"checkpoint_file", WIRE_NAME, 0, MANY, 0, NULL},
        {"package", WIRE_NAME, 0, MANY, 0, NULL},
        {"program_path", WIRE_TEXT, 0, 0, 0, NULL}}},
    [WIRE_INIT_DATA] = {"init_data", false, {
        {"app_name", WIRE_TEXT, 0, 0, 0, NULL},
        {"wu_name", WIRE_TEXT, 0, 0, 0, NULL},
        {"result_name", WIRE_TEXT, 0, 0, 0, NULL},
        {"app_version", WIRE_COUNT, 0, 0, 0, NULL},
        {"major_version", WIRE_COUNT, 0, 0, 0, NULL},
        {"minor_version", WIRE_COUNT, 0, 0, 0, NULL},
        {"release", WIRE_COUNT, 0, 0, 0, NULL},
        {"ncpus", WIRE_NUMBER, 0, 0, 1e4, NULL},
        {"rsc_fpops_est", WIRE_NUMBER, 0, 0, 1e30, NULL},
        {"rsc_fpops_bound", WIRE_NUMBER, 0, 0, 1e30, NULL},
        {"rsc_memory_bound", WIRE_NUMBER, 0, 0, 1e30, NULL},
        {"rsc_disk_bound", WIRE_NUMBER, 0, 0, 1e30, NULL},
        {"wu_cpu_time", WIRE_NUMBER, 0, 0, 1e10, NULL},
        {"starting_elapsed_time", WIRE_NUMBER, 0, 0, 1e10, NULL},
        {"computation_deadline", WIRE_NUMBER, 0, 0, 1e11, NULL},
        {"resource_share_fraction", WIRE_NUMBER, 0, 0, 1, NULL},
        {"fraction_done_start", WIRE_NUMBER, 0, 0, 1, NULL},
        {"fraction_done_end", WIRE_NUMBER, 0, 0, 1, NULL},
        {"p_fpops", WIRE_NUMBER, 0, 0, 1e30, NULL},
        {"p_iops", WIRE_NUMBER, 0, 0, 1e30, NULL}}},
    [WIRE_TAKEN] = {"taken", false, {
        {"trickle_up", WIRE_COUNT, 0, 0, 0, NULL},
        {"upload", WIRE_COUNT, 0, 0, 0, NULL},
        {"saved", WIRE_COUNT, 0, 0, 0, NULL}}},
    [WIRE_TRICKLE_DOWN] = {"trickle_down", true, {
        {"text", WIRE_TEXT, 0, MANY, 0, NULL}}},
    [WIRE_UPLOADED] = {"uploaded", true, {
        {"status", WIRE_CODE, R, 0, 0, NULL}}},
    [WIRE_STATUS] = {"status", false, {
        PROTOCOL,
        {"state", WIRE_WORD, R, 0, 0, "booting ready running finished error "},
        {"heartbeat", WIRE_COUNT, R, 0, 0, NULL},
        {"ack", WIRE_COUNT, 0, 0, 1, NULL},
        {"refused", WIRE_COUNT, 0, 0, 1, NULL},
        {"agent", WIRE_TEXT, 0, 0, 0, NULL},
        {"message", WIRE_TEXT, 0, 0, 0, NULL}}},
    [WIRE_FRACTION_DONE] = {"fraction_done", false, {
        {"value", WIRE_FRACTION, R, 0, 1, NULL}}},
    [WIRE_CREDITREPORT] = {"creditreport", false, {
        {"fpops", WIRE_NUMBER, 0, 0, 1e30, NULL},
        {"intops", WIRE_NUMBER, 0, 0, 1e30, NULL},
        {"cpu_seconds", WIRE_NUMBER, 0, 0, 1e10, NULL}}},
    [WIRE_CHECKPOINT] = {"checkpoint", false, {
        {"count", WIRE_COUNT, R, 0, 1, NULL},
        {"cpu_seconds", WIRE_NUMBER, 0, 0, 1e10, NULL}}},
    [WIRE_FINISHED] = {"finished", false, {
        {"code", WIRE_CODE, R, 0, 0, NULL},
        {"message", WIRE_TEXT, 0, 0, 0, NULL}}},
    [WIRE_TEMPORARY_EXIT] = {"temporary_exit", false, {
        {"delay", WIRE_NUMBER, R, 0, 86400, NULL},
        {"message", WIRE_TEXT, 0, 0, 0, NULL},
        {"notice", WIRE_COUNT, 0, 0, 0, NULL}}},
    [WIRE_TRICKLE_UP] = {"trickle_up", true, {
        {"variety", WIRE_TEXT, R, 0, 0, NULL},
        {"text", WIRE_TEXT, 0, MANY, 0, NULL}}},
    [WIRE_UPLOAD] = {"upload", true, {
        {"name", WIRE_NAME, R, 0, 0, NULL}}},
    [WIRE_SAVED] = {"saved", true, {
        {"file", WIRE_NAME, 0, MANY, 0, NULL},
        {"cpu_seconds", WIRE_NUMBER, 0, 0, 1e10, NULL}}},
};

/* A piece of the file: from `at`, up to but not including `end`. */
struct span {
    const char *at;
    const char *end;
};

static size_t length(struct span s)
{
    return (size_t)(s.end - s.at);
}

/* ------------------------------------------------------- characters ---- */

/* ctype.h would ask the locale. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_word(char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_';
}

static bool is_control(char c)
{
    return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct span trim(struct span s)
{
    while (s.at < s.end && is_blank(*s.at))
        s.at++;
    while (s.at < s.end && is_blank(s.end[-1]))
        s.end--;
    return s;
}

/* ------------------------------------------------------------ values ---- */

/* Each of these returns 0 or the number of the rule that the value breaks. */

static int take_version(struct span s)
{
    return length(s) == 1 && *s.at == '1' ? 0 : 10;
}

static int take_word(const struct key *key, struct span s)
{
    const char *word = key->words, *space;

    for (; (space = strchr(word, ' ')) != NULL; word = space + 1)
        if ((size_t)(space - word) == length(s) && memcmp(word, s.at, length(s)) == 0)
            return 0;
    return 11;
}

/* Read 1 to `most` digits and nothing else; sixteen of them fit an int64_t. */
static bool take_digits(struct span s, size_t most, int64_t *value)
{
    if (length(s) < 1 || length(s) > most)
        return false;
    for (*value = 0; s.at < s.end; s.at++) {
        if (!is_digit(*s.at))
            return false;
        *value = *value * 10 + (*s.at - '0');
    }
    return true;
}

static int take_count(const struct key *key, struct span s, int64_t *value)
{
    bool good = take_digits(s, 16, value)
        && *value >= (int64_t)key->limit && *value <= COUNT_MAX;

    return good ? 0 : 12;
}

static int take_code(struct span s, int64_t *value)
{
    bool negative = length(s) > 0 && *s.at == '-';

    s.at += negative;
    if (!take_digits(s, 10, value))
        return 13;
    if (negative)
        *value = -*value;
    return *value >= INT32_MIN && *value <= INT32_MAX ? 0 : 13;
}

/* Step over digits; false if there is none. */
static bool skip_digits(struct span *s)
{
    const char *begin = s->at;

    while (s->at < s->end && is_digit(*s->at))
        s->at++;
    return s->at > begin;
}

static bool skip_one_of(struct span *s, const char *set)
{
    if (s->at == s->end || *s->at == '\0' || strchr(set, *s->at) == NULL)
        return false;
    s->at++;
    return true;
}

static bool skip_exponent(struct span *s)
{
    const char *begin;

    skip_one_of(s, "+-");
    begin = s->at;
    return skip_digits(s) && s->at - begin <= 3;
}

/* R14's form. By hand: strtod also takes signs, hexadecimal, inf and nan. */
static bool has_number_form(struct span s)
{
    if (!skip_digits(&s))
        return false;
    if (skip_one_of(&s, ".") && !skip_digits(&s))
        return false;
    if (skip_one_of(&s, "eE") && !skip_exponent(&s))
        return false;
    return s.at == s.end;
}

static int take_number(const struct key *key, struct span s, int rule, double *value)
{
    char copy[NUMBER_MAX + 1];

    if (length(s) > NUMBER_MAX || !has_number_form(s))
        return rule;
    memcpy(copy, s.at, length(s));
    copy[length(s)] = '\0';
    *value = strtod(copy, NULL);
    return *value <= key->limit ? 0 : rule;
}

static int take_name(struct span s)
{
    if (length(s) < 1 || length(s) > NAME_MAX_BYTES || *s.at == '.')
        return 16;
    for (; s.at < s.end; s.at++)
        if (*s.at == '/' || *s.at == '\\' || *s.at == ':')
            return 16;
    return 0;
}

static int take_setting(struct span s)
{
    const char *begin = s.at;

    while (s.at < s.end && is_word(*s.at))
        s.at++;
    return s.at > begin && !is_digit(*begin) && s.at < s.end && *s.at == '=' ? 0 : 17;
}

static int take_text(struct span s)
{
    return length(s) <= WIRE_TEXT_MAX ? 0 : 18;
}

static int take_typed(const struct key *key, struct span s, struct wire_value *value)
{
    switch (key->type) {
    case WIRE_VERSION: return take_version(s);
    case WIRE_WORD: return take_word(key, s);
    case WIRE_COUNT: return take_count(key, s, &value->integer);
    case WIRE_CODE: return take_code(s, &value->integer);
    case WIRE_NUMBER: return take_number(key, s, 14, &value->number);
    case WIRE_FRACTION: return take_number(key, s, 15, &value->number);
    case WIRE_NAME: return take_name(s);
    case WIRE_SETTING: return take_setting(s);
    case WIRE_TEXT: return take_text(s);
    }
    return 0;
}

static int take_value(const struct key *key, struct span s, struct wire_value *value)
{
    if (key->type != WIRE_TEXT && key->type != WIRE_SETTING)
        s = trim(s);
    *value = (struct wire_value){key->name, key->type, s.at, length(s), 0, 0};
    return take_typed(key, s, value);
}

/* ------------------------------------------------------------- lines ---- */

/* One walk over a file: the first to judge it, the second to hand it over. */
struct walk {
    const struct message *message;
    bool seen[KEYS_MAX];
    bool begun; /* a line that counts was there */
    int late; /* the rule that a number file breaks as a whole */
    wire_handler handler;
    void *user;
};

static bool is_versioned(const struct message *message)
{
    return message->keys[0].type == WIRE_VERSION;
}

static bool is_number_file(const struct message *message)
{
    return message->keys[0].type == WIRE_FRACTION;
}

static const struct key *find_key(const struct message *message, struct span name)
{
    size_t i;

    for (i = 0; i < KEYS_MAX && message->keys[i].name != NULL; i++)
        if (strlen(message->keys[i].name) == length(name)
            && memcmp(message->keys[i].name, name.at, length(name)) == 0)
            return &message->keys[i];
    return NULL;
}

/* Cut a line into key and value (R6); false if it has not that form. */
static bool split_line(struct span line, struct span *name, struct span *value)
{
    const char *p = line.at;

    if (!is_lower(*p))
        return false;
    while (p < line.end && (is_lower(*p) || is_digit(*p) || *p == '_'))
        p++;
    *name = (struct span){line.at, p};
    *value = (struct span){p < line.end ? p + 1 : p, line.end};
    return length(*name) <= KEY_MAX && (p == line.end || *p == ' ');
}

static int walk_value(struct walk *walk, const struct key *key, struct span text)
{
    struct wire_value value;
    size_t index = (size_t)(key - walk->message->keys);
    int rule;

    if (walk->seen[index] && !key->many)
        return 8;
    walk->seen[index] = true;
    rule = take_value(key, text, &value);
    if (rule == 0 && walk->handler != NULL)
        walk->handler(walk->user, &value);
    return rule;
}

static int walk_key_line(struct walk *walk, struct span line)
{
    struct span name, text;
    const struct key *key;
    bool first = !walk->begun;

    if (length(line) == 0)
        return 0;
    if (!split_line(line, &name, &text))
        return 6;
    walk->begun = true;
    key = find_key(walk->message, name);
    if (first && is_versioned(walk->message) && key != walk->message->keys)
        return 10;
    return key != NULL ? walk_value(walk, key, text) : 0;
}

/*
 * Any line after the first is one too many, whatever stands in it. R15 is
 * about the whole file: it waits until all lines have kept R5 and R7.
 */
static int walk_number_line(struct walk *walk, struct span line)
{
    walk->late = walk->begun ? 15 : walk_value(walk, walk->message->keys, line);
    walk->begun = true;
    return 0;
}

static int walk_line(struct walk *walk, struct span line)
{
    const char *p;

    if (length(line) > LINE_MAX_BYTES)
        return 5;
    for (p = line.at; p < line.end; p++)
        if (is_control(*p))
            return 7;
    return is_number_file(walk->message) ? walk_number_line(walk, line)
                                         : walk_key_line(walk, line);
}

/* Take one line off the front of `rest`, which ends with a newline. */
static struct span next_line(struct span *rest)
{
    const char *newline = memchr(rest->at, '\n', length(*rest));
    struct span line = {rest->at, newline};

    rest->at = newline + 1;
    if (length(line) > 0 && line.end[-1] == '\r')
        line.end--;
    return line;
}

static int walk_end(const struct walk *walk)
{
    size_t i;

    if (walk->late != 0)
        return walk->late;
    if (is_versioned(walk->message) && !walk->begun)
        return 10;
    for (i = 0; i < KEYS_MAX && walk->message->keys[i].name != NULL; i++)
        if (walk->message->keys[i].required && !walk->seen[i])
            return 9;
    return 0;
}

static int walk_file(const struct message *message, struct span rest,
                     wire_handler handler, void *user)
{
    struct walk walk = {.message = message, .handler = handler, .user = user};

    while (rest.at < rest.end) {
        int rule = walk_line(&walk, next_line(&rest));
        if (rule != 0)
            return rule;
    }
    return walk_end(&walk);
}

static bool has_too_many_lines(struct span file)
{
    size_t lines = 0;

    while (file.at < file.end) {
        next_line(&file);
        lines++;
    }
    return lines > LINES_MAX;
}

static enum wire_status invalid(int broken, int *rule)
{
    *rule = broken;
    return WIRE_INVALID;
}

enum wire_status wire_decode(enum wire_kind kind, const char *bytes, size_t len,
                             wire_handler handler, void *user, int *rule)
{
    const struct message *message = &messages[kind];
    struct span file = {bytes, bytes + len};
    int broken;

    if (len > (is_number_file(message) ? WIRE_NUMBER_FILE_MAX : WIRE_FILE_MAX))
        return invalid(1, rule);
    if (len == 0 || bytes[len - 1] != '\n')
        return WIRE_INCOMPLETE;
    if (!wire_is_utf8(bytes, len))
        return invalid(2, rule);
    if (has_too_many_lines(file))
        return invalid(4, rule);
    broken = walk_file(message, file, NULL, NULL);
    if (broken != 0)
        return invalid(broken, rule);
    if (handler != NULL)
        walk_file(message, file, handler, user);
    return WIRE_OK;
}

const char *wire_kind_name(enum wire_kind kind)
{
    return messages[kind].name;
}

const char *wire_key_name(enum wire_kind kind, size_t index)
{
    return index < KEYS_MAX ? messages[kind].keys[index].name : NULL;
}

size_t wire_claimed_version(const char *bytes, size_t len, const char **version)
{
    struct span rest = {bytes, bytes + len}, line, name, value;

    if (len == 0 || bytes[len - 1] != '\n')
        return 0;
    do
        line = next_line(&rest);
    while (length(line) == 0 && rest.at < rest.end);
    if (length(line) == 0 || !split_line(line, &name, &value)
        || find_key(&messages[WIRE_COMMAND], name) != messages[WIRE_COMMAND].keys)
        return 0;
    value = trim(value);
    *version = value.at;
    return length(value);
}

/* -------------------------------------------------------- file names ---- */

static bool take_file_number(struct span s, uint32_t *number)
{
    int64_t value;

    if (length(s) == 0 || *s.at == '0' || !take_digits(s, 9, &value))
        return false;
    *number = (uint32_t)value;
    return true;
}

enum wire_filename wire_judge_filename(const char *name, size_t len,
                                       enum wire_kind *kind, uint32_t *number)
{
    int i;

    for (i = 0; i < WIRE_KINDS; i++) {
        size_t stem = strlen(messages[i].name);
        if (len < stem || memcmp(name, messages[i].name, stem) != 0)
            continue;
        if (messages[i].numbered && len > stem && name[stem] == '.') {
            if (!take_file_number((struct span){name + stem + 1, name + len}, number))
                return WIRE_FILE_R19;
            *kind = (enum wire_kind)i;
            return WIRE_FILE_NUMBERED;
        }
        if (!messages[i].numbered && len == stem) {
            *kind = (enum wire_kind)i;
            return WIRE_FILE_KNOWN;
        }
    }
    return WIRE_FILE_IGNORED;
}
