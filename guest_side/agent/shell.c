/* SPDX-License-Identifier: Apache-2.0 */
/* shell.c - the command boinc-guest for the program: this very binary under another name, at the end of its PATH. */
#define _GNU_SOURCE
#include "../shell/boinc_guest.h"
#include "agent.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* What an image or a package calls by this name goes before. */
static void append_to_path(const char *folder)
{
    char *path;

    if (asprintf(&path, "%s:%s", getenv("PATH"), folder) >= 0)
        setenv("PATH", path, 1);
}

void shell_offer(const struct options *options)
{
    char folder[PATH_MAX], name[PATH_MAX + 16], self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);

    snprintf(name, sizeof name, "%s/" BOINC_GUEST_BEGAN, options->spool);
    unlink(name);
    if (len <= 0)
        return;
    self[len] = '\0';
    snprintf(folder, sizeof folder, "%s/bin", options->spool);
    mkdir(folder, 0755);
    snprintf(name, sizeof name, "%s/" BOINC_GUEST, folder);
    unlink(name);
    if (symlink(self, name) == 0)
        append_to_path(folder);
}
