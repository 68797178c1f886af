/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cxx_names.c - the functions that BOINC's headers declare for C++ only, under
 * the names that g++ and clang++ make of them: in C, so that the library
 * needs no C++ compiler and no C++ library.
 *
 * A reference is a pointer. Of a std::string only the text is read, and the
 * pointer to it is its first member in both layouts of libstdc++.
 */
#define _GNU_SOURCE
#include "boinc_api.h"
#include "inside.h"

#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define MANGLED(name) __asm__(name) PUBLIC

#define ERR_NULL (-116)
#define NEW_STRING "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
#define OLD_STRING "Ss"

struct cxx_string {
    const char *text;
};

/* ------------------------------------------------------- times and ends -- */

int cxx_wu_cpu_time(double *seconds) MANGLED("_Z17boinc_wu_cpu_timeRd");
int cxx_wu_cpu_time(double *seconds)
{
    return boinc_wu_cpu_time(seconds);
}

double cxx_elapsed_time(void) MANGLED("_Z18boinc_elapsed_timev");
double cxx_elapsed_time(void)
{
    return boinc_elapsed_time();
}

int cxx_finish_message(int status, const char *message, bool is_notice) MANGLED("_Z20boinc_finish_messageiPKcb");
int cxx_finish_message(int status, const char *message, bool is_notice)
{
    (void)is_notice;
    return api_finish(status, message);
}

int cxx_temporary_exit(int delay, const char *reason, bool is_notice) MANGLED("_Z20boinc_temporary_exitiPKcb");
int cxx_temporary_exit(int delay, const char *reason, bool is_notice)
{
    return boinc_temporary_exit(delay, reason, is_notice);
}

char *cxx_msg_prefix(char *buffer, int size) MANGLED("_Z16boinc_msg_prefixPci");
char *cxx_msg_prefix(char *buffer, int size)
{
    char when[32] = "";
    time_t now = time(NULL);
    struct tm parts;

    if (localtime_r(&now, &parts) != NULL)
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &parts);
    if (buffer != NULL && size > 0)
        snprintf(buffer, (size_t)size, "%s (%ld):", when, (long)getpid());
    return buffer;
}

/* -------------------------------------------------------------- reports -- */

int cxx_status_aux(double cpu, double at_checkpoint, double fraction, int other, double sent, double received)
    MANGLED("_Z27boinc_report_app_status_auxdddidd");
int cxx_status_aux(double cpu, double at_checkpoint, double fraction, int other, double sent, double received)
{
    (void)other;
    (void)sent;
    (void)received;
    return boinc_report_app_status(cpu, at_checkpoint, fraction);
}

int cxx_status_aux_wss(double cpu, double at_checkpoint, double fraction, int other, double sent, double received,
                       double working_set) MANGLED("_Z27boinc_report_app_status_auxdddiddd");
int cxx_status_aux_wss(double cpu, double at_checkpoint, double fraction, int other, double sent, double received,
                       double working_set)
{
    (void)working_set;
    return cxx_status_aux(cpu, at_checkpoint, fraction, other, sent, received);
}

static int upload(struct cxx_string *name)
{
    return boinc_upload_file(name->text);
}

static int uploaded(struct cxx_string *name)
{
    return boinc_upload_status(name->text);
}

int cxx_upload(struct cxx_string *name) MANGLED("_Z17boinc_upload_fileR" NEW_STRING);
int cxx_upload(struct cxx_string *name)
{
    return upload(name);
}

int cxx_upload_old(struct cxx_string *name) MANGLED("_Z17boinc_upload_fileR" OLD_STRING);
int cxx_upload_old(struct cxx_string *name)
{
    return upload(name);
}

int cxx_uploaded(struct cxx_string *name) MANGLED("_Z19boinc_upload_statusR" NEW_STRING);
int cxx_uploaded(struct cxx_string *name)
{
    return uploaded(name);
}

int cxx_uploaded_old(struct cxx_string *name) MANGLED("_Z19boinc_upload_statusR" OLD_STRING);
int cxx_uploaded_old(struct cxx_string *name)
{
    return uploaded(name);
}

/* ----------------------------------------------------------- the begin -- */

int cxx_init_options_general(BOINC_OPTIONS *options) MANGLED("_Z26boinc_init_options_generalR13BOINC_OPTIONS");
int cxx_init_options_general(BOINC_OPTIONS *options)
{
    return boinc_init_options(options);
}

void cxx_options_defaults(BOINC_OPTIONS *options) MANGLED("_Z16options_defaultsR13BOINC_OPTIONS");
void cxx_options_defaults(BOINC_OPTIONS *options)
{
    *options = (BOINC_OPTIONS){.main_program = 1, .check_heartbeat = 1, .handle_process_control = 1,
                               .send_status_msgs = 1, .direct_process_action = 1};
}

int cxx_start_timer_thread(void) MANGLED("_Z18start_timer_threadv");
int cxx_start_timer_thread(void)
{
    return api_start_thread();
}

/* ------------------------------------------- no meaning in a machine -- */

void cxx_waiting_for_network(bool waiting) MANGLED("_Z25boinc_waiting_for_networkb");
void cxx_waiting_for_network(bool waiting)
{
    (void)waiting;
}

void cxx_set_ac_state(SPORADIC_AC_STATE state) MANGLED("_Z27boinc_sporadic_set_ac_state17SPORADIC_AC_STATE");
void cxx_set_ac_state(SPORADIC_AC_STATE state)
{
    (void)state;
}

SPORADIC_CA_STATE cxx_get_ca_state(void) MANGLED("_Z27boinc_sporadic_get_ca_statev");
SPORADIC_CA_STATE cxx_get_ca_state(void)
{
    return CA_NONE;
}

int cxx_sporadic_dir(const char *directory) MANGLED("_Z18boinc_sporadic_dirPKc");
int cxx_sporadic_dir(const char *directory)
{
    return directory == NULL ? ERR_NULL : 0;
}
