/* SPDX-License-Identifier: Apache-2.0 */
/* share_ways.c - mount shares under a kernel that can mount one type only: FOLDER TYPE TAG..., a line for each TAG. */
#define _GNU_SOURCE
#include "../../guest_side/machine/machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

static const char *type_that_works;

/* In the C library's place. */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *options)
{
    (void)target;
    printf("%s %s %s %s\n", type, source, flags & MS_RDONLY ? "ro" : "rw", (const char *)options);
    errno = strcmp(type, "9p") == 0 ? ENOENT : ENODEV;
    return strcmp(type, type_that_works) == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    char path[300];
    int i;

    if (argc < 3)
        return 2;
    type_that_works = argv[2];
    setvbuf(stdout, NULL, _IONBF, 0);
    for (i = 3; i < argc; i++) {
        const char *why;

        snprintf(path, sizeof path, "%s/%s", argv[1], argv[i]);
        why = share_mount(argv[i], path, strcmp(argv[i], GUEST_TAG) == 0);
        printf("%s: %s\n", argv[i], why != NULL ? why : "mounted");
        if (why != NULL)
            type_that_works = "9p"; /* the second time, another would */
    }
    return 0;
}
