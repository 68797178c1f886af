/* SPDX-License-Identifier: Apache-2.0 */
/* sections.h - critical sections, and what a request to end meets in one. */
#ifndef VMBRIDGE_SECTIONS_H
#define VMBRIDGE_SECTIONS_H

#include <stdbool.h>

/* The library is linked into other people's programs: the names of what it uses must not meet theirs. */
#define sections_begin vmbridge_sections_begin
#define sections_saving vmbridge_sections_saving
#define sections_forked vmbridge_sections_forked

/*
 * The calling thread becomes the worker. With `handles` SIGTERM ends the
 * program as before, but not inside a section, or only asks
 * (boinc_status.quit_request) if `direct` is false; but a program that
 * handles or ignores SIGTERM already is left alone.
 */
void sections_begin(bool handles, bool direct);

/* From when the program was told to save until it has saved is one more section, whoever asks and how often. */
void sections_saving(bool now);

/* In a child after fork: SIGTERM is the child's own affair. */
void sections_forked(void);

#endif
