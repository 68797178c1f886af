/* SPDX-License-Identifier: Apache-2.0 */
/*
 * package.c - what comes with the task as a package: installed before the
 * program starts, removed when it has ended (B22).
 *
 * The guest's own tools do it, by way of its shell. Each package has two
 * places in a hidden folder of the working directory, which is on the disk
 * also where the root is in memory: itself as .NAME, and a folder NAME. What
 * a tar holds is unpacked there, so all of it goes with that folder; for the
 * others it is a mark that the image did not have the package before.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG PACKAGES "/.log"

/* In each script $1 is the package and $2 its folder. */
struct kind {
    const char *suffix;
    const char *tool; /* that of a whole system, which the image must have; NULL: any shell will do */
    const char *install, *remove;
};

#define UNPACK(how) "mkdir -p \"$2\" && tar -x" how "of \"$1\" -C \"$2\""
#define NAME_OF_DEB "n=$(dpkg-deb -f \"$1\" Package) || exit\n"
#define NAME_OF_RPM "n=$(rpm -qp --qf '%{NAME}' \"$1\") || exit\n"

/* A machine's disk is of one moment with its memory, whatever happens: dpkg need not sync each file. */
#define DPKG "DEBIAN_FRONTEND=noninteractive dpkg --force-unsafe-io"
#define INSTALL_DEB \
    NAME_OF_DEB \
    "[ \"$(dpkg-query -W -f '${db:Status-Status}' \"$n\" 2>/dev/null)\" = installed ] || mkdir -p \"$2\"\n" \
    DPKG " -i \"$1\""
#define INSTALL_RPM \
    NAME_OF_RPM "rpm -q \"$n\" >/dev/null 2>&1 || mkdir -p \"$2\"\n" \
    "rpm -U --replacepkgs \"$1\""

static const struct kind kinds[] = {
    {".deb", "dpkg", INSTALL_DEB, "[ ! -d \"$2\" ] || { " NAME_OF_DEB DPKG " --purge \"$n\"\n}"},
    {".rpm", "rpm", INSTALL_RPM, "[ ! -d \"$2\" ] || { " NAME_OF_RPM "rpm -e \"$n\"\n}"},
    {".tar", NULL, UNPACK(""), ":"},
    {".tar.gz", NULL, UNPACK("z"), ":"},
    {".tgz", NULL, UNPACK("z"), ":"},
    {".tar.xz", NULL, UNPACK("J"), ":"},
    {".txz", NULL, UNPACK("J"), ":"},
    {".tar.bz2", NULL, UNPACK("j"), ":"},
    {".tbz2", NULL, UNPACK("j"), ":"},
};

/* Whatever became of it, its two places are given back. */
static const char give_back[] = "(%s)\ns=$?\nrm -rf \"$1\" \"$2\" && exit $s";

static const struct kind *kind_of(const char *name)
{
    size_t len = strlen(name), end, i;

    for (i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        end = strlen(kinds[i].suffix);
        if (len > end && strcmp(name + len - end, kinds[i].suffix) == 0)
            return &kinds[i];
    }
    return NULL;
}

/* A program of the system itself: a shell may have one of the same name inside that knows no system. */
static bool has_tool(const char *tool)
{
    char path[PATH_MAX];
    const char *folder, *next;

    for (folder = PLAIN_PATH; folder != NULL; folder = next != NULL ? next + 1 : NULL) {
        next = strchr(folder, ':');
        snprintf(path, sizeof path, "%.*s/%s", (int)(next != NULL ? next - folder : (ptrdiff_t)strlen(folder)),
                 folder, tool);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

static const char *refusal(const char *name, bool machine)
{
    static char reason[MESSAGE_SIZE];
    const struct kind *kind = kind_of(name);

    if (kind == NULL)
        snprintf(reason, sizeof reason, "the package %s is neither a tar (.tar, .tar.gz, .tar.xz, .tar.bz2) "
                 "nor a .deb or .rpm", name);
    else if (kind->tool != NULL && !machine)
        snprintf(reason, sizeof reason, "the package %s is only installed in a machine, and this is none", name);
    else if (kind->tool != NULL && !has_tool(kind->tool))
        snprintf(reason, sizeof reason, "the package %s needs %s, which this image does not have", name, kind->tool);
    else
        return NULL;
    return reason;
}

const char *packages_refusal(const struct options *options, const struct list *packages)
{
    const char *reason = NULL;
    size_t i;

    for (i = 0; i < packages->count && reason == NULL; i++)
        reason = refusal(packages->items[i], options->machine);
    return reason;
}

static void place(char *path, const struct options *options, const char *prefix, const char *name)
{
    snprintf(path, PATH_MAX, "%s/" PACKAGES "/%s%s", options->work, prefix, name);
}

static pid_t run(const struct options *options, const char *script, const char *name)
{
    char log[PATH_MAX], package[PATH_MAX], folder[PATH_MAX], text[1024];
    char *argv[] = {"/bin/sh", "-c", text, "sh", package, folder, NULL};

    snprintf(text, sizeof text, "%s", script);
    snprintf(log, sizeof log, "%s/" LOG, options->work);
    place(package, options, ".", name);
    place(folder, options, "", name);
    return tool_start(log, argv);
}

pid_t package_install(const struct options *options, const char *name)
{
    say("installing %s", name);
    return run(options, kind_of(name)->install, name);
}

pid_t package_remove(const struct options *options, const char *name)
{
    char script[1024];

    say("removing %s", name);
    snprintf(script, sizeof script, give_back, kind_of(name)->remove);
    return run(options, script, name);
}

const char *package_failure(const struct options *options, int status)
{
    char log[PATH_MAX];

    snprintf(log, sizeof log, "%s/" LOG, options->work);
    return tool_failure(status, log);
}

void packages_end(const struct options *options)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/" LOG, options->work);
    unlink(path);
    snprintf(path, sizeof path, "%s/" PACKAGES, options->work);
    rmdir(path);
}

static void prepend_to_path(const char *folder)
{
    char *path;

    if (asprintf(&path, "%s:%s", folder, getenv("PATH")) >= 0)
        setenv("PATH", path, 1);
}

void packages_environment(const struct options *options, const struct list *packages)
{
    char folder[PATH_MAX], bin[PATH_MAX + 4];
    size_t i;

    unsetenv("VMBRIDGE_PACKAGES");
    if (packages->count == 0)
        return;
    snprintf(folder, sizeof folder, "%s/" PACKAGES, options->work);
    setenv("VMBRIDGE_PACKAGES", folder, 1);
    for (i = packages->count; i-- > 0;) {
        if (kind_of(packages->items[i])->tool != NULL)
            continue;
        place(folder, options, "", packages->items[i]);
        snprintf(bin, sizeof bin, "%s/bin", folder);
        prepend_to_path(access(bin, F_OK) == 0 ? bin : folder);
    }
}
