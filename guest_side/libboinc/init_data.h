/* SPDX-License-Identifier: Apache-2.0 */
/* init_data.h - what the client says of the job, from the spool. Used by boinc_api.c under its lock. */
#ifndef VMBRIDGE_INIT_DATA_H
#define VMBRIDGE_INIT_DATA_H

#include <stdbool.h>

#include "boinc_api.h"

/* The library is linked into other people's programs: the names of what it uses must not meet theirs. */
#define init_data_read vmbridge_init_data_read
#define init_data_text vmbridge_init_data_text
#define init_data_number vmbridge_init_data_number

/*
 * Fill `data` with what the file in the spool says (NULL: there is no spool),
 * and with what this machine knows of itself. Returns whether there was a
 * file; without one there are the defaults.
 */
bool init_data_read(struct APP_INIT_DATA *data, const char *spool);

/* Copy what is known under the name of a member to `out`, which has room for `size` bytes; what is not known is empty. */
void init_data_text(const struct APP_INIT_DATA *data, const char *key, char *out, size_t size);

/* Returns what is known under the name of a member; 0 if nothing is. */
double init_data_number(const struct APP_INIT_DATA *data, const char *key);

#endif
