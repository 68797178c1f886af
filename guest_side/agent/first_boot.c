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
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCRIPT "/etc/vmbridge/first-boot"
#define DONE_MARK "/var/lib/vmbridge/first-boot-done" /* on the same disk as what the script has done */
#define LOG "/var/log/vmbridge-first-boot"
#define TAIL 700 /* bytes; the message has room for a few words more */

static void stream_into(int target, const char *name, int flags)
{
    int fd = open(name, flags, 0644);

    if (fd < 0 || dup2(fd, target) < 0)
        _exit(126);
    if (fd != target)
        close(fd);
}

static void execute(void)
{
    sigset_t none;

    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    stream_into(0, "/dev/null", O_RDONLY);
    stream_into(1, LOG, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
    dup2(1, 2);
    setenv("HOME", "/root", 1);
    setenv("PATH", PLAIN_PATH, 1);
    if (chdir("/") == 0)
        execl(SCRIPT, SCRIPT, (char *)NULL);
    dprintf(2, "cannot execute " SCRIPT ": %s\n", strerror(errno));
    _exit(126);
}

pid_t first_boot_start(void)
{
    pid_t pid;

    if (access(SCRIPT, F_OK) != 0 || access(DONE_MARK, F_OK) == 0)
        return 0;
    say("running " SCRIPT);
    pid = fork();
    if (pid == 0)
        execute();
    return pid;
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

/* The end of the log in one line of what every message may hold: the script's bytes are anything. */
static void read_tail(char *out, size_t size)
{
    int fd = open(LOG, O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END), from = end < (off_t)size ? 0 : end - (off_t)size + 1;
    ssize_t got = fd < 0 ? 0 : pread(fd, out, size - 1, from), i;

    if (fd >= 0)
        close(fd);
    while (got > 0 && out[got - 1] == '\n')
        got--;
    for (i = 0; i < got; i++)
        if (out[i] == '\n')
            out[i] = '|';
        else if (out[i] < ' ' || out[i] > '~')
            out[i] = '?';
    out[got < 0 ? 0 : got] = '\0';
}

const char *first_boot_failure(int status)
{
    static char failure[MESSAGE_SIZE];
    char how[64], tail[TAIL];

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return remember();
    if (WIFEXITED(status))
        snprintf(how, sizeof how, "ended with code %d", WEXITSTATUS(status));
    else
        snprintf(how, sizeof how, "was killed by signal %d", WTERMSIG(status));
    read_tail(tail, sizeof tail);
    snprintf(failure, sizeof failure, "the image's first-boot script %s: %s", how,
             tail[0] != '\0' ? tail : "it said nothing");
    return failure;
}
