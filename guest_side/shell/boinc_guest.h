/* SPDX-License-Identifier: Apache-2.0 */
/* boinc_guest.h - what a program can say that has only a shell; part of the agent's binary. */
#ifndef VMBRIDGE_BOINC_GUEST_H
#define VMBRIDGE_BOINC_GUEST_H

#define BOINC_GUEST "boinc-guest" /* under this name the agent's binary is that command */
#define BOINC_GUEST_BEGAN ".boinc-guest" /* in the spool: when the checkpoint period began, on the clock that nobody sets */

/* Do what the command line says and return its exit status: 0; 1: no, or it cannot be written; 2: it makes no sense. */
int boinc_guest(int argc, char **argv);

#endif
