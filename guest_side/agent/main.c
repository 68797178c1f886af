/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the command line, the signals, and the loop. */
#define _GNU_SOURCE
#include "../machine/machine.h"
#include "../shell/boinc_guest.h"
#include "agent.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char usage[] =
    "usage: agent [--machine] --host DIR --guest DIR --work DIR --spool DIR\n"
    "\n"
    "Run the task that the host left in a share, and report about it.\n"
    "\n"
    "  --host DIR   what the host says: command, task, in/\n"
    "  --guest DIR  what we say: status, reports, finished, out/\n"
    "  --work DIR   the program's working directory (made if missing)\n"
    "  --spool DIR  where the program leaves its reports (made if missing)\n"
    "  --machine    this is a virtual machine of ours: mount the exports\n"
    "               vmbridge_host and vmbridge_guest at --host and --guest,\n"
    "               give them up for checkpoints, set the clock, never exit\n"
    "  --help       this text\n"
    "\n"
    "Without --machine the exit status is 0 when `finished` is written, 1 when\n"
    "the task could not be run, 2 for a wrong command line. SIGTERM ends the\n"
    "program, with SIGKILL after 5 seconds, and then the agent with 143.\n";

static void give_up(const char *what, const char *name)
{
    say("%s%s", what, name);
    exit(2);
}

static void make_folders(char *path)
{
    char *slash;

    for (slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
    mkdir(path, 0755);
}

/* The program gets these paths and has another working directory: make them absolute. */
static const char *make_absolute(char *path)
{
    char *absolute;

    make_folders(path);
    absolute = realpath(path, NULL);
    if (absolute == NULL)
        give_up("cannot make the folder ", path);
    return absolute;
}

static void parse(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        {"machine", no_argument, NULL, 'm'}, {"host", required_argument, NULL, 'h'},
        {"guest", required_argument, NULL, 'g'}, {"work", required_argument, NULL, 'w'},
        {"spool", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'H'},
        {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
        switch (option) {
        case 'm': options->machine = true; break;
        case 'h': options->host = optarg; break;
        case 'g': options->guest = optarg; break;
        case 'w': options->work = make_absolute(optarg); break;
        case 's': options->spool = make_absolute(optarg); break;
        case 'H': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
    if (optind < argc)
        give_up("unknown argument ", argv[optind]);
    if (!options->host || !options->guest || !options->work || !options->spool)
        give_up("--host, --guest, --work and --spool are needed", "");
}

static int open_signals(void)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        give_up("cannot take signals: ", strerror(errno));
    return fd;
}

/* Orphans come to us when we are the first process. */
static void reap(struct agent *agent)
{
    struct rusage used;
    int status;
    pid_t pid;

    while ((pid = wait4(-1, &status, WNOHANG, &used)) > 0)
        life_child(agent, pid, status,
                   (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
                       + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
}

static void take_signals(struct agent *agent, int fd)
{
    struct signalfd_siginfo signal;

    while (read(fd, &signal, sizeof signal) == (ssize_t)sizeof signal)
        if (signal.ssi_signo != SIGCHLD)
            agent->quitting = true;
    reap(agent);
}

/* Sleep until a child or the spool has something new, or until it is time to look around. */
static void wait_for_news(struct agent *agent, int signals, int spool)
{
    static int64_t deaf_until;
    struct pollfd news[] = {{.fd = signals, .events = POLLIN}, {.fd = spool, .events = POLLIN}};

    if (milliseconds() < deaf_until)
        news[1].fd = -1; /* poll passes it over */
    poll(news, 2, life_patience(agent));
    take_signals(agent, signals);
    if (news[1].fd >= 0 && (news[1].revents & POLLIN)) {
        spool_drain(spool);
        deaf_until = milliseconds() + LOOK_EVERY;
    }
}

int main(int argc, char **argv)
{
    static struct agent agent;
    int signals, spool, status;

    if (strcmp(program_invocation_short_name, BOINC_GUEST) == 0)
        return boinc_guest(argc, argv);
    parse(argc, argv, &agent.options);
    signals = open_signals();
    spool = spool_watch(&agent.options);
    life_begin(&agent);
    while ((status = life_step(&agent)) < 0)
        wait_for_news(&agent, signals, spool);
    switch_off();
    return status;
}
