/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.h - the guest agent: runs the task of a virtual machine and speaks
 * for it (docs/PROTOCOL.md, the guest's part).
 *
 * One process, one loop. It looks around twice a second, for nothing tells
 * what the host has written, and when the spool has changed. Whatever may take
 * long (copying) is done by a child, so that the heartbeat never waits. Paths are
 * opened anew for each use: a descriptor into the share would hold it at a
 * checkpoint of the machine.
 *
 *   main.c     command line, signals, the loop
 *   life.c     from booting to finished; what to do next
 *   command.c  what the host wants (B13, B16)
 *   exports.c  the two mounts, given up for a checkpoint and taken back
 *   first_boot.c  the image's own script, once, before all else
 *   package.c  what is installed for the task and removed after it (B22)
 *   tool.c     a program of the guest's own, in a child
 *   task.c     the message `task`
 *   init_data.c  what the client knows of the job, for the program
 *   copy.c     files into the working directory and out of it, in a child
 *   program.c  the science program: start, CPU time, end
 *   spool.c    notices of changes in the spool
 *   mirror.c   reports of the program -> share (B6, B18, B20)
 *   rest.c     a program that is to be started again later (B23)
 *   numbered.c trickles and uploads, both ways (B15)
 *   saved.c    the program's own state -> share (B21)
 *   client/    the BOINC client, for programs that were made for it
 *   status.c   state and heartbeat (B12)
 *   watch.c    a file that somebody else writes (B3, B5)
 *   say.c      the clock and the console
 */
#ifndef VMBRIDGE_AGENT_H
#define VMBRIDGE_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../wire/wire.h"

#define AGENT_NAME "vmbridge-agent 0.1"
#define LOOK_EVERY 500 /* milliseconds, as all times here: B8 */
#define BEAT_EVERY 9000 /* B12, with a second to spare */
#define GRACE 1000 /* B3 */
#define AWAY_AT_LEAST 300 /* B13, prepare */
#define RETURN_EVERY 50 /* then try to come back so often */
#define PLAIN_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define PACKAGES ".packages" /* in the working directory; a name of the task's own has no point in front */
#define KILL_AFTER 5000 /* B13, stop */
#define MESSAGE_SIZE (WIRE_TEXT_MAX + 1)

/* B6, twice a second: a file may be published when the last but one publication is a second ago. */
struct pace {
    int64_t last, before; /* 0: there was none */
};

#define PACE 1000

/* `now` is when the step began, which may have been a while ago. */
static inline bool pace_allows(const struct pace *pace, int64_t now)
{
    return pace->before == 0 || now - pace->before >= PACE;
}

/* `now` is taken when the publication is out, so that however late a step is no two come too close. */
static inline void pace_note(struct pace *pace, int64_t now)
{
    pace->before = pace->last;
    pace->last = now;
}

/* ------------------------------------------------------------- watch.c -- */

/* A file that somebody else writes, and what was last seen in it. */
struct watch {
    const char *name;
    char bytes[WIRE_FILE_MAX + 1]; /* room for the newline that B3 adds */
    size_t len; /* as it was read */
    size_t whole; /* with its last newline, once watch_look has returned true */
    int64_t since; /* unchanged since then */
    bool taken;
    int error; /* reported already */
};

/* Begin anew; all zero, as a static variable is, will do too. */
void watch_forget(struct watch *watch);

/*
 * Read the file `name` again, which must always be the same. Returns true once for each new content, when it is
 * complete: `bytes` and `whole` then hold it, with its last newline. With
 * `over` nobody writes any more and it is complete as it stands.
 */
bool watch_look(struct watch *watch, const char *folder, const char *name, int64_t now,
                bool over);

/* Read in a folder given by its path, as wire_read does. */
ssize_t read_in(const char *folder, const char *name, char *buffer, size_t size);

/* Publish in a folder given by its path. Returns 0 or a negative errno. */
int publish_in(const char *folder, const char *name, const struct wire_writer *file, bool sync);

/* -------------------------------------------------------------- task.c -- */

struct list {
    char **items; /* ends with NULL */
    size_t count;
};

struct task {
    struct list argv; /* the program is the first */
    struct list env;
    struct list inputs;
    struct list outputs;
    struct list checkpoint_files;
    struct list packages;
    char *path; /* where the program lies in the guest; NULL: it is fetched */
    char *stdin_name, *stdout_name, *stderr_name; /* NULL: not named */
    double checkpoint_period; /* negative: not named */
};

/* Decode; the task is filled, with memory of its own, only for WIRE_OK. */
enum wire_status task_decode(struct task *task, const char *bytes, size_t len, int *rule);

/* Does the list hold this name? */
bool list_has(const struct list *list, const char *name);

/* The file in the working directory that holds the standard output or error. */
const char *task_stdout(const struct task *task);
const char *task_stderr(const struct task *task);

/* ------------------------------------------------------------- the agent -- */

struct options {
    bool machine;
    const char *host, *guest, *work, *spool;
};

struct command {
    int64_t seq; /* 0: none yet */
    enum { WANT_RUN, WANT_PREPARE, WANT_SAVE, WANT_STOP } state;
    double time; /* 0: not named */
    double away; /* seconds; 0: not named */
};

enum phase {
    FIRST_BOOT, /* the image's script runs */
    BOOTING, /* no task yet */
    FETCHING,
    INSTALLING, /* the task's packages */
    READY,
    RUNNING,
    RESTING, /* the program has ended and is started again by us */
    REMOVING, /* the packages */
    ENDED, /* waits for the share, to collect */
    COLLECTING,
    REPORTING, /* the last reports, then `finished` */
    DONE,
    FAILED
};

struct program {
    pid_t pid; /* 0: none */
    double cpu_seconds;
    int64_t count_at; /* when its CPU time is counted again */
    int64_t term_at; /* when it gets SIGTERM */
    int64_t kill_at; /* 0: not asked to end */
    int code; /* how it ended */
    char message[MESSAGE_SIZE]; /* empty if it exited by itself */
};

struct status {
    bool changed;
    bool failed; /* the last attempt to write it */
    struct pace pace;
    int64_t beat; /* at the latest */
    int64_t heartbeat, ack, refused;
    int64_t ack_before; /* the acknowledgement that a refusal goes back to */
    char message[MESSAGE_SIZE];
};

/*
 * Results for which there is no room in the share wait: milliseconds between
 * two tries, and how many there are before the task has failed. The host's
 * disk may be full for an hour, but a result may also be larger than any disk.
 */
#define COLLECT_EVERY 2000
#define COLLECT_TRIES 1800

struct agent {
    struct options options;
    enum phase phase;
    struct task task;
    struct command command;
    int64_t settled; /* the last seq that was obeyed or refused */
    bool leaving; /* `prepare` is acknowledged, the exports are to go */
    bool away; /* the exports are not mounted */
    int64_t back_at;
    bool quitting; /* SIGTERM */
    pid_t first_boot;
    pid_t installer; /* or remover */
    size_t installed; /* so many of the task's packages, the first ones */
    pid_t copier;
    pid_t uploader; /* copies one output */
    pid_t saver; /* copies the program's state; of these three only one at a time is at work */
    int64_t collect_at; /* not before */
    int collect_tries;
    struct program program;
    struct status status;
};

int64_t milliseconds(void);

/* Write one line to standard error, which is the console in a machine. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* -------------------------------------------------------------- life.c -- */

/* Make everything ready for the first step. */
void life_begin(struct agent *agent);

/* Look around and do what is due. Returns the exit status once there is one, else -1. */
int life_step(struct agent *agent);

/* How long the loop may sleep until something is due. */
int life_patience(const struct agent *agent);

/* A child has ended; `status` is of wait(2). */
void life_child(struct agent *agent, pid_t pid, int status, double cpu_seconds);

/* The task cannot be run at all: end everything and say `state error`. */
void life_fail(struct agent *agent, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Make the machine's disk durable. In a process of the volunteer's own system it is not ours to sync all disks. */
void sync_machine(const struct agent *agent);

/* ----------------------------------------------------------- command.c -- */

/* Read `command`; a new one is left in agent->command. */
void command_look(struct agent *agent, int64_t now);

/* Is this a file of another version? Then the agent has failed by B16. */
bool command_other_version(struct agent *agent, const struct watch *watch, int rule);

/* ----------------------------------------------------------- exports.c -- */

/* Mount what is not mounted. Returns true when both exports are there. */
bool exports_mount(const struct options *options);

/* Unmount both; 0, or a negative errno, and then exports_mount has to bring back what went. */
int exports_release(const struct options *options);

/* --------------------------------------------------------- init_data.c -- */

/* A program starts: put what the host says about the job into the spool, and nothing if it says nothing. */
void init_data_bring(const struct options *options);

/* -------------------------------------------------------- first_boot.c -- */

/*
 * Start the image's script /etc/vmbridge/first-boot. Returns 0 if there is
 * none or it has done its work on this disk, and -1 if it cannot be started.
 */
pid_t first_boot_start(void);

/*
 * Its end, from its wait status: remember that it has done its work, and
 * return NULL; or why it has failed, with the end of what it said.
 */
const char *first_boot_failure(int status);

/* -------------------------------------------------------------- tool.c -- */

/*
 * Start a program of the guest's own, which dies with us, in a session of its
 * own; all it says goes into the file `log`. Returns -1 if it cannot be started.
 */
pid_t tool_start(const char *log, char *const argv[]);

/* How it failed, from its wait status: in words, with the end of the log; NULL if it did not. */
const char *tool_failure(int status, const char *log);

/* ----------------------------------------------------------- package.c -- */

/* Why one of the packages cannot be installed here, as far as its name tells; NULL if nothing is known against them. */
const char *packages_refusal(const struct options *options, const struct list *packages);

/*
 * Start to install a package, which lies in the folder PACKAGES as .NAME, or
 * to remove one that was installed. Returns -1 if no process can be started.
 */
pid_t package_install(const struct options *options, const char *name);
pid_t package_remove(const struct options *options, const char *name);

/* How the last of these has failed, from its wait status; NULL if it did not. */
const char *package_failure(const struct options *options, int status);

/* All are removed: nothing is to remind of them. */
void packages_end(const struct options *options);

/* In the child that will be the program: have it find what is installed. */
void packages_environment(const struct options *options, const struct list *packages);

/* ------------------------------------------------------------- shell.c -- */

/* In the child that will be the program: have it find the command boinc-guest, which knows of no program before it. */
void shell_offer(const struct options *options);

/* -------------------------------------------------------------- copy.c -- */

/* Start the child that fetches the program and its inputs, or that collects the outputs. */
pid_t copy_fetch(const struct agent *agent);
pid_t copy_collect(const struct agent *agent);

/* Start the child that copies one output, whole and synced, into out/. */
pid_t copy_upload(const struct agent *agent, const char *name);

/*
 * Start the child that copies the program's state, whole, into saved/. What
 * may have changed since the program's word, or while it was copied, is torn.
 */
pid_t copy_saved(const struct agent *agent);

/* Why the last child failed, from its wait status; NULL if it did not. */
const char *copy_failure(int status);

/* Did it fail for want of room in the share? Then it may be tried again. */
bool copy_had_no_room(int status);

/* Was what it copied changed meanwhile? */
bool copy_was_torn(int status);

/* The errors of writing into the share that are the host's trouble, and pass. */
bool is_want_of_room(int error);

/* ----------------------------------------------------------- program.c -- */

/*
 * Start it. If that fails its end is recorded as any other end; returns
 * whether it runs. With `again` it goes on: its streams are not emptied.
 */
bool program_start(struct program *program, const struct options *options,
                   const struct task *task, bool again);

/*
 * Have it end, by SIGTERM if it has not done so by itself in `patience`
 * milliseconds; program_press kills it when it takes too long. Both may be
 * repeated.
 */
void program_end(struct program *program, int64_t now, int64_t patience);
void program_press(struct program *program, int64_t now);

/* Record how it ended; what it left running in its session is killed. */
void program_ended(struct program *program, int status, double cpu_seconds);

/* Its CPU time so far, never less than before. */
double program_cpu(struct program *program, int64_t now);

/* --------------------------------------------------------------- cpu.c -- */

/*
 * The CPU time in seconds, so far, of a process and all that it has started
 * and that still live or were waited for; of at most 256 processes.
 */
double tree_cpu(pid_t root);

/* The memory in bytes that they have at present; what they share counts for each. */
double tree_memory(pid_t root);

/* ------------------------------------------------------------- spool.c -- */

/*
 * Open a descriptor that polls readable when something in the spool (in a
 * machine also in /tmp, B20) has changed, or return -1: the looks of the loop
 * must then do.
 */
int spool_watch(const struct options *options);

/* Forget all changes up to now. */
void spool_drain(int fd);

/* ------------------------------------------------------------ mirror.c -- */

/* Forget all reports and delete those that an earlier program left. */
void mirror_begin(const struct options *options);

/* Look for new reports; with `over` nobody writes any more. */
void mirror_look(const struct options *options, int64_t now, bool over);

/* Publish what is due. Returns true when nothing is left. */
bool mirror_publish(const struct options *options, int64_t now, double cpu_seconds);

/* Publish everything again (B14), or only the creditreport with its CPU time. */
void mirror_again(void);
void mirror_credit(void);

/* How many checkpoints the program says it has taken, 0 for none, and its CPU time at the last one, if it said that. */
int64_t mirror_checkpoint(double *cpu_seconds);

/* B18: take code and message from the spool's `finished` if they go with the program's end. */
void mirror_finished(const struct options *options, struct program *program);

/* -------------------------------------------------------------- rest.c -- */

/*
 * The program has ended, and mirror_look has seen its last reports: has it
 * asked to be started again later? Then the rest has begun. Where it has asked
 * too often, that is recorded as its end.
 */
bool rest_asked(const struct options *options, struct program *program);

bool rest_is_over(void);

/* Say in the share that there is a rest, if that is not said yet; what is said is how much of it is left. */
void rest_publish(const struct options *options);

/* Publish it again (B14). */
void rest_again(void);

/* The program starts, or never will: take it back. */
void rest_end(const struct options *options);

/* ---------------------------------------------------------- numbered.c -- */

/* A program starts: forget what an earlier one left in the spool. */
void numbered_begin(const struct options *options);

/* Take new messages from the spool; with `over` nobody writes any more. */
void numbered_look(const struct agent *agent, int64_t now, bool over);

/*
 * Publish messages in order, drop what the host has taken, bring what it says
 * to the program. Returns true when all that was taken from the spool lies in
 * the share.
 */
bool numbered_publish(struct agent *agent, int64_t now);

/* The uploader has ended. */
void numbered_copied(void);

/* Publish everything again that the host has not taken (B14). */
void numbered_again(void);

/* ------------------------------------------------------------- saved.c -- */

/* Is a state on its way, or to go? And is the newest with the host, or published? */
bool saved_pending(const struct agent *agent);
bool saved_carried(void);

/* A program starts: what an earlier one said does not count. */
void saved_begin(const struct options *options);

/* Look whether the program has taken a checkpoint; after mirror_look. */
void saved_look(const struct agent *agent);

/* Publish what was copied, begin to copy what is to be if that may be, drop what the host has taken. */
void saved_publish(struct agent *agent, int64_t now, bool may_copy);

/* The saver has ended; `status` is of wait(2). */
void saved_copied(struct agent *agent, int status);

/* The host has taken all up to this number. */
void saved_taken(int64_t highest);

/* Publish again what the host has not taken (B14). */
void saved_again(const struct options *options);

/* Ask the program to save its state, for the present command; true when that is done and published. */
bool saved_asked(struct agent *agent);

/* ----------------------------------------------------- client/client.c -- */

/* A program starts: make its working directory look like the slot of a BOINC client. After init_data_bring. */
void client_begin(const struct agent *agent);

/* Speak with the program, once it has taken the slot. What it says goes into the spool: before mirror_look. */
void client_look(const struct agent *agent, int64_t now);

/* Tell it to end. Returns how many milliseconds it may take for that; 0 if it does not listen. */
int64_t client_quit(void);

/* The program has ended: put its last words into the spool. */
void client_end(const struct agent *agent);

/* ------------------------------------------------------------ status.c -- */

/* Do the two phases have different words in the status? */
bool status_differs(enum phase one, enum phase other);

/* Publish the status if it has changed or the heart has to beat. */
void status_publish(struct agent *agent, int64_t now);

#endif
