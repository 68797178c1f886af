/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook.h - the mount hook: all that an image needs to run tasks of the virtual
 * machine bridge (docs/PROTOCOL.md, "The mount hook").
 *
 * Start it as root when the system is up, as a service or as the last thing
 * that an /init does; /run must be a file system in memory. Where nobody has
 * brought the system up, as in the tiny image, whose /init it is, it does that
 * itself.
 *
 * It is a program and no script because a shell with the commands that it
 * calls would take longer than everything that they do here: under emulation
 * it is new code that takes time, not work.
 *
 *   mount_hook.c  mount the host's export, copy the agent, become the agent
 *   system.c      from a kernel and its initramfs to a system that is up
 *   network.c     from a network card to a way out
 */
#ifndef VMBRIDGE_HOOK_H
#define VMBRIDGE_HOOK_H

/* Say what could not be done, with errno's reason or another, and end: an /init switches the machine off. */
void give_up(const char *doing, const char *what) __attribute__((noreturn));
void give_up_because(const char *doing, const char *what, const char *why) __attribute__((noreturn));

/*
 * Mount what every system has, load the modules for the devices that there
 * are, mount the image's disk if there is one (at /work, or as the root if it
 * holds a whole system), and bring up a network card if there is one.
 */
void system_up(void);

/* Give the card its address and the way out. */
void network_up(void);

/* Switch on the way to this machine itself, which the programs of a whole system talk by. */
void loopback_up(void);

#endif
