// The large file: written in order, shuffled or backwards, committed, read back and compared.
#include "measure.h"

#include <stdlib.h>
#include <string.h>

#define LARGE_FILE "nfsload-large"

struct transfer {
    const struct options *options;
    struct handle file;
    struct pattern pattern;
    uint64_t *order; // the numbers of the blocks, as they are sent
    uint64_t blocks;
    bool has_verifier;
    uint64_t verifier;
};

// One call in flight: which block it carries. A block's context outlives its call; there is one for each block.
struct block {
    struct transfer *transfer;
    uint64_t number;
};

static uint64_t *make_order(uint64_t blocks, bool backwards, uint64_t window_blocks, uint64_t seed) {
    uint64_t *order = malloc(blocks * sizeof *order);
    if (!order) die("out of memory");
    for (uint64_t i = 0; i < blocks; i++) order[i] = backwards ? blocks - 1 - i : i;
    for (uint64_t start = 0; window_blocks > 1 && start < blocks; start += window_blocks) {
        uint64_t count = blocks - start < window_blocks ? blocks - start : window_blocks;
        for (uint64_t i = count - 1; i > 0; i--) { // Fisher and Yates
            uint64_t other = random_next(&seed) % (i + 1), kept = order[start + i];
            order[start + i] = order[start + other];
            order[start + other] = kept;
        }
    }
    return order;
}

// The verifier must be the same in each reply: a change means that bytes may be lost (RFC 1813, 3.3.7 and 3.3.21).
static void check_verifier(struct transfer *transfer, struct reader *results) {
    uint64_t verifier = get_uint64(results);
    if (transfer->has_verifier && verifier != transfer->verifier) die("the write verifier changed");
    transfer->verifier = verifier;
    transfer->has_verifier = true;
}

static void written(struct connection *c, void *context, struct reader *results) {
    (void)c;
    struct block *block = context;
    struct transfer *transfer = block->transfer;
    get_ok(results, "WRITE");
    skip_wcc(results);
    uint32_t count = get_uint32(results), committed = get_uint32(results);
    if (count != transfer->options->block_bytes) die("WRITE took only %u bytes", count);
    if (committed > NFS3_FILE_SYNC) die("WRITE answered stable_how %u", committed);
    check_verifier(transfer, results);
}

static void committed(struct connection *c, void *context, struct reader *results) {
    (void)c;
    get_ok(results, "COMMIT");
    skip_wcc(results);
    check_verifier(context, results);
}

static void read_block(struct connection *c, void *context, struct reader *results) {
    (void)c;
    struct block *block = context;
    struct transfer *transfer = block->transfer;
    struct attributes attributes;
    uint32_t block_bytes = transfer->options->block_bytes, data_bytes;
    get_ok(results, "READ");
    bool has_attributes = get_optional_attributes(results, &attributes);
    if (has_attributes && attributes.size != transfer->options->size) die("the size is %lu", attributes.size);
    uint32_t count = get_uint32(results), is_end = get_uint32(results);
    const uint8_t *data = get_opaque(results, &data_bytes);
    if (count != block_bytes || data_bytes != count) die("READ of block %lu gave %u bytes", block->number, count);
    // At the very end a server may leave it to the next READ to say so.
    if (is_end && block->number + 1 != transfer->blocks) die("READ of block %lu says it is the last", block->number);
    if (memcmp(data, pattern_block(&transfer->pattern, block->number), block_bytes) != 0)
        die("block %lu was read otherwise than it was written", block->number);
}

static void send_write(struct connection *c, struct block *block) {
    struct transfer *transfer = block->transfer;
    uint32_t block_bytes = transfer->options->block_bytes;
    call_nfs3(c, NFS3_WRITE, written, block);
    put_handle(c, &transfer->file);
    put_uint64(c, block->number * block_bytes);
    put_uint32(c, block_bytes);
    put_uint32(c, NFS3_UNSTABLE);
    call_end_with_payload(c, pattern_block(&transfer->pattern, block->number), block_bytes);
}

static void send_read(struct connection *c, struct block *block) {
    struct transfer *transfer = block->transfer;
    uint32_t block_bytes = transfer->options->block_bytes;
    call_nfs3(c, NFS3_READ, read_block, block);
    put_handle(c, &transfer->file);
    put_uint64(c, block->number * block_bytes);
    put_uint32(c, block_bytes);
    call_end(c);
}

static void move_all(struct transfer *transfer, struct block *blocks, void (*send)(struct connection *, struct block *)) {
    struct connection *c = transfer->options->connection;
    for (uint64_t i = 0; i < transfer->blocks; i++) {
        while (connection_in_flight(c) >= transfer->options->in_flight) connection_wait(c);
        blocks[i] = (struct block){transfer, transfer->order[i]};
        send(c, &blocks[i]);
    }
    connection_wait_all(c);
}

static void run(const struct options *options, bool writes) {
    struct connection *c = options->connection;
    struct transfer transfer = {.options = options, .blocks = options->size / options->block_bytes};
    if (transfer.blocks == 0 || options->size % options->block_bytes) die("the size is not a multiple of the block");
    transfer.pattern = pattern_make(options->block_bytes, options->seed);
    struct block *blocks = malloc(transfer.blocks * sizeof *blocks);
    if (!blocks) die("out of memory");

    if (writes) {
        nfs3_remove(c, &options->root, LARGE_FILE);
        nfs3_create(c, &options->root, LARGE_FILE, &transfer.file);
        transfer.order = make_order(transfer.blocks, options->backwards, options->window / options->block_bytes,
                                    options->seed);
        struct interval interval = interval_begin(options);
        move_all(&transfer, blocks, send_write);
        call_nfs3(c, NFS3_COMMIT, committed, &transfer);
        put_handle(c, &transfer.file);
        put_uint64(c, 0);
        put_uint32(c, 0); // to the end
        call_end(c);
        connection_wait_all(c);
        interval_end(options, interval, "write", transfer.blocks, options->size);
        free(transfer.order);
    } else {
        struct attributes attributes;
        if (!nfs3_lookup(c, &options->root, LARGE_FILE, &transfer.file, &attributes)) die("write the large file first");
        if (attributes.size != options->size) die("the large file has %lu bytes", attributes.size);
    }
    transfer.order = make_order(transfer.blocks, false, 0, 0);
    struct interval interval = interval_begin(options);
    move_all(&transfer, blocks, send_read);
    interval_end(options, interval, "read", transfer.blocks, options->size);
    free(transfer.order);
    free(blocks);
    free(transfer.pattern.bytes);
}

void measure_write(const struct options *options) { run(options, true); }

void measure_read(const struct options *options) { run(options, false); }
