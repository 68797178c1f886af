/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool.c - notices of changes in the spool.
 *
 * They say only when to look, never what is there. A program that writes a
 * thousand times a second must not wake us as often: the loop does not listen
 * again until LOOK_EVERY has passed (main.c).
 */
#define _GNU_SOURCE
#include "agent.h"

#include <sys/inotify.h>
#include <unistd.h>

#define WRITTEN (IN_MOVED_TO | IN_CLOSE_WRITE)

int spool_watch(const struct options *options)
{
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

    if (fd < 0)
        return -1;
    inotify_add_watch(fd, options->spool, WRITTEN);
    if (options->machine)
        inotify_add_watch(fd, "/tmp", WRITTEN);
    return fd;
}

void spool_drain(int fd)
{
    char events[4096];

    while (read(fd, events, sizeof events) > 0)
        ;
}
