/* SPDX-License-Identifier: Apache-2.0 */
/*
 * c_adapter - say in one canonical line what the C reader makes of a file.
 *
 *   c_adapter KIND < bytes     one line, for the file on standard input
 *   c_adapter                  one line for each record `KIND LENGTH\n` + bytes
 *
 * The line is `ok KIND key=value ...`, `incomplete` or `invalid R<n>`; KIND
 * is the name of a message or `filename`. Exit status 2: this program was
 * used wrongly; what the bytes are never matters to it.
 */
#include "../../guest_side/wire/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_escaped(const char *text, size_t len)
{
    size_t i;

    for (i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        printf(c < 0x21 || c > 0x7e || c == '%' ? "%%%02X" : "%c", c);
    }
}

static void print_value(const struct wire_value *value)
{
    printf(" %s=", value->key);
    switch (value->type) {
    case WIRE_COUNT:
    case WIRE_CODE: printf("%lld", (long long)value->integer); break;
    case WIRE_NUMBER:
    case WIRE_FRACTION: printf("%.12g", value->number); break;
    default: print_escaped(value->text, value->len);
    }
}

static void print_if_wanted(void *wanted, const struct wire_value *value)
{
    if (strcmp(wanted, value->key) == 0)
        print_value(value);
}

/* Values come in the order of the file and go out in the order of the table. */
static void print_message(enum wire_kind kind, const char *bytes, size_t len)
{
    const char *key;
    size_t i;
    int rule;

    printf("ok %s", wire_kind_name(kind));
    for (i = 0; (key = wire_key_name(kind, i)) != NULL; i++)
        wire_decode(kind, bytes, len, print_if_wanted, (void *)key, &rule);
    printf("\n");
}

static void judge_message(enum wire_kind kind, const char *bytes, size_t len)
{
    int rule = 0;

    switch (wire_decode(kind, bytes, len, NULL, NULL, &rule)) {
    case WIRE_OK: print_message(kind, bytes, len); break;
    case WIRE_INCOMPLETE: printf("incomplete\n"); break;
    case WIRE_INVALID: printf("invalid R%d\n", rule); break;
    }
}

static void judge_filename(const char *name, size_t len)
{
    enum wire_kind kind = WIRE_KINDS;
    uint32_t number = 0;

    switch (wire_judge_filename(name, len, &kind, &number)) {
    case WIRE_FILE_IGNORED: printf("ok filename ignored\n"); break;
    case WIRE_FILE_KNOWN: printf("ok filename known=%s\n", wire_kind_name(kind)); break;
    case WIRE_FILE_NUMBERED:
        printf("ok filename numbered=%s n=%lu\n", wire_kind_name(kind), (unsigned long)number);
        break;
    case WIRE_FILE_R19: printf("invalid R19\n"); break;
    }
}

static void die(const char *why)
{
    fprintf(stderr, "c_adapter: %s\n", why);
    exit(2);
}

static void judge(const char *kind, const char *bytes, size_t len)
{
    int i;

    if (strcmp(kind, "filename") == 0) {
        judge_filename(bytes, len);
        return;
    }
    for (i = 0; i < WIRE_KINDS; i++)
        if (strcmp(kind, wire_kind_name((enum wire_kind)i)) == 0) {
            judge_message((enum wire_kind)i, bytes, len);
            return;
        }
    die("unknown kind");
}

/* A file of its own length on the heap, so that a sanitizer sees every step beyond it. */
static char *fresh(size_t len)
{
    char *bytes = malloc(len > 0 ? len : 1);

    if (bytes == NULL)
        die("out of memory");
    return bytes;
}

static void judge_record(const char *kind, size_t len)
{
    char *bytes = fresh(len);

    if (fread(bytes, 1, len, stdin) != len)
        die("record is cut off");
    judge(kind, bytes, len);
    fflush(stdout);
    free(bytes);
}

static void judge_records(void)
{
    char kind[32];
    size_t len;

    while (scanf("%31s %zu", kind, &len) == 2) {
        if (getchar() != '\n')
            die("no newline after LENGTH");
        judge_record(kind, len);
    }
    if (!feof(stdin))
        die("not a record");
}

/* One byte more than is allowed is enough to see that it is too much. */
static void judge_stdin(const char *kind)
{
    static char all[WIRE_FILE_MAX + 1];
    size_t len = fread(all, 1, sizeof all, stdin);
    char *bytes = fresh(len);

    memcpy(bytes, all, len);
    judge(kind, bytes, len);
    free(bytes);
}

int main(int argc, char **argv)
{
    if (argc > 2)
        die("usage: c_adapter [KIND]");
    if (argc == 2)
        judge_stdin(argv[1]);
    else
        judge_records();
    return 0;
}
