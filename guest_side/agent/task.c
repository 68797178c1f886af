/* SPDX-License-Identifier: Apache-2.0 */
/* task.c - the message `task`, kept until the agent ends. */
#define _GNU_SOURCE
#include "agent.h"

#include <stdlib.h>
#include <string.h>

static void *must(void *memory)
{
    if (memory == NULL) {
        say("out of memory");
        abort();
    }
    return memory;
}

static void append(struct list *list, char *item)
{
    list->items = must(realloc(list->items, (list->count + 2) * sizeof *list->items));
    list->items[list->count++] = item;
    list->items[list->count] = NULL;
}

bool list_has(const struct list *list, const char *name)
{
    size_t i;

    for (i = 0; i < list->count; i++)
        if (strcmp(list->items[i], name) == 0)
            return true;
    return false;
}

/* argv[0] has its place before any `arg`, wherever `program` stands in the file. */
static void take_text(struct task *task, const char *key, char *text)
{
    if (strcmp(key, "program") == 0)
        task->argv.items[0] = text;
    else if (strcmp(key, "arg") == 0)
        append(&task->argv, text);
    else if (strcmp(key, "env") == 0)
        append(&task->env, text);
    else if (strcmp(key, "input") == 0)
        append(&task->inputs, text);
    else if (strcmp(key, "output") == 0)
        append(&task->outputs, text);
    else if (strcmp(key, "checkpoint_file") == 0)
        append(&task->checkpoint_files, text);
    else if (strcmp(key, "package") == 0)
        append(&task->packages, text);
    else if (strcmp(key, "program_path") == 0)
        task->path = text;
    else if (strcmp(key, "stdin") == 0)
        task->stdin_name = text;
    else if (strcmp(key, "stdout") == 0)
        task->stdout_name = text;
    else
        task->stderr_name = text;
}

static void take(void *user, const struct wire_value *value)
{
    struct task *task = user;

    if (value->type == WIRE_NUMBER)
        task->checkpoint_period = value->number;
    else if (value->type != WIRE_VERSION)
        take_text(task, value->key, must(strndup(value->text, value->len)));
}

enum wire_status task_decode(struct task *task, const char *bytes, size_t len, int *rule)
{
    enum wire_status verdict = wire_decode(WIRE_TASK, bytes, len, NULL, NULL, rule);

    if (verdict != WIRE_OK)
        return verdict;
    *task = (struct task){.checkpoint_period = -1};
    append(&task->argv, NULL);
    return wire_decode(WIRE_TASK, bytes, len, take, task, rule);
}

const char *task_stdout(const struct task *task)
{
    return task->stdout_name != NULL ? task->stdout_name : ".stdout";
}

const char *task_stderr(const struct task *task)
{
    return task->stderr_name != NULL ? task->stderr_name : ".stderr";
}
