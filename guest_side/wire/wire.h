/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - the files of docs/PROTOCOL.md in C: what they may look like (the
 * R rules), how they are written, and how they are read from a folder that
 * somebody hostile may write to.
 *
 * Nothing here allocates, keeps state, or depends on the locale for what it
 * writes. Five files, so that a program links only what it uses:
 *
 *   decode.c   bytes -> message     (agent, conformance adapter)
 *   utf8.c     what is UTF-8        (agent, library, conformance adapter)
 *   read.c     the door for reads   (agent, library)
 *   encode.c   message -> bytes     (agent, library)
 *   publish.c  bytes -> file        (agent, library)
 *
 * decode.c uses strtod: call it only in programs that never call setlocale.
 */
#ifndef VMBRIDGE_WIRE_H
#define VMBRIDGE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WIRE_FILE_MAX 65536 /* R1: a key file */
#define WIRE_NUMBER_FILE_MAX 64 /* R1: a number file */
#define WIRE_TEXT_MAX 1024 /* R18 */

/* ------------------------------------------------------------ decode.c -- */

/* The messages, in the order of the table "All messages". */
enum wire_kind {
    WIRE_COMMAND,
    WIRE_TASK,
    WIRE_INIT_DATA,
    WIRE_TAKEN,
    WIRE_TRICKLE_DOWN,
    WIRE_UPLOADED,
    WIRE_STATUS,
    WIRE_FRACTION_DONE,
    WIRE_CREDITREPORT,
    WIRE_CHECKPOINT,
    WIRE_FINISHED,
    WIRE_TEMPORARY_EXIT,
    WIRE_TRICKLE_UP,
    WIRE_UPLOAD,
    WIRE_SAVED,
    WIRE_KINDS
};

/* The type of a value; FRACTION is the one value of the number file. */
enum wire_type {
    WIRE_VERSION,
    WIRE_WORD,
    WIRE_COUNT,
    WIRE_CODE,
    WIRE_NUMBER,
    WIRE_FRACTION,
    WIRE_NAME,
    WIRE_SETTING,
    WIRE_TEXT
};

enum wire_status { WIRE_OK, WIRE_INCOMPLETE, WIRE_INVALID };

/*
 * One value of a message. `text` points into the bytes that were decoded and
 * is not NUL-terminated. Of a count and a code `integer` holds the value, of
 * a number and a fraction `number` does; the other one is 0.
 */
struct wire_value {
    const char *key; /* static; "value" in the number file */
    enum wire_type type;
    const char *text;
    size_t len;
    int64_t integer;
    double number;
};

/* Called for one value; `value` is valid only during the call. */
typedef void (*wire_handler)(void *user, const struct wire_value *value);

/*
 * Judge one file and hand over its values.
 *
 * Returns WIRE_OK          the file is valid; `handler` (may be NULL) was
 *                          called once for each value of a known key, in
 *                          the order of the file;
 *         WIRE_INCOMPLETE  its last newline is missing (R3);
 *         WIRE_INVALID     it breaks a rule; *rule holds the number of the
 *                          first one broken.
 * The handler is never called for a file that is not valid.
 */
enum wire_status wire_decode(enum wire_kind kind, const char *bytes, size_t len,
                             wire_handler handler, void *user, int *rule);

/* The name of a message, such as "trickle_up": also the (stem of the) file name. */
const char *wire_kind_name(enum wire_kind kind);

/* The key at `index` of the message's table, or NULL past its end. */
const char *wire_key_name(enum wire_kind kind, size_t index);

/*
 * Say which version a file claims: the value of its first line that is not
 * empty, if the key there is `protocol`. For the message that B16 asks for,
 * after wire_decode said R10.
 *
 * Returns the length of the value, 0 if there is none; *version points into
 * `bytes`.
 */
size_t wire_claimed_version(const char *bytes, size_t len, const char **version);

enum wire_filename { WIRE_FILE_IGNORED, WIRE_FILE_KNOWN, WIRE_FILE_NUMBERED, WIRE_FILE_R19 };

/*
 * Judge the name of a file in the share (B4, R19). For KNOWN and NUMBERED
 * *kind is set, for NUMBERED also *number; else both are left alone.
 */
enum wire_filename wire_judge_filename(const char *name, size_t len,
                                       enum wire_kind *kind, uint32_t *number);

/* The library is linked into other people's programs: the names of what it uses must not meet theirs. */
#define wire_is_utf8 vmbridge_wire_is_utf8
#define wire_read vmbridge_wire_read
#define wire_begin vmbridge_wire_begin
#define wire_put_text vmbridge_wire_put_text
#define wire_put_any vmbridge_wire_put_any
#define wire_put_integer vmbridge_wire_put_integer
#define wire_put_number vmbridge_wire_put_number
#define wire_put_fraction vmbridge_wire_put_fraction
#define wire_publish vmbridge_wire_publish
#define wire_sync_folder vmbridge_wire_sync_folder

/* -------------------------------------------------------------- utf8.c -- */

/* R2: no overlong forms, no surrogates, nothing above U+10FFFF, nothing cut off. */
bool wire_is_utf8(const char *bytes, size_t len);

/* -------------------------------------------------------------- read.c -- */

/*
 * Read one file that somebody else writes: follows no link as the last part
 * of the name, takes regular files only, never waits.
 *
 * Returns the number of bytes, or a negative errno: -ELOOP for a link,
 * -EINVAL for anything else that is not a regular file, -EFBIG if there are
 * more than `size` bytes, or what the system says.
 */
ssize_t wire_read(int dirfd, const char *name, char *buffer, size_t size);

/* ------------------------------------------------------------ encode.c -- */

/*
 * A message in the making, in a buffer of the caller's. `len` counts what
 * was written; `full` is set for good when a line did not fit (that line and
 * all later ones are left out).
 */
struct wire_writer {
    char *buffer;
    size_t size;
    size_t len;
    bool full;
};

void wire_begin(struct wire_writer *writer, char *buffer, size_t size);

/*
 * Write `key` and a word, name, setting or text, which must be UTF-8.
 * Control characters become question marks; more than WIRE_TEXT_MAX bytes
 * are cut off, between two characters.
 */
void wire_put_text(struct wire_writer *writer, const char *key, const char *text);

/* As wire_put_text, of any bytes: if they are no UTF-8, what is not ASCII becomes question marks. */
void wire_put_any(struct wire_writer *writer, const char *key, const char *text);

/* Write `key` and a count or a code. */
void wire_put_integer(struct wire_writer *writer, const char *key, int64_t value);

/*
 * Write `key` and a number to fifteen significant digits, integers exactly.
 * Less than 0 and NaN are written as 0, more than 1e30 as 1e30.
 */
void wire_put_number(struct wire_writer *writer, const char *key, double value);

/* Write a number file, the value held between 0 and 1; NaN is written as 0. */
void wire_put_fraction(struct wire_writer *writer, double value);

/* ----------------------------------------------------------- publish.c -- */

/*
 * Replace the file `name` in the folder `dirfd` whole: a temporary name that
 * begins with a point and holds our process id, then a rename. With `sync`
 * the file and the folder are durable when this returns.
 *
 * Returns 0, or a negative errno; then the old file is still there and no
 * temporary one is (-EINVAL: the name is longer than 64 bytes). If only the
 * sync of the folder fails, the new file is there already.
 */
int wire_publish(int dirfd, const char *name, const char *bytes, size_t len, bool sync);

/* Make the names in a folder durable, where its file system can. Returns 0, or a negative errno. */
int wire_sync_folder(int dirfd);

#endif
