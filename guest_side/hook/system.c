/* SPDX-License-Identifier: Apache-2.0 */
/* system.c - from a kernel and its initramfs to a system that is up: what an /init does. */
#define _GNU_SOURCE
#include "hook.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* bridge/image/init.py puts the modules there, under names that sort as they must be loaded. */
#define SHARE_MODULES "/lib/modules/share"
#define DISK_MODULES "/lib/modules/disk"
#define CARD_MODULES "/lib/modules/card"
#define SYSTEM "/system" /* an initramfs that has it is the way to a whole system, which is on the disk */
#define VIRTIO_DEVICES 32 /* there are two to four */
#define VIRTIO_CARD 1
#define VIRTIO_BLOCK 2

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

static void load_module(const char *folder, const char *name)
{
    char path[PATH_MAX];
    int fd;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0)
        give_up("load", path);
    close(fd);
    unlink(path); /* it lies in memory */
}

static void load_modules(const char *folder)
{
    struct dirent **names;
    int count = scandir(folder, &names, NULL, alphasort), i;

    if (count < 0)
        give_up("read", folder);
    for (i = 0; i < count; i++)
        if (names[i]->d_name[0] != '.')
            load_module(folder, names[i]->d_name);
}

/* The kind of a virtio device, as its standard numbers them; 0 if there is none of this number. */
static long device_kind(int number)
{
    char path[PATH_MAX], id[16] = "";
    int fd;

    snprintf(path, sizeof path, "/sys/bus/virtio/devices/virtio%d/device", number);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, id, sizeof id - 1) < 0)
        id[0] = '\0';
    if (fd >= 0)
        close(fd);
    return strtol(id, NULL, 16);
}

static bool has_device(long wanted)
{
    long kind = -1;
    int number;

    for (number = 0; number < VIRTIO_DEVICES && kind != 0; number++)
        if ((kind = device_kind(number)) == wanted)
            return true;
    return false;
}

static void load_disk(const char *where)
{
    load_modules(DISK_MODULES);
    if (mount("/dev/vda", where, "ext4", MS_NOATIME, "") != 0)
        give_up("mount", "/dev/vda");
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
    load_modules(SHARE_MODULES);
    if (has_device(VIRTIO_BLOCK))
        load_disk(whole ? SYSTEM : "/work");
    if (has_device(VIRTIO_CARD)) {
        load_modules(CARD_MODULES);
        network_up();
    }
    if (whole)
        enter_system();
}
