/* SPDX-License-Identifier: Apache-2.0 */
/*
 * graphics.c - the memory that a program and its graphics share. A machine has
 * no screen; what the program writes there only has to have a place.
 */
#define _GNU_SOURCE
#include "boinc_api.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* For C++ only in BOINC's headers: cxx_names.c. */
#define MANGLED(name) __asm__(name) __attribute__((visibility("default")))

#define ERR_FOPEN (-108)

static int open_memory(const char *program, int flags)
{
    char path[256];
    int len = snprintf(path, sizeof path, "boinc_%s_0", program); /* the slot's number, which is 0 in a machine */

    if (len < 0 || (size_t)len >= sizeof path)
        return -1;
    return open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0660);
}

static void *map(int fd, size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

void *make_shmem(const char *program, int size) MANGLED("_Z25boinc_graphics_make_shmemPKci");
void *make_shmem(const char *program, int size)
{
    int fd = program == NULL || size <= 0 ? -1 : open_memory(program, O_CREAT);
    void *memory = NULL;

    if (fd < 0)
        return NULL;
    /* The room is taken now: on a full disk the program would be killed when it writes. */
    if (ftruncate(fd, 0) == 0 && posix_fallocate(fd, 0, size) == 0)
        memory = map(fd, (size_t)size);
    close(fd);
    return memory;
}

void *get_shmem(const char *program) MANGLED("_Z24boinc_graphics_get_shmemPKc");
void *get_shmem(const char *program)
{
    int fd = program == NULL ? -1 : open_memory(program, 0);
    void *memory = NULL;
    struct stat st;

    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
        memory = map(fd, (size_t)st.st_size);
    close(fd);
    return memory;
}

int write_status(double cpu, double elapsed, double fraction) MANGLED("_Z27boinc_write_graphics_statusddd");
int write_status(double cpu, double elapsed, double fraction)
{
    (void)cpu;
    (void)elapsed;
    (void)fraction;
    return 0;
}

/* As where there is no file of that. */
int parse_status(double *updated, double *cpu, double *elapsed, double *fraction, BOINC_STATUS *status)
    MANGLED("_Z27boinc_parse_graphics_statusPdS_S_S_P12BOINC_STATUS");
int parse_status(double *updated, double *cpu, double *elapsed, double *fraction, BOINC_STATUS *status)
{
    (void)updated;
    (void)cpu;
    (void)elapsed;
    (void)fraction;
    (void)status;
    return ERR_FOPEN;
}
