/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boinc_api.c - see boinc_api.h for what is promised.
 *
 * How a hot call stays cheap. It stores its value and looks whether the
 * thread is idle; no fence, no lock. The thread, before it sleeps without a
 * timeout, says `idle`, waits half a second more and compares once again.
 * A value that was stored just before the caller could see `idle` has long
 * left its processor's store buffer by then, so it is found; one stored
 * later wakes the thread.
 */
#define _GNU_SOURCE
#include "boinc_api.h"
#include "../wire/wire.h"
#include "init_data.h"
#include "inside.h"
#include "numbered.h"
#include "sections.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__GNUC__)
#define PUBLIC __attribute__((visibility("default")))
#define YIELDING __attribute__((weak)) /* to the same function of BOINC's libboinc, if a static program links that too */
#else
#define PUBLIC
#define YIELDING
#endif

#define ERR_WRITE (-103)
#define ERR_FOPEN (-108)
#define ERR_NULL (-116)
#define ERR_BUFFER_OVERFLOW (-118)
#define ERR_NOT_FOUND (-161)
#define ERR_INVALID_PARAM (-178)
#define VARIETY_LONGEST 255
#define NAME_LONGEST 200 /* so that names made from it are no longer than names may be */
#define NEVER INT64_MAX
#define SECOND INT64_C(1000000000) /* nanoseconds, as all times here */
#define HALF_A_SECOND (SECOND / 2)
#define LONGEST_SLEEP (7 * 86400 * SECOND)
#define DEFAULT_PERIOD 300
#define LONGEST_PERIOD 100000000 /* seconds; ten times that still fits */
#define UNSET (-1.0)
#define LONGEST_DELAY 86400 /* the client's bound, and what it takes instead of what is beyond it */
#define DEFAULT_DELAY 300

/* What the program says. Written by its threads, compared by ours. */
static _Atomic double fraction = UNSET;
static _Atomic double fpops = UNSET;
static _Atomic double intops = UNSET;

static atomic_bool idle; /* our thread wants to be woken by a change */
static atomic_bool woken; /* one has woken it */
static _Atomic uint32_t bell; /* moves when our thread shall look around */

/*
 * The one byte that boinc_time_to_checkpoint looks at: '1' if it is time. When the period is over it is `always`,
 * else the first byte of the spool's `save`, which is '1' while the host asks, or `never` where there is none.
 */
static _Atomic char always = '1', never = '0';
static _Atomic(_Atomic char *) flag = &never;

static _Atomic int64_t began = NEVER; /* when boinc_init was called */

PUBLIC bool boinc_disable_timer_thread;

/* Everything below is guarded by `lock`. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool initialized;
static struct APP_INIT_DATA init_data = {.gpu_device_num = -1, .gpu_opencl_dev_index = -1};
static bool thread_runs;
static const char *spool; /* NULL: standalone */
static bool reporting;
static int64_t period;
static int64_t least_period;
static int64_t due_at = NEVER;
static int64_t checkpoints;
static double checkpoint_cpu; /* of boinc_report_app_status */
static FUNC_PTR callback;
static int64_t callback_at = NEVER;
static _Atomic char *asked = &never; /* the byte of `save` */
static double told_fraction = UNSET, told_fpops = UNSET, told_intops = UNSET;
static double status_fraction = UNSET; /* of boinc_report_app_status, as long as `fraction` is what it was then */
static double fraction_then;

/* ------------------------------------------------------------- clocks -- */

static int64_t nanoseconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static double cpu_seconds(void)
{
    return (double)nanoseconds(CLOCK_PROCESS_CPUTIME_ID) / 1e9;
}

/* Parse seconds by hand: strtod would ask the program's locale for the point. */
static int64_t parse_period(const char *text)
{
    int64_t value = 0, unit = 1000000000;

    if (text == NULL || *text < '0' || *text > '9')
        return DEFAULT_PERIOD * unit;
    for (; *text >= '0' && *text <= '9'; text++)
        if (value < LONGEST_PERIOD * unit)
            value = value * 10 + (*text - '0') * unit;
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; text++)
            value += (*text - '0') * (unit /= 10);
    return *text == '\0' ? value : DEFAULT_PERIOD * INT64_C(1000000000);
}

/* ---------------------------------------------------------- reporting -- */

/*
 * Write one report, if there is somebody to tell; false if that fails. The folder is opened each time: without an agent it is
 * the share itself, which the host may have made anew.
 */
static bool publish(const char *name, const struct wire_writer *report)
{
    int dirfd, error;

    if (!reporting)
        return true;
    dirfd = open(spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return false;
    error = wire_publish(dirfd, name, report->buffer, report->len, false);
    close(dirfd);
    return error == 0;
}

static void publish_fraction(double value)
{
    char buffer[WIRE_NUMBER_FILE_MAX];
    struct wire_writer report;

    wire_begin(&report, buffer, sizeof buffer);
    wire_put_fraction(&report, value);
    publish("fraction_done", &report);
}

static void publish_creditreport(double fp, double integer)
{
    char buffer[256];
    struct wire_writer report;

    wire_begin(&report, buffer, sizeof buffer);
    if (fp >= 0)
        wire_put_number(&report, "fpops", fp);
    if (integer >= 0)
        wire_put_number(&report, "intops", integer);
    wire_put_number(&report, "cpu_seconds", cpu_seconds());
    publish("creditreport", &report);
}

static void publish_checkpoint(void)
{
    char buffer[256];
    struct wire_writer report;

    wire_begin(&report, buffer, sizeof buffer);
    wire_put_integer(&report, "count", checkpoints);
    wire_put_number(&report, "cpu_seconds", cpu_seconds());
    publish("checkpoint", &report);
}

static void publish_finished(int status, const char *message)
{
    char buffer[WIRE_TEXT_MAX + 64];
    struct wire_writer report;

    wire_begin(&report, buffer, sizeof buffer);
    wire_put_integer(&report, "code", status);
    if (message != NULL)
        wire_put_any(&report, "message", message);
    publish("finished", &report);
}

static bool publish_temporary_exit(int delay, const char *reason, bool is_notice)
{
    char buffer[2048];
    struct wire_writer report;

    wire_begin(&report, buffer, sizeof buffer);
    wire_put_integer(&report, "delay", delay < 0 || delay > LONGEST_DELAY ? DEFAULT_DELAY : delay);
    if (reason != NULL)
        wire_put_any(&report, "message", reason);
    wire_put_integer(&report, "notice", is_notice);
    return publish("temporary_exit", &report);
}

/* The hot calls store whatever they are given; what cannot be told is passed over here. */

static double said_fraction(void)
{
    double now = atomic_load_explicit(&fraction, memory_order_relaxed);

    if (status_fraction != UNSET && memcmp(&now, &fraction_then, sizeof now) == 0)
        now = status_fraction;
    return now == now ? now : told_fraction;
}

static double said_count(const _Atomic double *count, double told)
{
    double now = atomic_load_explicit(count, memory_order_relaxed);

    return now >= 0 ? now : told;
}

/* Each returns true if there was a change; it is not told again if the write fails. */

static bool tell_fraction(void)
{
    double now = said_fraction();

    if (now == told_fraction)
        return false;
    told_fraction = now;
    publish_fraction(now);
    return true;
}

static bool tell_credit(void)
{
    double fp = said_count(&fpops, told_fpops);
    double integer = said_count(&intops, told_intops);

    if (fp == told_fpops && integer == told_intops)
        return false;
    told_fpops = fp;
    told_intops = integer;
    publish_creditreport(fp, integer);
    return true;
}

static bool tell_changes(void)
{
    bool fraction_changed = tell_fraction();

    return tell_credit() || fraction_changed;
}

/* --------------------------------------------------------- the thread -- */

static void mark_due(int64_t now)
{
    if (now < due_at)
        return;
    due_at = NEVER;
    atomic_store(&flag, &always);
}

/* Call the program's function, if it is time, without the lock: it may call anything here. Returns whether it did. */
static bool call_back(int64_t now)
{
    FUNC_PTR function = callback;

    if (now < callback_at)
        return false;
    callback_at = now + SECOND;
    pthread_mutex_unlock(&lock);
    function();
    pthread_mutex_lock(&lock);
    return true;
}

/* How long nothing is to be done, a week at most: the kernel need not know what never is. */
static int64_t until_then(int64_t until, int64_t now)
{
    if (due_at < until)
        until = due_at;
    if (callback_at < until)
        until = callback_at;
    return until - now < LONGEST_SLEEP ? until - now : LONGEST_SLEEP;
}

static void ring(void)
{
    int error = errno;

    atomic_fetch_add(&bell, 1);
    syscall(SYS_futex, &bell, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = error;
}

/* Wait, without the lock, until the bell has moved on from `heard`, or for so long. */
static void wait_for_ring(uint32_t heard, int64_t at_most)
{
    struct { /* as the kernel knows it */
        long seconds, nanoseconds;
    } patience = {(long)(at_most / SECOND), (long)(at_most % SECOND)};

    pthread_mutex_unlock(&lock);
    syscall(SYS_futex, &bell, FUTEX_WAIT_PRIVATE, heard, &patience, NULL, 0);
    pthread_mutex_lock(&lock);
}

/*
 * Sleep until `until`, or until a change wakes us if it may; returns whether one did. What we look at may change
 * until we wait, and is followed by a ring then: so the bell is read first.
 */
static bool sleep_until(int64_t until, bool may_wake)
{
    for (;;) {
        uint32_t heard = atomic_load(&bell);
        int64_t now = nanoseconds(CLOCK_MONOTONIC);
        mark_due(now);
        if (may_wake && atomic_load(&woken))
            return true;
        if (now >= until)
            return false;
        if (!call_back(now))
            wait_for_ring(heard, until_then(until, now));
    }
}

static int64_t soon(void)
{
    return nanoseconds(CLOCK_MONOTONIC) + HALF_A_SECOND;
}

/* Sleep until there is a change; the head of this file says why in two steps. */
static void await_change(void)
{
    atomic_store(&woken, false);
    atomic_store(&idle, true);
    if (!tell_changes() && !sleep_until(soon(), true) && !tell_changes())
        sleep_until(NEVER, true);
    atomic_store(&idle, false);
}

static void *run(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    for (;;) {
        await_change();
        tell_changes();
        do
            sleep_until(soon(), false);
        while (tell_changes());
    }
    return NULL;
}

/* One call of many comes here: it takes `idle` back. No lock, for it may be in a signal handler of the program's. */
static void __attribute__((noinline, cold)) wake_thread(void)
{
    if (!atomic_exchange(&idle, false))
        return;
    atomic_store(&woken, true);
    ring();
}

static inline void note_change(void)
{
    if (__builtin_expect(atomic_load_explicit(&idle, memory_order_relaxed), 0))
        wake_thread();
}

/* A signal handler of the program's must run on a thread of the program's. */
static int start_thread(void)
{
    pthread_t thread;
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    thread_runs = error == 0;
    return error == 0 ? pthread_detach(thread) : error;
}

/* --------------------------------------------------------------- fork -- */

/* The lock is held across fork, so the child gets it free and the state whole. */

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&lock);
}

static void after_fork_in_child(void)
{
    reporting = false;
    thread_runs = false;
    atomic_store(&idle, false);
    asked = &never;
    atomic_store(&flag, asked);
    sections_forked();
    pthread_mutex_unlock(&lock);
}

/* ------------------------------------------------------- being asked -- */

/*
 * The agent makes the file before it starts the program, and then only writes
 * its first byte. A map of it costs the hot call one more load, and nobody
 * has to wake up and look.
 */
static _Atomic char *map_asked(void)
{
    int dirfd = open(spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;
    struct stat st;
    void *found = MAP_FAILED;

    fd = dirfd < 0 ? -1 : openat(dirfd, "save", O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
        found = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (dirfd >= 0)
        close(dirfd);
    return found == MAP_FAILED ? &never : found;
}

/* Before the checkpoint is reported: the agent may ask for another one as soon as it has seen this. */
static void take_question_back(void)
{
    atomic_store(asked, '0');
}

/* ------------------------------------------------------------ the API -- */

/* A copy, for the program may change its environment. */
static const char *find_spool(void)
{
    const char *path = getenv("VMBRIDGE_SPOOL");

    return path != NULL && *path != '\0' ? strdup(path) : NULL;
}

static bool read_init_data(void)
{
    const char *path = initialized ? spool : find_spool();
    int64_t every = initialized ? period : parse_period(getenv("VMBRIDGE_CHECKPOINT_PERIOD"));
    bool found = init_data_read(&init_data, path);

    init_data.checkpoint_period = (double)every / 1e9;
    if (!initialized)
        free((char *)path);
    return found;
}

static void raise_period(void)
{
    if (period < least_period)
        period = least_period;
}

static int initialize(const BOINC_OPTIONS *options)
{
    initialized = true;
    diagnostics_default();
    spool = find_spool();
    reporting = spool != NULL && options->main_program && options->send_status_msgs;
    period = parse_period(getenv("VMBRIDGE_CHECKPOINT_PERIOD"));
    raise_period();
    atomic_store(&began, nanoseconds(CLOCK_MONOTONIC));
    due_at = atomic_load(&began) + period;
    read_init_data();
    sections_begin(options->handle_process_control, options->direct_process_action);
    if (reporting)
        atomic_store(&flag, asked = map_asked());
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    return boinc_disable_timer_thread ? 0 : start_thread();
}

PUBLIC int boinc_init_options(BOINC_OPTIONS *options)
{
    int error = 0;

    if (options == NULL)
        return ERR_NULL;
    pthread_mutex_lock(&lock);
    if (!initialized)
        error = initialize(options);
    pthread_mutex_unlock(&lock);
    return error;
}

PUBLIC int boinc_init(void)
{
    BOINC_OPTIONS all = {
        .main_program = 1, .check_heartbeat = 1, .handle_process_control = 1, .send_status_msgs = 1,
        .direct_process_action = 1};

    return boinc_init_options(&all);
}

PUBLIC int boinc_init_parallel(void)
{
    return boinc_init();
}

int api_start_thread(void)
{
    int error = 0;

    pthread_mutex_lock(&lock);
    if (initialized && !thread_runs)
        error = start_thread();
    pthread_mutex_unlock(&lock);
    return error;
}

static void tell_last(void)
{
    if (said_fraction() != UNSET)
        publish_fraction(said_fraction());
    publish_creditreport(said_count(&fpops, told_fpops), said_count(&intops, told_intops));
}

/* After `finished` nothing more is to be said, and nobody is called. */
static void tell_end(int status, const char *message)
{
    callback_at = NEVER;
    if (status == 0) {
        atomic_store(&fraction, 1.0);
        status_fraction = UNSET;
    }
    tell_last();
    publish_finished(status, message);
    reporting = false;
}

/* A program that misses something may come here before boinc_init. */
static bool tell_rest(int delay, const char *reason, bool is_notice)
{
    if (!initialized && spool == NULL) {
        spool = find_spool();
        reporting = spool != NULL;
    }
    tell_last();
    if (!publish_temporary_exit(delay, reason, is_notice))
        return false;
    callback_at = NEVER;
    reporting = false;
    return true;
}

PUBLIC int boinc_temporary_exit(int delay, const char *reason, int is_notice)
{
    bool told;

    pthread_mutex_lock(&lock);
    told = tell_rest(delay, reason, is_notice != 0);
    pthread_mutex_unlock(&lock);
    if (!told)
        return ERR_FOPEN;
    exit(0);
}

int api_finish(int status, const char *message)
{
    pthread_mutex_lock(&lock);
    tell_end(status, message);
    pthread_mutex_unlock(&lock);
    exit(status);
}

PUBLIC int boinc_finish(int status)
{
    return api_finish(status, NULL);
}

PUBLIC int boinc_fraction_done(double value)
{
    atomic_store_explicit(&fraction, value, memory_order_relaxed);
    note_change();
    return 0;
}

PUBLIC int boinc_report_app_status(double cpu, double cpu_at_checkpoint, double value)
{
    bool saved;

    (void)cpu;
    pthread_mutex_lock(&lock);
    status_fraction = value;
    fraction_then = atomic_load_explicit(&fraction, memory_order_relaxed);
    saved = cpu_at_checkpoint > checkpoint_cpu;
    if (saved)
        checkpoint_cpu = cpu_at_checkpoint;
    pthread_mutex_unlock(&lock);
    note_change();
    return saved ? boinc_checkpoint_completed() : 0;
}

PUBLIC double boinc_get_fraction_done(void)
{
    return atomic_load_explicit(&fraction, memory_order_relaxed);
}

PUBLIC void boinc_ops_cumulative(double fp, double integer)
{
    atomic_store_explicit(&fpops, fp, memory_order_relaxed);
    atomic_store_explicit(&intops, integer, memory_order_relaxed);
    note_change();
}

/* Credit is cobblestones; a hundred of them are a day of a thousand million operations a second. */
PUBLIC void boinc_set_credit_claim(double credit)
{
    boinc_ops_cumulative(credit * 8.64e11, 0);
}

PUBLIC int boinc_time_to_checkpoint(void)
{
    const _Atomic char *now = atomic_load_explicit(&flag, memory_order_relaxed);

    if (__builtin_expect(atomic_load_explicit(now, memory_order_relaxed) != '1', 1))
        return 0;
    sections_saving(true);
    return 1;
}

static void restart_countdown(void)
{
    atomic_store(&flag, asked);
    due_at = nanoseconds(CLOCK_MONOTONIC) + period;
    ring();
}

PUBLIC int boinc_checkpoint_completed(void)
{
    pthread_mutex_lock(&lock);
    checkpoints++;
    take_question_back();
    publish_checkpoint();
    if (thread_runs)
        restart_countdown();
    pthread_mutex_unlock(&lock);
    sections_saving(false);
    return 0;
}

PUBLIC int boinc_set_min_checkpoint_period(int seconds)
{
    int64_t now = nanoseconds(CLOCK_MONOTONIC);

    pthread_mutex_lock(&lock);
    least_period = seconds * SECOND;
    raise_period();
    if (thread_runs && due_at < now + least_period)
        due_at = now + least_period;
    pthread_mutex_unlock(&lock);
    return 0;
}

PUBLIC void boinc_register_timer_callback(FUNC_PTR function)
{
    pthread_mutex_lock(&lock);
    callback = function;
    callback_at = function == NULL ? NEVER : nanoseconds(CLOCK_MONOTONIC) + SECOND;
    if (thread_runs)
        ring();
    pthread_mutex_unlock(&lock);
}

/* ---------------------------------------------------- what is known -- */

PUBLIC int boinc_parse_init_data_file(void)
{
    bool found;

    pthread_mutex_lock(&lock);
    found = read_init_data();
    pthread_mutex_unlock(&lock);
    return found ? 0 : ERR_FOPEN;
}

PUBLIC int vmbridge_init_data(struct APP_INIT_DATA *data, size_t size)
{
    if (data == NULL)
        return ERR_NULL;
    memset(data, 0, size);
    pthread_mutex_lock(&lock);
    memcpy(data, &init_data, size < sizeof init_data ? size : sizeof init_data);
    pthread_mutex_unlock(&lock);
    return 0;
}

void api_known_text(const char *key, char *out, size_t size)
{
    pthread_mutex_lock(&lock);
    init_data_text(&init_data, key, out, size);
    pthread_mutex_unlock(&lock);
}

double api_known_number(const char *key)
{
    double value;

    pthread_mutex_lock(&lock);
    value = init_data_number(&init_data, key);
    pthread_mutex_unlock(&lock);
    return value;
}

PUBLIC double boinc_worker_thread_cpu_time(void)
{
    return cpu_seconds();
}

PUBLIC int boinc_wu_cpu_time(double *seconds)
{
    if (seconds == NULL)
        return ERR_NULL;
    pthread_mutex_lock(&lock);
    *seconds = init_data.wu_cpu_time + cpu_seconds();
    pthread_mutex_unlock(&lock);
    return 0;
}

PUBLIC double boinc_elapsed_time(void)
{
    int64_t then = atomic_load(&began);

    return then == NEVER ? 0 : (double)(nanoseconds(CLOCK_MONOTONIC) - then) / 1e9;
}

/* Copy `len` bytes and a NUL; a name that was cut off would be another file. */
static int copy_name(char *physical, int size, const char *name, size_t len)
{
    bool fits = size > 0 && len < (size_t)size;

    if (size > 0)
        physical[0] = '\0';
    if (!fits)
        return ERR_BUFFER_OVERFLOW;
    memcpy(physical, name, len);
    physical[len] = '\0';
    return 0;
}

/* Read the begin of a file; O_NONBLOCK, for it may be a pipe. */
static size_t read_begin(const char *path, char *buffer, size_t size)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : pread(fd, buffer, size, 0);

    if (fd >= 0)
        close(fd);
    return got > 0 ? (size_t)got : 0;
}

/* Find the target of a link of BOINC's; returns its length, 0 if it is none. */
static size_t find_target(char *begin, const char **target)
{
    char *close;

    begin[strcspn(begin, "\n")] = '\0';
    begin = strstr(begin, "<soft_link>");
    if (begin == NULL || (close = strstr(begin, "</soft_link>")) == NULL)
        return 0;
    *target = begin + strlen("<soft_link>");
    return (size_t)(close - *target);
}

PUBLIC YIELDING int boinc_resolve_filename(const char *logical, char *physical, int size)
{
    char begin[4096];
    const char *target;
    size_t len;

    if (logical == NULL || physical == NULL)
        return ERR_NULL;
    begin[read_begin(logical, begin, sizeof begin - 1)] = '\0';
    len = find_target(begin, &target);
    if (len > 0)
        return copy_name(physical, size, target, len);
    return copy_name(physical, size, logical, strlen(logical));
}

/* ----------------------------------------------- trickles and uploads -- */

/* What was asked to be uploaded, newest first; guarded by `lock`. */
struct upload {
    struct upload *next;
    uint32_t number;
    char name[];
};

static struct upload *uploads;
static uint32_t last_trickle, last_upload;

static bool is_line(const char *text, size_t longest)
{
    size_t len = strcspn(text, "\r\n<");

    return len > 0 && len <= longest && text[len] == '\0' && wire_is_utf8(text, len);
}

static int send_trickle(const char *variety, const char *text)
{
    static char buffer[WIRE_FILE_MAX];
    struct wire_writer message;

    wire_begin(&message, buffer, sizeof buffer);
    wire_put_text(&message, "variety", variety);
    if (!numbered_put_lines(&message, text))
        return ERR_INVALID_PARAM;
    if (reporting && numbered_send(spool, "trickle_up", &message, &last_trickle) != 0)
        return ERR_WRITE;
    return 0;
}

PUBLIC int boinc_send_trickle_up(const char *variety, const char *text)
{
    int result;

    if (variety == NULL || text == NULL)
        return ERR_NULL;
    if (!is_line(variety, VARIETY_LONGEST))
        return ERR_INVALID_PARAM;
    pthread_mutex_lock(&lock);
    result = send_trickle(variety, text);
    pthread_mutex_unlock(&lock);
    return result;
}

PUBLIC int boinc_receive_trickle_down(char *name, int size)
{
    bool found;

    if (name == NULL || size <= 0)
        return 0;
    pthread_mutex_lock(&lock);
    found = reporting && numbered_receive(spool, name, (size_t)size);
    pthread_mutex_unlock(&lock);
    return found;
}

static struct upload *find_upload(const char *name)
{
    struct upload *upload = uploads;

    while (upload != NULL && strcmp(upload->name, name) != 0)
        upload = upload->next;
    return upload;
}

static int send_upload(const char *name)
{
    char buffer[512];
    struct wire_writer message;
    struct upload *upload = malloc(sizeof *upload + strlen(name) + 1);

    if (upload == NULL)
        return ERR_FOPEN;
    wire_begin(&message, buffer, sizeof buffer);
    wire_put_text(&message, "name", name);
    if (numbered_send(spool, "upload", &message, &last_upload) != 0) {
        free(upload);
        return ERR_FOPEN;
    }
    strcpy(upload->name, name);
    upload->number = last_upload;
    upload->next = uploads;
    uploads = upload;
    return 0;
}

PUBLIC int boinc_upload_file(const char *name)
{
    int result = 0;

    if (name == NULL)
        return ERR_NULL;
    if (!is_line(name, NAME_LONGEST) || *name == '.' || strpbrk(name, "/\\:") != NULL)
        return ERR_INVALID_PARAM;
    if (access(name, R_OK) != 0)
        return ERR_FOPEN;
    pthread_mutex_lock(&lock);
    if (reporting && find_upload(name) == NULL)
        result = send_upload(name);
    pthread_mutex_unlock(&lock);
    return result;
}

PUBLIC int boinc_upload_status(const char *name)
{
    const struct upload *upload;
    int code = ERR_NOT_FOUND;

    if (name == NULL)
        return ERR_NULL;
    pthread_mutex_lock(&lock);
    upload = find_upload(name);
    if (upload != NULL && !numbered_answer(spool, upload->number, &code))
        code = ERR_NOT_FOUND;
    pthread_mutex_unlock(&lock);
    return code;
}

PUBLIC int boinc_is_standalone(void)
{
    const char *path = getenv("VMBRIDGE_SPOOL");

    return path == NULL || *path == '\0';
}
