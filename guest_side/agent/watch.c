/* SPDX-License-Identifier: Apache-2.0 */
/* watch.c - a file that somebody else writes. Its content decides, never its time stamps (B9). */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int open_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

ssize_t read_in(const char *folder, const char *name, char *buffer, size_t size)
{
    int dirfd = open_folder(folder);
    ssize_t len;

    if (dirfd < 0)
        return dirfd;
    len = wire_read(dirfd, name, buffer, size);
    close(dirfd);
    return len;
}

int publish_in(const char *folder, const char *name, const struct wire_writer *file, bool sync)
{
    int dirfd = open_folder(folder), error;

    if (dirfd < 0)
        return dirfd;
    error = wire_publish(dirfd, name, file->buffer, file->len, sync);
    close(dirfd);
    return error;
}

void watch_forget(struct watch *watch)
{
    memset(watch, 0, sizeof *watch);
}

static void report_once(struct watch *watch, int error)
{
    if (error == watch->error)
        return;
    watch->error = error;
    if (error == -EFBIG)
        say("%s breaks R1", watch->name);
    else if (error != 0 && error != -ENOENT)
        say("%s is not taken: %s", watch->name, strerror(-error));
}

static void note(struct watch *watch, const char *bytes, size_t len, int64_t now)
{
    if (len == watch->len && memcmp(bytes, watch->bytes, len) == 0)
        return;
    memcpy(watch->bytes, bytes, len);
    watch->len = len;
    watch->since = now;
    watch->taken = false;
}

static bool is_complete(const struct watch *watch, int64_t now, bool over)
{
    if (watch->len == 0)
        return false;
    return watch->bytes[watch->len - 1] == '\n' || over || now - watch->since >= GRACE;
}

bool watch_look(struct watch *watch, const char *folder, const char *name, int64_t now,
                bool over)
{
    static char fresh[WIRE_FILE_MAX];
    ssize_t len = read_in(folder, name, fresh, sizeof fresh);

    watch->name = name;
    report_once(watch, len < 0 ? (int)len : 0);
    if (len < 0)
        return false;
    note(watch, fresh, (size_t)len, now);
    if (watch->taken || !is_complete(watch, now, over))
        return false;
    watch->taken = true;
    watch->whole = watch->len;
    if (watch->bytes[watch->len - 1] != '\n')
        watch->bytes[watch->whole++] = '\n';
    return true;
}
