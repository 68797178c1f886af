/* SPDX-License-Identifier: Apache-2.0 */
/* command.c - what the host wants now. */
#define _GNU_SOURCE
#include "agent.h"

#include <string.h>
#include <time.h>

/* One of four words, which the decoder has seen to. */
static int wanted(const char *word)
{
    switch (*word) {
    case 'r': return WANT_RUN;
    case 'p': return WANT_PREPARE;
    default: return word[1] == 'a' ? WANT_SAVE : WANT_STOP;
    }
}

static void take(void *user, const struct wire_value *value)
{
    struct command *command = user;

    if (strcmp(value->key, "seq") == 0)
        command->seq = value->integer;
    else if (strcmp(value->key, "time") == 0)
        command->time = value->number;
    else if (strcmp(value->key, "away") == 0)
        command->away = value->number;
    else if (strcmp(value->key, "state") == 0)
        command->state = wanted(value->text);
}

bool command_other_version(struct agent *agent, const struct watch *watch, int rule)
{
    const char *version;
    size_t len = rule == 10 ? wire_claimed_version(watch->bytes, watch->whole, &version) : 0;

    if (len == 0 || (len == 1 && *version == '1'))
        return false;
    life_fail(agent, "%s is written in protocol %.*s; this agent knows protocol 1",
              watch->name, len < 32 ? (int)len : 32, version);
    return true;
}

/*
 * Set the clock if it is behind: it stood still while the machine was paused
 * or saved. The command may have waited for us while the machine booted, so
 * its time is only the least that it can be, and a clock that is ahead of it
 * may well be right.
 */
static void set_clock(double time)
{
    struct timespec now, then = {(time_t)time, 0};

    clock_gettime(CLOCK_REALTIME, &now);
    if (time - (double)now.tv_sec - (double)now.tv_nsec / 1e9 <= 1)
        return;
    then.tv_nsec = (long)((time - (double)then.tv_sec) * 1e9);
    if (clock_settime(CLOCK_REALTIME, &then) == 0)
        say("clock set, it was %.0f s behind", time - (double)now.tv_sec);
}

static void obey(struct agent *agent, const struct command *command)
{
    if (command->seq <= agent->command.seq)
        return;
    agent->command = *command;
    if (agent->options.machine)
        set_clock(command->time);
}

void command_look(struct agent *agent, int64_t now)
{
    static struct watch watch;
    struct command command = {0, WANT_RUN, 0, 0};
    int rule = 0;

    if (!watch_look(&watch, agent->options.host, "command", now, false))
        return;
    if (wire_decode(WIRE_COMMAND, watch.bytes, watch.whole, take, &command, &rule) == WIRE_OK)
        obey(agent, &command);
    else if (!command_other_version(agent, &watch, rule))
        say("command breaks R%d", rule);
}
