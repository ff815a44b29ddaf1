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

void content_describe(const struct model *m, unsigned files, uint64_t at, const uint8_t bytes[8], char *words, size_t size) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    if (word == 0) {
        snprintf(words, size, "zeros");
        return;
    }
    uint64_t turned = word * inverse(TURN);
    turned ^= turned >> 32;
    turned *= inverse(TURN);
    for (unsigned file = 0; file < files; file++) {
        uint64_t found = turned ^ salt(m, file);
        // A word of another file, or of nobody, would hardly have a number that lies in the file.
        if ((uint32_t)found * UINT64_C(8) >= m->size || found >> 56 == 0) continue;
        char who[64];
        value_describe((uint32_t)(found >> 32), who, sizeof who);
        if ((uint32_t)found == (uint32_t)(at / 8)) snprintf(words, size, "%s (file %u)", who, file);
        else snprintf(words, size, "%s (file %u), but its bytes at %lu", who, file, (uint32_t)found * UINT64_C(8));
        return;
    }
    snprintf(words, size, "%016lx, which nobody wrote", __builtin_bswap64(word));
}
