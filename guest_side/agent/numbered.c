/* SPDX-License-Identifier: Apache-2.0 */
/*
 * numbered.c - trickles and uploads (B15).
 *
 * Out: what the program left in the spool is taken in the order of its
 * numbers, gets a number of our own without gaps, and lies in the share until
 * the host has taken it. The rest waits in the spool, so that neither our
 * memory nor the host's disk grows with what a program may send.
 *
 * In: the host's files are copied into the spool, each once.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW 16 /* so many of a kind lie in the share */
#define WINDOW_AT_END 512 /* when the program has ended, all that it left; these at most */
#define UNREAD_MOST 64 /* so many messages from the project wait for the program */
#define UPLOADS_MOST 4096
#define ANSWERS_AT_ONCE 16
#define NO_FILE (-108) /* as BOINC numbers errors; the library tells it */
#define NAME_SIZE 32

/* A message on its way to the host. */
struct message {
    char *bytes;
    size_t len;
    bool ready; /* an upload: its file is in out/ */
    bool published;
};

struct queue {
    enum wire_kind kind;
    uint32_t last; /* the last number taken from the spool */
    uint32_t first; /* our number of the first message */
    struct message *messages;
    size_t count;
    int64_t taken; /* by the host */
    struct watch watch; /* of the next in the spool */
    uint32_t watched;
    char name[NAME_SIZE];
    bool failed;
};

/* An upload of ours: which output, what the program called it, and whether the host has said what became of it. */
struct upload {
    const char *name;
    uint32_t in_spool;
    bool answered;
};

static struct queue trickles = {.kind = WIRE_TRICKLE_UP, .first = 1};
static struct queue requests = {.kind = WIRE_UPLOAD, .first = 1};
static struct upload *uploads; /* number N is at N - 1 */
static size_t upload_count;
static uint32_t copying; /* the number of the upload that the uploader is at */
static uint32_t next_down = 1;

static void *grow(void *memory, size_t size)
{
    memory = realloc(memory, size);
    if (memory == NULL) {
        say("out of memory");
        abort();
    }
    return memory;
}

static void name_of(char *out, enum wire_kind kind, uint32_t number)
{
    snprintf(out, NAME_SIZE, "%s.%lu", wire_kind_name(kind), (unsigned long)number);
}

static bool is_there(const char *folder, enum wire_kind kind, uint32_t number)
{
    char name[NAME_SIZE], path[PATH_MAX];

    name_of(name, kind, number);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void delete(const char *folder, enum wire_kind kind, uint32_t number)
{
    char name[NAME_SIZE], path[PATH_MAX];

    name_of(name, kind, number);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

/* The lowest number above `after` of which there is a file; 0 if there is none. */
static uint32_t find_next(const char *folder, enum wire_kind wanted, uint32_t after)
{
    uint32_t found = 0, number;
    struct dirent *entry;
    enum wire_kind kind;
    DIR *dir = opendir(folder);

    if (dir == NULL)
        return 0;
    while ((entry = readdir(dir)) != NULL)
        if (wire_judge_filename(entry->d_name, strlen(entry->d_name), &kind, &number)
                == WIRE_FILE_NUMBERED
            && kind == wanted && number > after && (found == 0 || number < found))
            found = number;
    closedir(dir);
    return found;
}

/* -------------------------------------------------- out of the spool ---- */

static void answer(const struct options *options, uint32_t in_spool, int64_t code)
{
    char name[NAME_SIZE], buffer[64];
    struct wire_writer file;

    wire_begin(&file, buffer, sizeof buffer);
    wire_put_integer(&file, "status", code);
    name_of(name, WIRE_UPLOADED, in_spool);
    publish_in(options->spool, name, &file, false);
}

static void append(struct queue *queue, const char *bytes, size_t len)
{
    struct message *message;

    queue->messages = grow(queue->messages, (queue->count + 1) * sizeof *queue->messages);
    message = &queue->messages[queue->count++];
    *message = (struct message){grow(NULL, len), len, queue->kind == WIRE_TRICKLE_UP, false};
    memcpy(message->bytes, bytes, len);
}

static void take_name(void *user, const struct wire_value *value)
{
    snprintf(user, NAME_MAX + 1, "%.*s", (int)value->len, value->text);
}

static const char *find_output(const struct task *task, const char *name)
{
    size_t i;

    for (i = 0; i < task->outputs.count; i++)
        if (strcmp(task->outputs.items[i], name) == 0)
            return task->outputs.items[i];
    return NULL;
}

static void append_upload(const struct agent *agent, struct queue *queue)
{
    char name[NAME_MAX + 1] = "";
    const char *output;
    int rule;

    wire_decode(WIRE_UPLOAD, queue->watch.bytes, queue->watch.whole, take_name, name, &rule);
    output = find_output(&agent->task, name);
    if (output == NULL || upload_count == UPLOADS_MOST) {
        say("%s is not uploaded: %s is no output, or these are too many", queue->name, name);
        answer(&agent->options, queue->watched, NO_FILE);
        return;
    }
    uploads = grow(uploads, (upload_count + 1) * sizeof *uploads);
    uploads[upload_count++] = (struct upload){output, queue->watched, false};
    append(queue, queue->watch.bytes, queue->watch.whole);
}

static void judge(const struct agent *agent, struct queue *queue)
{
    const struct watch *watch = &queue->watch;
    int rule = 0;

    if (wire_decode(queue->kind, watch->bytes, watch->whole, NULL, NULL, &rule) != WIRE_OK)
        say("%s/%s breaks R%d", agent->options.spool, watch->name, rule);
    else if (queue->kind == WIRE_UPLOAD)
        append_upload(agent, queue);
    else
        append(queue, watch->bytes, watch->whole);
}

/*
 * Take the next one. The last one stays in the spool, for the library counts on from the
 * highest number that it finds there; uploads, which are few, all stay.
 */
static bool take_next(const struct agent *agent, struct queue *queue, int64_t now, bool over)
{
    const char *spool = agent->options.spool;
    uint32_t number = find_next(spool, queue->kind, queue->last);
    bool complete, hopeless;

    if (number == 0)
        return false;
    if (number != queue->watched) {
        watch_forget(&queue->watch);
        queue->watched = number;
        name_of(queue->name, queue->kind, number);
    }
    complete = watch_look(&queue->watch, spool, queue->name, now, over);
    hopeless = over || (queue->watch.error != 0 && queue->watch.error != -ENOENT);
    if (!complete && !hopeless)
        return false;
    if (complete)
        judge(agent, queue);
    if (queue->kind == WIRE_TRICKLE_UP && queue->last != 0)
        delete(spool, queue->kind, queue->last);
    queue->last = number;
    return true;
}

static void look(const struct agent *agent, struct queue *queue, int64_t now, bool over)
{
    size_t window = over ? WINDOW_AT_END : WINDOW;

    while (queue->count < window && take_next(agent, queue, now, over))
        ;
    if (over && find_next(agent->options.spool, queue->kind, queue->last) != 0)
        say("the program has left more than %d of %s; the others are lost", WINDOW_AT_END,
            wire_kind_name(queue->kind));
}

void numbered_look(const struct agent *agent, int64_t now, bool over)
{
    look(agent, &trickles, now, over);
    look(agent, &requests, now, over);
}

static void forget_spool(const struct options *options, enum wire_kind kind)
{
    uint32_t number = 0;

    while ((number = find_next(options->spool, kind, number)) != 0)
        delete(options->spool, kind, number);
}

/* What was taken from an earlier program's keeps its number: the host may have read it already. */
void numbered_begin(const struct options *options)
{
    size_t i;

    forget_spool(options, WIRE_TRICKLE_UP);
    forget_spool(options, WIRE_UPLOAD);
    forget_spool(options, WIRE_UPLOADED);
    forget_spool(options, WIRE_TRICKLE_DOWN);
    trickles.last = trickles.watched = requests.last = requests.watched = 0;
    for (i = 0; i < upload_count; i++)
        uploads[i].answered = true;
    next_down = 1;
}

/* --------------------------------------------------- into the share ---- */

static void take_taken(void *user, const struct wire_value *value)
{
    (void)user;
    if (strcmp(value->key, "saved") == 0)
        saved_taken(value->integer);
    else
        (strcmp(value->key, "upload") == 0 ? &requests : &trickles)->taken = value->integer;
}

static void look_taken(const struct options *options, int64_t now)
{
    static struct watch watch;
    int rule = 0;

    if (watch_look(&watch, options->host, "taken", now, false)
        && wire_decode(WIRE_TAKEN, watch.bytes, watch.whole, take_taken, NULL, &rule) != WIRE_OK)
        say("taken breaks R%d", rule);
}

/* After a restore that may be more than we remember to have said. */
static void drop_taken(struct queue *queue, const struct options *options)
{
    size_t gone = 0;

    while (gone < queue->count && (int64_t)queue->first + (int64_t)gone <= queue->taken) {
        delete(options->guest, queue->kind, queue->first + (uint32_t)gone);
        free(queue->messages[gone++].bytes);
    }
    queue->count -= gone;
    queue->first += (uint32_t)gone;
    if (gone > 0)
        memmove(queue->messages, queue->messages + gone, queue->count * sizeof *queue->messages);
}

/* In order, so that the host never finds a gap that will be filled. */
static bool publish_all(struct queue *queue, const struct options *options)
{
    char name[NAME_SIZE];
    size_t i;
    int error;

    for (i = 0; i < queue->count; i++) {
        struct message *message = &queue->messages[i];
        struct wire_writer file = {message->bytes, message->len, message->len, false};
        if (message->published)
            continue;
        if (!message->ready)
            return false;
        name_of(name, queue->kind, queue->first + (uint32_t)i);
        error = publish_in(options->guest, name, &file, false);
        if (error != 0 && !queue->failed)
            say("cannot write %s: %s", name, strerror(-error));
        queue->failed = error != 0;
        if (error != 0)
            return false;
        message->published = true;
    }
    return true;
}

/* The place of the first upload whose file is not in out/ yet; the count if there is none. */
static size_t first_unready(void)
{
    size_t i = 0;

    while (i < requests.count && requests.messages[i].ready)
        i++;
    return i;
}

/* An output is complete and synced in out/ before it is asked for. */
static void copy_output(struct agent *agent)
{
    size_t i = first_unready();

    if (i == requests.count || agent->uploader > 0 || agent->saver > 0)
        return;
    if (agent->phase == RUNNING || agent->phase == RESTING) {
        copying = requests.first + (uint32_t)i;
        agent->uploader = copy_upload(agent, uploads[copying - 1].name);
    }
    if (agent->phase == REPORTING)
        for (; i < requests.count; i++)
            requests.messages[i].ready = true; /* all outputs are there */
}

/* What went wrong was said; the host finds no file and says so. It may have been taken meanwhile. */
void numbered_copied(void)
{
    uint32_t i = copying - requests.first;

    if (copying >= requests.first && i < requests.count)
        requests.messages[i].ready = true;
}

/* ------------------------------------------------------ from the host ---- */

static enum wire_status read_host(const struct options *options, enum wire_kind kind, uint32_t number,
                                  struct wire_writer *file)
{
    static char buffer[WIRE_FILE_MAX];
    char name[NAME_SIZE];
    ssize_t len;
    int rule;

    name_of(name, kind, number);
    len = read_in(options->host, name, buffer, sizeof buffer);
    if (len < 0)
        return WIRE_INCOMPLETE;
    *file = (struct wire_writer){buffer, sizeof buffer, (size_t)len, false};
    return wire_decode(kind, buffer, (size_t)len, NULL, NULL, &rule);
}

static void fetch_trickle(const struct options *options)
{
    char name[NAME_SIZE];
    struct wire_writer file;
    enum wire_status verdict;

    if (next_down > UNREAD_MOST
        && is_there(options->spool, WIRE_TRICKLE_DOWN, next_down - UNREAD_MOST))
        return;
    verdict = read_host(options, WIRE_TRICKLE_DOWN, next_down, &file);
    if (verdict == WIRE_INCOMPLETE)
        return;
    name_of(name, WIRE_TRICKLE_DOWN, next_down);
    if (verdict == WIRE_INVALID)
        say("%s breaks a rule", name);
    else if (publish_in(options->spool, name, &file, false) != 0)
        return;
    next_down++;
}

static void fetch_answers(const struct options *options)
{
    static size_t next;
    struct wire_writer file;
    char name[NAME_SIZE];
    size_t i;

    for (i = 0; i < upload_count && i < ANSWERS_AT_ONCE; i++, next++) {
        struct upload *upload = &uploads[next % upload_count];
        uint32_t number = (uint32_t)(next % upload_count) + 1;
        if (upload->answered || read_host(options, WIRE_UPLOADED, number, &file) != WIRE_OK)
            continue;
        name_of(name, WIRE_UPLOADED, upload->in_spool);
        upload->answered = publish_in(options->spool, name, &file, false) == 0;
    }
}

/* -------------------------------------------------------------- both ---- */

bool numbered_publish(struct agent *agent, int64_t now)
{
    bool all;

    look_taken(&agent->options, now);
    drop_taken(&trickles, &agent->options);
    drop_taken(&requests, &agent->options);
    copy_output(agent);
    all = publish_all(&trickles, &agent->options);
    all = publish_all(&requests, &agent->options) && all;
    if (agent->phase == RUNNING) {
        fetch_trickle(&agent->options);
        fetch_answers(&agent->options);
    }
    return all;
}

void numbered_again(void)
{
    size_t i;

    for (i = 0; i < trickles.count; i++)
        trickles.messages[i].published = false;
    for (i = 0; i < requests.count; i++)
        requests.messages[i].published = requests.messages[i].ready = false;
}
