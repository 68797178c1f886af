/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sections.c - see sections.h.
 *
 * Millions of calls, so no locked instruction for the thread that makes
 * nearly all of them. The worker, which called boinc_init, counts in a
 * variable that nobody else writes, and only the worker decides whether to
 * end: a signal that meets another thread is passed on to it. So the count
 * needs no more order than one thread has with itself. Other threads count
 * together in an atomic, and look whether the worker is just about to end.
 */
#define _GNU_SOURCE
#include "sections.h"
#include "boinc_api.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#if defined(__GNUC__)
#define PUBLIC __attribute__((visibility("default")))
#define QUICK __attribute__((tls_model("initial-exec"))) /* also in the shared library */
#else
#define PUBLIC
#define QUICK
#endif

PUBLIC volatile BOINC_STATUS boinc_status;

static _Thread_local bool is_worker QUICK;
static pthread_t worker;
static volatile pid_t asked; /* the process that was asked to end; a new child may be, before it knows that it is one */
#define QUIT_REQUEST (&boinc_status.quit_request) /* read and written as an atomic, whoever else may read it */
static bool ends; /* SIGTERM ends the program, it does not only ask */
static volatile sig_atomic_t inside; /* the worker's sections */
static atomic_int others; /* all other threads' */
static atomic_bool saving;
static atomic_bool ending; /* the worker is about to end, or sees just now that it must not */

/* In the handler, on the worker. */
static void end_if_free(void)
{
    sigset_t only;

    if (!ends || inside > 0)
        return;
    atomic_store(&ending, true);
    if (atomic_load(&others) > 0 || atomic_load(&saving)) {
        atomic_store(&ending, false);
        return;
    }
    signal(SIGTERM, SIG_DFL);
    sigemptyset(&only);
    sigaddset(&only, SIGTERM);
    raise(SIGTERM);
    pthread_sigmask(SIG_UNBLOCK, &only, NULL);
}

static void on_request(int number)
{
    int error = errno;

    if (is_worker) {
        asked = getpid();
        __atomic_store_n(QUIT_REQUEST, 1, __ATOMIC_SEQ_CST);
        end_if_free();
    } else {
        pthread_kill(worker, number);
    }
    errno = error;
}

/* A section has ended, and with it perhaps the last reason not to end. */
static void reconsider_if_asked(bool asked_to)
{
    if (__builtin_expect(asked_to, 0) && ends)
        pthread_kill(worker, SIGTERM);
}

/* Either the worker sees that nothing holds it any more, or we see here that it was asked. */
static void left_elsewhere(void)
{
    reconsider_if_asked(__atomic_load_n(QUIT_REQUEST, __ATOMIC_SEQ_CST));
}

/* What was counted before this is seen by the worker, or the worker's end is seen here. */
static void wait_for_verdict(void)
{
    while (!is_worker && atomic_load(&ending))
        sched_yield();
}

static void __attribute__((noinline)) begin_elsewhere(void)
{
    atomic_fetch_add(&others, 1);
    wait_for_verdict();
}

/* One end too many is no begin of less than nothing. */
static void __attribute__((noinline)) end_elsewhere(void)
{
    int count = atomic_load(&others);

    while (count > 0 && !atomic_compare_exchange_weak(&others, &count, count - 1))
        ;
    left_elsewhere();
}

PUBLIC void boinc_begin_critical_section(void)
{
    if (is_worker)
        inside = inside + 1;
    else
        begin_elsewhere();
    atomic_signal_fence(memory_order_seq_cst);
}

PUBLIC void boinc_end_critical_section(void)
{
    atomic_signal_fence(memory_order_seq_cst);
    if (!is_worker) {
        end_elsewhere();
        return;
    }
    if (inside > 0)
        inside = inside - 1;
    reconsider_if_asked(__atomic_load_n(QUIT_REQUEST, __ATOMIC_RELAXED));
}

PUBLIC int boinc_get_status(BOINC_STATUS *status)
{
    if (status == NULL)
        return -116;
    *status = (BOINC_STATUS){.quit_request = __atomic_load_n(QUIT_REQUEST, __ATOMIC_RELAXED)};
    return 0;
}

void sections_saving(bool now)
{
    atomic_store(&saving, now);
    if (now)
        wait_for_verdict();
    else
        left_elsewhere();
}

void sections_begin(bool handles, bool direct)
{
    struct sigaction action, before;

    worker = pthread_self();
    is_worker = true;
    ends = handles && direct;
    if (!handles || sigaction(SIGTERM, NULL, &before) != 0 || before.sa_handler != SIG_DFL)
        return;
    action.sa_handler = on_request;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
}

void sections_forked(void)
{
    struct sigaction now;

    is_worker = true; /* the only thread that there is */
    worker = pthread_self();
    ends = false;
    __atomic_store_n(QUIT_REQUEST, 0, __ATOMIC_RELAXED);
    if (sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == on_request)
        signal(SIGTERM, SIG_DFL);
    if (asked == getpid())
        raise(SIGTERM);
}
