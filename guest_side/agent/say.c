/* SPDX-License-Identifier: Apache-2.0 */
/* say.c - the clock and the console. */
#define _GNU_SOURCE
#include "agent.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int64_t milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void say(const char *format, ...)
{
    char line[MESSAGE_SIZE + 64];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, "agent: %s\n", line);
}
