/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.c - files from the share into the working directory, and results back.
 * A child does it: copying and syncing gigabytes may take minutes, and the
 * heartbeat must not wait for it. While the child lives it holds the share,
 * so that `prepare` finds it busy.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PART ".part" /* the temporary name; a name of the task's own has no point in front */
#define BUFFER_SIZE (1 << 20)
#define STDERR_MAX 65536
#define NO_ROOM 2 /* exit statuses of the child */
#define TORN 3

static char *failure; /* shared with the child */

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(failure, MESSAGE_SIZE, format, arguments);
    va_end(arguments);
    _exit(1);
}

/* Writing into the share has failed. */
static void fail_writing(const char *name, int error) __attribute__((noreturn));

static void fail_writing(const char *name, int error)
{
    snprintf(failure, MESSAGE_SIZE, "cannot write %s: %s", name, strerror(error));
    _exit(is_want_of_room(error) ? NO_ROOM : 1);
}

/* Not more than there was: the program may write faster than we copy. */
static int copy_bytes(int from, int to, off_t size)
{
    static char buffer[BUFFER_SIZE];
    ssize_t got, put, written;

    for (; size > 0; size -= got) {
        got = read(from, buffer, size < BUFFER_SIZE ? (size_t)size : BUFFER_SIZE);
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        for (put = 0; put < got; put += written)
            if ((written = write(to, buffer + put, (size_t)(got - put))) < 0)
                return -errno;
    }
    return 0;
}

/* Fill the temporary file in `dirfd`. */
static int write_part(int from, int dirfd, mode_t mode, bool sync)
{
    struct stat st;
    int to, error;

    if (fstat(from, &st) != 0)
        return -errno;
    unlinkat(dirfd, PART, 0);
    to = openat(dirfd, PART, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return -errno;
    error = copy_bytes(from, to, st.st_size);
    if (error == 0 && (fchmod(to, mode) != 0 || (sync && fsync(to) != 0)))
        error = -errno;
    if (close(to) != 0 && error == 0)
        error = -errno;
    return error;
}

/* Bring an open file to `name` in `dirfd`, whole or not at all. */
static int place(int from, int dirfd, const char *name, mode_t mode, bool sync)
{
    int error = write_part(from, dirfd, mode, sync);

    if (error == 0 && renameat(dirfd, PART, dirfd, name) != 0)
        error = -errno;
    if (error != 0)
        unlinkat(dirfd, PART, 0);
    return error;
}

/* Open a regular file; returns a descriptor or a negative errno. Never waits for a pipe. */
static int open_regular(int dirfd, const char *name, int flags)
{
    int fd = openat(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
    struct stat st;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    close(fd);
    return -EINVAL;
}

static int open_dir(int dirfd, const char *name)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        fail("cannot open %s: %s", name, strerror(errno));
    return fd;
}

static void fetch_one(int in, const char *name, int to, const char *as, mode_t mode)
{
    int from = open_regular(in, name, O_NOFOLLOW), error = from;

    if (from >= 0) {
        error = place(from, to, as, mode, false);
        close(from);
    }
    if (error < 0)
        fail("cannot fetch in/%s: %s", name, strerror(-error));
}

static void fetch_packages(int in, int work, const struct list *packages)
{
    char hidden[WIRE_TEXT_MAX];
    int folder;
    size_t i;

    if (packages->count == 0)
        return;
    mkdirat(work, PACKAGES, 0755);
    folder = open_dir(work, PACKAGES);
    for (i = 0; i < packages->count; i++) {
        snprintf(hidden, sizeof hidden, ".%s", packages->items[i]);
        fetch_one(in, packages->items[i], folder, hidden, 0644);
    }
}

static void fetch(const struct agent *agent)
{
    const struct task *task = &agent->task;
    int in = open_dir(open_dir(AT_FDCWD, agent->options.host), "in");
    int work = open_dir(AT_FDCWD, agent->options.work);
    size_t i;

    for (i = 0; i < task->inputs.count; i++)
        fetch_one(in, task->inputs.items[i], work, task->inputs.items[i], 0644);
    if (task->path == NULL)
        fetch_one(in, task->argv.items[0], work, task->argv.items[0], 0755);
    fetch_packages(in, work, &task->packages);
}

/* An output that is not there is for the host to judge. */
static void collect_one(int work, int out, const char *name)
{
    int from = open_regular(work, name, 0), error;
    char path[300];

    if (from < 0) {
        say("no output %s: %s", name, strerror(-from));
        return;
    }
    error = place(from, out, name, 0644, true);
    if (error != 0) {
        snprintf(path, sizeof path, "out/%s", name);
        fail_writing(path, -error);
    }
    close(from);
}

static int make_dir(int guest, const char *name)
{
    if (mkdirat(guest, name, 0755) != 0 && errno != EEXIST)
        fail_writing(name, errno);
    return open_dir(guest, name);
}

static int open_out(int guest)
{
    return make_dir(guest, "out");
}

static void sync_out(int out)
{
    int error = wire_sync_folder(out);

    if (error != 0)
        fail_writing("out", -error);
}

static void collect_outputs(const struct task *task, int work, int guest)
{
    int out = open_out(guest);
    size_t i;

    for (i = 0; i < task->outputs.count; i++)
        collect_one(work, out, task->outputs.items[i]);
    sync_out(out);
}

static void collect_stderr(const struct task *task, int work, int guest)
{
    static char tail[STDERR_MAX];
    int from = open_regular(work, task_stderr(task), 0), error;
    off_t size = from < 0 ? 0 : lseek(from, 0, SEEK_END);
    ssize_t len = pread(from, tail, sizeof tail, size > STDERR_MAX ? size - STDERR_MAX : 0);

    error = wire_publish(guest, "stderr", tail, len > 0 ? (size_t)len : 0, false);
    if (error != 0)
        fail_writing("stderr", -error);
}

static void collect(const struct agent *agent)
{
    int work = open_dir(AT_FDCWD, agent->options.work);
    int guest = open_dir(AT_FDCWD, agent->options.guest);

    collect_outputs(&agent->task, work, guest);
    collect_stderr(&agent->task, work, guest);
    /* The machine of a later task goes on with this disk, and this one just ends. */
    sync_machine(agent);
}

static const char *uploaded; /* the child's copy of our memory has it too */

static void upload(const struct agent *agent)
{
    int guest = open_dir(AT_FDCWD, agent->options.guest);
    int work = open_dir(AT_FDCWD, agent->options.work), out = open_out(guest);

    collect_one(work, out, uploaded);
    sync_out(out);
}

static bool is_later(const struct timespec *one, const struct timespec *other)
{
    return one->tv_sec != other->tv_sec ? one->tv_sec > other->tv_sec
                                        : one->tv_nsec > other->tv_nsec;
}

/*
 * Is it as it was when the program said that its state was saved? The time
 * of the inode tells of each write and each rename, and nobody can set it. An
 * output may have grown: how much of it counts stands in the program's state.
 */
static bool is_whole(const struct stat *before, const struct stat *after, const struct stat *word,
                     bool may_grow)
{
    if (before->st_dev != after->st_dev || before->st_ino != after->st_ino)
        return false;
    if (may_grow)
        return after->st_size >= before->st_size;
    return before->st_size == after->st_size && !is_later(&after->st_ctim, &word->st_ctim);
}

static void save_one(const struct task *task, int work, int saved, const char *name,
                     const struct stat *word)
{
    int from = open_regular(work, name, 0), error;
    struct stat before, after;
    char path[300];

    if (from < 0 || fstat(from, &before) != 0)
        fail("the program's state is not kept: cannot open %s: %s", name,
             strerror(from < 0 ? -from : errno));
    error = place(from, saved, name, 0644, false);
    if (error != 0) {
        snprintf(path, sizeof path, "saved/%s", name);
        fail_writing(path, -error);
    }
    if (fstatat(work, name, &after, 0) != 0
        || !is_whole(&before, &after, word, list_has(&task->outputs, name))) {
        snprintf(failure, MESSAGE_SIZE,
                 "the program's state is not kept: %s has changed before it was copied", name);
        _exit(TORN);
    }
    close(from);
}

static void save(const struct agent *agent)
{
    const struct list *files = &agent->task.checkpoint_files;
    int work = open_dir(AT_FDCWD, agent->options.work);
    int saved = make_dir(open_dir(AT_FDCWD, agent->options.guest), "saved");
    struct stat word;
    size_t i;

    if (fstatat(open_dir(AT_FDCWD, agent->options.spool), "checkpoint", &word, 0) != 0)
        _exit(TORN);
    for (i = 0; i < files->count; i++)
        save_one(&agent->task, work, saved, files->items[i], &word);
}

static void be_child(pid_t parent)
{
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static pid_t start(void (*work)(const struct agent *), const struct agent *agent)
{
    pid_t parent = getpid(), pid;

    if (failure == NULL)
        failure = mmap(NULL, MESSAGE_SIZE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (failure == MAP_FAILED)
        abort();
    failure[0] = '\0';
    pid = fork();
    if (pid != 0)
        return pid;
    be_child(parent);
    work(agent);
    _exit(0);
}

pid_t copy_fetch(const struct agent *agent)
{
    return start(fetch, agent);
}

pid_t copy_collect(const struct agent *agent)
{
    return start(collect, agent);
}

pid_t copy_upload(const struct agent *agent, const char *name)
{
    uploaded = name;
    return start(upload, agent);
}

pid_t copy_saved(const struct agent *agent)
{
    return start(save, agent);
}

bool is_want_of_room(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EIO;
}

bool copy_had_no_room(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == NO_ROOM;
}

bool copy_was_torn(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == TORN;
}

const char *copy_failure(int status)
{
    if (status == 0)
        return NULL;
    return failure[0] != '\0' ? failure : "the process that copies files was killed";
}
