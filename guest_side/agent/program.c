/* SPDX-License-Identifier: Apache-2.0 */
/* program.c - the science program, in a session of its own so that it ends as a whole. */
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

#define CANNOT_EXECUTE 126 /* as a shell says it */
#define NOT_FOUND 127
#define COUNT_EVERY 5000 /* milliseconds: it reads some files for each process */

/* ----------------------------------------------- in the child, before exec -- */

static int complaints; /* a pipe to the agent that closes at exec */

static void complain(const char *what, const char *name) __attribute__((noreturn));

static void complain(const char *what, const char *name)
{
    int error = errno;

    dprintf(complaints, "cannot %s %s: %s", what, name, strerror(error));
    _exit(error == ENOENT ? NOT_FOUND : CANNOT_EXECUTE);
}

static void open_as(int target, const char *name, int flags)
{
    int fd = open(name, flags, 0644);

    if (fd < 0)
        complain("open", name);
    dup2(fd, target);
    close(fd);
}

/* Two streams into one file share one position. A stream that is part of the program's state goes on. */
static void open_streams(const struct task *task, bool again)
{
    const char *out = task_stdout(task), *err = task_stderr(task);
    const struct list *kept = &task->checkpoint_files;
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;

    open_as(0, task->stdin_name != NULL ? task->stdin_name : "/dev/null", O_RDONLY | O_CLOEXEC);
    open_as(1, out, flags | (again || list_has(kept, out) ? 0 : O_TRUNC));
    if (strcmp(out, err) == 0)
        dup2(1, 2);
    else
        open_as(2, err, flags | (again || list_has(kept, err) ? 0 : O_TRUNC));
}

/* The library knows seconds without exponent: the writer's form of a number. */
static void set_period(double period)
{
    char text[64];
    struct wire_writer writer;

    unsetenv("VMBRIDGE_CHECKPOINT_PERIOD");
    if (period < 0)
        return;
    wire_begin(&writer, text, sizeof text);
    wire_put_number(&writer, "", period);
    text[writer.len - 1] = '\0';
    setenv("VMBRIDGE_CHECKPOINT_PERIOD", text, 1);
}

static void set_environment(const struct options *options, const struct task *task)
{
    size_t i;

    setenv("HOME", options->work, 1);
    setenv("PATH", PLAIN_PATH, 0);
    for (i = 0; i < task->env.count; i++)
        putenv(task->env.items[i]);
    packages_environment(options, &task->packages);
    shell_offer(options);
    setenv("VMBRIDGE_SPOOL", options->spool, 1);
    set_period(task->checkpoint_period);
}

static void become_session(pid_t parent)
{
    sigset_t none;

    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(CANNOT_EXECUTE);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void execute(const struct options *options, const struct task *task, bool again, pid_t parent)
{
    char path[300];

    if (task->path != NULL)
        task->argv.items[0] = task->path;
    become_session(parent);
    if (chdir(options->work) != 0)
        complain("enter", options->work);
    open_streams(task, again);
    set_environment(options, task);
    if (task->path != NULL) {
        execvp(task->path, task->argv.items);
        complain("execute the guest's own program", task->path);
    }
    snprintf(path, sizeof path, "./%s", task->argv.items[0]);
    execv(path, task->argv.items);
    complain("execute", task->argv.items[0]);
}

/* ------------------------------------------------------------ in the agent -- */

/* Read what the child has to say before its exec; empty if the exec went well. */
static void hear(int fd, char *out, size_t size)
{
    size_t len = 0;
    ssize_t got;

    while (len < size - 1 && (got = read(fd, out + len, size - 1 - len)) != 0)
        if (got > 0)
            len += (size_t)got;
        else if (errno != EINTR)
            break;
    out[len] = '\0';
}

static void end_unstarted(struct program *program)
{
    int status = CANNOT_EXECUTE << 8;

    waitpid(program->pid, &status, 0);
    program->code = WIFEXITED(status) ? WEXITSTATUS(status) : CANNOT_EXECUTE;
    program->pid = 0;
}

static bool end_without_process(struct program *program)
{
    program->code = CANNOT_EXECUTE;
    snprintf(program->message, sizeof program->message, "cannot start a process: %s",
             strerror(errno));
    return false;
}

bool program_start(struct program *program, const struct options *options,
                   const struct task *task, bool again)
{
    pid_t parent = getpid();
    int ends[2];

    *program = (struct program){.pid = 0};
    if (pipe2(ends, O_CLOEXEC) != 0)
        return end_without_process(program);
    program->pid = fork();
    if (program->pid == 0) {
        complaints = ends[1];
        execute(options, task, again, parent);
    }
    close(ends[1]);
    if (program->pid < 0)
        end_without_process(program);
    else
        hear(ends[0], program->message, sizeof program->message);
    close(ends[0]);
    if (program->message[0] == '\0')
        return true;
    if (program->pid > 0)
        end_unstarted(program);
    program->pid = 0;
    return false;
}

void program_end(struct program *program, int64_t now, int64_t patience)
{
    if (program->pid == 0 || program->kill_at != 0)
        return;
    program->term_at = now + patience;
    program->kill_at = program->term_at + KILL_AFTER;
    program_press(program, now);
}

void program_press(struct program *program, int64_t now)
{
    if (program->pid == 0 || program->kill_at == 0)
        return;
    if (program->term_at != 0 && now >= program->term_at) {
        kill(-program->pid, SIGTERM);
        kill(-program->pid, SIGCONT);
        program->term_at = 0;
    }
    if (now >= program->kill_at)
        kill(-program->pid, SIGKILL);
}

static void note_cpu(struct program *program, double seconds)
{
    if (seconds > program->cpu_seconds)
        program->cpu_seconds = seconds;
}

void program_ended(struct program *program, int status, double cpu_seconds)
{
    kill(-program->pid, SIGKILL);
    note_cpu(program, cpu_seconds);
    program->pid = 0;
    program->kill_at = 0;
    program->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    program->message[0] = '\0';
    if (WIFSIGNALED(status))
        snprintf(program->message, sizeof program->message, "killed by signal %d (%s)",
                 WTERMSIG(status), strsignal(WTERMSIG(status)));
}

double program_cpu(struct program *program, int64_t now)
{
    if (program->pid != 0 && now >= program->count_at) {
        program->count_at = now + COUNT_EVERY;
        note_cpu(program, tree_cpu(program->pid));
    }
    return program->cpu_seconds;
}
