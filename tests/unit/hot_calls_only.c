/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hot_calls_only - call what may stand in an innermost loop, a million times each, and count what it takes of the
 * system on the thread that calls: allocations, by functions of these names here, and system calls, which a filter of
 * this thread alone turns into a signal.
 *
 *   hot_calls_only      prints `ALLOCATIONS SYSTEM_CALLS SECONDS`; exit status 77: the system grants no filter
 */
#define _GNU_SOURCE
#include "boinc_api.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);

static _Thread_local volatile int counting;
static volatile int allocations, system_calls;

void *malloc(size_t size)
{
    allocations += counting;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations += counting;
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    allocations += counting;
    return __libc_realloc(memory, size);
}

static void on_system_call(int number)
{
    (void)number;
    system_calls += counting;
}

#define ALLOW(call) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* Until the end of this thread; a call that is caught is not made. */
static void forbid_system_calls(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(write), ALLOW(exit_group), ALLOW(rt_sigreturn), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};

    signal(SIGSYS, on_system_call);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        exit(77);
}

static double now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at); /* no system call on Linux; one that was would be counted */
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

int main(void)
{
    BOINC_STATUS status;
    char said[100];
    double began;

    boinc_init();
    forbid_system_calls();
    counting = 1;
    began = now();
    for (int i = 0; i < 1000000; i++) {
        boinc_fraction_done(i / 1e6);
        boinc_ops_cumulative(i, i);
        boinc_set_credit_claim(i);
        boinc_get_fraction_done();
        boinc_begin_critical_section();
        boinc_end_critical_section();
        if (boinc_time_to_checkpoint())
            return 3;
        boinc_get_status(&status);
        boinc_elapsed_time();
    }
    began = now() - began;
    counting = 0;
    int length = snprintf(said, sizeof said, "%d %d %.3f\n", allocations, system_calls, began);
    if (write(1, said, (size_t)length) != length)
        return 4;
    _exit(0);
}
