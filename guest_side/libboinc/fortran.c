/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fortran.c - the interface under the names that Fortran compilers call:
 * small letters and an underscore, everything by its address. The length of
 * a text comes by value, after all others; it is filled with blanks.
 */
#include "boinc_api.h"

#include <pthread.h>
#include <string.h>

#if defined(__GNUC__)
#define PUBLIC __attribute__((visibility("default")))
#else
#define PUBLIC
#endif

#define NAME_SIZE 4096

#if defined(__GNUC__)
/*
 * libgfortran, when there is a second thread, calls these without having asked
 * for them, and a static program has only what somebody asked for. Without
 * them it crashes at its end, after all has gone well.
 */
typedef void (*any_function)(void);
static const any_function libgfortran_calls[] __attribute__((used)) = {
    (any_function)pthread_mutex_init, (any_function)pthread_mutex_destroy, (any_function)pthread_mutex_trylock,
    (any_function)pthread_cond_init, (any_function)pthread_cond_destroy, (any_function)pthread_cond_wait,
    (any_function)pthread_cond_broadcast,
};
#endif

PUBLIC void boinc_init_(void)
{
    boinc_init();
}

PUBLIC void boinc_finish_(const int *status)
{
    boinc_finish(*status);
}

PUBLIC void boinc_is_standalone_(int *result)
{
    *result = boinc_is_standalone();
}

static size_t trimmed(const char *text, int size)
{
    size_t len = size > 0 ? (size_t)size : 0;

    while (len > 0 && text[len - 1] == ' ')
        len--;
    return len;
}

/* Resolve `logical`; all blanks if it is too long. */
PUBLIC void boincrf_(const char *logical, char *physical, int logical_size, int physical_size)
{
    char name[NAME_SIZE] = "", found[NAME_SIZE] = "";
    size_t len = trimmed(logical, logical_size);

    if (physical_size <= 0)
        return;
    memset(physical, ' ', (size_t)physical_size);
    if (len >= sizeof name)
        return;
    memcpy(name, logical, len);
    if (boinc_resolve_filename(name, found, sizeof found) == 0 && strlen(found) <= (size_t)physical_size)
        memcpy(physical, found, strlen(found));
}

PUBLIC void boinc_parse_init_data_file_(void)
{
    boinc_parse_init_data_file();
}

PUBLIC void boinc_time_to_checkpoint_(int *result)
{
    *result = boinc_time_to_checkpoint();
}

PUBLIC void boinc_checkpoint_completed_(void)
{
    boinc_checkpoint_completed();
}

PUBLIC void boinc_begin_critical_section_(void)
{
    boinc_begin_critical_section();
}

PUBLIC void boinc_end_critical_section_(void)
{
    boinc_end_critical_section();
}

PUBLIC void boinc_fraction_done_(const double *fraction)
{
    boinc_fraction_done(*fraction);
}

PUBLIC void boinc_get_fraction_done_(double *fraction)
{
    *fraction = boinc_get_fraction_done();
}

PUBLIC void boinc_wu_cpu_time_(double *seconds)
{
    boinc_wu_cpu_time(seconds);
}

PUBLIC void boinc_calling_thread_cpu_time_(double *seconds)
{
    *seconds = boinc_worker_thread_cpu_time();
}
