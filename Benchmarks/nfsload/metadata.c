// GETATTR and LOOKUP of a few files for some seconds; READDIRPLUS of a large directory.
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    // As many files as a build or a web server has in hand; each server keeps them in memory.
    FILES = 256,
    // dircount and maxcount of READDIRPLUS: no server here takes it for too much.
    READDIRPLUS_BYTES = 64 << 10,
    FILL_IN_FLIGHT = 64,
};

struct queries {
    const struct options *options;
    bool looks_up;
    double end;
    uint64_t answered;
    struct handle directory;
    struct query *queries;
};

// One of the files, about which at most one call is in flight.
struct query {
    struct queries *all;
    char name[32];
    struct handle handle;
    struct attributes attributes;
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void check_same(const struct attributes *found, const struct query *query) {
    if (found->type != NFS3_REGULAR_FILE || found->file_id != query->attributes.file_id || found->size != 0)
        die("attributes of another file instead of those of %s", query->name);
}

static void answered(struct connection *c, void *context, struct reader *results) {
    (void)c;
    struct query *query = context;
    struct attributes attributes;
    if (query->all->looks_up) {
        struct handle handle;
        get_ok(results, "LOOKUP");
        get_handle(results, &handle);
        if (handle.bytes != query->handle.bytes || memcmp(handle.data, query->handle.data, handle.bytes) != 0)
            die("LOOKUP of %s gave another handle than before", query->name);
        if (!get_optional_attributes(results, &attributes)) die("LOOKUP gave no attributes");
    } else {
        get_ok(results, "GETATTR");
        get_attributes(results, &attributes);
    }
    check_same(&attributes, query);
    query->all->answered++;
}

static void run_queries(const struct options *options, bool looks_up) {
    struct connection *c = options->connection;
    struct queries all = {.options = options, .looks_up = looks_up, .queries = calloc(FILES, sizeof *all.queries)};
    if (!all.queries) die("out of memory");
    nfs3_make_directory(c, &options->root, "nfsload-queries", &all.directory);
    for (unsigned i = 0; i < FILES; i++) {
        struct query *query = &all.queries[i];
        query->all = &all;
        snprintf(query->name, sizeof query->name, "file-%03u", i);
        if (nfs3_lookup(c, &all.directory, query->name, &query->handle, &query->attributes)) continue;
        nfs3_create(c, &all.directory, query->name, &query->handle);
        nfs3_lookup(c, &all.directory, query->name, &query->handle, &query->attributes);
    }
    struct interval interval = interval_begin(options);
    double end = now() + options->seconds;
    for (unsigned next = 0; (next % 64) != 0 || now() < end; next++) { // the clock is read seldom
        while (connection_in_flight(c) >= options->in_flight) connection_wait(c);
        struct query *query = &all.queries[next % FILES];
        call_nfs3(c, looks_up ? NFS3_LOOKUP : NFS3_GETATTR, answered, query);
        if (looks_up) {
            put_handle(c, &all.directory);
            put_name(c, query->name);
        } else {
            put_handle(c, &query->handle);
        }
        call_end(c);
    }
    connection_wait_all(c);
    interval_end(options, interval, looks_up ? "lookup" : "getattr", all.answered, 0);
    free(all.queries);
}

void measure_getattr(const struct options *options) { run_queries(options, false); }

void measure_lookup(const struct options *options) { run_queries(options, true); }

static void set_directory_name(char name[32], unsigned count) { snprintf(name, 32, "nfsload-entries-%u", count); }

static void filled(struct connection *c, void *context, struct reader *results) {
    (void)c, (void)context;
    struct handle ignored;
    get_created(results, &ignored);
}

void measure_fill(const struct options *options) {
    struct connection *c = options->connection;
    struct handle directory;
    char name[32];
    set_directory_name(name, options->count);
    nfs3_make_directory(c, &options->root, name, &directory);
    struct interval interval = interval_begin(options);
    for (unsigned i = 0; i < options->count; i++) {
        snprintf(name, sizeof name, "entry-%08u", i);
        while (connection_in_flight(c) >= FILL_IN_FLIGHT) connection_wait(c);
        begin_create(c, &directory, name, NFS3_UNCHECKED, filled, NULL);
    }
    connection_wait_all(c);
    interval_end(options, interval, "fill", options->count, 0);
}

struct listing {
    const struct options *options;
    struct handle directory;
    bool *seen;
    unsigned entries;
    uint64_t cookie, cookie_verifier;
    bool is_whole;
};

static void listed(struct connection *c, void *context, struct reader *results) {
    (void)c;
    struct listing *listing = context;
    struct attributes attributes;
    get_ok(results, "READDIRPLUS");
    get_optional_attributes(results, &attributes);
    listing->cookie_verifier = get_uint64(results);
    while (get_uint32(results)) {
        uint64_t file_id = get_uint64(results);
        uint32_t bytes;
        const uint8_t *name = get_opaque(results, &bytes);
        listing->cookie = get_uint64(results);
        bool has_attributes = get_optional_attributes(results, &attributes);
        struct handle handle = {0};
        if (get_uint32(results)) get_handle(results, &handle);
        if (bytes <= 2 && memcmp(name, "..", bytes) == 0) continue;
        char terminated[32] = {0};
        unsigned number;
        if (bytes >= sizeof terminated) die("an entry that was not made");
        memcpy(terminated, name, bytes);
        if (sscanf(terminated, "entry-%8u", &number) != 1 || number >= listing->options->count)
            die("an entry that was not made: %s", terminated);
        if (listing->seen[number]) die("%s was listed twice", terminated);
        if (!has_attributes || handle.bytes == 0) die("%s was listed without attributes or handle", terminated);
        if (attributes.type != NFS3_REGULAR_FILE || attributes.file_id != file_id) die("%s has wrong attributes", terminated);
        listing->seen[number] = true;
        listing->entries++;
    }
    listing->is_whole = get_uint32(results);
}

void measure_readdirplus(const struct options *options) {
    struct connection *c = options->connection;
    struct listing listing = {.options = options, .seen = calloc(options->count, sizeof *listing.seen)};
    struct attributes ignored;
    char name[32];
    set_directory_name(name, options->count);
    if (!listing.seen) die("out of memory");
    if (!nfs3_lookup(c, &options->root, name, &listing.directory, &ignored)) die("fill the directory first");
    struct interval interval = interval_begin(options);
    unsigned calls = 0;
    for (; !listing.is_whole; calls++) {
        uint64_t cookie = listing.cookie;
        call_nfs3(c, NFS3_READDIRPLUS, listed, &listing);
        put_handle(c, &listing.directory);
        put_uint64(c, listing.cookie);
        put_uint64(c, listing.cookie_verifier);
        put_uint32(c, READDIRPLUS_BYTES);
        put_uint32(c, READDIRPLUS_BYTES);
        call_end(c);
        connection_wait_all(c);
        if (!listing.is_whole && listing.cookie == cookie) die("READDIRPLUS makes no progress");
    }
    interval_end(options, interval, "readdirplus", listing.entries, 0);
    if (listing.entries != options->count) die("only %u of %u entries were listed", listing.entries, options->count);
    free(listing.seen);
}
