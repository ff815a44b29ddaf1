// What a file may hold while many writes to it are in flight, and what it may hold after the server was killed.
//
// Each byte is an atomic register: an operation takes effect for it at one moment between the call and the reply. NFSv3
// promises no more and no less: a WRITE is not atomic as a whole, and what is in flight at the same time is in no order.
// So a READ may give for each byte a value whose write
//   * had been sent when the reply came, and
//   * was not certainly overwritten when the call was made: there is no other write that was sent after this one was
//     done, and was itself done before the READ was sent.
// Done is what was acknowledged, or was seen by a READ that has been answered: what somebody saw has happened. A READ that
// saw a write says more: other writes that were done before the READ was sent came before the one that it saw, and must
// not be seen again. Each rule follows from any order of the operations that keeps to real time: what the model refuses is
// wrong. It does not find all that is wrong: orders that fit each byte but not several operations together pass.
//
// A server that is killed may forget writes that were neither FILE_SYNC or DATA_SYNC nor covered by a COMMIT with the same
// verifier: then each write may be seen again that was not certainly overwritten by one that is stable. A write carries two
// ends for this: `dead`, when it was overwritten, and `gone`, when it was overwritten by a stable one.
//
// Bytes behind the end of a file are zeros; a SETATTR of the size writes zeros from there on, and is stable.
//
// A file is cut into segments at the ends of writes, so that all bytes of a segment have the same history; whatever the
// alignment, memory grows with the writes that can still be seen. One thread; moments are numbers of a counter.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t moment;
#define NEVER UINT64_MAX

enum { ZEROS = 0, DESCRIPTION_BYTES = 1024 };

// A write of the bytes from start to end. What is sent again with another xid is another write of the same value.
struct write {
    uint32_t value; // names the content; ZEROS: zeros
    unsigned file, references;
    uint64_t start, end;
    moment sent, acknowledged, stable;
    uint64_t verifier;
};

struct model;

struct model *model_make(unsigned files, uint64_t size, uint64_t seed);
void model_free(struct model *);
moment model_now(const struct model *);
// The next moment. Each call and each reply has its own.
moment model_tick(struct model *);

// The bytes that a write of the value has at this offset of its file.
void content_fill(const struct model *, unsigned file, uint32_t value, uint64_t offset, uint8_t *bytes, size_t count);

// The write is sent at this moment; the caller has one reference.
struct write *model_begin(struct model *, unsigned file, uint32_t value, uint64_t start, uint64_t end);
void model_acknowledge(struct model *, struct write *, bool is_stable);
// An acknowledged write is stable from now on.
void model_stable(struct model *, struct write *);
// Whether each byte of an acknowledged write was overwritten by another that was acknowledged.
bool model_superseded(struct model *, const struct write *);
void write_release(struct write *);
// The server may have been killed: what is not stable may be forgotten, and what is in flight may come twice.
void model_crash(struct model *);
// READs in flight were sent at this moment or later.
void model_set_horizon(struct model *, moment);

enum read_verdict {
    READ_FITS,
    READ_FORGOT,  // it would fit if the server had been killed
    READ_WRONG,
};

// Judges a READ that was sent at this moment and is answered now. What is wrong is described in words.
enum read_verdict model_read(struct model *, unsigned file, uint64_t offset, const uint8_t *, size_t count, moment sent,
                             char description[DESCRIPTION_BYTES]);

struct model_counts {
    uint64_t segments, entries, mixed; // mixed: reads of segments with bytes of several writes
};
struct model_counts model_count(const struct model *);

// "operation 12 of connection 3": who wrote a value.
void value_describe(uint32_t value, char *words, size_t bytes);
