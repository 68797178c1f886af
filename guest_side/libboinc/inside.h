/* SPDX-License-Identifier: Apache-2.0 */
/* inside.h - what the library's sources do for each other. Needs none of the library's structures. */
#ifndef VMBRIDGE_INSIDE_H
#define VMBRIDGE_INSIDE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library is linked into other people's programs: the names of what it uses must not meet theirs. */
#define api_start_thread vmbridge_start_thread
#define api_known_text vmbridge_known_text
#define api_known_number vmbridge_known_number
#define api_finish vmbridge_finish
#define diagnostics_default vmbridge_diagnostics_default

/* Start the library's thread if boinc_init has not. Returns 0 or an errno. */
int api_start_thread(void);

/* As boinc_finish, with a message for people, or NULL. Never returns. */
int api_finish(int status, const char *message);

/* As boinc_init_diagnostics with BOINC's defaults, unless it was called already. */
void diagnostics_default(void);

/* What is known of the job, by the name of a member of APP_INIT_DATA: init_data.h. */
void api_known_text(const char *key, char *out, size_t size);
double api_known_number(const char *key);

#ifdef __cplusplus
}
#endif

#endif
