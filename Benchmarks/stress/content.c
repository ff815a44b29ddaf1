// The bytes of writes: each word of 8 names its write and its place, so that a wrong one says where it came from.
#include "model_private.h"

#include <stdio.h>
#include <string.h>

// An odd number; it and its inverse modulo 2^64 turn a word and back.
#define TURN UINT64_C(0x9e3779b97f4a7c15)

static uint64_t inverse(uint64_t odd) {
    uint64_t x = odd; // correct to 3 bits; Newton doubles them
    for (int i = 0; i < 5; i++) x *= 2 - odd * x;
    return x;
}

static uint64_t salt(const struct model *m, unsigned file) { return (m->seed + file + 1) * UINT64_C(0xd1342543de82ef95); }

static uint64_t word_of(uint64_t salt, uint32_t value, uint64_t number) {
    uint64_t word = (uint64_t)value << 32 | (uint32_t)number;
    word = (word ^ salt) * TURN;
    word ^= word >> 32;
    return word * TURN;
}

void content_fill(const struct model *m, unsigned file, uint32_t value, uint64_t offset, uint8_t *bytes, size_t count) {
    if (value == ZEROS) {
        memset(bytes, 0, count);
        return;
    }
    uint64_t key = salt(m, file);
    while (count > 0) {
        uint64_t word = word_of(key, value, offset / 8);
        size_t skip = offset % 8, part = 8 - skip < count ? 8 - skip : count;
        memcpy(bytes, (const uint8_t *)&word + skip, part);
        bytes += part, offset += part, count -= part;
    }
}

bool content_equal(const struct model *m, unsigned file, uint32_t value, uint64_t offset, const uint8_t *bytes,
                   size_t count) {
    uint8_t expected[4096];
    while (count > 0) {
        size_t part = count < sizeof expected ? count : sizeof expected;
        content_fill(m, file, value, offset, expected, part);
        if (memcmp(expected, bytes, part) != 0) return false;
        bytes += part, offset += part, count -= part;
    }
    return true;
}

void value_describe(uint32_t value, char *words, size_t bytes) {
    if (value == ZEROS) snprintf(words, bytes, "zeros");
    else snprintf(words, bytes, "operation %u of connection %u", value & 0xffffff, (value >> 24) - 1);
}

// Whose word this is; false if nobody wrote it.
static bool decode(const struct model *m, const uint8_t bytes[8], unsigned *file, uint32_t *value, uint64_t *offset) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    uint64_t turned = word * inverse(TURN);
    turned ^= turned >> 32;
    turned *= inverse(TURN);
    for (*file = 0; *file < m->files; ++*file) {
        uint64_t found = turned ^ salt(m, *file);
        *value = (uint32_t)(found >> 32);
        *offset = (uint32_t)found * UINT64_C(8);
        // A word of another file, or of nobody, would hardly have a number that lies in the file.
        if (*offset < m->size && found >> 56 != 0) return true;
    }
    return false;
}

void content_describe(const struct model *m, uint64_t at, const uint8_t *bytes, size_t count, char *words, size_t size) {
    static const uint8_t zeros[8];
    if (count >= 8 && memcmp(bytes, zeros, 8) == 0) {
        snprintf(words, size, "zeros");
        return;
    }
    // What was shifted has its words at other places than multiples of 8.
    for (size_t shift = 0; shift < 8 && shift + 8 <= count; shift++) {
        unsigned file;
        uint32_t value;
        uint64_t offset;
        if (!decode(m, bytes + shift, &file, &value, &offset)) continue;
        char who[64];
        value_describe(value, who, sizeof who);
        if (offset == at + shift) snprintf(words, size, "%s (file %u)", who, file);
        else snprintf(words, size, "%s (file %u), but its bytes at %lu are at %lu", who, file, offset, at + shift);
        return;
    }
    if (count < 8) snprintf(words, size, "an incomplete word");
    else snprintf(words, size, "nobody: %016lx", __builtin_bswap64(*(const uint64_t *)memcpy(&(uint64_t){0}, bytes, 8)));
}
