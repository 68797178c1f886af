/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chain.h - the work of the programs in this folder, for C and C++: a chain of
 * numbers of which no step can be left out or done twice. The log grows all
 * the time, the state is replaced. Half-way it waits for the file `go` in the
 * host's folder, in a machine or without one, and saves its state on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define STEPS 100
#define CHECK(what) ((what) ? (void)0 : not_so(#what))

static void not_so(const char *what)
{
    fprintf(stderr, "not so: %s\n", what);
    _exit(9);
}

struct chain {
    long done;
    long long value;
    long size; /* of the log */
    FILE *log;
};

static inline void chain_begin(struct chain *chain)
{
    FILE *state = fopen("state", "r");

    chain->done = chain->size = 0;
    chain->value = 1;
    if (state != NULL) {
        CHECK(fscanf(state, "%ld %lld %ld", &chain->done, &chain->value, &chain->size) == 3);
        fclose(state);
    }
    chain->log = fopen("log.txt", state != NULL ? "r+" : "w");
    CHECK(chain->log != NULL && ftruncate(fileno(chain->log), chain->size) == 0);
    CHECK(fseek(chain->log, chain->size, SEEK_SET) == 0);
}

static inline void chain_step(struct chain *chain)
{
    usleep(30000);
    if (chain->done == STEPS / 2 && access("/run/vmbridge/host/go", F_OK) != 0 && access("../../shared/host/go", F_OK) != 0)
        return;
    chain->value = (long long)((unsigned long long)chain->value * 6364136223846793005ULL + 1442695040888963407ULL)
        & 0x7fffffffffffffffLL;
    fprintf(chain->log, "%ld %lld\n", ++chain->done, chain->value);
    fflush(chain->log);
}

static inline void chain_save(struct chain *chain)
{
    FILE *state = fopen("state.new", "w");

    CHECK(state != NULL);
    fprintf(state, "%ld %lld %ld\n", chain->done, chain->value, ftell(chain->log));
    CHECK(fclose(state) == 0 && rename("state.new", "state") == 0);
}
