// What is measured: each function makes what it needs, measures, and prints one line of JSON per interval.
#pragma once
#include "nfs3.h"
#include <sys/types.h>

struct options {
    unsigned in_flight;
    uint32_t block_bytes;    // of a WRITE or READ
    uint64_t size;           // of the large file
    uint64_t window;         // inside which a shuffled order is shuffled; 0: in order
    bool backwards;          // the last block first
    uint64_t gap;            // before the first byte of each of many open files
    uint64_t head;           // of each of many open files: written when it is made
    unsigned rounds;         // WRITEs of a block to each of many open files
    unsigned count;          // of files, directory entries or synced calls
    double seconds;          // of GETATTR or LOOKUP
    uint64_t seed;           // of the bytes and the order
    pid_t server;            // whose CPU time is counted; 0: nobody's
    struct connection *connection;
    struct handle root;
};

struct interval {
    double started, server_cpu, client_cpu;
};

struct interval interval_begin(const struct options *);
void interval_end(const struct options *, struct interval, const char *name, uint64_t operations, uint64_t bytes);
// With the percentiles of the operations' seconds, which are sorted.
void interval_end_with_latencies(const struct options *, struct interval, const char *name, uint64_t operations,
                                 uint64_t bytes, double *seconds);
double monotonic_seconds(void);

// WRITEs to a new file and a COMMIT; then READs in order, each byte compared.
void measure_write(const struct options *);
// READs of the file that measure_write left.
void measure_read(const struct options *);
// CREATE, WRITE of 4 KiB and COMMIT for each file, one after the other; so many files at once as calls in flight.
void measure_small_files(const struct options *);
// WRITEs to many files in turn, round after round, none of which is committed; then READs of all, each byte compared.
void measure_open_files(const struct options *);
void measure_getattr(const struct options *);
void measure_lookup(const struct options *);
// WRITEs with FILE_SYNC, then WRITEs with a COMMIT each, one call at a time: how long each takes to be durable.
void measure_sync(const struct options *);
// Small WRITEs with FILE_SYNC, many in flight; and READs of what they have left, each byte compared.
void measure_journal(const struct options *);
void measure_journal_read(const struct options *);
// The entries that READDIRPLUS reads.
void measure_fill(const struct options *);
void measure_readdirplus(const struct options *);

// Directories of numbered files. A run has one of its own, named by its seed, and removes what it made.
enum { NUMBERED_NAME_BYTES = 32 };

void numbered_directory_make(const struct options *, char name[NUMBERED_NAME_BYTES], struct handle *);
void numbered_name(char name[NUMBERED_NAME_BYTES], uint64_t number);
void numbered_directory_remove(const struct options *, const char *name, const struct handle *);

// Bytes that no other block of the run has: a block's start in random bytes depends on its number. `seed` makes them
// differ between runs. No room and no time per block, so that both go to the server.
struct pattern {
    uint8_t *bytes;
    uint32_t block_bytes;
};

struct pattern pattern_make(uint32_t block_bytes, uint64_t seed);
const uint8_t *pattern_block(const struct pattern *, uint64_t number);
uint64_t random_next(uint64_t *state);
