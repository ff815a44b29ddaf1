// What durability costs: FILE_SYNC WRITEs, and COMMITs of one WRITE, one call at a time, to a file that was written before;
// and many of the former at once, which fill a server's journal.
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sync {
    const struct options *options;
    struct handle file;
    struct pattern pattern;
    bool has_verifier;
    uint64_t verifier;
};

static void check_verifier(struct sync *sync, struct reader *results) {
    uint64_t verifier = get_uint64(results);
    if (sync->has_verifier && verifier != sync->verifier) die("the write verifier changed");
    sync->verifier = verifier;
    sync->has_verifier = true;
}

static void take_written(struct sync *sync, struct reader *results, uint32_t how) {
    get_ok(results, "WRITE");
    skip_wcc(results);
    uint32_t count = get_uint32(results), committed = get_uint32(results);
    if (count != sync->options->block_bytes) die("WRITE took only %u bytes", count);
    if (committed < how || committed > NFS3_FILE_SYNC) die("WRITE answered stable_how %u", committed);
    check_verifier(sync, results);
}

static void written(struct connection *c, void *context, struct reader *results) {
    (void)c;
    take_written(context, results, NFS3_UNSTABLE);
}

static void written_stable(struct connection *c, void *context, struct reader *results) {
    (void)c;
    take_written(context, results, NFS3_FILE_SYNC);
}

static void committed(struct connection *c, void *context, struct reader *results) {
    (void)c;
    get_ok(results, "COMMIT");
    skip_wcc(results);
    check_verifier(context, results);
}

static void send_write(struct sync *sync, const struct handle *file, uint64_t offset, uint64_t number, uint32_t how) {
    struct connection *c = sync->options->connection;
    uint32_t block_bytes = sync->options->block_bytes;
    call_nfs3(c, NFS3_WRITE, how == NFS3_FILE_SYNC ? written_stable : written, sync);
    put_handle(c, file);
    put_uint64(c, offset);
    put_uint32(c, block_bytes);
    put_uint32(c, how);
    call_end_with_payload(c, pattern_block(&sync->pattern, number), block_bytes);
}

static void send_commit(struct sync *sync, uint64_t offset, uint32_t count) {
    struct connection *c = sync->options->connection;
    call_nfs3(c, NFS3_COMMIT, committed, sync);
    put_handle(c, &sync->file);
    put_uint64(c, offset);
    put_uint32(c, count);
    call_end(c);
}

void measure_sync(const struct options *options) {
    enum { UNMEASURED_IN_FLIGHT = 8 };
    struct connection *c = options->connection;
    uint64_t block_bytes = options->block_bytes;
    struct sync sync = {.options = options, .pattern = pattern_make(options->block_bytes, options->seed)};
    double *seconds = calloc(options->count, sizeof *seconds);
    if (!seconds) die("out of memory");
    char name[NUMBERED_NAME_BYTES];
    snprintf(name, sizeof name, "nfsload-sync-%016lx", options->seed);
    nfs3_create(c, &options->root, name, &sync.file);
    for (uint64_t i = 0; i < options->count; i++) {
        while (connection_in_flight(c) >= UNMEASURED_IN_FLIGHT) connection_wait(c);
        send_write(&sync, &sync.file, i * block_bytes, i, NFS3_UNSTABLE);
    }
    connection_wait_all(c);
    send_commit(&sync, 0, 0);
    connection_wait_all(c);

    struct interval interval = interval_begin(options);
    for (uint64_t i = 0; i < options->count; i++) {
        double begun = monotonic_seconds();
        send_write(&sync, &sync.file, i * block_bytes, i + 1, NFS3_FILE_SYNC);
        connection_wait_all(c);
        seconds[i] = monotonic_seconds() - begun;
    }
    interval_end_with_latencies(options, interval, "file-sync", options->count, options->count * block_bytes, seconds);

    interval = interval_begin(options);
    for (uint64_t i = 0; i < options->count; i++) {
        send_write(&sync, &sync.file, i * block_bytes, i + 2, NFS3_UNSTABLE);
        connection_wait_all(c);
        double begun = monotonic_seconds();
        send_commit(&sync, i * block_bytes, options->block_bytes);
        connection_wait_all(c);
        seconds[i] = monotonic_seconds() - begun;
    }
    interval_end_with_latencies(options, interval, "commit", options->count, options->count * block_bytes, seconds);
    nfs3_remove(c, &options->root, name);
    free(seconds);
    free(sync.pattern.bytes);
}

// The journal: blocks with gaps of their size between them, in turn over the files, so that no stripe comes together.
enum { JOURNAL_FILES = 16 };

struct journal_block {
    struct sync *sync;
    uint64_t number;
};

static void compare(struct connection *c, void *context, struct reader *results) {
    (void)c;
    struct journal_block *block = context;
    struct sync *sync = block->sync;
    struct attributes attributes;
    uint32_t bytes;
    get_ok(results, "READ");
    get_optional_attributes(results, &attributes);
    skip(results, 8); // count, eof
    const uint8_t *data = get_opaque(results, &bytes);
    if (bytes != sync->options->block_bytes || memcmp(data, pattern_block(&sync->pattern, block->number), bytes) != 0)
        die("block %lu was read otherwise than it was written", block->number);
}

static void run_journal(const struct options *options, bool writes) {
    struct connection *c = options->connection;
    struct sync sync = {.options = options, .pattern = pattern_make(options->block_bytes, options->seed)};
    uint64_t blocks = options->size / options->block_bytes;
    struct journal_block *contexts = calloc(blocks, sizeof *contexts);
    if (!contexts) die("out of memory");
    struct handle files[JOURNAL_FILES];
    for (unsigned i = 0; i < JOURNAL_FILES; i++) {
        char name[64];
        struct attributes ignored;
        snprintf(name, sizeof name, "nfsload-journal-%016lx-%u", options->seed, i);
        if (writes) nfs3_create(c, &options->root, name, &files[i]);
        else if (!nfs3_lookup(c, &options->root, name, &files[i], &ignored)) die("%s is gone", name);
    }
    struct interval interval = interval_begin(options);
    for (uint64_t i = 0; i < blocks; i++) {
        const struct handle *file = &files[i % JOURNAL_FILES];
        uint64_t offset = i / JOURNAL_FILES * 2 * options->block_bytes;
        while (connection_in_flight(c) >= options->in_flight) connection_wait(c);
        contexts[i] = (struct journal_block){&sync, i};
        if (writes) {
            send_write(&sync, file, offset, i, NFS3_FILE_SYNC);
            continue;
        }
        call_nfs3(c, NFS3_READ, compare, &contexts[i]);
        put_handle(c, file);
        put_uint64(c, offset);
        put_uint32(c, options->block_bytes);
        call_end(c);
    }
    connection_wait_all(c);
    interval_end(options, interval, writes ? "journal" : "journal-read", blocks, blocks * options->block_bytes);
    free(contexts);
    free(sync.pattern.bytes);
}

void measure_journal(const struct options *options) { run_journal(options, true); }

void measure_journal_read(const struct options *options) { run_journal(options, false); }
