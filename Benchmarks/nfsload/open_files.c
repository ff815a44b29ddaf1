// Many files open for writing at once: each gets a WRITE in turn, round after round, as programs do that log to files of
// their own. Nothing is committed; then all is read back, from wherever the server has it, and removed.
//
// A file is a gap and then blocks, each other than all others of the run: those of its head are written when it is made, in
// large WRITEs, and then one more in each round.
#include "measure.h"

#include <stdlib.h>
#include <string.h>

enum {
    // So much of the gap before a file's first byte is read, too: it must be zeros.
    GAP_READ_BYTES = 4096,
    // Of a WRITE of the head, and of a READ.
    LARGE_BYTES = 1 << 20,
};

struct open_files {
    const struct options *options;
    struct handle directory;
    struct file *files;
    unsigned next;     // the first file that has not been created
    uint64_t end;      // of each file
    uint64_t verifier; // of the first reply
    bool has_verifier;
    uint8_t *bytes; // LARGE_BYTES, made for each WRITE and each comparison
};

struct file {
    struct open_files *all;
    struct handle handle;
    uint64_t offset; // of the next byte that is written, or read
};

static void make_block(const struct file *file, uint64_t block, uint8_t *bytes) {
    uint64_t number = (uint64_t)(file - file->all->files), state = file->all->options->seed ^ (number << 32 | block);
    state = random_next(&state);
    for (uint32_t at = 0; at < file->all->options->block_bytes; at += sizeof(uint64_t)) {
        uint64_t word = random_next(&state);
        memcpy(bytes + at, &word, sizeof word);
    }
}

static void check_written(struct open_files *all, uint32_t bytes, struct reader *results) {
    get_ok(results, "WRITE");
    skip_wcc(results);
    if (get_uint32(results) != bytes) die("a short WRITE");
    if (get_uint32(results) > NFS3_FILE_SYNC) die("WRITE answered an unknown stable_how");
    uint64_t verifier = get_uint64(results);
    if (all->has_verifier && verifier != all->verifier) die("the write verifier changed");
    all->verifier = verifier;
    all->has_verifier = true;
}

// The file's next bytes.
static void send_write(struct connection *c, struct file *file, uint32_t bytes, reply_handler handler) {
    const struct options *options = file->all->options;
    call_nfs3(c, NFS3_WRITE, handler, file);
    put_handle(c, &file->handle);
    put_uint64(c, file->offset);
    put_uint32(c, bytes);
    put_uint32(c, NFS3_UNSTABLE);
    for (uint32_t at = 0; at < bytes; at += options->block_bytes)
        make_block(file, (file->offset + at - options->gap) / options->block_bytes, file->all->bytes + at);
    file->offset += bytes;
    call_end_with_payload(c, file->all->bytes, bytes);
}

static void written(struct connection *c, void *context, struct reader *results) {
    (void)c;
    struct file *file = context;
    check_written(file->all, file->all->options->block_bytes, results);
}

static void create_next(struct connection *, struct open_files *);

static void first_written(struct connection *c, void *context, struct reader *results) {
    written(c, context, results);
    create_next(c, ((struct file *)context)->all);
}

static void send_first(struct connection *, struct file *);

static void head_written(struct connection *c, void *context, struct reader *results) {
    struct file *file = context;
    check_written(file->all, LARGE_BYTES, results);
    send_first(c, file);
}

static void send_first(struct connection *c, struct file *file) {
    const struct options *options = file->all->options;
    if (file->offset < options->gap + options->head)
        send_write(c, file, LARGE_BYTES, head_written);
    else
        send_write(c, file, options->block_bytes, first_written);
}

static void created(struct connection *c, void *context, struct reader *results) {
    struct file *file = context;
    get_created(results, &file->handle);
    file->offset = file->all->options->gap;
    send_first(c, file);
}

static void create_next(struct connection *c, struct open_files *all) {
    if (all->next == all->options->count) return;
    struct file *file = &all->files[all->next];
    file->all = all;
    char name[NUMBERED_NAME_BYTES];
    numbered_name(name, all->next++);
    begin_create(c, &all->directory, name, NFS3_GUARDED, created, file);
}

static void compare(const struct file *file, const uint8_t *data, uint32_t bytes) {
    const struct options *options = file->all->options;
    uint64_t offset = file->offset;
    for (; bytes > 0 && offset < options->gap; offset++, data++, bytes--)
        if (*data != 0) die("file %ld has a byte in its gap, at %lu", file - file->all->files, offset);
    while (bytes > 0) {
        uint32_t inside = (uint32_t)((offset - options->gap) % options->block_bytes), count = options->block_bytes - inside;
        if (count > bytes) count = bytes;
        make_block(file, (offset - options->gap) / options->block_bytes, file->all->bytes);
        if (memcmp(data, file->all->bytes + inside, count) != 0)
            die("file %ld was read otherwise than it was written, at %lu", file - file->all->files, offset);
        offset += count;
        data += count;
        bytes -= count;
    }
}

static void send_read(struct connection *, struct file *);

static void was_read(struct connection *c, void *context, struct reader *results) {
    struct file *file = context;
    struct attributes attributes;
    uint64_t end = file->all->end;
    uint32_t bytes;
    get_ok(results, "READ");
    bool has_attributes = get_optional_attributes(results, &attributes);
    if (has_attributes && attributes.size != end) die("a file of %lu bytes says it has %lu", end, attributes.size);
    skip(results, 4); // count
    bool is_end = get_uint32(results);
    const uint8_t *data = get_opaque(results, &bytes);
    if (bytes == 0 || bytes > end - file->offset) die("READ gave %u bytes", bytes);
    compare(file, data, bytes);
    file->offset += bytes;
    if (is_end && file->offset != end) die("READ says that a file ends at %lu", file->offset);
    // A server may give less than it was asked for.
    if (file->offset < end) send_read(c, file);
}

static void send_read(struct connection *c, struct file *file) {
    uint64_t rest = file->all->end - file->offset;
    call_nfs3(c, NFS3_READ, was_read, file);
    put_handle(c, &file->handle);
    put_uint64(c, file->offset);
    put_uint32(c, rest < LARGE_BYTES ? (uint32_t)rest : LARGE_BYTES);
    call_end(c);
}

void measure_open_files(const struct options *options) {
    struct connection *c = options->connection;
    if (options->block_bytes < sizeof(uint64_t) || LARGE_BYTES % options->block_bytes || options->head % LARGE_BYTES)
        die("1 MiB must be a multiple of an open file's block, and its head one of 1 MiB");
    uint64_t file_bytes = options->head + (uint64_t)options->rounds * options->block_bytes;
    struct open_files all = {.options = options, .end = options->gap + file_bytes};
    all.files = calloc(options->count, sizeof *all.files);
    all.bytes = malloc(LARGE_BYTES);
    if (!all.files || !all.bytes) die("out of memory");
    char name[NUMBERED_NAME_BYTES];
    numbered_directory_make(options, name, &all.directory);

    struct interval interval = interval_begin(options);
    for (unsigned i = 0; i < options->in_flight; i++) create_next(c, &all);
    connection_wait_all(c);
    interval_end(options, interval, "open", options->count, options->count * (options->head + options->block_bytes));

    interval = interval_begin(options);
    for (unsigned round = 1; round < options->rounds; round++) {
        for (unsigned i = 0; i < options->count; i++) {
            while (connection_in_flight(c) >= options->in_flight) connection_wait(c);
            send_write(c, &all.files[i], options->block_bytes, written);
        }
    }
    connection_wait_all(c);
    uint64_t calls = (uint64_t)(options->rounds - 1) * options->count;
    interval_end(options, interval, "busy", calls, calls * options->block_bytes);

    interval = interval_begin(options);
    for (unsigned i = 0; i < options->count; i++) {
        while (connection_in_flight(c) >= options->in_flight) connection_wait(c);
        all.files[i].offset = options->gap - (options->gap < GAP_READ_BYTES ? options->gap : GAP_READ_BYTES);
        send_read(c, &all.files[i]);
    }
    connection_wait_all(c);
    interval_end(options, interval, "read", options->count, options->count * file_bytes);
    numbered_directory_remove(options, name, &all.directory);
    free(all.files);
    free(all.bytes);
}
