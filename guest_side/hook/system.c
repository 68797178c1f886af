/* SPDX-License-Identifier: Apache-2.0 */
/* system.c - from a kernel and its initramfs to a system that is up: what an /init does. */
#define _GNU_SOURCE
#include "hook.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * bridge/image/init.py puts the modules into MODULES. The other folders hold
 * lists: each is named after a device, as the kernel writes it (`modalias`)
 * but for what may be anything, and holds the modules for it in the order in
 * which they must be loaded. There are a few of each, and some are for the
 * devices of other hypervisors.
 */
#define MODULES "/lib/modules"
#define SHARE_LISTS MODULES "/share"
#define DISK_LISTS MODULES "/disk"
#define CARD_LISTS MODULES "/card"
#define SYSTEM "/system" /* an initramfs that has it is the way to a whole system, which is on the disk */
#define WORK_LABEL "vmbridge-work" /* bridge/image/build.py */
#define SYSTEM_LABEL "vmbridge-system"

#define DISK_WITHIN 10000 /* milliseconds: a disk behind a controller is found a while after its module was loaded */
#define LOOK_EVERY 20

static void mount_one(const char *type, const char *where, unsigned long flags, const char *options)
{
    if (mount(type, where, type, flags, options) != 0)
        give_up("mount", where);
}

static void mount_all(void)
{
    mount_one("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    mount_one("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    mount_one("devtmpfs", "/dev", MS_NOSUID, "mode=755");
    mount_one("tmpfs", "/work", 0, "mode=755"); /* it remains if there is no disk */
    if (mkdir("/dev/shm", 0755) != 0 || chmod("/dev/shm", 01777) != 0)
        give_up("make", "/dev/shm");
}

/* The text of a small file. */
static bool read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, size - 1);

    if (fd >= 0)
        close(fd);
    text[len < 0 ? 0 : len] = '\0';
    return len >= 0;
}

/* One that another list has had is gone. */
static void load_module(const char *name)
{
    char path[PATH_MAX];
    int fd;

    snprintf(path, sizeof path, MODULES "/%s.ko", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return;
    if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0)
        give_up("load", path);
    close(fd);
    unlink(path); /* it lies in memory */
}

static void load_list(const char *folder, const char *list)
{
    char path[PATH_MAX], names[1024], *name;

    snprintf(path, sizeof path, "%s/%s", folder, list);
    if (!read_text(path, names, sizeof names))
        give_up("read", path);
    for (name = strtok(names, "\n"); name != NULL; name = strtok(NULL, "\n"))
        load_module(name);
}

static bool matches(const char *text, const char *pattern)
{
    while (*pattern != '*' && *pattern != '\0' && *pattern == *text)
        pattern++, text++;
    if (*pattern != '*')
        return *pattern == *text;
    while (!matches(text, pattern + 1))
        if (*text++ == '\0')
            return false;
    return true;
}

static bool is_device(const char *bus, const char *name, const char *pattern)
{
    char path[PATH_MAX], alias[256];

    snprintf(path, sizeof path, "%s/%s/modalias", bus, name);
    if (!read_text(path, alias, sizeof alias))
        return false;
    alias[strcspn(alias, "\n")] = '\0';
    return matches(alias, pattern);
}

/* A pattern begins with the name of the bus on which such devices are. */
static bool has_device(const char *pattern)
{
    char bus[PATH_MAX];
    struct dirent *entry;
    bool found = false;
    DIR *devices;

    snprintf(bus, sizeof bus, "/sys/bus/%.*s/devices", (int)strcspn(pattern, ":"), pattern);
    devices = opendir(bus);
    while (devices != NULL && !found && (entry = readdir(devices)) != NULL)
        found = entry->d_name[0] != '.' && is_device(bus, entry->d_name, pattern);
    if (devices != NULL)
        closedir(devices);
    return found;
}

/* Load the modules for those devices in a folder of lists that are there; is there any? */
static bool load_modules(const char *folder)
{
    struct dirent **lists;
    int count = scandir(folder, &lists, NULL, alphasort), i;
    bool any = false;

    if (count < 0)
        give_up("read", folder);
    for (i = 0; i < count; i++)
        if (lists[i]->d_name[0] != '.' && has_device(lists[i]->d_name)) {
            load_list(folder, lists[i]->d_name);
            any = true;
        }
    return any;
}

/* Where ext4 has its magic number, and its label 64 bytes further on. */
#define EXT4_MAGIC_AT (1024 + 0x38)
#define LABEL_AT 64
#define LABEL_SIZE 16

static bool has_label(const char *device, const char *label)
{
    char block[LABEL_AT + LABEL_SIZE];
    int fd = open(device, O_RDONLY | O_CLOEXEC);
    bool has = fd >= 0 && pread(fd, block, sizeof block, EXT4_MAGIC_AT) == (ssize_t)sizeof block
        && memcmp(block, "\x53\xef", 2) == 0 && strncmp(block + LABEL_AT, label, LABEL_SIZE) == 0;

    if (fd >= 0)
        close(fd);
    return has;
}

/* Its name depends on the controller that the hypervisor has put it on. */
static bool find_disk(const char *label, char *device, size_t size)
{
    DIR *disks = opendir("/sys/class/block");
    struct dirent *entry;
    bool found = false;

    while (disks != NULL && !found && (entry = readdir(disks)) != NULL) {
        snprintf(device, size, "/dev/%s", entry->d_name);
        found = entry->d_name[0] != '.' && has_label(device, label);
    }
    if (disks != NULL)
        closedir(disks);
    return found;
}

static void mount_disk(const char *label, const char *where)
{
    char device[PATH_MAX];
    int waited;

    for (waited = 0; !find_disk(label, device, sizeof device); waited += LOOK_EVERY) {
        if (waited >= DISK_WITHIN)
            give_up_because("find", label, "no disk has this label");
        usleep(LOOK_EVERY * 1000);
    }
    if (mount(device, where, "ext4", MS_NOATIME, "") != 0)
        give_up("mount", device);
}

/* What the programs of a whole system count on, beside what the kernel makes. */
static void complete_devices(void)
{
    static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                           {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"},
                                           {"/proc/self/fd/2", "/dev/stderr"}};
    size_t i;

    for (i = 0; i < sizeof links / sizeof *links; i++)
        if (symlink(links[i][0], links[i][1]) != 0)
            give_up("make", links[i][1]);
    if (mkdir("/dev/pts", 0755) != 0)
        give_up("make", "/dev/pts");
    mount_one("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "ptmxmode=666,mode=620,gid=5");
}

/* Make the system on the disk the root, with what is mounted already. */
static void enter_system(void)
{
    static const char *const mounted[] = {"/proc", "/sys", "/dev"};
    char there[64];
    size_t i;

    for (i = 0; i < sizeof mounted / sizeof *mounted; i++) {
        snprintf(there, sizeof there, SYSTEM "%s", mounted[i]);
        if (mount(mounted[i], there, NULL, MS_MOVE, NULL) != 0)
            give_up("move", mounted[i]);
    }
    if (chdir(SYSTEM) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0)
        give_up("enter", SYSTEM);
    mount_one("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755");
    complete_devices();
    loopback_up();
}

void system_up(void)
{
    bool whole = access(SYSTEM, F_OK) == 0;

    mount_all();
    load_modules(SHARE_LISTS);
    if (load_modules(DISK_LISTS))
        mount_disk(whole ? SYSTEM_LABEL : WORK_LABEL, whole ? SYSTEM : "/work");
    if (load_modules(CARD_LISTS))
        network_up();
    if (whole)
        enter_system();
}
