// The namers' threads and what the run asks of them: see names.h.
#include "names.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static void pause_shortly(void) { nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL); }

static void *run_namer(void *context) {
    struct namer *n = context;
    struct names *names = n->names;
    make_top(n);
    while (names->phase == RUNNING && !names->is_over) work_once(n);
    n->is_settled = true;
    while (names->phase != VERIFYING && !names->is_over) pause_shortly();
    if (names->is_over) return NULL;
    check_all(n);
    n->is_verified = true;
    link_free(&n->link);
    return NULL;
}

void names_start(struct run *run) {
    struct names *names = calloc(1, sizeof *names);
    if (!names) die("out of memory");
    run->names = names;
    names->run = run;
    names->count = run->options.namers;
    names->namers = calloc(names->count ? names->count : 1, sizeof *names->namers);
    if (!names->namers) die("out of memory");
    for (unsigned i = 0; i < names->count; i++) {
        struct namer *n = &names->namers[i];
        n->names = names;
        n->number = i;
        n->random = run->options.seed ^ (uint64_t)(i + 1) << 32;
        // Far from those of the others: a server need not tell its clients' connections apart.
        n->next_xid = run->next_xid + UINT32_C(0x80000000) + (i << 22);
        if (pthread_create(&n->thread, NULL, run_namer, n) != 0) die("no thread");
    }
}

void names_settle(struct names *names) { names->phase = SETTLING; }

bool names_are_settled(const struct names *names) {
    for (unsigned i = 0; i < names->count; i++)
        if (!names->namers[i].is_settled) return false;
    return true;
}

void names_verify(struct names *names) { names->phase = VERIFYING; }

bool names_are_verified(const struct names *names) {
    for (unsigned i = 0; i < names->count; i++)
        if (!names->namers[i].is_verified) return false;
    return true;
}

void names_end(struct names *names) {
    names->is_over = true;
    for (unsigned i = 0; i < names->count; i++) pthread_join(names->namers[i].thread, NULL);
}

static void remove_directory(struct namer *n, unsigned d, const struct handle *parent, struct connection *c) {
    char name[NAME_BYTES];
    for (unsigned i = 0; i < NAMES; i++) {
        file_name(i, name);
        if (n->directories[d].files[i].exists) nfs3_remove(c, &n->directories[d].handle, name);
    }
    directory_name(n, d, name);
    nfs3_remove_directory(c, parent, name);
}

void names_remove(struct names *names, struct connection *c) {
    for (unsigned i = 0; i < names->count; i++) {
        struct namer *n = &names->namers[i];
        for (unsigned d = DIRECTORIES; d-- > 0;)
            if (n->directories[d].exists)
                remove_directory(n, d, d ? &n->directories[0].handle : &names->run->directory, c);
    }
}

void names_free(struct names *names) {
    for (unsigned i = 0; i < names->count; i++) {
        struct namer *n = &names->namers[i];
        for (unsigned d = 0; d < DIRECTORIES; d++)
            for (unsigned f = 0; f < NAMES; f++) free(n->directories[d].files[f].bytes);
        free(n->reply);
    }
    free(names->namers);
    free(names);
}
