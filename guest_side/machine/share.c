/* SPDX-License-Identifier: Apache-2.0 */
/* share.c - mount a folder that the hypervisor shares. */
#define _GNU_SOURCE
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef VMHGFS /* a test has another one */
#define VMHGFS "/usr/bin/vmhgfs-fuse"
#endif

struct way {
    const char *name, *options;
    int (*mount)(const struct way *way, const char *tag, const char *path, bool writable); /* 0, or an errno */
};

static int by_kernel(const struct way *way, const char *tag, const char *path, bool writable)
{
    unsigned long flags = MS_NOSUID | MS_NODEV | (writable ? 0 : MS_RDONLY);

    return mount(tag, path, way->name, flags, way->options) == 0 ? 0 : errno;
}

static void execute(char *const argv[])
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(argv[0], argv);
    _exit(127);
}

/* It goes on as a process of its own, which ends when the folder is unmounted. */
static int by_program(const struct way *way, const char *tag, const char *path, bool writable)
{
    char source[64], options[128];
    char *argv[] = {VMHGFS, source, (char *)path, "-o", options, NULL};
    int status = 0;
    pid_t pid;

    if (access(VMHGFS, X_OK) != 0)
        return errno;
    snprintf(source, sizeof source, ".host:/%s", tag);
    snprintf(options, sizeof options, "%s%s", way->options, writable ? "" : ",ro");
    pid = fork();
    if (pid < 0)
        return errno;
    if (pid == 0)
        execute(argv);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return errno;
    return status == 0 && share_is_mounted(path) ? 0 : EIO;
}

/*
 * Nothing is cached: what the other side has written must be seen, and what a
 * checkpoint must find unmounted must not be held. (vmhgfs-fuse itself
 * remembers a file's size for up to two seconds, and nothing can be said
 * against it.)
 */
static const struct way ways[] = {
    {"9p", "trans=virtio,version=9p2000.L,msize=131072,cache=none", by_kernel},
    {"vboxsf", "ttl=0", by_kernel},
    {"vmhgfs-fuse", "nosuid,nodev,entry_timeout=0,attr_timeout=0,negative_timeout=0", by_program},
};

#define WAYS (sizeof ways / sizeof *ways)

/* A mount point lies on another device than its parent. statfs does not help:
 * over 9p it tells the type of the host's file system. */
bool share_is_mounted(const char *path)
{
    struct stat here, parent;
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool mounted = fd >= 0 && fstat(fd, &here) == 0 && fstatat(fd, "..", &parent, 0) == 0
        && here.st_dev != parent.st_dev;

    if (fd >= 0)
        close(fd);
    return mounted;
}

const char *share_mount(const char *tag, const char *path, bool writable)
{
    static const struct way *known;
    static char why[WAYS * 80];
    size_t len = 0, i;

    if (share_is_mounted(path))
        return NULL;
    for (i = 0; i < WAYS; i++) {
        int error = known == NULL || known == &ways[i] ? ways[i].mount(&ways[i], tag, path, writable) : -1;

        if (error == 0) {
            known = &ways[i];
            return NULL;
        }
        if (error > 0 && len < sizeof why)
            len += (size_t)snprintf(why + len, sizeof why - len, "%s%s: %s", len > 0 ? ", " : "", ways[i].name,
                                    strerror(error));
    }
    return why;
}
