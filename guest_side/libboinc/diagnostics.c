/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diagnostics.c - a program that crashes says where, on standard error, which
 * the agent passes on. These functions lie in BOINC's libboinc. A static
 * program that links that as well has ours, for ours come first and are all
 * that its object has; they are weak, should a later version have more.
 */
#define _GNU_SOURCE
#include "boinc_api.h"
#include "inside.h"

#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <execinfo.h>
#endif

#if defined(__GNUC__)
#define PUBLIC __attribute__((visibility("default"), weak))
#else
#define PUBLIC
#endif

#define ERR_INVALID_PARAM (-178)
#define EXIT_SIGNAL 193
#define TO_STDOUT_FILE (0x40 | 0x100) /* append to the file, or overwrite it */
#define BOTH_STDERR (0x20 | 0x80)
#define BOTH_STDOUT TO_STDOUT_FILE
#define DEFAULTS (0x1 | 0x2 | 0x4 | 0x20 | 0x200)
#define DEEPEST 64

static atomic_bool initialized;
static atomic_int flags_given;
static atomic_int exit_code = EXIT_SIGNAL;

/* ------------------------------------------------------------- crashes -- */

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        return;
}

static void say_number(int number)
{
    char digits[4] = {(char)('0' + number / 10 % 10), (char)('0' + number % 10), '\n', '\0'};

    say(digits);
}

static void trace_stack(void)
{
#if defined(__GLIBC__)
    void *frames[DEEPEST];

    backtrace_symbols_fd(frames, backtrace(frames, DEEPEST), STDERR_FILENO);
#endif
}

/* In a signal handler: nothing here allocates. */
static void catch_signal(int number)
{
    static atomic_flag here = ATOMIC_FLAG_INIT;

    if (!atomic_flag_test_and_set(&here)) {
        say("ended by signal ");
        say_number(number);
        trace_stack();
    }
    _exit(atomic_load(&exit_code));
}

static void set_handler(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};

    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

static void set_handler_if_none(int number, void (*handler)(int))
{
    struct sigaction before;

    if (sigaction(number, NULL, &before) == 0 && before.sa_handler == SIG_DFL)
        set_handler(number, handler);
}

static void handle_crashes(void)
{
    static const int crashes[] = {SIGILL, SIGABRT, SIGBUS, SIGSEGV, SIGSYS, SIGPIPE};
#if defined(__GLIBC__)
    void *frame;

    backtrace(&frame, 1); /* the first call loads what the handler must not */
#endif
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
        set_handler_if_none(crashes[i], catch_signal);
}

PUBLIC void boinc_catch_signal(int number)
{
    catch_signal(number);
}

PUBLIC void boinc_set_signal_handler_force(int number, void (*handler)(int))
{
    set_handler(number, handler);
}

PUBLIC void boinc_set_signal_handler(int number, void (*handler)(int))
{
    set_handler_if_none(number, handler);
}

#if defined(__GNUC__)
void cxx_force(int number, void (*handler)(int)) __asm__("_Z30boinc_set_signal_handler_forceiPFviE") PUBLIC;
void cxx_force(int number, void (*handler)(int))
{
    set_handler(number, handler);
}
#endif

PUBLIC int boinc_install_signal_handlers(void)
{
    handle_crashes();
    return 0;
}

PUBLIC void set_signal_exit_code(int code)
{
    atomic_store(&exit_code, code);
}

/* --------------------------------------------------------- begin and end -- */

static int begin(int flags)
{
    if ((flags & BOTH_STDERR) == BOTH_STDERR || (flags & BOTH_STDOUT) == BOTH_STDOUT)
        return ERR_INVALID_PARAM;
    if (atomic_exchange(&initialized, true))
        return ERR_INVALID_PARAM;
    atomic_store(&flags_given, flags);
    if (flags & TO_STDOUT_FILE)
        setvbuf(stdout, NULL, _IOLBF, 0); /* the file would be, and a crash loses nothing then */
    handle_crashes();
    return 0;
}

/* By no public name: those may be libboinc's, which moves standard error into a file that nobody in a machine reads. */
void diagnostics_default(void)
{
    begin(DEFAULTS);
}

PUBLIC int diagnostics_init(int flags, const char *stdout_prefix, const char *stderr_prefix)
{
    (void)stdout_prefix;
    (void)stderr_prefix;
    return begin(flags);
}

PUBLIC int boinc_init_diagnostics(int flags)
{
    return diagnostics_init(flags, "stdout", "stderr");
}

PUBLIC int boinc_init_graphics_diagnostics(int flags)
{
    return diagnostics_init(flags, "stdoutgfx", "stderrgfx");
}

PUBLIC int boinc_finish_diag(void)
{
    return 0;
}

PUBLIC int diagnostics_is_initialized(void)
{
    return atomic_load(&initialized);
}

PUBLIC int diagnostics_is_flag_set(int flags)
{
    return (atomic_load(&flags_given) & flags) != 0;
}

/* What is the client's own, or of other systems. */

PUBLIC bool main_exited;
static char nothing[1];

PUBLIC int diagnostics_finish(void)
{
    return 0;
}

PUBLIC int diagnostics_thread_init(void)
{
    return 0;
}

PUBLIC int diagnostics_cycle_logs(void)
{
    return 0;
}

PUBLIC char *diagnostics_get_boinc_dir(void)
{
    return nothing;
}

PUBLIC char *diagnostics_get_boinc_install_dir(void)
{
    return nothing;
}

PUBLIC char *diagnostics_get_symstore(void)
{
    return nothing;
}

PUBLIC int diagnostics_set_symstore(const char *symstore)
{
    (void)symstore;
    return 0;
}

PUBLIC char *diagnostics_get_proxy(void)
{
    return nothing;
}

PUBLIC int diagnostics_is_proxy_enabled(void)
{
    return 0;
}

PUBLIC int diagnostics_is_aborted_via_gui(void)
{
    return 0;
}

PUBLIC int diagnostics_set_aborted_via_gui(void)
{
    return 0;
}

PUBLIC int diagnostics_trace_to_debugger(const char *message)
{
    (void)message;
    return 0;
}

/* Standard error is the agent's, which keeps the end of it. */
PUBLIC void diagnostics_set_max_file_sizes(double stdout_size, double stderr_size)
{
    (void)stdout_size;
    (void)stderr_size;
}

/* -------------------------------------------------------------- messages -- */

PUBLIC void boinc_trace(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
}

PUBLIC void boinc_info(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
}
