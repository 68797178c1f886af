/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exports.c - the two mounts of a machine. A machine with a mounted share
 * cannot be saved, so they are given up for each checkpoint.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOUNT_OPTIONS "trans=virtio,version=9p2000.L,msize=131072,cache=none"

/* A mount point lies on another device than its parent. statfs does not help:
 * over 9p it tells the type of the host's file system. */
static bool is_mounted(const char *path)
{
    struct stat here, parent;
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool mounted = fd >= 0 && fstat(fd, &here) == 0 && fstatat(fd, "..", &parent, 0) == 0
        && here.st_dev != parent.st_dev;

    if (fd >= 0)
        close(fd);
    return mounted;
}

/* Tried again and again, so a reason is said once until it changes. */
static bool mount_one(const char *tag, const char *path, unsigned long flags)
{
    static int said;

    if (is_mounted(path))
        return true;
    mkdir(path, 0755);
    if (mount(tag, path, "9p", flags | MS_NOSUID | MS_NODEV, MOUNT_OPTIONS) == 0) {
        said = 0;
        return true;
    }
    if (errno != said)
        say("cannot mount %s: %s", tag, strerror(errno));
    said = errno;
    return false;
}

static bool mount_host(const struct options *options)
{
    return mount_one("vmbridge_host", options->host, MS_RDONLY);
}

/* QEMU (7.2) lets itself be saved until the second message of a mount, and does
 * not save what was agreed in the first. A machine that is saved between them
 * comes back with a mount that works until the first name in it that is not
 * there: then it hangs for ever. So the first of two mounts, which alone can
 * be hit, is made once more when the other one stands. */
bool exports_mount(const struct options *options)
{
    return mount_host(options) && mount_one("vmbridge_guest", options->guest, 0)
        && (umount2(options->host, 0) != 0 || mount_host(options));
}

int exports_release(const struct options *options)
{
    if (umount2(options->guest, 0) != 0 || umount2(options->host, 0) != 0)
        return -errno;
    return 0;
}
