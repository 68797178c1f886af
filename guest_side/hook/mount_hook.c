/* SPDX-License-Identifier: Apache-2.0 */
/* mount_hook.c - mount the host's export, copy the agent out of it, become the agent. */
#define _GNU_SOURCE
#include "../machine/machine.h"
#include "hook.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN "/run/vmbridge"
#define AGENT RUN "/agent"

void give_up(const char *doing, const char *what)
{
    give_up_because(doing, what, strerror(errno));
}

void give_up_because(const char *doing, const char *what, const char *why)
{
    dprintf(STDERR_FILENO, "mount_hook: cannot %s %s: %s\n", doing, what, why);
    switch_off();
    exit(1);
}

static void make_folders(void)
{
    static const char *const folders[] = {RUN, RUN "/host", RUN "/guest", RUN "/spool"};
    size_t i;

    for (i = 0; i < sizeof folders / sizeof *folders; i++)
        if (mkdir(folders[i], 0755) != 0 && errno != EEXIST)
            give_up("make", folders[i]);
}

/* The agent looks after it from now on; a service that starts again finds the one it left. */
static void mount_host(void)
{
    const char *why = share_mount(HOST_TAG, RUN "/host", false);

    if (why != NULL)
        give_up_because("mount", HOST_TAG, why);
}

static void copy(int from, int to)
{
    static char buffer[1 << 17];
    ssize_t got, put, written;

    while ((got = read(from, buffer, sizeof buffer)) > 0)
        for (put = 0; put < got; put += written)
            if ((written = write(to, buffer + put, (size_t)(got - put))) < 0)
                give_up("write", AGENT);
    if (got < 0)
        give_up("read", "the agent");
}

/* Into memory: a program that runs from the share would keep it busy at a checkpoint. */
static void copy_agent(void)
{
    int from = open(RUN "/host/agent", O_RDONLY | O_CLOEXEC), to;

    if (from < 0)
        give_up("open", RUN "/host/agent");
    unlink(AGENT); /* the last one may still run */
    to = open(AGENT, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    if (to < 0)
        give_up("make", AGENT);
    copy(from, to);
    if (fchmod(to, 0755) != 0 || close(to) != 0)
        give_up("write", AGENT);
    close(from);
}

/* An image for big tasks mounts a disk at /work. */
static const char *work_folder(void)
{
    struct stat root, work;

    if (stat("/", &root) == 0 && stat("/work", &work) == 0 && root.st_dev != work.st_dev)
        return "/work";
    return "/var/lib/vmbridge/work";
}

int main(void)
{
    if (access("/proc/self", F_OK) != 0)
        system_up();
    make_folders();
    mount_host();
    copy_agent();
    if (chdir("/") == 0)
        execl(AGENT, AGENT, "--machine", "--host", RUN "/host", "--guest", RUN "/guest",
              "--work", work_folder(), "--spool", RUN "/spool", (char *)NULL);
    give_up("execute", AGENT);
}
