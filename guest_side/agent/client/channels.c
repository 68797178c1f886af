/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channels.c - the eight message channels that a client and a program share.
 *
 * The program maps the file; we read and write it, which on Linux is the same
 * memory. So a program that cuts its file off hurts only itself: for us, what
 * is not there is empty.
 */
#define _GNU_SOURCE
#include "client.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CHANNELS 8

static int file = -1;
static bool full[CHANNELS]; /* as channels_look has found them */

bool channels_make(const char *path)
{
    static const char nothing[CHANNELS * CHANNEL_SIZE];

    if (file >= 0)
        close(file);
    unlink(path);
    file = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    /* Written, not only made so long: the program must not be killed for want of room when it uses it. */
    if (file >= 0 && write(file, nothing, sizeof nothing) == (ssize_t)sizeof nothing)
        return true;
    unlink(path);
    return false;
}

void channels_look(void)
{
    char all[CHANNELS * CHANNEL_SIZE] = "";
    int i;

    if (file < 0 || pread(file, all, sizeof all, 0) < 0)
        memset(all, 0, sizeof all);
    for (i = 0; i < CHANNELS; i++)
        full[i] = all[i * CHANNEL_SIZE] != 0;
}

/* The flag was seen before the text is read, and the program sets it last. */
bool channels_get(enum channel channel, char text[CHANNEL_SIZE])
{
    ssize_t len;

    if (!full[channel])
        return false;
    len = pread(file, text, CHANNEL_SIZE - 1, channel * CHANNEL_SIZE + 1);
    text[len > 0 ? len : 0] = '\0';
    return true;
}

void channels_free(enum channel channel)
{
    full[channel] = pwrite(file, "", 1, channel * CHANNEL_SIZE) != 1;
}

bool channels_put(enum channel channel, const char *text)
{
    off_t at = channel * CHANNEL_SIZE;

    if (full[channel] || file < 0)
        return false;
    if (pwrite(file, text, strlen(text) + 1, at + 1) < 0 || pwrite(file, "\1", 1, at) != 1)
        return false;
    full[channel] = true;
    return true;
}
