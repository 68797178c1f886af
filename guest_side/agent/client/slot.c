/* SPDX-License-Identifier: Apache-2.0 */
/* slot.c - the working directory as the slot of a client: what the program finds there, and what it writes. */
#define _GNU_SOURCE
#include "client.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#define LOCK_FILE "boinc_lockfile"
#define INIT_DATA_FILE "init_data.xml"
#define CHANNELS_FILE "boinc_mmap_file"
#define STDERR_FILE "stderr.txt"
#define DEFAULT_PERIOD 300 /* seconds; BOINC's own */

/*
 * Our word that the program has saved its state comes up to a second and a half after the program's. The next state must
 * not have been begun by then, or files of both would be taken for one.
 */
#define LEAST_PERIOD 3

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* ------------------------------------------------------------ its files -- */

/* The task's own files are not ours to touch. */
static bool is_the_tasks(const struct task *task, const char *name)
{
    const struct list *lists[] = {&task->inputs, &task->outputs, &task->checkpoint_files};
    const char *streams[] = {task->argv.items[0], task->stdin_name, task_stdout(task), task_stderr(task)};
    size_t i;

    for (i = 0; i < COUNT(lists); i++)
        if (list_has(lists[i], name))
            return true;
    for (i = 0; i < COUNT(streams); i++)
        if (streams[i] != NULL && strcmp(streams[i], name) == 0)
            return true;
    return false;
}

static void path_of(char path[PATH_MAX], const struct options *options, const char *name)
{
    snprintf(path, PATH_MAX, "%s/%s", options->work, name);
}

bool slot_has(const struct options *options, const char *name)
{
    char path[PATH_MAX];

    path_of(path, options, name);
    return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool slot_is_taken(const struct options *options)
{
    return slot_has(options, LOCK_FILE);
}

const char *slot_read(const struct options *options, const char *name)
{
    static char text[WIRE_FILE_MAX + 1];
    ssize_t len = read_in(options->work, name, text, WIRE_FILE_MAX);

    if (len < 0 || memchr(text, '\0', (size_t)len) != NULL)
        return NULL;
    text[len] = '\0';
    return text;
}

void slot_remove(const struct options *options, const char *name)
{
    char path[PATH_MAX];

    path_of(path, options, name);
    unlink(path);
}

/* In two steps, because a name may be too long to be a temporary one with something added. */
bool slot_write(const struct options *options, const char *name, const char *text)
{
    struct wire_writer file = {(char *)(uintptr_t)text, strlen(text), strlen(text), false};
    char part[PATH_MAX], path[PATH_MAX];
    int error = publish_in(options->work, ".boinc", &file, false);

    path_of(part, options, ".boinc");
    path_of(path, options, name);
    if (error == 0 && rename(part, path) != 0) {
        error = -errno;
        unlink(part);
    }
    if (error != 0)
        say("cannot write %s: %s", name, strerror(-error));
    return error == 0;
}

/* What an earlier program has left would be taken for this one's. */
static bool is_of_an_earlier_start(const char *name)
{
    static const char *const names[] = {LOCK_FILE, "boinc_finish_called", "boinc_temporary_exit", "trickle_up.xml"};
    static const char *const beginnings[] = {"boinc_ufr_", "boinc_ufs_", "trickle_down_"};
    size_t i;

    for (i = 0; i < COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    for (i = 0; i < COUNT(beginnings); i++)
        if (strncmp(name, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    return false;
}

static void sweep(const struct agent *agent)
{
    DIR *dir = opendir(agent->options.work);
    struct dirent *entry;

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL)
        if (is_of_an_earlier_start(entry->d_name) && !is_the_tasks(&agent->task, entry->d_name))
            unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}

/* ---------------------------------------------------------- init_data.xml -- */

/*
 * The tags in the client's order, one a line, because old libraries read
 * lines. What the protocol knows has the same names there and its values have
 * the same form; `own` says that the host's word does not count.
 */
struct tag {
    const char *name;
    const char *otherwise; /* NULL: left out if nothing is known */
    bool own;
};

static const struct tag tags[] = {
    {.name = "major_version", .otherwise = "7"}, {.name = "minor_version", .otherwise = "20"},
    {.name = "release", .otherwise = "5"}, {.name = "app_version", .otherwise = "0"},
    {.name = "userid", .otherwise = "0", .own = true}, {.name = "teamid", .otherwise = "0", .own = true},
    {.name = "hostid", .otherwise = "0", .own = true}, {.name = "app_name"}, {.name = "project_dir", .own = true},
    {.name = "boinc_dir", .own = true}, {.name = "wu_name"}, {.name = "result_name"},
    {.name = "shm_key", .otherwise = "-1", .own = true}, /* channels are in the file */
    {.name = "slot", .otherwise = "0", .own = true}, {.name = "client_pid", .own = true},
    {.name = "wu_cpu_time", .otherwise = "0"}, {.name = "starting_elapsed_time", .otherwise = "0"},
    {.name = "using_sandbox", .otherwise = "0", .own = true},
    {.name = "vm_extensions_disabled", .otherwise = "0", .own = true},
    {.name = "resource_share_fraction", .otherwise = "1"}, {.name = "checkpoint_period", .own = true},
    {.name = "fraction_done_start", .otherwise = "0", .own = true}, /* the host scales, and once is enough */
    {.name = "fraction_done_end", .otherwise = "1", .own = true},
    {.name = "gpu_device_num", .otherwise = "-1", .own = true},
    {.name = "gpu_opencl_dev_index", .otherwise = "-1", .own = true},
    {.name = "gpu_usage", .otherwise = "0", .own = true}, {.name = "ncpus"}, {.name = "rsc_fpops_est"},
    {.name = "rsc_fpops_bound"}, {.name = "rsc_memory_bound"}, {.name = "rsc_disk_bound"},
    {.name = "computation_deadline"}, {.name = "vbox_window", .otherwise = "0", .own = true},
    {.name = "host_info", .otherwise = "", .own = true}, /* and what follows is in it */
    {.name = "timezone", .otherwise = "0", .own = true}, {.name = "p_ncpus", .own = true}, {.name = "p_fpops"},
    {.name = "p_iops"}, {.name = "m_nbytes", .own = true}, {.name = "d_total", .own = true},
    {.name = "d_free", .own = true}, {.name = "os_name", .own = true}, {.name = "os_version", .own = true},
};

struct value {
    bool known;
    char text[WIRE_TEXT_MAX + 1];
};

static struct value values[COUNT(tags)];

/* Its place in the tables; COUNT(tags) if it is none. */
static size_t find(const char *name)
{
    size_t i = 0;

    while (i < COUNT(tags) && strcmp(tags[i].name, name) != 0)
        i++;
    return i;
}

static void set(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void set(const char *name, const char *format, ...)
{
    struct value *value = &values[find(name)];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(value->text, sizeof value->text, format, arguments);
    va_end(arguments);
    value->known = true;
}

static void forget_all(void)
{
    size_t i;

    for (i = 0; i < COUNT(tags); i++) {
        values[i].known = tags[i].otherwise != NULL;
        snprintf(values[i].text, sizeof values[i].text, "%s", values[i].known ? tags[i].otherwise : "");
    }
}

static void take(void *user, const struct wire_value *value)
{
    size_t i = find(value->key);

    (void)user;
    if (i < COUNT(tags) && !tags[i].own)
        set(value->key, "%.*s", (int)value->len, value->text);
}

/* init_data_bring has left it in the spool, if it breaks no rule. */
static void know_the_job(const struct options *options)
{
    static char bytes[WIRE_FILE_MAX];
    const char *name = wire_kind_name(WIRE_INIT_DATA);
    ssize_t len = read_in(options->spool, name, bytes, sizeof bytes);
    int rule;

    if (len > 0)
        wire_decode(WIRE_INIT_DATA, bytes, (size_t)len, take, NULL, &rule);
}

static void know_the_machine(const struct options *options)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct utsname system;
    struct statvfs disk;

    set("project_dir", "%s", options->work);
    set("boinc_dir", "%s", options->work);
    set("client_pid", "%ld", (long)getpid());
    set("ncpus", "%ld", cpus > 0 ? cpus : 1);
    set("p_ncpus", "%ld", cpus > 0 ? cpus : 1);
    set("m_nbytes", "%.0f", (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE));
    if (statvfs(options->work, &disk) == 0) {
        set("d_total", "%.0f", (double)disk.f_blocks * (double)disk.f_frsize);
        set("d_free", "%.0f", (double)disk.f_bavail * (double)disk.f_frsize);
    }
    if (uname(&system) == 0) {
        set("os_name", "%s", system.sysname);
        set("os_version", "%s", system.release);
    }
}

static double period_of(const struct task *task)
{
    double period = task->checkpoint_period < 0 ? DEFAULT_PERIOD : task->checkpoint_period;

    return period < LEAST_PERIOD ? LEAST_PERIOD : period;
}

static void write_init_data(const struct options *options)
{
    static char text[WIRE_FILE_MAX];
    size_t len = (size_t)sprintf(text, "<app_init_data>\n"), i;

    for (i = 0; i < COUNT(tags); i++) {
        const char *name = tags[i].name, *value = values[i].text;
        if (strcmp(name, "host_info") == 0)
            len += (size_t)sprintf(text + len, "<host_info>\n");
        else if (values[i].known && strpbrk(value, "<>") == NULL) /* the client does not escape them either */
            len += (size_t)sprintf(text + len, "<%s>%s</%s>\n", name, value, name);
    }
    sprintf(text + len, "</host_info>\n</app_init_data>\n");
    slot_write(options, INIT_DATA_FILE, text);
}

/* ---------------------------------------------------------------- begin -- */

/* A file of this name that is no link stays. */
static void lay_link(const struct agent *agent, const char *name, const char *target)
{
    char path[PATH_MAX], old[2];

    path_of(path, &agent->options, name);
    if (is_the_tasks(&agent->task, name))
        return;
    if (readlink(path, old, sizeof old) >= 0)
        unlink(path);
    if (symlink(target, path) != 0 && errno != EEXIST)
        say("cannot make the link %s: %s", name, strerror(errno));
}

/* In the spool, which is in memory: a program that writes there ten times a second must not keep a disk awake. */
static void offer_channels(const struct agent *agent)
{
    char target[PATH_MAX];

    snprintf(target, sizeof target, "%s/." CHANNELS_FILE, agent->options.spool);
    if (channels_make(target))
        lay_link(agent, CHANNELS_FILE, target);
    else
        say("cannot make " CHANNELS_FILE ": %s", strerror(errno));
}

double slot_prepare(const struct agent *agent, double before)
{
    const char *counted = values[find("wu_cpu_time")].text;

    sweep(agent);
    forget_all();
    know_the_machine(&agent->options);
    know_the_job(&agent->options);
    set("wu_cpu_time", "%f", strtod(counted, NULL) + before);
    set("checkpoint_period", "%f", period_of(&agent->task));
    if (!is_the_tasks(&agent->task, INIT_DATA_FILE))
        write_init_data(&agent->options);
    offer_channels(agent);
    lay_link(agent, STDERR_FILE, task_stderr(&agent->task));
    return strtod(counted, NULL); /* as the program will read it */
}
