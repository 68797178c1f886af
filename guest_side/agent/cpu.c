/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c - the CPU time and the memory of a process and its descendants, from /proc. */
#define _GNU_SOURCE
#include "agent.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 256

static bool read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, size - 1);

    if (fd >= 0)
        close(fd);
    text[len > 0 ? len : 0] = '\0';
    return len > 0;
}

/* utime, stime, cutime and cstime are four numbers, the twelfth after the name and on. */
static double own_cpu(pid_t pid)
{
    char path[64], text[1024];
    unsigned long long ticks[4];
    const char *p;
    int field;

    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    if (!read_text(path, text, sizeof text))
        return 0;
    p = strrchr(text, ')');
    for (field = 0; p != NULL && field < 12; field++)
        p = strchr(p + 1, ' ');
    if (p == NULL || sscanf(p, "%llu %llu %llu %llu", &ticks[0], &ticks[1], &ticks[2],
                            &ticks[3]) != 4)
        return 0;
    return (double)(ticks[0] + ticks[1] + ticks[2] + ticks[3]) / (double)sysconf(_SC_CLK_TCK);
}

static size_t add_listed(pid_t *pids, size_t count, const char *list)
{
    char *end;
    long pid;

    while (count < MOST && (pid = strtol(list, &end, 10)) > 0) {
        pids[count++] = (pid_t)pid;
        list = end;
    }
    return count;
}

/* Each thread has a list of the processes that it has started. */
static size_t add_children(pid_t *pids, size_t count, pid_t pid)
{
    char path[96], text[4096];
    struct dirent *entry;
    DIR *threads;

    snprintf(path, sizeof path, "/proc/%ld/task", (long)pid);
    threads = opendir(path);
    while (threads != NULL && (entry = readdir(threads)) != NULL) {
        long thread = strtol(entry->d_name, NULL, 10);
        snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", (long)pid, thread);
        if (thread > 0 && read_text(path, text, sizeof text))
            count = add_listed(pids, count, text);
    }
    if (threads != NULL)
        closedir(threads);
    return count;
}

static double own_memory(pid_t pid)
{
    char path[64], text[256];
    unsigned long pages = 0;

    snprintf(path, sizeof path, "/proc/%ld/statm", (long)pid);
    if (!read_text(path, text, sizeof text) || sscanf(text, "%*u %lu", &pages) != 1)
        return 0;
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double sum(pid_t root, double (*of)(pid_t))
{
    pid_t pids[MOST] = {root};
    size_t count = 1, i;
    double all = 0;

    for (i = 0; i < count; i++) {
        all += of(pids[i]);
        count = add_children(pids, count, pids[i]);
    }
    return all;
}

double tree_cpu(pid_t root)
{
    return sum(root, own_cpu);
}

double tree_memory(pid_t root)
{
    return sum(root, own_memory);
}
