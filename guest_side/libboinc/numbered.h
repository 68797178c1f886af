/* SPDX-License-Identifier: Apache-2.0 */
/*
 * numbered.h - the numbered files of the spool: trickles and uploads out,
 * trickles and answers in. Used by boinc_api.c under its lock.
 */
#ifndef VMBRIDGE_NUMBERED_H
#define VMBRIDGE_NUMBERED_H

#include <stdint.h>

#include "../wire/wire.h"

#define NUMBERED_WAITING_MOST 256 /* so many messages of a kind may wait in the spool */
#define NUMBERED_LINES_MOST 1000 /* with the other keys, R4 */
#define NUMBERED_NAME_SIZE 64

/* The library is linked into other people's programs: these names must not meet theirs. */
#define numbered_put_lines vmbridge_numbered_put_lines
#define numbered_send vmbridge_numbered_send
#define numbered_bring vmbridge_numbered_bring
#define numbered_receive vmbridge_numbered_receive
#define numbered_answer vmbridge_numbered_answer

/* Write each line of `text` as a `text`. Returns false if the protocol cannot say it; then nothing must be sent. */
bool numbered_put_lines(struct wire_writer *writer, const char *text);

/*
 * Put a message into the spool as STEM.N, whole, under the next number that
 * is free; *last is the last one used, 0 at first. What another process of
 * the guest sends at the same time gets another number.
 *
 * Returns 0 or a negative errno; -EAGAIN if too many wait there already.
 */
int numbered_send(const char *spool, const char *stem, const struct wire_writer *message,
                  uint32_t *last);

/*
 * Bring the oldest message of the project from the spool into the folder as
 * `trickle_down_N`, its text as the project wrote it; `name` has room for
 * NUMBERED_NAME_SIZE. Returns false if there is none.
 */
bool numbered_bring(const char *spool, int dirfd, char *name);

/*
 * The same into the working directory, and one after the other: the next one
 * when the last one has been removed. Returns false if there is none.
 */
bool numbered_receive(const char *spool, char *name, size_t size);

/* Read the code in `uploaded.N` of the spool. Returns false if it is not there yet. */
bool numbered_answer(const char *spool, uint32_t number, int *code);

#endif
