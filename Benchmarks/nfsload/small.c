// Small files: CREATE, WRITE of 4 KiB, COMMIT, as a client does for a program that writes a file and syncs it.
#include "measure.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES = 4096 };

struct small_files {
    const struct options *options;
    struct handle directory;
    struct pattern pattern;
    struct file *files;
    unsigned next; // the first file that has not been begun
};

struct file {
    struct small_files *all;
    struct handle handle;
    uint64_t verifier;
};

static void begin_next(struct connection *, struct small_files *);

static uint64_t number(const struct file *file) { return (uint64_t)(file - file->all->files); }

static void committed(struct connection *c, void *context, struct reader *results) {
    struct file *file = context;
    get_ok(results, "COMMIT");
    skip_wcc(results);
    if (get_uint64(results) != file->verifier) die("the write verifier changed");
    begin_next(c, file->all);
}

static void written(struct connection *c, void *context, struct reader *results) {
    struct file *file = context;
    get_ok(results, "WRITE");
    skip_wcc(results);
    if (get_uint32(results) != FILE_BYTES) die("a short WRITE");
    if (get_uint32(results) > NFS3_FILE_SYNC) die("WRITE answered an unknown stable_how");
    file->verifier = get_uint64(results);
    call_nfs3(c, NFS3_COMMIT, committed, file);
    put_handle(c, &file->handle);
    put_uint64(c, 0);
    put_uint32(c, 0);
    call_end(c);
}

static void created(struct connection *c, void *context, struct reader *results) {
    struct file *file = context;
    get_created(results, &file->handle);
    call_nfs3(c, NFS3_WRITE, written, file);
    put_handle(c, &file->handle);
    put_uint64(c, 0);
    put_uint32(c, FILE_BYTES);
    put_uint32(c, NFS3_UNSTABLE);
    call_end_with_payload(c, pattern_block(&file->all->pattern, number(file)), FILE_BYTES);
}

static void begin_next(struct connection *c, struct small_files *all) {
    if (all->next == all->options->count) return;
    struct file *file = &all->files[all->next++];
    file->all = all;
    char name[NUMBERED_NAME_BYTES];
    numbered_name(name, number(file));
    begin_create(c, &all->directory, name, NFS3_GUARDED, created, file);
}

static void check_content(struct connection *c, void *context, struct reader *results) {
    (void)c;
    struct file *file = context;
    struct attributes attributes;
    uint32_t bytes;
    get_ok(results, "READ");
    get_optional_attributes(results, &attributes);
    skip(results, 8); // count, eof
    const uint8_t *data = get_opaque(results, &bytes);
    if (bytes != FILE_BYTES || memcmp(data, pattern_block(&file->all->pattern, number(file)), bytes) != 0)
        die("small file %lu was read otherwise than it was written", number(file));
}

void measure_small_files(const struct options *options) {
    enum { UNMEASURED_IN_FLIGHT = 32 };
    struct connection *c = options->connection;
    struct small_files all = {.options = options, .pattern = pattern_make(FILE_BYTES, options->seed)};
    all.files = calloc(options->count, sizeof *all.files);
    if (!all.files) die("out of memory");
    char name[NUMBERED_NAME_BYTES];
    numbered_directory_make(options, name, &all.directory);

    struct interval interval = interval_begin(options);
    for (unsigned i = 0; i < options->in_flight; i++) begin_next(c, &all);
    connection_wait_all(c);
    interval_end(options, interval, "small", options->count, (uint64_t)options->count * FILE_BYTES);

    for (unsigned i = 0; i < options->count; i++) {
        while (connection_in_flight(c) >= UNMEASURED_IN_FLIGHT) connection_wait(c);
        call_nfs3(c, NFS3_READ, check_content, &all.files[i]);
        put_handle(c, &all.files[i].handle);
        put_uint64(c, 0);
        put_uint32(c, FILE_BYTES);
        call_end(c);
    }
    connection_wait_all(c);
    numbered_directory_remove(options, name, &all.directory);
    free(all.files);
    free(all.pattern.bytes);
}
