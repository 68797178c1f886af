/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exports.c - the two mounts of a machine. A machine with a mounted share
 * cannot be saved, so they are given up for each checkpoint.
 */
#define _GNU_SOURCE
#include "../machine/machine.h"
#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* Tried again and again, so a share's reason is said once until it changes. */
static bool mount_one(const char *tag, const char *path, bool writable)
{
    static char of_each[2][256];
    char *said = of_each[writable];
    const char *why;

    mkdir(path, 0755);
    why = share_mount(tag, path, writable);
    if (why != NULL && strcmp(why, said) != 0)
        say("cannot mount %s: %s", tag, why);
    snprintf(said, sizeof *of_each, "%s", why != NULL ? why : "");
    return why == NULL;
}

static bool mount_host(const struct options *options)
{
    return mount_one(HOST_TAG, options->host, false);
}

/* QEMU (7.2) lets itself be saved until the second message of a mount, and does
 * not save what was agreed in the first. A machine that is saved between them
 * comes back with a mount that works until the first name in it that is not
 * there: then it hangs for ever. So the first of two mounts, which alone can
 * be hit, is made once more when the other one stands. */
bool exports_mount(const struct options *options)
{
    return mount_host(options) && mount_one(GUEST_TAG, options->guest, true)
        && (umount2(options->host, 0) != 0 || mount_host(options));
}

int exports_release(const struct options *options)
{
    if (umount2(options->guest, 0) != 0 || umount2(options->host, 0) != 0)
        return -errno;
    return 0;
}
