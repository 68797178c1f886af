/* SPDX-License-Identifier: Apache-2.0 */
/*
 * every.c - a BOINC program in C that calls every function that boinc_api.h
 * has for C, and saves its state. It stands in for those that others wrote.
 * With an argument it rests for a second first.
 */
#define _GNU_SOURCE
#include "boinc_api.h"
#include "chain.h"

#include <signal.h>
#include <string.h>

static volatile int ticks;
static volatile int handled;

static void tick(void)
{
    ticks++;
}

static void handle(int number)
{
    handled = number;
}

static void call_before_the_begin(void)
{
    BOINC_OPTIONS options = {0, 1, 1, 1, 1, 1, 1, 0};

    CHECK(diagnostics_is_initialized() == 0);
    CHECK(boinc_init_diagnostics(0x1 | 0x20 | 0x200) == 0 && diagnostics_is_initialized() == 1);
    CHECK(boinc_init_graphics_diagnostics(0) == -178 && diagnostics_init(0, "stdout", "stderr") == -178);
    CHECK(diagnostics_is_flag_set(0x20) == 1 && diagnostics_is_flag_set(0x40) == 0);
    CHECK(boinc_install_signal_handlers() == 0);
    diagnostics_set_max_file_sizes(1e6, 1e6);
    set_signal_exit_code(194);
    boinc_set_signal_handler(SIGUSR1, handle);
    boinc_set_signal_handler_force(SIGUSR2, handle);
    CHECK(raise(SIGUSR1) == 0 && handled == SIGUSR1 && raise(SIGUSR2) == 0 && handled == SIGUSR2);
    CHECK(boinc_elapsed_time() == 0 && boinc_get_fraction_done() == -1);
    CHECK(boinc_init_options(NULL) == -116 && boinc_init_options(&options) == 0);
    CHECK(boinc_init() == 0 && boinc_init_parallel() == 0);
}

static void call_what_tells_something(void)
{
    APP_INIT_DATA data;
    BOINC_STATUS status;
    double seconds = -1;
    char name[64];
    int known = boinc_parse_init_data_file();

    CHECK(boinc_get_init_data_p(&data) == 0 && data.host_info.p_ncpus >= 1);
    CHECK(known == 0 || known == -108);
    CHECK(boinc_is_standalone() == (getenv("VMBRIDGE_SPOOL") == NULL));
    CHECK(boinc_get_status(&status) == 0 && status.abort_request == 0 && status.suspended == 0);
    CHECK(boinc_worker_thread_cpu_time() > 0 && boinc_wu_cpu_time(&seconds) == 0 && seconds > 0);
    CHECK(boinc_resolve_filename("log.txt", name, sizeof name) == 0 && strcmp(name, "log.txt") == 0);
    CHECK(boinc_receive_trickle_down(name, sizeof name) == 0);
    CHECK(boinc_send_trickle_up("a<b", "not a variety") == -178);
    CHECK(boinc_upload_file("nothing") == -108 && boinc_upload_status("nothing") != 0);
}

static void call_what_does_nothing(void)
{
    char text[] = "http://localhost";

    boinc_need_network();
    CHECK(boinc_network_poll() == 0);
    boinc_network_usage(1, 2);
    boinc_network_done();
    CHECK(boinc_suspend_other_activities() == 0 && boinc_resume_other_activities() == 0);
    boinc_ops_per_cpu_sec(1, 2);
    boinc_web_graphics_url(text);
    boinc_remote_desktop_addr(text);
    boinc_trace("trace %d\n", 1);
    boinc_info("info %d\n", 2);
}

int main(int argc, char **argv)
{
    struct chain chain;

    (void)argv;
    call_before_the_begin();
    call_what_does_nothing();
    chain_begin(&chain);
    call_what_tells_something();
    if (argc > 1 && chain.done == 0)
        boinc_temporary_exit(1, "not yet", 0);
    CHECK(boinc_set_min_checkpoint_period(1) == 0);
    boinc_register_timer_callback(tick);
    while (chain.done < STEPS) {
        chain_step(&chain);
        boinc_fraction_done((double)chain.done / STEPS);
        boinc_ops_cumulative(1e9 * chain.done, chain.done);
        boinc_begin_critical_section();
        if (boinc_time_to_checkpoint()) {
            chain_save(&chain);
            CHECK(boinc_checkpoint_completed() == 0);
        }
        boinc_end_critical_section();
    }
    CHECK(boinc_get_fraction_done() == 1 && boinc_elapsed_time() > 0 && ticks > 0);
    boinc_register_timer_callback(NULL);
    boinc_set_credit_claim(1);
    CHECK(boinc_report_app_status(1, 0, 1) == 0);
    fclose(chain.log);
    CHECK(boinc_finish_diag() == 0);
    boinc_finish(0);
}
