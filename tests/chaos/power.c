/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power.c - keep a journal of what a process has changed below a folder and not made durable; to be preloaded.
 *
 * POWER_ROOT is the folder, POWER_JOURNAL the file to which a line is added for
 * each change of a name, each write and each sync (power.py reads it), and
 * POWER_GRAVES a folder, on the same file system, in which a file that loses
 * its name gets another. What lies in POWER_ROOT/shared is left out: it is
 * made anew at each start.
 *
 * A line is written when its change is done, so a process that dies in between
 * has at most changed more than the journal knows, as a disk may.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define PATH_SIZE (2 * PATH_MAX + 8)

static const char *root, *graves, *journal;
static long lines;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void)
{
    char buffer[4096];
    ssize_t got;
    int fd;

    root = getenv("POWER_ROOT");
    graves = getenv("POWER_GRAVES");
    if (root == NULL || graves == NULL || (journal = getenv("POWER_JOURNAL")) == NULL)
        return;
    fd = (int)syscall(SYS_openat, AT_FDCWD, journal, O_CREAT | O_RDONLY | O_CLOEXEC, 0644);
    while ((got = syscall(SYS_read, fd, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < got; i++)
            lines += buffer[i] == '\n';
    syscall(SYS_close, fd);
}

/* Opened for each line: the bridge closes what it did not open itself. */
__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
    char line[3 * PATH_SIZE];
    int kept = errno, length, fd;
    va_list more;

    va_start(more, format);
    length = vsnprintf(line, sizeof line, format, more);
    va_end(more);
    fd = (int)syscall(SYS_openat, AT_FDCWD, journal, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (length < (int)sizeof line && syscall(SYS_write, fd, line, (size_t)length) == length)
        lines++;
    syscall(SYS_close, fd);
    errno = kept;
}

/* Write the absolute path of `name` in `at` (NULL: of `at` itself) into `path`; return whether it is ours to watch. */
static int watched(int at, const char *name, char *path)
{
    char link[64];
    size_t skip;
    ssize_t length;
    int kept = errno;

    if (journal == NULL)
        return 0;
    if (name != NULL && name[0] == '/') {
        snprintf(path, PATH_SIZE, "%s", name);
    } else {
        snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
        length = readlink(link, path, PATH_MAX);
        errno = kept;
        if (length < 0)
            return 0;
        snprintf(path + length, PATH_MAX, "%s%s", name != NULL ? "/" : "", name != NULL ? name : "");
    }
    skip = strlen(root);
    return strncmp(path, root, skip) == 0 && (path[skip] == '/' || path[skip] == '\0')
           && strncmp(path + skip, "/shared/", 8) != 0 && strchr(path, '\n') == NULL;
}

static ino_t inode(const char *path)
{
    struct stat found;
    int kept = errno;
    ino_t number = fstatat(AT_FDCWD, path, &found, AT_SYMLINK_NOFOLLOW) == 0 ? found.st_ino : 0;

    errno = kept;
    return number;
}

/* Give the file at `path` a second name, which is written into `grave`; "-" if there is none. */
static void bury(const char *path, char *grave)
{
    static int number;
    int kept = errno;

    do
        snprintf(grave, PATH_SIZE, "%s/%d", graves, number++);
    while (syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, grave, 0) != 0 && errno == EEXIST);
    if (inode(path) == 0 || inode(grave) != inode(path))
        strcpy(grave, "-");
    errno = kept;
}

/* Names */

static void opened(const char *path, int fd, int flags, ino_t before)
{
    struct stat now;

    if (fd < 0 || fstat(fd, &now) != 0)
        return;
    if (before == 0 && (flags & O_CREAT))
        note("made\t%lu\t%s\n", (unsigned long)now.st_ino, path);
    else if (flags & O_TRUNC)
        note("data\t%lu\t0\t%s\n", (unsigned long)now.st_ino, path);
}

#define OPEN(function, at_parameter, at, ...)                                                                \
    int function(at_parameter const char *name, int flags, ...)                                              \
    {                                                                                                        \
        char path[PATH_SIZE];                                                                                \
        ino_t before;                                                                                        \
        va_list more;                                                                                        \
        mode_t mode;                                                                                         \
        int fd;                                                                                              \
        va_start(more, flags);                                                                               \
        mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;                                   \
        va_end(more);                                                                                        \
        if (!(flags & (O_CREAT | O_TRUNC)) || !watched(at, name, path))                                      \
            return REAL(function)(__VA_ARGS__ name, flags, mode);                                            \
        pthread_mutex_lock(&lock);                                                                           \
        before = inode(path);                                                                                \
        fd = REAL(function)(__VA_ARGS__ name, flags, mode);                                                  \
        opened(path, fd, flags, before);                                                                     \
        pthread_mutex_unlock(&lock);                                                                         \
        return fd;                                                                                           \
    }
#define NOTHING
#define FOLDER int folder,
OPEN(open, NOTHING, AT_FDCWD, )
OPEN(open64, NOTHING, AT_FDCWD, )
OPEN(openat, FOLDER, folder, folder, )
OPEN(openat64, FOLDER, folder, folder, )

/* Do CALL, which changes PATH, and add the line that ... is if it worked. PREPARE comes before. */
#define CHANGE(AT, NAME, PREPARE, CALL, ...)                                                                 \
    do {                                                                                                     \
        char path[PATH_SIZE], grave[PATH_SIZE] = "-";                                                        \
        ino_t number;                                                                                        \
        int result;                                                                                          \
        if (!watched(AT, NAME, path))                                                                        \
            return CALL;                                                                                     \
        pthread_mutex_lock(&lock);                                                                           \
        PREPARE;                                                                                             \
        number = inode(path);                                                                                \
        result = CALL;                                                                                       \
        if (result == 0)                                                                                     \
            note(__VA_ARGS__);                                                                               \
        pthread_mutex_unlock(&lock);                                                                         \
        (void)number, (void)grave;                                                                           \
        return result;                                                                                       \
    } while (0)

int mkdir(const char *name, mode_t mode)
{
    CHANGE(AT_FDCWD, name, , REAL(mkdir)(name, mode), "mkdir\t%s\n", path);
}

int mkdirat(int folder, const char *name, mode_t mode)
{
    CHANGE(folder, name, , REAL(mkdirat)(folder, name, mode), "mkdir\t%s\n", path);
}

int rmdir(const char *name)
{
    CHANGE(AT_FDCWD, name, , REAL(rmdir)(name), "rmdir\t%s\n", path);
}

int unlink(const char *name)
{
    CHANGE(AT_FDCWD, name, bury(path, grave), REAL(unlink)(name), "gone\t%lu\t%s\t%s\n", (unsigned long)number, path,
           grave);
}

int unlinkat(int folder, const char *name, int flags)
{
    if (flags & AT_REMOVEDIR)
        CHANGE(folder, name, , REAL(unlinkat)(folder, name, flags), "rmdir\t%s\n", path);
    CHANGE(folder, name, bury(path, grave), REAL(unlinkat)(folder, name, flags), "gone\t%lu\t%s\t%s\n",
           (unsigned long)number, path, grave);
}

int link(const char *old, const char *new)
{
    CHANGE(AT_FDCWD, new, , REAL(link)(old, new), "made\t%lu\t%s\n", (unsigned long)inode(path), path);
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    CHANGE(to, new, , REAL(linkat)(from, old, to, new, flags), "made\t%lu\t%s\n", (unsigned long)inode(path), path);
}

int renameat(int from, const char *old, int to, const char *new)
{
    char source[PATH_SIZE];

    watched(from, old, source);
    CHANGE(to, new, bury(path, grave), REAL(renameat)(from, old, to, new), "moved\t%lu\t%s\t%s\t%s\n",
           (unsigned long)inode(path), source, path, grave);
}

int rename(const char *old, const char *new)
{
    return renameat(AT_FDCWD, old, AT_FDCWD, new);
}

/* Data; `size` is what is left of what was there */

static void wrote(int fd, off_t left)
{
    char path[PATH_SIZE];
    struct stat now;

    if (!watched(fd, NULL, path) || fstat(fd, &now) != 0 || !S_ISREG(now.st_mode))
        return;
    pthread_mutex_lock(&lock);
    note("data\t%lu\t%ld\t%s\n", (unsigned long)now.st_ino, (long)left, path);
    pthread_mutex_unlock(&lock);
}

#define WRITE(LEFT, TYPE, CALL)                                                                              \
    do {                                                                                                     \
        TYPE result = CALL;                                                                                  \
        if (result >= 0)                                                                                     \
            wrote(fd, LEFT);                                                                                 \
        return result;                                                                                       \
    } while (0)

ssize_t write(int fd, const void *data, size_t size)
{
    WRITE(LONG_MAX, ssize_t, REAL(write)(fd, data, size));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    WRITE(LONG_MAX, ssize_t, REAL(pwrite64)(fd, data, size, at));
}

ssize_t copy_file_range(int in, off64_t *at, int fd, off64_t *to, size_t size, unsigned flags)
{
    WRITE(LONG_MAX, ssize_t, REAL(copy_file_range)(in, at, fd, to, size, flags));
}

ssize_t sendfile64(int fd, int in, off64_t *at, size_t size)
{
    WRITE(LONG_MAX, ssize_t, REAL(sendfile64)(fd, in, at, size));
}

int ftruncate64(int fd, off64_t size)
{
    WRITE(size, int, REAL(ftruncate64)(fd, size));
}

/* Syncs; what was journaled before the call is durable after it */

static int sync_by(int (*real)(int), int fd)
{
    char path[PATH_SIZE];
    struct stat before;
    long upto = lines;
    int result;

    if (!watched(fd, NULL, path) || fstat(fd, &before) != 0)
        return real(fd);
    result = real(fd);
    if (result == 0) {
        pthread_mutex_lock(&lock);
        if (S_ISDIR(before.st_mode))
            note("names\t%ld\t%s\n", upto, path);
        else
            note("sync\t%lu\t%ld\t%ld\t%s\n", (unsigned long)before.st_ino, (long)before.st_size, upto, path);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

int fsync(int fd)
{
    return sync_by(REAL(fsync), fd);
}

int fdatasync(int fd)
{
    return sync_by(REAL(fdatasync), fd);
}
