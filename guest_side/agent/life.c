/* SPDX-License-Identifier: Apache-2.0 */
/* life.c - from booting to finished: one step is a look around and what follows from it. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK "/dev/vmbridge_disk" /* for a moment */

static void enter(struct agent *agent, enum phase phase)
{
    agent->status.changed |= status_differs(agent->phase, phase);
    agent->phase = phase;
}

static void stop_copier(struct agent *agent)
{
    if (agent->copier > 0)
        kill(agent->copier, SIGKILL);
    agent->copier = 0; /* its end is nobody's business now */
}

static void stop_saver(struct agent *agent)
{
    if (agent->saver > 0)
        kill(agent->saver, SIGKILL);
    agent->saver = 0;
}

static void stop_installer(struct agent *agent)
{
    if (agent->installer > 0)
        kill(-agent->installer, SIGKILL);
    agent->installer = 0;
}

void life_fail(struct agent *agent, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(agent->status.message, sizeof agent->status.message, format, arguments);
    va_end(arguments);
    say("%s", agent->status.message);
    stop_copier(agent);
    stop_saver(agent);
    stop_installer(agent);
    program_end(&agent->program, milliseconds(), 0);
    enter(agent, FAILED);
    agent->status.changed = true;
}

/* -------------------------------------------------------------- task ---- */

/* The child that the phase is about has been started, or -1. */
static void begin(struct agent *agent, pid_t *child, pid_t pid, enum phase phase)
{
    *child = pid;
    if (pid < 0)
        life_fail(agent, "cannot start a process: %s", strerror(errno));
    else
        enter(agent, phase);
}

static void begin_to_fetch(struct agent *agent)
{
    const char *refusal = packages_refusal(&agent->options, &agent->task.packages);

    if (refusal != NULL)
        life_fail(agent, "%s", refusal);
    else
        begin(agent, &agent->copier, copy_fetch(agent), FETCHING);
}

static void task_look(struct agent *agent, int64_t now)
{
    static struct watch watch;
    int rule = 0;

    if (!watch_look(&watch, agent->options.host, "task", now, false))
        return;
    if (task_decode(&agent->task, watch.bytes, watch.whole, &rule) == WIRE_OK) {
        begin_to_fetch(agent);
    } else if (!command_other_version(agent, &watch, rule)) {
        life_fail(agent, "task breaks R%d", rule);
    }
}

/* ---------------------------------------------------------- packages ---- */

static void tell(struct agent *agent, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void tell(struct agent *agent, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(agent->status.message, sizeof agent->status.message, format, arguments);
    va_end(arguments);
    agent->status.changed = true;
}

static void install_next(struct agent *agent)
{
    const struct list *packages = &agent->task.packages;
    const char *name = packages->count > 0 ? packages->items[agent->installed] : NULL; /* NULL after the last one */

    if (name != NULL) {
        tell(agent, "installing %s", name);
        begin(agent, &agent->installer, package_install(&agent->options, name), INSTALLING);
        return;
    }
    if (agent->phase == INSTALLING)
        tell(agent, "%s", "");
    enter(agent, READY);
}

/* The program has ended: the last one goes first, for it may need the others. */
static void remove_next(struct agent *agent)
{
    const struct options *options = &agent->options;
    const struct list *packages = &agent->task.packages;

    if (agent->installed > 0) {
        begin(agent, &agent->installer, package_remove(options, packages->items[agent->installed - 1]), REMOVING);
        return;
    }
    if (packages->count > 0)
        packages_end(options);
    enter(agent, ENDED);
}

/* What the program has computed is not lost for a package that does not want to go. */
static void judge_installer(struct agent *agent, int status)
{
    const char *failure = package_failure(&agent->options, status);
    const char *name = agent->task.packages.items[agent->installed - (agent->phase == REMOVING)];

    agent->installer = 0;
    if (agent->phase == INSTALLING && failure != NULL) {
        life_fail(agent, "installing the package %s %s", name, failure);
    } else if (agent->phase == INSTALLING) {
        agent->installed++;
        install_next(agent);
    } else {
        if (failure != NULL) {
            tell(agent, "removing the package %s %s", name, failure);
            say("%s", agent->status.message);
        }
        agent->installed--;
        remove_next(agent);
    }
}

/* ----------------------------------------------------------- program ---- */

/* One that has rested goes on where it was; else it begins. */
static void start_program(struct agent *agent)
{
    bool rested = agent->phase == RESTING;

    mirror_begin(&agent->options);
    numbered_begin(&agent->options);
    init_data_bring(&agent->options);
    saved_begin(&agent->options);
    client_begin(agent);
    if (program_start(&agent->program, &agent->options, &agent->task, rested))
        enter(agent, RUNNING);
    else
        remove_next(agent);
}

/* What it has saved is still carried to the host: it is what it goes on from. */
static void begin_rest(struct agent *agent)
{
    saved_look(agent);
    mirror_credit();
    enter(agent, RESTING);
}

/* The state that is on its way is finished first: the program will write the next one. */
static void end_rest(struct agent *agent)
{
    if (!rest_is_over() || agent->saver > 0 || agent->leaving)
        return;
    rest_end(&agent->options);
    start_program(agent);
}

/* If we ended it no `finished` follows. */
static void judge_program(struct agent *agent, bool stopped)
{
    if (agent->phase != RUNNING)
        return;
    if (stopped) {
        stop_saver(agent);
        enter(agent, READY);
        return;
    }
    client_end(agent);
    mirror_look(&agent->options, milliseconds(), true);
    numbered_look(agent, milliseconds(), true);
    if (rest_asked(&agent->options, &agent->program)) {
        begin_rest(agent);
        return;
    }
    stop_saver(agent);
    mirror_finished(&agent->options, &agent->program);
    remove_next(agent);
}

static void wait_for_room(struct agent *agent, const char *failure)
{
    struct status *status = &agent->status;

    if (agent->collect_tries == 1) {
        say("%s; waiting for room", failure);
        snprintf(status->message, sizeof status->message, "%s", failure);
        status->changed = true;
    }
    agent->collect_at = milliseconds() + COLLECT_EVERY;
    enter(agent, ENDED);
}

static void judge_copier(struct agent *agent, int status)
{
    const char *failure = copy_failure(status);

    agent->copier = 0;
    if (copy_had_no_room(status) && ++agent->collect_tries < COLLECT_TRIES) {
        wait_for_room(agent, failure);
    } else if (failure != NULL) {
        life_fail(agent, "%s", failure);
    } else if (agent->phase == FETCHING) {
        install_next(agent);
    } else {
        mirror_credit();
        enter(agent, REPORTING);
    }
}

/* That a file cannot be uploaded early is no reason to end: it is tried again at the end. */
static void judge_uploader(struct agent *agent, int status)
{
    const char *failure = copy_failure(status);

    agent->uploader = 0;
    if (failure != NULL)
        say("%s", failure);
    numbered_copied();
}

static void judge_first_boot(struct agent *agent, int status)
{
    const char *failure = first_boot_failure(status);

    agent->first_boot = 0;
    if (failure != NULL)
        life_fail(agent, "%s", failure);
    else if (agent->phase == FIRST_BOOT)
        enter(agent, BOOTING);
}

void life_child(struct agent *agent, pid_t pid, int status, double cpu_seconds)
{
    bool stopped = agent->program.kill_at != 0;

    if (pid == agent->program.pid) {
        program_ended(&agent->program, status, cpu_seconds);
        judge_program(agent, stopped);
    } else if (pid == agent->copier) {
        judge_copier(agent, status);
    } else if (pid == agent->uploader) {
        judge_uploader(agent, status);
    } else if (pid == agent->saver) {
        agent->saver = 0;
        saved_copied(agent, status);
    } else if (pid == agent->first_boot) {
        judge_first_boot(agent, status);
    } else if (pid == agent->installer) {
        judge_installer(agent, status);
    }
}

static void publish_finished(struct agent *agent)
{
    const struct program *program = &agent->program;
    char buffer[2048];
    struct wire_writer writer;
    int error;

    wire_begin(&writer, buffer, sizeof buffer);
    wire_put_integer(&writer, "code", program->code);
    if (program->message[0] != '\0')
        wire_put_text(&writer, "message", program->message);
    error = publish_in(agent->options.guest, "finished", &writer, true);
    if (is_want_of_room(-error))
        return; /* the next step tries again */
    if (error != 0)
        life_fail(agent, "cannot write finished: %s", strerror(-error));
    else
        enter(agent, DONE);
}

/* ---------------------------------------------------------- commands ---- */

static void settle(struct agent *agent)
{
    struct status *status = &agent->status;

    status->ack_before = status->ack;
    agent->settled = status->ack = agent->command.seq;
    status->message[0] = '\0';
    status->changed = true;
}

/*
 * On a file system without a journal sync() flushes the disk's cache and then
 * writes inodes and folders: these lie in the cache, of which QEMU has a part
 * in its own memory, and it is killed when a job ends. To sync the disk as a
 * device is to write what is left and to flush then. Without a disk there is
 * no such device.
 */
static void flush_disk(const char *folder)
{
    struct stat st;
    int disk;

    if (stat(folder, &st) != 0 || mknod(DISK, S_IFBLK | 0600, st.st_dev) != 0)
        return;
    disk = open(DISK, O_RDONLY | O_CLOEXEC);
    unlink(DISK);
    if (disk >= 0) {
        fsync(disk);
        close(disk);
    }
}

void sync_machine(const struct agent *agent)
{
    if (!agent->options.machine)
        return;
    sync();
    flush_disk(agent->options.work);
}

static void want_run(struct agent *agent)
{
    if (agent->phase == READY && agent->installed < agent->task.packages.count)
        begin_to_fetch(agent); /* `stop` came when they had been removed */
    else if (agent->phase == READY)
        start_program(agent);
    if (agent->phase >= RUNNING && agent->program.kill_at == 0)
        settle(agent);
}

/* The program's state is on its way: it is finished first. */
static void want_prepare(struct agent *agent)
{
    if (agent->saver > 0)
        return;
    if (agent->phase == RUNNING)
        mirror_credit(); /* the state that is saved should know what it took */
    sync_machine(agent);
    agent->leaving = agent->options.machine;
    settle(agent);
}

static void want_save(struct agent *agent)
{
    struct status *status = &agent->status;

    if (agent->phase == RUNNING && agent->program.kill_at == 0
        && agent->task.checkpoint_files.count > 0) {
        if (saved_asked(agent))
            settle(agent);
        return;
    }
    /* One that rests has saved what it has: that is to be there. */
    if (agent->phase == RESTING && agent->task.checkpoint_files.count > 0 && saved_pending(agent))
        return;
    if (agent->phase == RESTING && saved_carried()) {
        settle(agent);
        return;
    }
    snprintf(status->message, sizeof status->message, "there is no program that could save its state");
    agent->settled = status->refused = agent->command.seq;
    status->changed = true;
}

static void want_stop(struct agent *agent, int64_t now)
{
    program_end(&agent->program, now, client_quit());
    if (agent->program.pid != 0 || agent->installer != 0 || agent->phase == FIRST_BOOT || agent->phase == FETCHING)
        return;
    if (agent->phase == RESTING) {
        stop_saver(agent);
        rest_end(&agent->options);
        enter(agent, READY);
    }
    if (agent->phase == ENDED || agent->phase == COLLECTING || agent->phase == REPORTING) {
        stop_copier(agent);
        enter(agent, READY);
    }
    sync_machine(agent);
    settle(agent);
}

static void pursue_command(struct agent *agent, int64_t now)
{
    if (agent->command.seq <= agent->settled || agent->phase == FAILED)
        return;
    switch (agent->command.state) {
    case WANT_RUN: want_run(agent); break;
    case WANT_PREPARE: want_prepare(agent); break;
    case WANT_SAVE: want_save(agent); break;
    case WANT_STOP: want_stop(agent, now); break;
    }
}

/* ----------------------------------------------------------- exports ---- */

static void refuse(struct agent *agent, int error)
{
    struct status *status = &agent->status;

    snprintf(status->message, sizeof status->message, "cannot let go of the exports: %s",
             strerror(-error));
    say("%s", status->message);
    status->refused = agent->settled;
    status->ack = status->ack_before;
    status->changed = true;
}

static int64_t away_for(const struct agent *agent)
{
    int64_t wanted = (int64_t)(agent->command.away * 1000);

    return wanted > AWAY_AT_LEAST ? wanted : AWAY_AT_LEAST;
}

/* The acknowledgement lies in the share: leave when it is written. */
static void leave(struct agent *agent, int64_t now)
{
    int error;

    if (!agent->leaving || agent->status.changed)
        return;
    agent->leaving = false;
    error = exports_release(&agent->options);
    if (error != 0)
        refuse(agent, error);
    agent->away = true;
    agent->back_at = error != 0 ? now : now + away_for(agent);
}

/* The folder may be a new and empty one (B14): say everything again. */
static void come_back(struct agent *agent, int64_t now)
{
    if (!agent->away || now < agent->back_at || !exports_mount(&agent->options))
        return;
    agent->away = false;
    agent->status.changed |= agent->status.heartbeat > 0;
    mirror_again();
    numbered_again();
    saved_again(&agent->options);
    rest_again();
    if (agent->phase == COLLECTING || agent->phase == REPORTING || agent->phase == DONE) {
        stop_copier(agent);
        enter(agent, ENDED);
    }
}

/* -------------------------------------------------------------- step ---- */

/* Nothing that holds the share is begun when a checkpoint of the machine is coming. */
static bool may_copy(const struct agent *agent)
{
    bool comes = agent->command.state == WANT_PREPARE && agent->command.seq > agent->settled;

    return (agent->phase == RUNNING || agent->phase == RESTING) && agent->task.checkpoint_files.count > 0
        && agent->uploader <= 0 && !comes && !agent->leaving;
}

static void step_with_share(struct agent *agent, int64_t now)
{
    struct options *options = &agent->options;
    bool told;

    command_look(agent, now);
    if (agent->phase == BOOTING)
        task_look(agent, now);
    status_publish(agent, now); /* `ready`, before a start that may take a while */
    pursue_command(agent, now);
    if (agent->phase == RESTING)
        end_rest(agent);
    if (agent->phase == ENDED && agent->uploader <= 0 && now >= agent->collect_at)
        begin(agent, &agent->copier, copy_collect(agent), COLLECTING);
    told = mirror_publish(options, now, program_cpu(&agent->program, now));
    told = numbered_publish(agent, now) && told;
    saved_publish(agent, now, may_copy(agent));
    if (agent->phase == REPORTING && told)
        publish_finished(agent);
    if (agent->phase == RESTING && told)
        rest_publish(options);
    status_publish(agent, now);
    leave(agent, now);
}

/* A local agent ends when its last status is out, or cannot be. */
static int exit_status(const struct agent *agent)
{
    bool told = !agent->status.changed || agent->status.failed;

    if (agent->quitting && agent->program.pid == 0)
        return 128 + SIGTERM;
    if (agent->options.machine || agent->program.pid != 0 || !told)
        return -1;
    return agent->phase == DONE ? 0 : agent->phase == FAILED ? 1 : -1;
}

static void begin_first_boot(struct agent *agent)
{
    agent->first_boot = agent->options.machine ? first_boot_start() : 0;
    agent->phase = agent->first_boot > 0 ? FIRST_BOOT : BOOTING;
    if (agent->first_boot < 0)
        life_fail(agent, "cannot start a process: %s", strerror(errno));
}

void life_begin(struct agent *agent)
{
    agent->away = agent->options.machine;
    begin_first_boot(agent);
    agent->status.beat = milliseconds() + LOOK_EVERY; /* mostly it is ready by then, and that is its first word */
}

int life_patience(const struct agent *agent)
{
    int64_t left;

    if (!agent->away)
        return LOOK_EVERY;
    left = agent->back_at - milliseconds();
    return left < RETURN_EVERY ? RETURN_EVERY : (int)left;
}

static void look_in_spool(struct agent *agent, int64_t now)
{
    client_look(agent, now);
    mirror_look(&agent->options, now, false);
    numbered_look(agent, now, false);
    saved_look(agent);
}

int life_step(struct agent *agent)
{
    int64_t now = milliseconds();

    come_back(agent, now);
    if (agent->phase == RUNNING)
        look_in_spool(agent, now);
    if (agent->quitting) {
        program_end(&agent->program, now, client_quit());
        stop_installer(agent);
    }
    program_press(&agent->program, now);
    if (!agent->away)
        step_with_share(agent, now);
    return exit_status(agent);
}
