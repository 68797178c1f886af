/* SPDX-License-Identifier: Apache-2.0 */
/*
 * every_call - call every function of the library from several threads at once, from forked children and, where that
 * is promised, from a signal handler that comes a thousand times a second.
 *
 *   every_call [SECONDS]     exits with 0; whatever is wrong is for a sanitizer to say
 */
#include "boinc_api.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS 3

/* What is declared for C++ only, under the names that it makes. */
struct string { const char *text; };
char *msg_prefix(char *, int) __asm__("_Z16boinc_msg_prefixPci");
int wu_cpu_time(double *) __asm__("_Z17boinc_wu_cpu_timeRd");
double elapsed_time(void) __asm__("_Z18boinc_elapsed_timev");
int status_aux(double, double, double, int, double, double) __asm__("_Z27boinc_report_app_status_auxdddidd");
int status_wss(double, double, double, int, double, double, double) __asm__("_Z27boinc_report_app_status_auxdddiddd");
int upload(struct string *) __asm__("_Z17boinc_upload_fileRSs");
int uploaded(struct string *) __asm__("_Z19boinc_upload_statusRSs");
int finish_message(int, const char *, bool) __asm__("_Z20boinc_finish_messageiPKcb");
int start_timer(void) __asm__("_Z18start_timer_threadv");
int general(BOINC_OPTIONS *) __asm__("_Z26boinc_init_options_generalR13BOINC_OPTIONS");
void defaults(BOINC_OPTIONS *) __asm__("_Z16options_defaultsR13BOINC_OPTIONS");
void waiting_for_network(bool) __asm__("_Z25boinc_waiting_for_networkb");
void set_ac(SPORADIC_AC_STATE) __asm__("_Z27boinc_sporadic_set_ac_state17SPORADIC_AC_STATE");
SPORADIC_CA_STATE get_ca(void) __asm__("_Z27boinc_sporadic_get_ca_statev");
int sporadic_dir(const char *) __asm__("_Z18boinc_sporadic_dirPKc");
void *make_shmem(const char *, int) __asm__("_Z25boinc_graphics_make_shmemPKci");
void *get_shmem(const char *) __asm__("_Z24boinc_graphics_get_shmemPKc");
int write_graphics(double, double, double) __asm__("_Z27boinc_write_graphics_statusddd");
int parse_graphics(double *, double *, double *, double *, BOINC_STATUS *)
    __asm__("_Z27boinc_parse_graphics_statusPdS_S_S_P12BOINC_STATUS");

/* What Fortran calls. */
void boinc_init_(void), boinc_is_standalone_(int *), boincrf_(const char *, char *, int, int);
void boinc_parse_init_data_file_(void), boinc_time_to_checkpoint_(int *), boinc_checkpoint_completed_(void);
void boinc_begin_critical_section_(void), boinc_end_critical_section_(void);
void boinc_fraction_done_(const double *), boinc_get_fraction_done_(double *), boinc_wu_cpu_time_(double *);
void boinc_calling_thread_cpu_time_(double *);

static atomic_int ticks, handled;
static atomic_bool over;
static bool is_child;

static void tick(void)
{
    atomic_fetch_add(&ticks, 1);
    boinc_fraction_done(0.5);
    boinc_checkpoint_completed();
    boinc_register_timer_callback(tick);
}

/* All that boinc_api.h says may be called here. */
static void on_alarm(int number)
{
    BOINC_STATUS status;

    (void)number;
    boinc_fraction_done(0.5);
    boinc_ops_cumulative(1, 2);
    boinc_set_credit_claim(3);
    boinc_begin_critical_section();
    boinc_end_critical_section();
    if (boinc_get_fraction_done() < 0 || boinc_get_status(&status) != 0 || boinc_time_to_checkpoint() < 0)
        _exit(5);
    atomic_fetch_add(&handled, 1);
}

static void ask(void)
{
    struct APP_INIT_DATA data;
    BOINC_STATUS status;
    double number;
    char name[300];
    int integer;

    boinc_get_fraction_done();
    boinc_get_status(&status);
    boinc_get_init_data_p(&data);
    boinc_get_init_data_p(NULL);
    boinc_is_standalone();
    boinc_worker_thread_cpu_time();
    boinc_wu_cpu_time(&number);
    wu_cpu_time(&number);
    boinc_elapsed_time();
    elapsed_time();
    msg_prefix(name, sizeof name);
    msg_prefix(name, 3);
    boinc_resolve_filename("absent", name, sizeof name);
    boinc_resolve_filename("link", name, sizeof name);
    boinc_resolve_filename("link", name, 2);
    boinc_resolve_filename(NULL, name, 0);
    boinc_upload_status("early.txt");
    boinc_network_poll();
    diagnostics_is_initialized();
    diagnostics_is_flag_set(1);
    get_ca();
    sporadic_dir(".");
    boinc_is_standalone_(&integer);
    boincrf_("link    ", name, 8, 20);
    boinc_get_fraction_done_(&number);
    boinc_wu_cpu_time_(&number);
    boinc_calling_thread_cpu_time_(&number);
}

static void tell(int i)
{
    BOINC_OPTIONS options;
    struct string name = {"early.txt"};
    double a, fraction = (i % 100) / 100.0;
    BOINC_STATUS status;
    char text[64];
    int due;

    boinc_fraction_done(fraction);
    boinc_fraction_done_(&fraction);
    boinc_ops_cumulative(i, i);
    boinc_ops_per_cpu_sec(1, 1);
    boinc_begin_critical_section();
    boinc_begin_critical_section_();
    boinc_end_critical_section_();
    boinc_end_critical_section();
    boinc_end_critical_section();
    if (boinc_time_to_checkpoint())
        boinc_checkpoint_completed();
    boinc_time_to_checkpoint_(&due);
    boinc_checkpoint_completed_();
    boinc_set_min_checkpoint_period(0);
    boinc_report_app_status(1, i, fraction);
    status_aux(1, i, fraction, 0, 1, 2);
    status_wss(1, i, fraction, 0, 1, 2, 3);
    if (i == 0)
        boinc_register_timer_callback(tick); /* each time a second from then */
    boinc_init();
    boinc_init_();
    boinc_init_parallel();
    defaults(&options);
    boinc_init_options(&options);
    general(&options);
#ifdef __SANITIZE_THREAD__
    if (!is_child) /* it knows no thread that a forked child makes */
#endif
        start_timer();
    boinc_parse_init_data_file();
    boinc_parse_init_data_file_();
    snprintf(text, sizeof text, "<n>%d</n>\nline\n", i);
    boinc_send_trickle_up("every_call", text);
    boinc_send_trickle_up("", "\xff");
    if (boinc_receive_trickle_down(text, sizeof text))
        remove(text);
    boinc_upload_file("early.txt");
    boinc_upload_file("../x");
    upload(&name);
    uploaded(&name);
    boinc_need_network();
    boinc_network_done();
    boinc_network_usage(1, 2);
    boinc_suspend_other_activities();
    boinc_resume_other_activities();
    boinc_web_graphics_url(text);
    boinc_remote_desktop_addr(text);
    waiting_for_network(true);
    set_ac(AC_WANT_COMPUTE);
    make_shmem("picture", 100);
    get_shmem("picture");
    write_graphics(1, 2, 3);
    parse_graphics(&a, &a, &a, &a, &status);
    boinc_init_diagnostics(0x221);
    boinc_init_graphics_diagnostics(0x221);
    boinc_install_signal_handlers();
    set_signal_exit_code(193);
    boinc_set_signal_handler(SIGUSR2, SIG_IGN);
    boinc_set_signal_handler_force(SIGUSR2, SIG_IGN);
    boinc_trace("%s", "");
    boinc_info("%s", "");
    boinc_finish_diag();
    diagnostics_set_max_file_sizes(1, 2);
}

static void *work(void *unused)
{
    for (int i = 0; !atomic_load(&over); i++) {
        ask();
        tell(i);
    }
    return unused;
}

/* A child may call everything, whatever its parent was about to do in other threads. */
static void fork_one(int i)
{
    int status = 0;
    sigset_t alarm_only;
    pid_t child;

    /* A fork begins anew when a signal comes, and under a sanitizer it takes longer than a millisecond. */
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
    child = fork();
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    if (child == 0) {
        is_child = true;
        signal(SIGALRM, SIG_DFL);
        alarm(60);
        ask();
        tell(i);
        if (i % 3 == 0)
            kill(getpid(), SIGTERM);
        else if (i % 3 == 1)
            finish_message(3, "of a child", false);
        else
            boinc_temporary_exit(60, "of a child", 0);
        _exit(7);
    }
    while (waitpid(child, &status, 0) < 0)
        ;
    if (i % 3 == 0 ? WTERMSIG(status) != SIGTERM : WEXITSTATUS(status) != (i % 3 == 1 ? 3 : 0)) {
        fprintf(stderr, "a child ended with status %d\n", status);
        _exit(4);
    }
}

static double now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    double until = now() + (argc > 1 ? atof(argv[1]) : 2);
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    pthread_t threads[THREADS];
    FILE *file = fopen("early.txt", "w");

    fputs("early\n", file);
    fclose(file);
    ask();
    boinc_register_timer_callback(tick);
    if (boinc_init() != 0)
        return 3;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; now() < until || atomic_load(&ticks) == 0; i++) {
        fork_one(i);
        tell(i);
        ask();
    }
    setitimer(ITIMER_REAL, &never, NULL);
    atomic_store(&over, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return finish_message(atomic_load(&handled) > 0 ? 0 : 6, "all was called", false);
}
