// The segments of files and their histories: see model.h for the rules.
//
// Invariants: the segments of a chunk follow one another without a gap from its start to its end; each has at least one
// entry that is not gone; each entry holds a reference to its write.
#include "model_private.h"
#include "rpc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 20 };

static void *grown(void *memory, size_t bytes) {
    memory = realloc(memory, bytes);
    if (!memory) die("out of memory");
    return memory;
}

static struct entry *add_entry(struct segment *segment, struct entry entry) {
    if (segment->count == segment->capacity) {
        segment->capacity = segment->capacity ? segment->capacity * 2 : 2;
        segment->entries = grown(segment->entries, segment->capacity * sizeof *segment->entries);
    }
    entry.write->references++;
    segment->entries[segment->count] = entry;
    return &segment->entries[segment->count++];
}

void write_release(struct write *write) {
    if (--write->references == 0) free(write);
}

static void drop_entries(struct segment *segment) {
    for (uint32_t i = 0; i < segment->count; i++) write_release(segment->entries[i].write);
    free(segment->entries);
}

struct model *model_make(unsigned files, uint64_t size, uint64_t seed) {
    struct model *m = calloc(1, sizeof *m);
    if (!m) die("out of memory");
    *m = (struct model){.files = files, .size = size, .seed = seed, .now = 1, .horizon = NEVER};
    m->chunks_per_file = (size + CHUNK_BYTES - 1) / CHUNK_BYTES;
    m->chunks = grown(NULL, files * m->chunks_per_file * sizeof *m->chunks);
    for (unsigned file = 0; file < files; file++) {
        struct write *zeros = grown(NULL, sizeof *zeros);
        *zeros = (struct write){.value = ZEROS, .file = file, .end = size, .references = 1};
        for (uint64_t i = 0; i < m->chunks_per_file; i++) {
            struct segment *first = calloc(1, sizeof *first);
            if (!first) die("out of memory");
            first->start = i * CHUNK_BYTES;
            first->end = first->start + CHUNK_BYTES;
            add_entry(first, (struct entry){zeros, 0, NEVER, NEVER});
            m->chunks[file * m->chunks_per_file + i] = (struct chunk){first, 1, 1};
        }
        write_release(zeros);
    }
    return m;
}

void model_free(struct model *m) {
    for (uint64_t i = 0; i < m->files * m->chunks_per_file; i++) {
        for (uint32_t s = 0; s < m->chunks[i].count; s++) drop_entries(&m->chunks[i].segments[s]);
        free(m->chunks[i].segments);
    }
    free(m->chunks);
    free(m);
}

moment model_now(const struct model *m) { return m->now; }

moment model_tick(struct model *m) { return ++m->now; }

void model_set_horizon(struct model *m, moment horizon) { m->horizon = horizon; }

// The index of the segment that holds the offset.
static uint32_t find(const struct chunk *chunk, uint64_t offset) {
    uint32_t low = 0, high = chunk->count;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (chunk->segments[middle].start <= offset) low = middle;
        else high = middle;
    }
    return low;
}

static void cut(struct chunk *chunk, uint64_t offset) {
    uint32_t at = find(chunk, offset);
    if (chunk->segments[at].start == offset || chunk->segments[at].end == offset) return;
    if (chunk->count == chunk->capacity) {
        chunk->capacity = chunk->capacity * 2 + 6;
        chunk->segments = grown(chunk->segments, chunk->capacity * sizeof *chunk->segments);
    }
    struct segment *left = &chunk->segments[at], *right = left + 1;
    memmove(right, left, (chunk->count - at) * sizeof *left);
    chunk->count++;
    left->end = right->start = offset;
    right->entries = NULL;
    right->count = right->capacity = 0;
    for (uint32_t i = 0; i < left->count; i++) add_entry(right, left->entries[i]);
}

static bool same_history(const struct segment *a, const struct segment *b) {
    return a->count == b->count && memcmp(a->entries, b->entries, a->count * sizeof *a->entries) == 0;
}

// Joins neighbours with the same history, from one segment before `from` to one behind `to`.
static void join(struct chunk *chunk, uint32_t from, uint32_t to) {
    uint32_t kept = from > 0 ? from - 1 : 0, last = to + 1 < chunk->count ? to + 1 : chunk->count - 1;
    for (uint32_t i = kept + 1; i <= last; i++) {
        struct segment *before = &chunk->segments[kept], *next = &chunk->segments[i];
        if (same_history(before, next)) {
            before->end = next->end;
            drop_entries(next);
        } else {
            chunk->segments[++kept] = *next;
        }
    }
    memmove(&chunk->segments[kept + 1], &chunk->segments[last + 1], (chunk->count - last - 1) * sizeof *chunk->segments);
    chunk->count -= last - kept;
}

// What no READ in flight and no READ after a kill can see goes.
static void prune(struct model *m, struct segment *segment) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < segment->count; i++) {
        struct entry *entry = &segment->entries[i];
        // What is in flight may be executed again after a kill (model_crash), whatever has overwritten it.
        bool is_over = entry->gone != NEVER && entry->gone <= m->horizon && entry->write->acknowledged != NEVER;
        if (is_over) write_release(entry->write);
        else segment->entries[kept++] = *entry;
    }
    segment->count = kept;
}

typedef void (*visitor)(struct model *, struct segment *, struct write *);

// Visits the segments of the write's range; cuts them at its ends before, or joins and prunes them after.
static void visit(struct model *m, struct write *w, visitor visitor, bool cuts) {
    for (uint64_t at = w->start; at < w->end;) {
        struct chunk *chunk = &m->chunks[w->file * m->chunks_per_file + at / CHUNK_BYTES];
        uint64_t end = (at / CHUNK_BYTES + 1) * CHUNK_BYTES;
        if (end > w->end) end = w->end;
        if (cuts) {
            cut(chunk, at);
            cut(chunk, end);
        }
        uint32_t first = find(chunk, at), last = find(chunk, end - 1);
        for (uint32_t i = first; i <= last; i++) {
            visitor(m, &chunk->segments[i], w);
            if (!cuts) prune(m, &chunk->segments[i]);
        }
        if (!cuts) join(chunk, first, last);
        at = end;
    }
}

static void begin(struct model *m, struct segment *segment, struct write *w) {
    (void)m;
    add_entry(segment, (struct entry){w, NEVER, NEVER, NEVER});
}

struct write *model_begin(struct model *m, unsigned file, uint32_t value, uint64_t start, uint64_t end) {
    struct write *w = grown(NULL, sizeof *w);
    *w = (struct write){.value = value, .file = file, .references = 1, .start = start, .end = end,
                        .sent = model_tick(m), .acknowledged = NEVER, .stable = NEVER};
    visit(m, w, begin, true);
    return w;
}

static void acknowledge(struct model *m, struct segment *segment, struct write *w) {
    for (uint32_t i = 0; i < segment->count; i++) {
        struct entry *entry = &segment->entries[i];
        if (entry->write == w) {
            if (entry->done > m->now) entry->done = m->now;
        } else if (entry->done < w->sent && entry->dead > m->now) {
            entry->dead = m->now;
        }
    }
}

static void make_stable(struct model *m, struct segment *segment, struct write *w) {
    for (uint32_t i = 0; i < segment->count; i++) {
        struct entry *entry = &segment->entries[i];
        if (entry->write == w || entry->done >= w->sent) continue;
        if (entry->dead > m->now) entry->dead = m->now;
        if (entry->gone > m->now) entry->gone = m->now;
    }
}

void model_acknowledge(struct model *m, struct write *w, bool is_stable) {
    w->acknowledged = model_tick(m);
    visit(m, w, acknowledge, false);
    if (is_stable) model_stable(m, w);
}

void model_stable(struct model *m, struct write *w) {
    w->stable = model_tick(m);
    visit(m, w, make_stable, false);
}

bool model_superseded(struct model *m, const struct write *w) {
    for (uint64_t at = w->start; at < w->end;) {
        struct chunk *chunk = &m->chunks[w->file * m->chunks_per_file + at / CHUNK_BYTES];
        struct segment *segment = &chunk->segments[find(chunk, at)];
        bool is_superseded = true;
        for (uint32_t i = 0; i < segment->count && is_superseded; i++)
            if (segment->entries[i].write == w) is_superseded = false;
        for (uint32_t i = 0; i < segment->count && !is_superseded; i++) {
            const struct write *other = segment->entries[i].write;
            is_superseded = other->acknowledged != NEVER && other->sent > w->acknowledged;
        }
        if (!is_superseded) return false;
        at = segment->end;
    }
    return true;
}

void model_crash(struct model *m) {
    for (uint64_t c = 0; c < m->files * m->chunks_per_file; c++) {
        for (uint32_t s = 0; s < m->chunks[c].count; s++) {
            struct segment *segment = &m->chunks[c].segments[s];
            for (uint32_t i = 0; i < segment->count; i++) {
                struct entry *entry = &segment->entries[i];
                // The duplicate request cache is gone as well: what is in flight is sent again, and may be executed again.
                if (entry->write->acknowledged == NEVER) {
                    entry->done = NEVER;
                    entry->gone = NEVER;
                }
                if (entry->gone == NEVER) entry->dead = NEVER;
            }
        }
    }
}

static bool is_admissible(const struct entry *entry, moment sent, bool is_killed) {
    return (is_killed ? entry->gone : entry->dead) > sent;
}

// All bytes are of the write that was seen: it has happened, and came after those that were done before the READ was sent.
static void learn(struct model *m, struct segment *segment, const struct entry *seen, moment sent) {
    uint32_t value = seen->write->value, same = 0;
    for (uint32_t i = 0; i < segment->count; i++) same += segment->entries[i].write->value == value;
    for (uint32_t i = 0; i < segment->count; i++) {
        struct entry *entry = &segment->entries[i];
        if (entry->write->value != value) {
            if (entry->done >= sent) continue;
            if (entry->dead > m->now) entry->dead = m->now;
            if (same == 1 && seen->write->stable < m->now && entry->gone > m->now) entry->gone = m->now;
        } else if (same == 1 && entry->done > m->now) {
            entry->done = m->now;
        }
    }
}

// Judges the bytes of one segment; returns how many fit.
static size_t judge(struct model *m, unsigned file, struct segment *segment, uint64_t offset, const uint8_t *bytes,
                    size_t count, moment sent, bool is_killed) {
    const struct entry *seen = NULL;
    for (uint32_t i = segment->count; i-- > 0;) {
        struct entry *entry = &segment->entries[i];
        if (is_admissible(entry, sent, is_killed) && content_equal(m, file, entry->write->value, offset, bytes, count)) {
            seen = entry;
            break;
        }
    }
    if (seen) {
        // 15 bytes hold a whole word, which no two values share; and nothing is known of bytes that were not read.
        bool is_whole = offset == segment->start && count == segment->end - segment->start;
        if (is_whole && count >= 15 && !is_killed) learn(m, segment, seen, sent);
        return count;
    }
    for (size_t at = 0; at < count; at++) {
        bool fits = false;
        for (uint32_t i = 0; i < segment->count && !fits; i++)
            fits = is_admissible(&segment->entries[i], sent, is_killed) &&
                   content_equal(m, file, segment->entries[i].write->value, offset + at, bytes + at, 1);
        if (!fits) return at;
    }
    m->mixed++;
    return count;
}

// "expected A; B", and then what a server that remembers everything can't give any more.
static void describe(const struct model *m, unsigned file, const struct segment *segment, uint64_t bad, uint64_t offset,
                     const uint8_t *bytes, size_t count, moment sent, char *words) {
    char found[160];
    // Of the word that the byte is in, or of the next one if that belongs to a neighbour or was not read.
    uint64_t word = bad & ~UINT64_C(7), end = offset + count;
    if (word < offset || (word < segment->start && word + 16 <= end)) word += 8;
    content_describe(m, word, bytes + (word - offset), word < end ? end - word : 0, found, sizeof found);
    int used = snprintf(words, DESCRIPTION_BYTES, "byte %lu of file %u is 0x%02x, of %s", bad, file,
                        bytes[bad - offset], found);
    for (int overwritten = 0; overwritten < 2; overwritten++) {
        const char *separator = overwritten ? "; overwritten " : "; expected ";
        for (uint32_t i = segment->count; i-- > 0 && used < DESCRIPTION_BYTES - 200;) {
            const struct entry *entry = &segment->entries[i];
            if (is_admissible(entry, sent, false) == (overwritten != 0)) continue;
            char who[64];
            value_describe(entry->write->value, who, sizeof who);
            used += snprintf(words + used, DESCRIPTION_BYTES - (size_t)used, "%s%s [%lu, %lu)%s", separator, who,
                             entry->write->start, entry->write->end,
                             entry->write->acknowledged == NEVER ? " in flight"
                             : entry->write->stable == NEVER     ? ""
                                                                 : " stable");
            separator = ", ";
        }
    }
}

enum read_verdict model_read(struct model *m, unsigned file, uint64_t offset, const uint8_t *bytes, size_t count, moment sent,
                             char description[DESCRIPTION_BYTES]) {
    enum read_verdict verdict = READ_FITS;
    model_tick(m);
    for (uint64_t at = offset; at < offset + count;) {
        struct chunk *chunk = &m->chunks[file * m->chunks_per_file + at / CHUNK_BYTES];
        struct segment *segment = &chunk->segments[find(chunk, at)];
        uint64_t end = segment->end < offset + count ? segment->end : offset + count;
        size_t fitting = judge(m, file, segment, at, bytes + (at - offset), end - at, sent, false);
        if (fitting < end - at) {
            if (verdict == READ_FITS) describe(m, file, segment, at + fitting, offset, bytes, count, sent, description);
            bool forgot = judge(m, file, segment, at, bytes + (at - offset), end - at, sent, true) == end - at;
            if (!forgot) return READ_WRONG;
            verdict = READ_FORGOT;
        }
        at = end;
    }
    return verdict;
}

struct model_counts model_count(const struct model *m) {
    struct model_counts counts = {.mixed = m->mixed};
    for (uint64_t c = 0; c < m->files * m->chunks_per_file; c++) {
        counts.segments += m->chunks[c].count;
        for (uint32_t s = 0; s < m->chunks[c].count; s++) counts.entries += m->chunks[c].segments[s].count;
    }
    return counts;
}
