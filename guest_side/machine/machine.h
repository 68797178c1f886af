/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.h - what the mount hook and the agent both do to their machine,
 * whichever hypervisor runs it.
 *
 *   share.c  mount a folder that the hypervisor shares
 *   off.c    switch the machine off
 */
#ifndef VMBRIDGE_MACHINE_H
#define VMBRIDGE_MACHINE_H

#include <stdbool.h>

#define HOST_TAG "vmbridge_host" /* protocol/layout.py */
#define GUEST_TAG "vmbridge_guest"

/* Is something mounted at `path`? */
bool share_is_mounted(const char *path);

/*
 * Mount the folder that the hypervisor shares as `tag` at `path`, if nothing
 * is mounted there; in the first of its ways that works, and from then on in
 * that one. Returns NULL, or, in one line, each way and why it did not work.
 */
const char *share_mount(const char *tag, const char *path, bool writable);

/*
 * Switch the machine off if this is its first process, when the console has
 * what was said; else, or where that cannot be done, return.
 */
void switch_off(void);

#endif
