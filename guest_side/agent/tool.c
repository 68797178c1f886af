/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool.c - a program of the guest's own that is to do something for the task,
 * which may take long: a child, and what it says goes into a log.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TAIL 700 /* bytes; the message has room for a few words more */

static void stream_into(int target, const char *name, int flags)
{
    int fd = open(name, flags, 0644);

    if (fd < 0 || dup2(fd, target) < 0)
        _exit(126);
    if (fd != target)
        close(fd);
}

static void execute(const char *log, char *const argv[], pid_t parent)
{
    sigset_t none;

    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(126);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    stream_into(0, "/dev/null", O_RDONLY);
    stream_into(1, log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
    dup2(1, 2);
    setenv("HOME", "/root", 1);
    setenv("PATH", PLAIN_PATH, 1);
    if (chdir("/") == 0)
        execv(argv[0], argv);
    dprintf(2, "cannot execute %s: %s\n", argv[0], strerror(errno));
    _exit(126);
}

pid_t tool_start(const char *log, char *const argv[])
{
    pid_t parent = getpid(), pid = fork();

    if (pid == 0)
        execute(log, argv, parent);
    return pid;
}

/* The end of the log in one line of what every message may hold: the tool's bytes are anything. */
static void read_tail(const char *log, char *out, size_t size)
{
    int fd = open(log, O_RDONLY | O_CLOEXEC);
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

const char *tool_failure(int status, const char *log)
{
    static char failure[TAIL + 64];
    char how[40], tail[TAIL];

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return NULL;
    if (WIFEXITED(status))
        snprintf(how, sizeof how, "ended with code %d", WEXITSTATUS(status));
    else
        snprintf(how, sizeof how, "was killed by signal %d", WTERMSIG(status));
    read_tail(log, tail, sizeof tail);
    snprintf(failure, sizeof failure, "%s: %s", how, tail[0] != '\0' ? tail : "it said nothing");
    return failure;
}
