/* SPDX-License-Identifier: Apache-2.0 */
/* off.c - switch the machine off, which every hypervisor takes for its end; starting anew is that to few of them. */
#define _GNU_SOURCE
#include "machine.h"

#include <sys/reboot.h>
#include <termios.h>
#include <unistd.h>

void switch_off(void)
{
    if (getpid() != 1)
        return;
    sync();
    tcdrain(STDERR_FILENO); /* the last words are still on their way through the serial port */
    reboot(RB_POWER_OFF);
}
