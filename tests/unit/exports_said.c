/* SPDX-License-Identifier: Apache-2.0 */
/* exports_said.c - get the exports back in FOLDER, thrice, under a kernel that mounts the host's and not the guest's. */
#define _GNU_SOURCE
#include "../../guest_side/agent/agent.h"
#include "../../guest_side/machine/machine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

/* In the C library's place. */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *options)
{
    (void)target;
    (void)type;
    (void)flags;
    (void)options;
    errno = ENOENT;
    return strcmp(source, HOST_TAG) == 0 ? 0 : -1;
}

/* In the agent's place. */
void say(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

int main(int argc, char **argv)
{
    static char host[300], guest[300];
    struct options options = {.host = host, .guest = guest};
    int i;

    if (argc != 2)
        return 2;
    snprintf(host, sizeof host, "%s/host", argv[1]);
    snprintf(guest, sizeof guest, "%s/guest", argv[1]);
    for (i = 0; i < 3; i++)
        if (exports_mount(&options))
            return 1;
    return 0;
}
