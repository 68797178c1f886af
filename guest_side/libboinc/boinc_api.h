/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boinc_api.h - the BOINC interface for programs inside a virtual machine.
 *
 * A science program that was written for BOINC is compiled against this file
 * and linked with -lboinc_api -lpthread; it then reports through the virtual
 * machine bridge instead of a BOINC client. For C and C++.
 *
 * Reports go into the folder that the environment variable VMBRIDGE_SPOOL
 * names by its absolute path; from there they find their way to the host.
 * Without the variable the program runs *standalone*: everything works and
 * nothing is reported. A report that cannot be written is lost and tried
 * again with the next change; it never hurts the program.
 *
 * Costs. boinc_fraction_done, boinc_ops_cumulative and
 * boinc_time_to_checkpoint may stand in the innermost loop: a few nanoseconds
 * each. A thread of the library, which takes no signals, writes the first
 * change at once and then at most two a second, and sleeps while there is
 * none.
 *
 * Threads. Every function may be called from any thread, none from a signal
 * handler.
 *
 * fork. The process that called boinc_init reports, and only that one. In a
 * child that it forks all functions can be called and report nothing, and
 * boinc_finish ends the child without recording that the work is over.
 */
#ifndef VMBRIDGE_BOINC_API_H
#define VMBRIDGE_BOINC_API_H

#ifdef __cplusplus
#include <string>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Begin to report; call it once, early. Calling it again does nothing.
 *
 * Returns 0, or the errno for which no thread could be made; the program may
 * go on, and only checkpoints and its end are reported then.
 */
int boinc_init(void);

/*
 * Report that the work is over and end the process as exit(status) does;
 * 0 means success and sets the fraction done to 1. Never returns.
 */
int boinc_finish(int status);

/*
 * Say which part of the work is done. Reported as a number from 0 to 1:
 * less counts as 0 and more as 1. NaN is not reported. Returns 0.
 */
int boinc_fraction_done(double fraction);

/* Returns what boinc_fraction_done was last told, unchanged; -1 before that. */
double boinc_get_fraction_done(void);

/*
 * Say how many floating-point and integer operations were done since the
 * work began, those before a restart included. NaN and negative numbers
 * are not reported.
 */
void boinc_ops_cumulative(double fp, double integer);

/*
 * Ask whether the program should write a checkpoint now.
 *
 * Returns 1 if the checkpoint period has passed since boinc_init or the last
 * boinc_checkpoint_completed, else 0. It stays 1 until
 * boinc_checkpoint_completed is called. The period is the environment
 * variable VMBRIDGE_CHECKPOINT_PERIOD, in seconds; 300 if that is not set or
 * is not a number.
 */
int boinc_time_to_checkpoint(void);

/*
 * Report that a checkpoint is on the disk, before this returns, and start the
 * period anew. Good at any time, also unasked. Returns 0.
 */
int boinc_checkpoint_completed(void);

/*
 * Find the real name of a file. In a virtual machine files lie under the
 * names that the program knows, so this copies `logical` to `physical`,
 * which has room for `size` bytes; only if the file is one of BOINC's links
 * (`<soft_link>path</soft_link>` in its first line) the path is copied.
 *
 * Returns 0; -116 if a pointer is NULL; -118 if the name does not fit, then
 * *physical is an empty string (if `size` is at least 1).
 */
int boinc_resolve_filename(const char *logical, char *physical, int size);

/*
 * Send a message to the project: `text` goes to the program of the server
 * that is registered for `variety`. It is on its way when this returns, also
 * if the program ends at once; two in quick succession both arrive, and their
 * times tell the order.
 *
 * Returns 0; -116 if a pointer is NULL; -178 if it cannot be sent as it is:
 * the variety has more than 255 bytes, a line break or a `<`, the text is not
 * UTF-8, has control characters other than tab and line break, lines of more
 * than 1,024 bytes, more than 1,000 of them, or more than 60,000 bytes in
 * all; -103 if it cannot be written, or if 256 wait there already: then try
 * later.
 */
int boinc_send_trickle_up(const char *variety, const char *text);

/*
 * Ask whether the project has sent a message. The text lies in a file in the
 * working directory, whose name is written to `name`, which has room for
 * `size` bytes (32 do). Read it and delete it; until then the same one is
 * found again.
 *
 * Returns 1 if there is one, 0 if there is none.
 */
int boinc_receive_trickle_down(char *name, int size);

/*
 * Upload one of the job's output files now, before the end of the work.
 * `name` is its name in the working directory. It must be complete and must
 * not change any more. Asking again for the same file does nothing.
 *
 * Returns 0; -116 if it is NULL; -178 if it cannot be the name of an output;
 * -108 if there is no such file or it cannot be asked for.
 */
int boinc_upload_file(const char *name);

/*
 * Ask what became of an upload. Returns 0 if the file is at the server; -161
 * as long as nothing is known, or if this process has not asked for it; -108
 * if there was no such file, any other number as the client says it.
 */
int boinc_upload_status(const char *name);

/* Returns 1 if nothing is reported because VMBRIDGE_SPOOL is not set, else 0. */
int boinc_is_standalone(void);

#ifdef __cplusplus
}

/* The forms that C++ programs know from BOINC; compiled by them, so that any std::string will do. */
inline int boinc_upload_file(std::string &name)
{
    return boinc_upload_file(name.c_str());
}

inline int boinc_upload_status(std::string &name)
{
    return boinc_upload_status(name.c_str());
}
#endif

#endif
