/* SPDX-License-Identifier: Apache-2.0 */
/* status.c - the guest's state and heartbeat. */
#define _GNU_SOURCE
#include "agent.h"

#include <string.h>

static const char *state_word(enum phase phase)
{
    switch (phase) {
    case FIRST_BOOT:
    case BOOTING:
    case FETCHING:
    case INSTALLING: return "booting";
    case READY:
    case RESTING: return "ready";
    case RUNNING:
    case REMOVING:
    case ENDED:
    case COLLECTING:
    case REPORTING: return "running";
    case DONE: return "finished";
    case FAILED: return "error";
    }
    return "error";
}

bool status_differs(enum phase one, enum phase other)
{
    return strcmp(state_word(one), state_word(other)) != 0;
}

static void encode(const struct agent *agent, struct wire_writer *writer)
{
    const struct status *status = &agent->status;

    wire_put_integer(writer, "protocol", 1);
    wire_put_text(writer, "state", state_word(agent->phase));
    wire_put_integer(writer, "heartbeat", status->heartbeat);
    if (status->ack > 0)
        wire_put_integer(writer, "ack", status->ack);
    if (status->refused > 0)
        wire_put_integer(writer, "refused", status->refused);
    wire_put_text(writer, "agent", AGENT_NAME);
    if (status->message[0] != '\0')
        wire_put_text(writer, "message", status->message);
}

static void publish(struct agent *agent, int64_t now)
{
    struct status *status = &agent->status;
    char buffer[2048];
    struct wire_writer writer;
    int error;

    status->heartbeat++;
    wire_begin(&writer, buffer, sizeof buffer);
    encode(agent, &writer);
    error = publish_in(agent->options.guest, "status", &writer, false);
    if (error != 0 && !status->failed)
        say("cannot write status: %s", strerror(-error));
    status->failed = status->changed = error != 0;
    pace_note(&status->pace, milliseconds());
    status->beat = now + BEAT_EVERY;
}

void status_publish(struct agent *agent, int64_t now)
{
    struct status *status = &agent->status;

    if (now >= status->beat && agent->phase == RUNNING)
        mirror_credit();
    if (now >= status->beat || (status->changed && pace_allows(&status->pace, now)))
        publish(agent, now);
}
