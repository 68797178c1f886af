/* SPDX-License-Identifier: Apache-2.0 */
/* read.c - the one door for files that somebody else writes (B7). */
#define _GNU_SOURCE
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static ssize_t read_some(int fd, char *buffer, size_t size)
{
    ssize_t got;

    do
        got = read(fd, buffer, size);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

/* Read to the end. The size may have grown since fstat: one byte more than fits tells. */
static ssize_t read_all(int fd, char *buffer, size_t size)
{
    size_t len = 0;
    ssize_t got;
    char more;

    while (len < size && (got = read_some(fd, buffer + len, size - len)) != 0) {
        if (got < 0)
            return got;
        len += (size_t)got;
    }
    if (len == size && read_some(fd, &more, 1) > 0)
        return -EFBIG;
    return (ssize_t)len;
}

static ssize_t read_regular(int fd, char *buffer, size_t size)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if (st.st_size > (off_t)size)
        return -EFBIG;
    return read_all(fd, buffer, size);
}

ssize_t wire_read(int dirfd, const char *name, char *buffer, size_t size)
{
    int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    ssize_t result;

    if (fd < 0)
        return -errno;
    result = read_regular(fd, buffer, size);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* vboxsf would show it again if the new one is not younger */
    close(fd);
    return result;
}
