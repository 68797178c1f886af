/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls.c - let the n-th matching call of a process fail, or be its last; to be preloaded.
 *
 * CHAOS_CALL is "operation number how times path": the `number`-th call of
 * `operation` on a path that contains `path`, and `times` - 1 after it. `how`
 * is an errno, or -1 to die before the call, or -2 to die after it. The first
 * hit makes the file CHAOS_HIT.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    char operation[32], path[200];
    int number, how, times;
} fault;
static int seen;

__attribute__((constructor)) static void read_fault(void)
{
    const char *text = getenv("CHAOS_CALL");

    if (text == NULL
        || sscanf(text, "%31s %d %d %d %199[^\n]", fault.operation, &fault.number, &fault.how,
                  &fault.times, fault.path) != 5)
        fault.operation[0] = '\0';
}

static void tell(void)
{
    const char *name = getenv("CHAOS_HIT");

    if (name != NULL) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

        syscall(SYS_close, fd);
    }
}

/* Is this a call that fails? Errno is set if so; the result of `after` is whether to die after it. */
static int fails(const char *operation, const char *path, int *after)
{
    int number;

    *after = 0;
    if (strcmp(operation, fault.operation) != 0 || path == NULL || strstr(path, fault.path) == NULL)
        return 0;
    number = __sync_add_and_fetch(&seen, 1);
    if (number < fault.number || number >= fault.number + fault.times)
        return 0;
    tell();
    if (fault.how == -1)
        kill(getpid(), SIGKILL);
    *after = fault.how == -2;
    errno = fault.how;
    return fault.how > 0;
}

static const char *path_at(int at, const char *name, char *buffer)
{
    char link[64];
    ssize_t length;

    if (name != NULL && name[0] == '/')
        return name;
    if (at == AT_FDCWD) {
        if (getcwd(buffer, PATH_MAX) == NULL)
            return name;
        length = (ssize_t)strlen(buffer);
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        length = readlink(link, buffer, PATH_MAX);
        if (length < 0)
            return name;
    }
    snprintf(buffer + length, PATH_MAX, "%s%s", name != NULL ? "/" : "", name != NULL ? name : "");
    return buffer;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Do `call` unless it is to fail. */
#define THROUGH(OPERATION, AT, NAME, TYPE, CALL)                                                   \
    do {                                                                                           \
        char buffer[2 * PATH_MAX + 8];                                                             \
        int after;                                                                                 \
        TYPE result;                                                                               \
        if (fault.operation[0] == '\0')                                                            \
            return CALL;                                                                           \
        if (fails(OPERATION, path_at(AT, NAME, buffer), &after))                                   \
            return -1;                                                                             \
        result = CALL;                                                                             \
        if (after)                                                                                 \
            kill(getpid(), SIGKILL);                                                               \
        return result;                                                                             \
    } while (0)

#define OPEN(function, at_parameter, at)                                                           \
    int function(at_parameter const char *name, int flags, ...)                                    \
    {                                                                                              \
        va_list more;                                                                              \
        mode_t mode;                                                                               \
        va_start(more, flags);                                                                     \
        mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;                         \
        va_end(more);                                                                              \
        THROUGH("open", at, name, int, OPEN_CALL_##function);                                      \
    }
#define OPEN_CALL_open REAL(open)(name, flags, mode)
#define OPEN_CALL_open64 REAL(open64)(name, flags, mode)
#define OPEN_CALL_openat REAL(openat)(folder, name, flags, mode)
#define OPEN_CALL_openat64 REAL(openat64)(folder, name, flags, mode)
#define NOTHING
#define FOLDER int folder,
OPEN(open, NOTHING, AT_FDCWD)
OPEN(open64, NOTHING, AT_FDCWD)
OPEN(openat, FOLDER, folder)
OPEN(openat64, FOLDER, folder)

ssize_t write(int fd, const void *data, size_t size)
{
    THROUGH("write", fd, NULL, ssize_t, REAL(write)(fd, data, size));
}

ssize_t copy_file_range(int in, off64_t *at, int out, off64_t *to, size_t size, unsigned flags)
{
    THROUGH("write", out, NULL, ssize_t, REAL(copy_file_range)(in, at, out, to, size, flags));
}

int fsync(int fd)
{
    THROUGH("fsync", fd, NULL, int, REAL(fsync)(fd));
}

int mkdir(const char *name, mode_t mode)
{
    THROUGH("mkdir", AT_FDCWD, name, int, REAL(mkdir)(name, mode));
}

int rename(const char *old, const char *new)
{
    THROUGH("rename", AT_FDCWD, new, int, REAL(rename)(old, new));
}

int unlink(const char *name)
{
    THROUGH("unlink", AT_FDCWD, name, int, REAL(unlink)(name));
}

int unlinkat(int folder, const char *name, int flags)
{
    THROUGH("unlink", folder, name, int, REAL(unlinkat)(folder, name, flags));
}
