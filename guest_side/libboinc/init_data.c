/* SPDX-License-Identifier: Apache-2.0 */
/* init_data.c - see init_data.h. Nothing here asks the locale, and numbers are parsed by hand. */
#define _GNU_SOURCE
#include "init_data.h"
#include "../wire/wire.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

struct place {
    const char *key;
    enum { TEXT, INTEGER, NUMBER } type;
    size_t at;
};

#define PLACE(type, member) {#member, type, offsetof(struct APP_INIT_DATA, member)}
#define HOST_PLACE(type, member) {#member, type, offsetof(struct APP_INIT_DATA, host_info.member)}

/* What the file may say; no other key of it counts. */
static const struct place places[] = {
    PLACE(TEXT, app_name), PLACE(TEXT, wu_name), PLACE(TEXT, result_name),
    PLACE(INTEGER, app_version), PLACE(INTEGER, major_version),
    PLACE(INTEGER, minor_version), PLACE(INTEGER, release),
    PLACE(NUMBER, ncpus), PLACE(NUMBER, rsc_fpops_est), PLACE(NUMBER, rsc_fpops_bound),
    PLACE(NUMBER, rsc_memory_bound), PLACE(NUMBER, rsc_disk_bound),
    PLACE(NUMBER, wu_cpu_time), PLACE(NUMBER, starting_elapsed_time),
    PLACE(NUMBER, computation_deadline), PLACE(NUMBER, resource_share_fraction),
    PLACE(NUMBER, fraction_done_start), PLACE(NUMBER, fraction_done_end),
    HOST_PLACE(NUMBER, p_fpops), HOST_PLACE(NUMBER, p_iops),
};

/* What is known here. */
static const struct place own_places[] = {
    PLACE(TEXT, project_dir), PLACE(TEXT, boinc_dir), PLACE(NUMBER, checkpoint_period),
    PLACE(INTEGER, gpu_device_num), PLACE(INTEGER, gpu_opencl_dev_index),
    HOST_PLACE(INTEGER, p_ncpus), HOST_PLACE(NUMBER, m_nbytes),
};

#define COUNT(table) (sizeof(table) / sizeof *(table))

static const struct place *find_in(const struct place *table, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, table[i].key) == 0)
            return &table[i];
    return NULL;
}

static const struct place *find_any(const char *key)
{
    const struct place *place = find_in(places, COUNT(places), key);

    return place != NULL ? place : find_in(own_places, COUNT(own_places), key);
}

/* ----------------------------------------------------------- numbers -- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The digits before or after the point; *power counts those after it down. */
static const char *take_digits(const char *text, double *value, int *power, int step)
{
    for (; is_digit(*text); text++) {
        *value = *value * 10 + (*text - '0');
        *power += step;
    }
    return text;
}

static int parse_exponent(const char *text)
{
    bool negative = *text == '-';
    int value = 0;

    text += *text == '-' || *text == '+';
    for (; is_digit(*text) && value < 1000; text++)
        value = value * 10 + (*text - '0');
    return negative ? -value : value;
}

/* A number of the protocol (R14); divided once, so that what has few digits comes out exact. */
static double parse_number(const char *text)
{
    double value = 0, scale = 1;
    int power = 0;

    text = take_digits(text, &value, &power, 0);
    if (*text == '.')
        text = take_digits(text + 1, &value, &power, -1);
    if (*text == 'e' || *text == 'E')
        power += parse_exponent(text + 1);
    for (int i = power < 0 ? -power : power; i > 0 && scale < 1e300; i--)
        scale *= 10;
    return power < 0 ? value / scale : value * scale;
}

/* -------------------------------------------------------------- lines -- */

static void put_text(char *out, const char *value)
{
    size_t len = strlen(value);

    if (len > APP_INIT_DATA_TEXT - 1)
        len = APP_INIT_DATA_TEXT - 1;
    memcpy(out, value, len);
    out[len] = '\0';
}

static void put_value(struct APP_INIT_DATA *data, const struct place *place, const char *value)
{
    char *out = (char *)data + place->at;
    double number = parse_number(value + strspn(value, " \t"));

    if (place->type == TEXT)
        put_text(out, value);
    else if (place->type == NUMBER)
        memcpy(out, &number, sizeof number);
    else
        *(int *)(void *)out = number < 2147483647 ? (int)number : 2147483647;
}

static void take_line(struct APP_INIT_DATA *data, char *line)
{
    char *space = strchr(line, ' ');
    const struct place *place;

    if (space == NULL)
        return;
    *space = '\0';
    place = find_in(places, COUNT(places), line);
    if (place != NULL)
        put_value(data, place, space + 1);
}

static void take_lines(struct APP_INIT_DATA *data, char *text)
{
    char *line, *rest = text;

    while ((line = strsep(&rest, "\n")) != NULL) {
        size_t len = strlen(line);
        if (len > 0 && line[len - 1] == '\r')
            line[len - 1] = '\0';
        take_line(data, line);
    }
}

/* --------------------------------------------------------- the machine -- */

/* The host's paths mean nothing here; what a program looks for lies where it works. */
static void put_folder(char *out)
{
    if (getcwd(out, APP_INIT_DATA_TEXT) == NULL)
        strcpy(out, ".");
}

static void know_the_machine(struct APP_INIT_DATA *data)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    data->host_info.p_ncpus = cpus > 0 ? (int)cpus : 1;
    data->host_info.m_nbytes = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    data->ncpus = data->host_info.p_ncpus;
    data->fraction_done_end = 1;
    data->gpu_device_num = data->gpu_opencl_dev_index = -1;
    put_folder(data->project_dir);
    put_folder(data->boinc_dir);
}

bool init_data_read(struct APP_INIT_DATA *data, const char *spool)
{
    static char text[WIRE_FILE_MAX + 1];
    int folder = spool == NULL ? -1 : open(spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ssize_t len = folder < 0 ? -1 : wire_read(folder, "init_data", text, WIRE_FILE_MAX);

    if (folder >= 0)
        close(folder);
    memset(data, 0, sizeof *data);
    know_the_machine(data);
    if (len < 0)
        return false;
    text[len] = '\0';
    take_lines(data, text);
    return true;
}

/* ----------------------------------------------------------- by name -- */

void init_data_text(const struct APP_INIT_DATA *data, const char *key, char *out, size_t size)
{
    const struct place *place = find_any(key);
    const char *text = place == NULL ? "" : (const char *)data + place->at;
    size_t len = strlen(text);

    if (len > size - 1)
        len = size - 1;
    memcpy(out, text, len);
    out[len] = '\0';
}

double init_data_number(const struct APP_INIT_DATA *data, const char *key)
{
    const struct place *place = find_any(key);
    const void *at = place == NULL ? NULL : (const char *)data + place->at;

    if (place == NULL)
        return 0;
    return place->type == INTEGER ? *(const int *)at : *(const double *)at;
}
