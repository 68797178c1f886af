/* SPDX-License-Identifier: Apache-2.0 */
/*
 * first_boot.c - the image's own script, which runs once on each machine's
 * disk, before its first task. What it does may take long, so it is a child,
 * and a checkpoint may come in between.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SCRIPT "/etc/vmbridge/first-boot"
#define DONE_MARK "/var/lib/vmbridge/first-boot-done" /* on the same disk as what the script has done */
#define LOG "/var/log/vmbridge-first-boot"

pid_t first_boot_start(void)
{
    static char *const argv[] = {SCRIPT, NULL};

    if (access(SCRIPT, F_OK) != 0 || access(DONE_MARK, F_OK) == 0)
        return 0;
    say("running " SCRIPT);
    return tool_start(LOG, argv);
}

/* The sync takes along what the script has done: the mark may not outlive that. */
static const char *remember(void)
{
    static char reason[128];
    int fd;

    sync();
    fd = open(DONE_MARK, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        snprintf(reason, sizeof reason, "cannot make " DONE_MARK ": %s", strerror(errno));
        return reason;
    }
    close(fd);
    return NULL;
}

const char *first_boot_failure(int status)
{
    static char failure[MESSAGE_SIZE];
    const char *how = tool_failure(status, LOG);

    if (how == NULL)
        return remember();
    snprintf(failure, sizeof failure, "the image's first-boot script %s", how);
    return failure;
}
