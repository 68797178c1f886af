// SPDX-License-Identifier: Apache-2.0
// every.cpp - a BOINC program in C++ that calls every function that BOINC 7.20 has for C++ only, and saves its state.
// It is written for BOINC's own headers and compiles with ours as well. With an argument it rests for a second first.
#include "boinc_api.h"
#if __has_include("graphics2.h")
#include "graphics2.h" // in BOINC; ours has all in one
#endif

#include <cstring>
#include <string>

#include "chain.h"

static int ticks;

static void tick()
{
    ticks++;
}

static void begin()
{
    BOINC_OPTIONS options;

    boinc_options_defaults(options);
    options.multi_thread = 1;
    boinc_disable_timer_thread = true;
    CHECK(boinc_init_options_general(options) == 0);
    CHECK(start_timer_thread() == 0);
}

static void call_what_tells_something()
{
    APP_INIT_DATA data;
    std::string name = "nothing", found;
    char prefix[64];
    double seconds = -1;

    CHECK(boinc_get_init_data(data) == 0 && data.host_info.p_ncpus >= 1);
    CHECK(boinc_wu_cpu_time(seconds) == 0 && seconds > 0 && boinc_elapsed_time() >= 0);
    CHECK(boinc_msg_prefix(prefix, sizeof prefix) == prefix && std::strstr(prefix, "):") != nullptr);
    CHECK(boinc_resolve_filename_s("log.txt", found) == 0 && found == "log.txt");
    CHECK(boinc_upload_file(name) == -108 && boinc_upload_status(name) != 0);
    CHECK(boinc_report_app_status_aux(1, 0, 0.01, 0, 1, 2) == 0);
}

static void call_graphics()
{
    BOINC_STATUS status;
    double x = 0;
    char *memory = static_cast<char *>(boinc_graphics_make_shmem("every", 5000));

    CHECK(memory != nullptr);
    memory[4999] = 'x';
    CHECK(static_cast<char *>(boinc_graphics_get_shmem("every"))[4999] == 'x');
    CHECK(boinc_write_graphics_status(1, 2, 0.5) == 0);
    CHECK(boinc_parse_graphics_status(&x, &x, &x, &x, &status) == -108);
}

int main(int argc, char **)
{
    chain work;

    begin();
    chain_begin(&work);
    call_what_tells_something();
    call_graphics();
    if (argc > 1 && work.done == 0)
        boinc_temporary_exit(1, "not yet", false);
    boinc_register_timer_callback(tick);
    while (work.done < STEPS) {
        chain_step(&work);
        boinc_fraction_done(double(work.done) / STEPS);
        if (boinc_time_to_checkpoint()) {
            chain_save(&work);
            CHECK(boinc_checkpoint_completed() == 0);
        }
    }
    CHECK(ticks > 0);
    fclose(work.log);
    boinc_finish_message(0, "every function was called", false);
}
