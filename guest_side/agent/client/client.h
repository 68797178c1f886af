/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - the agent plays the BOINC client towards a program that was made
 * for it, so that a binary that nobody can compile again runs in a machine.
 *
 * Nothing here reaches the host. What the program says in BOINC's way, in its
 * working directory, is written into the spool as a program with our library
 * would have written it; what comes from the host goes the other way.
 *
 *   slot.c       the files that the program finds: init_data.xml and its like
 *   channels.c   the eight message channels of boinc_mmap_file
 *   client.c     what is said in them, and when
 *   endings.c    the files that say how the program has ended
 *
 * The program is not trusted: what it wrote is read with a bound, no link is
 * followed, and nothing of it is mapped.
 */
#ifndef VMBRIDGE_CLIENT_H
#define VMBRIDGE_CLIENT_H

#include "../agent.h"

/* -------------------------------------------------------------- slot.c -- */

/*
 * Put the files that a program looks for into the working directory, never
 * over one that the task names, and remove what an earlier start has left.
 * `before` are the CPU seconds of the task's earlier starts in this machine.
 * Returns the CPU seconds that the program will count from.
 */
double slot_prepare(const struct agent *agent, double before);

/* Has a program taken the slot? The library does that first. */
bool slot_is_taken(const struct options *options);

/* Is this file there, of whatever kind? */
bool slot_has(const struct options *options, const char *name);

/* Read a file that the program wrote, as text. Returns NULL if it is none or too large; valid until the next call. */
const char *slot_read(const struct options *options, const char *name);

/* Remove a file. */
void slot_remove(const struct options *options, const char *name);

/* Put a file of text there, whole; returns whether it is there. */
bool slot_write(const struct options *options, const char *name, const char *text);

/* ---------------------------------------------------------- channels.c -- */

#define CHANNEL_SIZE 1024 /* the flag and the text with its NUL */

enum channel {
    CONTROL = 0, /* to the program: <quit/> */
    HEARTBEAT = 4, /* to the program */
    APP_STATUS = 5, /* from it: how far it has come */
    FROM_PROGRAM = 6, /* there are trickles and uploads */
    TO_PROGRAM = 7 /* the same, and answers */
};

/* Make the file anew, empty; a program that has the old one is heard no more. */
bool channels_make(const char *path);

/* Look at all of them; what channels_get and channels_put know is from then. */
void channels_look(void);

/* Read a message, if there is one; the program can send no other before channels_free. */
bool channels_get(enum channel channel, char text[CHANNEL_SIZE]);
void channels_free(enum channel channel);

/* Send one, if the last one has been taken. */
bool channels_put(enum channel channel, const char *text);

/* ----------------------------------------------------------- endings.c -- */

/* Did the program leave one of the files that say how it has ended? */
bool endings_left(const struct options *options);

/* Say in the spool what they say; `program` has ended. */
void endings_tell(const struct options *options, const struct program *program);

#endif
