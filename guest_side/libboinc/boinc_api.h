/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boinc_api.h - the BOINC interface for programs inside a virtual machine.
 *
 * A science program that was written for BOINC is compiled against this file
 * and linked with -lboinc_api -lpthread; it then reports through the virtual
 * machine bridge instead of a BOINC client. For C and C++.
 *
 * Reports go into the folder that the environment variable VMBRIDGE_SPOOL
 * names by its absolute path; from there they find their way to the host.
 * Without the variable the program runs *standalone*: everything works and
 * nothing is reported. A report that cannot be written is lost and tried
 * again with the next change; it never hurts the program.
 *
 * Costs. boinc_fraction_done, boinc_ops_cumulative, boinc_time_to_checkpoint
 * and critical sections may stand in the innermost loop: a few nanoseconds
 * each, no allocation, and no system call but the one that wakes the library's
 * thread, at most twice a second. That thread takes no signals, writes the
 * first change at once and then at most two a second, and sleeps while there
 * is none.
 *
 * Threads. Every function may be called from any thread. (BOINC's own knows
 * critical sections on one thread only; here they are cheapest on the one that
 * called boinc_init.)
 *
 * Signal handlers may call boinc_fraction_done, boinc_get_fraction_done,
 * boinc_ops_cumulative, boinc_set_credit_claim, boinc_time_to_checkpoint,
 * boinc_get_status, and begin and end of a critical section in pairs; whatever
 * they have interrupted. Nothing else: the others take a lock.
 *
 * fork. The process that called boinc_init reports, and only that one. In a
 * child that it forks all functions can be called and report nothing, SIGTERM
 * ends it at once, and boinc_finish and boinc_temporary_exit end the child, of which nothing is told.
 */
#ifndef VMBRIDGE_BOINC_API_H
#define VMBRIDGE_BOINC_API_H

#include <stddef.h>

#ifdef __cplusplus
#include <string>
#include <vector>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Begin to report; call it once, early. Calling it again does nothing. Where
 * boinc_init_diagnostics was not called before, it is by this, with BOINC's
 * defaults: a crash says where it was.
 *
 * Returns 0, or the errno for which no thread could be made; the program may
 * go on, and only checkpoints and its end are reported then.
 */
int boinc_init(void);

/*
 * As boinc_init, with a say in what the library does; the first call of the
 * two counts. A process with main_program or send_status_msgs 0 reports
 * nothing, as a forked child. With handle_process_control 0 the library
 * leaves SIGTERM alone; with direct_process_action 0 it only sets
 * boinc_status.quit_request, and the program has five seconds to save and
 * exit. The other members mean nothing here: what is suspended is the machine.
 *
 * Returns as boinc_init; -116 if `options` is NULL.
 */
typedef struct BOINC_OPTIONS {
    int normal_thread_priority;
    int main_program;
    int check_heartbeat;
    int handle_process_control;
    int send_status_msgs;
    int direct_process_action;
    int multi_thread;
    int multi_process;
} BOINC_OPTIONS;

int boinc_init_options(BOINC_OPTIONS *options);

/* As boinc_init, for programs of several threads or processes, which need nothing special here. */
int boinc_init_parallel(void);

/*
 * Report that the work is over and end the process as exit(status) does;
 * 0 means success and sets the fraction done to 1. Never returns.
 */
int boinc_finish(int status);

/*
 * End the process with exit(0), to be started again in `delay` seconds, in the
 * same directory with all that lies there: the program misses something that
 * may come, or waits for something. `delay` is 0 to 86400; what is beyond that
 * counts as 300, as with BOINC's client. `reason` (may be NULL) is for people;
 * with `is_notice` the volunteer is shown it, because they must do something.
 * The computer may do other work meanwhile. A hundred times in a row without a
 * checkpoint of the program's are too many: the job ends with an error then.
 *
 * Never returns, unless it cannot be told; then it returns -108 and the
 * program may go on. May be called before boinc_init. In C++ the last two may
 * be left out: NULL and false.
 */
#ifndef __cplusplus
int boinc_temporary_exit(int delay, const char *reason, int is_notice);
#endif

/*
 * Say which part of the work is done. Reported as a number from 0 to 1:
 * less counts as 0 and more as 1. NaN is not reported. Returns 0.
 */
int boinc_fraction_done(double fraction);

/* Returns what boinc_fraction_done was last told, unchanged; -1 before that. */
double boinc_get_fraction_done(void);

/*
 * Say how many floating-point and integer operations were done since the
 * work began, those before a restart included. NaN and negative numbers
 * are not reported.
 */
void boinc_ops_cumulative(double fp, double integer);

/* As boinc_ops_cumulative(credit * 8.64e11, 0). Credit of the whole work, those before a restart included. */
void boinc_set_credit_claim(double credit);

/*
 * Ask whether the program should write a checkpoint now.
 *
 * Returns 1 if the checkpoint period has passed since boinc_init or the last
 * boinc_checkpoint_completed, or if the host asks for one because it wants to
 * stop, else 0. It stays 1 until
 * boinc_checkpoint_completed is called, and until then the program is in a
 * critical section. The period is the environment
 * variable VMBRIDGE_CHECKPOINT_PERIOD, in seconds; 300 if that is not set or
 * is not a number.
 */
int boinc_time_to_checkpoint(void);

/*
 * Report that a checkpoint is on the disk, before this returns, and start the
 * period anew. Good at any time, also unasked. The files that the job names as
 * the program's state (<checkpoint_filename>) are then carried to the host; a
 * file that changes before that is done is left out with all the others until
 * the next checkpoint, but for outputs, which may grow. Returns 0.
 */
int boinc_checkpoint_completed(void);

/* Let no less than so many seconds pass between two checkpoints, from now on. Returns 0. */
int boinc_set_min_checkpoint_period(int seconds);

/*
 * For programs that look after others: report `fraction`, and a checkpoint if
 * `cpu_at_checkpoint` is more than in the last call. The CPU time is measured
 * outside of the program. boinc_get_fraction_done knows nothing of it; what
 * was said last is reported. Returns 0.
 */
int boinc_report_app_status(double cpu, double cpu_at_checkpoint, double fraction);

/*
 * Have `function` called once a second, by the library's thread, from
 * boinc_init until boinc_finish; NULL: no more. It may call everything here.
 * While it runs nothing is reported, and no checkpoint becomes due.
 */
typedef void (*FUNC_PTR)(void);

void boinc_register_timer_callback(FUNC_PTR function);

/*
 * Do not let me be ended from here to there: around the writing of a file
 * that would be worse half than not at all. Sections may lie in each other,
 * and in several threads at once; between a 1 from boinc_time_to_checkpoint
 * and boinc_checkpoint_completed there is one by itself. An end too many does
 * nothing.
 *
 * When the host asks the program to end (SIGTERM) it ends after the last
 * section, but five seconds later it is killed wherever it is. A machine may
 * also stand still, be saved, or lose its power at any instant, sections or
 * not; that is as if nothing had happened, or as a power cut.
 */
void boinc_begin_critical_section(void);
void boinc_end_critical_section(void);

/*
 * What the host wants, to be read at any time. quit_request becomes 1 when
 * the program shall end: seen inside a critical section, and anywhere with
 * direct_process_action 0. All else is 0 for ever: a suspended machine stands
 * still and cannot look, an aborted one is gone, and sizes and the network
 * are the host's affair.
 */
typedef enum SPORADIC_CA_STATE { CA_NONE, CA_DONT_COMPUTE, CA_COULD_COMPUTE, CA_COMPUTING } SPORADIC_CA_STATE;
typedef enum SPORADIC_AC_STATE { AC_NONE, AC_DONT_WANT_COMPUTE, AC_WANT_COMPUTE } SPORADIC_AC_STATE;

typedef struct BOINC_STATUS {
    int no_heartbeat;
    int suspended;
    int quit_request;
    int reread_init_data_file;
    int abort_request;
    double working_set_size;
    double max_working_set_size;
    int network_suspended;
    SPORADIC_CA_STATE ca_state;
} BOINC_STATUS;

extern volatile BOINC_STATUS boinc_status;

/* Copy boinc_status. Returns 0; -116 if `status` is NULL. */
int boinc_get_status(BOINC_STATUS *status);

/*
 * Find the real name of a file. In a virtual machine files lie under the
 * names that the program knows, so this copies `logical` to `physical`,
 * which has room for `size` bytes; only if the file is one of BOINC's links
 * (`<soft_link>path</soft_link>` in its first line) the path is copied.
 *
 * Returns 0; -116 if a pointer is NULL; -118 if the name does not fit, then
 * *physical is an empty string (if `size` is at least 1).
 */
int boinc_resolve_filename(const char *logical, char *physical, int size);

/*
 * Send a message to the project: `text` goes to the program of the server
 * that is registered for `variety`. It is on its way when this returns, also
 * if the program ends at once; two in quick succession both arrive, and their
 * times tell the order.
 *
 * Returns 0; -116 if a pointer is NULL; -178 if it cannot be sent as it is:
 * the variety has more than 255 bytes, a line break or a `<`, the text is not
 * UTF-8, has control characters other than tab and line break, lines of more
 * than 1,024 bytes, more than 1,000 of them, or more than 60,000 bytes in
 * all; -103 if it cannot be written, or if 256 wait there already: then try
 * later.
 */
int boinc_send_trickle_up(const char *variety, const char *text);

/*
 * Ask whether the project has sent a message. The text lies in a file in the
 * working directory, whose name is written to `name`, which has room for
 * `size` bytes (32 do). Read it and delete it; until then the same one is
 * found again.
 *
 * Returns 1 if there is one, 0 if there is none.
 */
int boinc_receive_trickle_down(char *name, int size);

/*
 * Upload one of the job's output files now, before the end of the work.
 * `name` is its name in the working directory. It must be complete and must
 * not change any more. Asking again for the same file does nothing.
 *
 * Returns 0; -116 if it is NULL; -178 if it cannot be the name of an output;
 * -108 if there is no such file or it cannot be asked for.
 */
int boinc_upload_file(const char *name);

/*
 * Ask what became of an upload. Returns 0 if the file is at the server; -161
 * as long as nothing is known, or if this process has not asked for it; -108
 * if there was no such file, any other number as the client says it.
 */
int boinc_upload_status(const char *name);

/*
 * What is known of the job, from boinc_init on, under BOINC's names. What
 * nobody has said is 0 or empty, and so is always what is nobody's business in
 * a machine: who the volunteer is, and the authenticator; their preferences
 * are NULL.
 *
 * ncpus, and the processors and the memory in host_info, are the machine's;
 * p_fpops and p_iops are what one of the host's processors does in a second
 * by its own benchmark, 0 if unknown: an emulated one is ten to thirty times
 * slower. project_dir and boinc_dir are the directory in which the program
 * was started, where all its files lie. wu_cpu_time and starting_elapsed_time
 * are seconds that earlier starts of the job took.
 */
#define APP_INIT_DATA_TEXT 256 /* bytes of each text; what is longer is cut off */

typedef struct HOST_INFO {
    int p_ncpus;
    double p_fpops;
    double p_iops;
    double m_nbytes;
} HOST_INFO;

typedef struct APP_INIT_DATA {
    int major_version; /* of the client */
    int minor_version;
    int release;
    int app_version;
    int userid;
    int teamid;
    int hostid;
    char app_name[APP_INIT_DATA_TEXT];
    char *project_preferences;
    char user_name[APP_INIT_DATA_TEXT];
    char team_name[APP_INIT_DATA_TEXT];
    char project_dir[APP_INIT_DATA_TEXT];
    char boinc_dir[APP_INIT_DATA_TEXT];
    char wu_name[APP_INIT_DATA_TEXT];
    char result_name[APP_INIT_DATA_TEXT];
    char authenticator[APP_INIT_DATA_TEXT];
    int slot;
    double wu_cpu_time;
    double starting_elapsed_time;
    double resource_share_fraction;
    double checkpoint_period; /* seconds */
    double fraction_done_start;
    double fraction_done_end;
    char gpu_type[APP_INIT_DATA_TEXT];
    int gpu_device_num; /* -1: none, as there is none here */
    int gpu_opencl_dev_index;
    double gpu_usage;
    double ncpus;
    double rsc_fpops_est;
    double rsc_fpops_bound;
    double rsc_memory_bound; /* bytes */
    double rsc_disk_bound;
    double computation_deadline; /* seconds since 1970, UTC */
    HOST_INFO host_info;
} APP_INIT_DATA;

/*
 * Copy what is known to *data. Returns 0; -116 if `data` is NULL.
 *
 * Compiled by the program, so that the library knows how large its structure
 * is; and so that a program that was compiled with BOINC's own headers, where
 * it is another one, does not link instead of reading nonsense, unless the
 * library was built with these headers and fills theirs.
 */
int vmbridge_init_data(struct APP_INIT_DATA *data, size_t size);

static inline int boinc_get_init_data_p(struct APP_INIT_DATA *data)
{
    return vmbridge_init_data(data, sizeof *data);
}

/* Read anew what is known of the job, also before boinc_init. Returns 0; -108 if no client has said anything. */
int boinc_parse_init_data_file(void);

/* Returns the CPU time of this process, all its threads, in seconds. */
double boinc_worker_thread_cpu_time(void);

/* Write to *seconds the CPU time of earlier starts of the job and of this process. Returns 0; -116 if it is NULL. */
int boinc_wu_cpu_time(double *seconds);

/* Returns the seconds since boinc_init in which the machine ran; 0 before that. */
double boinc_elapsed_time(void);

/* Returns 1 if nothing is reported because VMBRIDGE_SPOOL is not set, else 0. */
int boinc_is_standalone(void);

/*
 * A program that crashes (SIGSEGV, SIGABRT and their like, where they are not
 * handled yet) then says on standard error where it was, and exits with 193
 * or the code given. Standard output and error stay what they are, whatever
 * the flags: they are the job's, and reach the host. With a flag that would
 * move standard output to a file it is written line by line, as the file would
 * be. Returns 0; -178 if called before, also by boinc_init, or with flags that
 * contradict each other.
 *
 * In BOINC all this lies in libboinc. The names that BOINC's diagnostics.h has
 * besides are here as well, and do nothing.
 */
int boinc_init_diagnostics(int flags);
int boinc_init_graphics_diagnostics(int flags);
int diagnostics_init(int flags, const char *stdout_prefix, const char *stderr_prefix);
int diagnostics_is_initialized(void); /* 1 or 0 */
int diagnostics_is_flag_set(int flags); /* 1 if any of them was given, or 0 */
int boinc_install_signal_handlers(void); /* by itself; 0 */
void boinc_set_signal_handler(int number, void (*handler)(int)); /* unless it has one */
void boinc_set_signal_handler_force(int number, void (*handler)(int));
void set_signal_exit_code(int code);
void boinc_trace(const char *format, ...); /* to standard error, like the next one */
void boinc_info(const char *format, ...);

/*
 * These are here so that programs link, and do nothing. Whether there is a
 * network the job says and the client decides, and boinc_network_poll returns
 * 0: go on. There is no screen and no web page. boinc_finish_diag,
 * boinc_suspend_other_activities and boinc_resume_other_activities return 0.
 */
void boinc_need_network(void);
int boinc_network_poll(void);
void boinc_network_done(void);
void boinc_network_usage(double sent, double received);
int boinc_suspend_other_activities(void);
int boinc_resume_other_activities(void);
void boinc_ops_per_cpu_sec(double fp, double integer);
void boinc_web_graphics_url(char *url);
void boinc_remote_desktop_addr(char *address);
int boinc_finish_diag(void);
void diagnostics_set_max_file_sizes(double stdout_size, double stderr_size);

#ifdef __cplusplus
}

/* The forms that C++ programs know from BOINC; compiled by them, so that any std::string will do. */
inline int boinc_get_init_data(APP_INIT_DATA &data)
{
    return boinc_get_init_data_p(&data);
}

inline int boinc_wu_cpu_time(double &seconds)
{
    return boinc_wu_cpu_time(&seconds);
}

inline void boinc_options_defaults(BOINC_OPTIONS &options)
{
    BOINC_OPTIONS defaults = {0, 1, 1, 1, 1, 1, 0, 0};

    options = defaults;
}

inline int boinc_upload_file(std::string &name)
{
    return boinc_upload_file(name.c_str());
}

inline int boinc_upload_status(std::string &name)
{
    return boinc_upload_status(name.c_str());
}

/* As boinc_resolve_filename, with names of up to 4,095 bytes; `physical` is left alone if it fails. */
inline int boinc_resolve_filename_s(const char *logical, std::string &physical)
{
    std::vector<char> name(4096);
    int error = boinc_resolve_filename(logical, &name[0], 4096);

    if (error == 0)
        physical = &name[0];
    return error;
}

/* Write `date time (process id):` to `buffer`, as far as it goes, in local time. Returns `buffer`. */
char *boinc_msg_prefix(char *buffer, int size);

/*
 * As boinc_finish; the message is told with the end: the client shows it in its
 * log. One line, of at most 1,024 bytes.
 */
int boinc_finish_message(int status, const char *message, bool is_notice);

int boinc_temporary_exit(int delay, const char *reason = NULL, bool is_notice = false);

/* As boinc_report_app_status; the others are measured outside. */
int boinc_report_app_status_aux(double cpu, double cpu_at_checkpoint, double fraction, int other_pid, double sent,
                                double received);
int boinc_report_app_status_aux(double cpu, double cpu_at_checkpoint, double fraction, int other_pid, double sent,
                                double received, double working_set);

/*
 * Memory of `size` bytes, all 0, which the processes of the machine that work
 * in this directory share as the file boinc_PROGRAM_0. NULL if there is no
 * room, no file or no such name. There is no screen: the status is written
 * nowhere (0), and found nowhere (-108).
 */
void *boinc_graphics_make_shmem(const char *program, int size);
void *boinc_graphics_get_shmem(const char *program);
int boinc_write_graphics_status(double cpu, double elapsed, double fraction);
int boinc_parse_graphics_status(double *updated, double *cpu, double *elapsed, double *fraction, BOINC_STATUS *status);

/*
 * Set before boinc_init if the library shall have no thread. Then nothing is
 * reported and no checkpoint becomes due but by boinc_checkpoint_completed,
 * boinc_finish and the host's own question, until start_timer_thread is
 * called, which returns 0 or an errno.
 */
extern bool boinc_disable_timer_thread;
int start_timer_thread(void);
int boinc_init_options_general(BOINC_OPTIONS &options); /* as boinc_init_options */
void options_defaults(BOINC_OPTIONS &options); /* as boinc_options_defaults */

/* A machine is never asked to compute only now and then: the state is CA_NONE for ever. Returns 0 for a directory. */
void boinc_sporadic_set_ac_state(SPORADIC_AC_STATE state);
SPORADIC_CA_STATE boinc_sporadic_get_ca_state();
int boinc_sporadic_dir(const char *directory);
void boinc_waiting_for_network(bool waiting); /* does nothing */
extern volatile bool got_heartbeat_message; /* true: boinc_status holds from the beginning */
extern const char *api_version; /* whose interface this is */
#endif

#endif
