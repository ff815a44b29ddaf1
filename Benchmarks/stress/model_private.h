// What the parts of the model share.
#pragma once
#include "model.h"

// A write as the bytes of one segment know it.
struct entry {
    struct write *write;
    moment done; // acknowledged, or seen by a READ
    moment dead; // certainly overwritten
    moment gone; // certainly overwritten by what is stable
};

struct segment {
    uint64_t start, end;
    uint32_t count, capacity;
    struct entry *entries; // in the order in which they were sent
};

// Segments are kept by chunks of the file, so that cutting one moves few others.
struct chunk {
    struct segment *segments;
    uint32_t count, capacity;
};

struct model {
    unsigned files;
    uint64_t size, seed, chunks_per_file, mixed;
    moment now, horizon;
    struct chunk *chunks;
};

bool content_equal(const struct model *, unsigned file, uint32_t value, uint64_t offset, const uint8_t *, size_t count);
// Says whose bytes these are, which were read at this offset, a multiple of 8.
void content_describe(const struct model *, uint64_t at, const uint8_t *, size_t count, char *words, size_t size);
