/* SPDX-License-Identifier: Apache-2.0 */
/* publish.c - replace a file whole (B2). */
#define _GNU_SOURCE
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAME_LONGEST 64

/* The process id keeps two processes of one program from mixing their bytes. */
static int temporary_name(char *out, size_t size, const char *name)
{
    if (strlen(name) > NAME_LONGEST)
        return -EINVAL;
    snprintf(out, size, ".%s.%ld", name, (long)getpid());
    return 0;
}

static int write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t written = write(fd, bytes, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        bytes += written;
        len -= (size_t)written;
    }
    return 0;
}

static int retry_fsync(int fd)
{
    int failed;

    do
        failed = fsync(fd);
    while (failed && errno == EINTR);
    return failed ? -errno : 0;
}

int wire_sync_folder(int dirfd)
{
    int error = retry_fsync(dirfd);

    return error == -EINVAL ? 0 : error; /* vboxsf can sync no folder: it tells the host at once */
}

/* O_EXCL: whatever lies under the temporary name is not written through. */
static int create(int dirfd, const char *temporary)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, fd;

    do
        fd = openat(dirfd, temporary, flags, 0644);
    while (fd < 0 && (errno == EINTR
                      || (errno == EEXIST && unlinkat(dirfd, temporary, 0) == 0)));
    return fd < 0 ? -errno : fd;
}

static int write_temporary(int dirfd, const char *temporary, const char *bytes, size_t len,
                           bool sync)
{
    int fd = create(dirfd, temporary), error;

    if (fd < 0)
        return fd;
    error = write_all(fd, bytes, len);
    if (error == 0 && sync)
        error = retry_fsync(fd);
    if (close(fd) != 0 && error == 0 && errno != EINTR)
        error = -errno;
    return error;
}

int wire_publish(int dirfd, const char *name, const char *bytes, size_t len, bool sync)
{
    char temporary[NAME_LONGEST + 32];
    int error = temporary_name(temporary, sizeof temporary, name);

    if (error != 0)
        return error;
    error = write_temporary(dirfd, temporary, bytes, len, sync);
    if (error == 0 && renameat(dirfd, temporary, dirfd, name) != 0)
        error = -errno;
    if (error != 0) {
        unlinkat(dirfd, temporary, 0);
        return error;
    }
    return sync ? wire_sync_folder(dirfd) : 0;
}
