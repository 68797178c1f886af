/* SPDX-License-Identifier: Apache-2.0 */
/* numbered.c - see numbered.h. Nothing here asks the locale, and numbers are parsed by hand. */
#define _GNU_SOURCE
#include "numbered.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NUMBER_HIGHEST 999999999 /* R19 */
#define NAME_SIZE NUMBERED_NAME_SIZE

/* ----------------------------------------------------------- numbers -- */

/* The number in `name` if it is STEM, a separator and a number, else 0. */
static uint32_t number_in(const char *name, const char *stem, char separator)
{
    size_t len = strlen(stem);
    uint64_t number = 0;

    if (strncmp(name, stem, len) != 0 || name[len] != separator || name[len + 1] == '0')
        return 0;
    for (name += len + 1; *name >= '0' && *name <= '9'; name++)
        if ((number = number * 10 + (uint64_t)(*name - '0')) > NUMBER_HIGHEST)
            return 0;
    return *name == '\0' ? (uint32_t)number : 0;
}

/* The lowest or the highest number that is there; 0 if there is none. */
static uint32_t find_number(const char *folder, const char *stem, char separator, bool highest)
{
    uint32_t found = 0, number;
    struct dirent *entry;
    DIR *dir = opendir(folder);

    if (dir == NULL)
        return 0;
    while ((entry = readdir(dir)) != NULL) {
        number = number_in(entry->d_name, stem, separator);
        if (number != 0 && (found == 0 || (number > found) == highest))
            found = number;
    }
    closedir(dir);
    return found;
}

static void name_of(char *out, const char *stem, char separator, uint32_t number)
{
    snprintf(out, NAME_SIZE, "%s%c%lu", stem, separator, (unsigned long)number);
}

/* --------------------------------------------------------------- out -- */

static bool is_allowed(const char *line, size_t len)
{
    size_t i;

    if (len > WIRE_TEXT_MAX)
        return false;
    for (i = 0; i < len; i++)
        if (((unsigned char)line[i] < 0x20 && line[i] != '\t') || line[i] == 0x7f)
            return false;
    return wire_is_utf8(line, len);
}

bool numbered_put_lines(struct wire_writer *writer, const char *text)
{
    char line[WIRE_TEXT_MAX + 1];
    size_t len, end, lines = 0;

    for (;; text += end + 1) {
        end = len = strcspn(text, "\n");
        if (len > 0 && text[len - 1] == '\r' && text[len] == '\n')
            len--;
        if (++lines > NUMBERED_LINES_MOST || !is_allowed(text, len))
            return false;
        memcpy(line, text, len);
        line[len] = '\0';
        wire_put_text(writer, "text", line);
        if (text[end] == '\0')
            return !writer->full;
    }
}

/* Give the file its final name, unless another process has just taken it (-EEXIST). */
static int name_it(int dirfd, const char *temporary, const char *name)
{
    if (linkat(dirfd, temporary, dirfd, name, 0) == 0)
        return unlinkat(dirfd, temporary, 0) == 0 ? 0 : -errno;
    if (errno == EEXIST)
        return -EEXIST;
    /* A file system without hard links: a share, where there is no agent. */
    return renameat(dirfd, temporary, dirfd, name) == 0 ? 0 : -errno;
}

static int place(int dirfd, const char *stem, const char *temporary, uint32_t *last)
{
    char name[NAME_SIZE];
    int error;

    do {
        if (*last >= NUMBER_HIGHEST)
            return -EAGAIN;
        name_of(name, stem, '.', ++*last);
        error = name_it(dirfd, temporary, name);
    } while (error == -EEXIST);
    if (error != 0)
        unlinkat(dirfd, temporary, 0);
    return error;
}

/* The agent takes them in order, so the oldest of too many is still there. */
static bool too_many(int dirfd, const char *stem, uint32_t last)
{
    char oldest[NAME_SIZE];

    if (last < NUMBERED_WAITING_MOST)
        return false;
    name_of(oldest, stem, '.', last - NUMBERED_WAITING_MOST + 1);
    return faccessat(dirfd, oldest, F_OK, 0) == 0;
}

int numbered_send(const char *spool, const char *stem, const struct wire_writer *message,
                  uint32_t *last)
{
    char temporary[NAME_SIZE];
    int dirfd = open(spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;

    if (dirfd < 0)
        return -errno;
    /* Another program of this task may have been here before. */
    if (*last == 0)
        *last = find_number(spool, stem, '.', true);
    snprintf(temporary, sizeof temporary, ".send.%ld", (long)getpid());
    error = too_many(dirfd, stem, *last) ? -EAGAIN
        : wire_publish(dirfd, temporary, message->buffer, message->len, false);
    if (error == 0)
        error = place(dirfd, stem, temporary, last);
    close(dirfd);
    return error;
}

/* ---------------------------------------------------------------- in -- */

static ssize_t read_in(const char *spool, const char *name, char *buffer, size_t size)
{
    int dirfd = open(spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ssize_t len;

    if (dirfd < 0)
        return -1;
    len = wire_read(dirfd, name, buffer, size);
    close(dirfd);
    return len;
}

/* Copy the value of the line from `at` to `end` to `out`, if it is KEY and a value; -1 if it is not. May overlap. */
static ssize_t copy_value(const char *key, const char *at, const char *end, char *out)
{
    size_t key_len = strlen(key);

    if ((size_t)(end - at) < key_len || memcmp(at, key, key_len) != 0)
        return -1;
    at += key_len;
    if (at < end && *at++ != ' ')
        return -1;
    memmove(out, at, (size_t)(end - at));
    return end - at;
}

/* The values of all lines `KEY value`, joined by newlines, in place. Returns their length. */
static size_t keep_values(char *buffer, size_t len, const char *key)
{
    size_t kept = 0, count = 0, at, end;

    for (at = 0; at < len; at = end + 1) {
        char *newline = memchr(buffer + at, '\n', len - at);
        size_t separator = count > 0;
        ssize_t got;
        end = newline == NULL ? len : (size_t)(newline - buffer);
        got = copy_value(key, buffer + at, buffer + end - (end > at && newline != NULL && newline[-1] == '\r'),
                         buffer + kept + separator);
        if (got < 0)
            continue;
        if (count++ > 0)
            buffer[kept++] = '\n';
        kept += (size_t)got;
    }
    return kept;
}

static bool fetch(const char *spool, uint32_t number, int dirfd, const char *to)
{
    static char buffer[WIRE_FILE_MAX];
    char name[NAME_SIZE], path[4096];
    ssize_t len;

    name_of(name, "trickle_down", '.', number);
    len = read_in(spool, name, buffer, sizeof buffer);
    if (len < 0 || (size_t)snprintf(path, sizeof path, "%s/%s", spool, name) >= sizeof path)
        return false;
    if (wire_publish(dirfd, to, buffer, keep_values(buffer, (size_t)len, "text"), false) != 0)
        return false;
    unlink(path);
    return true;
}

bool numbered_bring(const char *spool, int dirfd, char *name)
{
    uint32_t number = find_number(spool, "trickle_down", '.', false);

    name_of(name, "trickle_down", '_', number);
    return number != 0 && fetch(spool, number, dirfd, name);
}

bool numbered_receive(const char *spool, char *name, size_t size)
{
    static bool looked;
    static char current[NAME_SIZE];
    uint32_t number = 0;

    /* One that an earlier program of this task has left, once; then only what we brought. */
    if (!looked && (number = find_number(".", "trickle_down", '_', false)) != 0)
        name_of(current, "trickle_down", '_', number);
    looked = true;
    if (current[0] == '\0' || access(current, F_OK) != 0) {
        if (!numbered_bring(spool, AT_FDCWD, current))
            current[0] = '\0';
    }
    if (current[0] == '\0' || strlen(current) >= size)
        return false;
    strcpy(name, current);
    return true;
}

/* A code of the protocol (R13), spaces and tabs around it. */
static bool parse_code(const char *text, int *code)
{
    bool negative;
    int64_t value = 0;
    size_t digits;

    text += strspn(text, " \t");
    negative = *text == '-';
    text += negative;
    for (digits = 0; digits < 11 && *text >= '0' && *text <= '9'; digits++)
        value = value * 10 + (*text++ - '0');
    value = negative ? -value : value;
    if (digits == 0 || digits > 10 || value < INT32_MIN || value > INT32_MAX)
        return false;
    *code = (int)value;
    return text[strspn(text, " \t")] == '\0';
}

bool numbered_answer(const char *spool, uint32_t number, int *code)
{
    char name[NAME_SIZE], buffer[256];
    ssize_t got;

    name_of(name, "uploaded", '.', number);
    got = read_in(spool, name, buffer, sizeof buffer - 1);
    if (got < 0)
        return false;
    buffer[keep_values(buffer, (size_t)got, "status")] = '\0';
    return parse_code(buffer, code);
}
