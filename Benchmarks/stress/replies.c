// Replies: each is checked, and tells the model what has happened.
#include "stress.h"

#include <stdlib.h>
#include <string.h>

enum { JUKEBOX = 10008 };

#define JUKEBOX_SECONDS 0.2

static void append(struct write ***list, size_t *count, size_t *capacity, struct write *write) {
    if (*count == *capacity) {
        *capacity = *capacity * 2 + 64;
        *list = realloc(*list, *capacity * sizeof **list);
        if (!*list) die("out of memory");
    }
    (*list)[(*count)++] = write;
}

void keep_uncommitted(struct run *run, struct write *write) {
    struct file *file = &run->files[write->file];
    file->uncommitted_bytes += write->end - write->start;
    append(&file->uncommitted, &file->uncommitted_count, &file->uncommitted_capacity, write);
}

static void check_attributes(struct lane *lane, const struct call *call, struct reader *results) {
    struct attributes attributes;
    if (!get_optional_attributes(results, &attributes)) return;
    if (attributes.type != NFS3_REGULAR_FILE) fail(lane->run, lane, call, "the type in the attributes is %u", attributes.type);
    size_check(lane->run, lane, call, attributes.size, false);
}

static void check_wcc(struct lane *lane, const struct call *call, struct reader *results) {
    if (get_uint32(results)) {
        size_check(lane->run, lane, call, get_uint64(results), true);
        skip(results, 16); // mtime, ctime
    }
    check_attributes(lane, call, results);
}

static void acknowledge(struct lane *lane, const struct call *call, bool is_stable) {
    struct run *run = lane->run;
    model_acknowledge(run->model, call->write, is_stable);
    size_acknowledged(run, call);
    if (is_stable) size_stable(run, call->write);
}

static void take_write(struct lane *lane, const struct call *call, struct reader *results) {
    struct run *run = lane->run;
    check_wcc(lane, call, results);
    uint32_t count = get_uint32(results), committed = get_uint32(results);
    uint64_t verifier = get_uint64(results);
    if (count == 0 || count > call->count) {
        fail(run, lane, call, "WRITE took %u bytes", count);
        return;
    }
    if (committed > NFS3_FILE_SYNC || committed < call->how) {
        fail(run, lane, call, "WRITE asked for stable_how %u and was answered %u", call->how, committed);
        return;
    }
    take_verifier(run, call, verifier);
    if (count < call->count) {
        // The rest is to be written by another call. The model has no half writes: all of it is sent again, and until
        // that is done this one is in flight for ever, as if its reply had been lost.
        run->counts.short_writes++;
        struct call again = *call;
        again.copies = ONE;
        call_start(lane, again);
        return;
    }
    run->counts.bytes_written += count;
    bool is_stable = committed != NFS3_UNSTABLE;
    run->counts.stable_writes += is_stable;
    call->write->verifier = verifier;
    acknowledge(lane, call, is_stable);
    if (is_stable) write_release(call->write);
    else keep_uncommitted(run, call->write);
    if (run->phase != RUNNING) return;
    if (call->copies == LATE && lane->late_count < LATE_COPIES)
        lane->late[lane->late_count++] = (struct late_copy){*call, lane->operation + 1 + call->value % 7};
    if (call->copies == OTHER_XID) {
        struct call again = *call;
        again.copies = ONE;
        run->counts.other_xid_copies++;
        call_start(lane, again);
    }
}

static void take_commit(struct lane *lane, const struct call *call, struct reader *results) {
    struct run *run = lane->run;
    struct file *file = &run->files[call->file];
    check_wcc(lane, call, results);
    uint64_t verifier = get_uint64(results), end = call->count ? call->offset + call->count : UINT64_MAX;
    take_verifier(run, call, verifier);
    size_t kept = 0;
    for (size_t i = 0; i < file->uncommitted_count; i++) {
        struct write *write = file->uncommitted[i];
        if (write->acknowledged > call->sent || write->start < call->offset || write->end > end) {
            file->uncommitted[kept++] = write;
            continue;
        }
        file->uncommitted_bytes -= write->end - write->start;
        if (write->verifier == verifier) {
            model_stable(run->model, write);
            size_stable(run, write);
            write_release(write);
        } else {
            append(&run->resend, &run->resend_end, &run->resend_capacity, write);
        }
    }
    file->uncommitted_count = kept;
    if (call->offset == 0 && call->count == 0) file->is_committing = false;
}

static void judge(struct lane *lane, const struct call *call, uint64_t offset, const uint8_t *bytes, size_t count) {
    struct run *run = lane->run;
    char words[DESCRIPTION_BYTES];
    switch (model_read(run->model, call->file, offset, bytes, count, call->sent, words)) {
    case READ_FITS: break;
    case READ_FORGOT: suspect(run, lane, call, words); break;
    case READ_WRONG: mismatch(run, lane, call, words); break;
    }
}

static void take_read(struct lane *lane, const struct call *call, struct reader *results) {
    static const uint8_t zeros[1 << 20];
    struct run *run = lane->run;
    check_attributes(lane, call, results);
    uint32_t count = get_uint32(results), is_end = get_uint32(results), data_bytes;
    const uint8_t *data = get_opaque(results, &data_bytes);
    if (count != data_bytes || count > call->count || (count == 0 && !is_end)) {
        fail(run, lane, call, "READ gave count %u and %u bytes, eof %u", count, data_bytes, is_end);
        return;
    }
    uint64_t end = call->offset + count;
    char words[200];
    if (count > 0 && end > call->high) {
        snprintf(words, sizeof words, "READ gave bytes up to %lu; the size was at most %lu", end, call->high);
        mismatch(run, lane, call, words);
        return;
    }
    if (is_end && end < call->low && call->offset < call->low) {
        snprintf(words, sizeof words, "READ says that the file ends at %lu; the size was at least %lu", end, call->low);
        if (end >= run->files[call->file].low_stable) suspect(run, lane, call, words);
        else mismatch(run, lane, call, words);
        return;
    }
    judge(lane, call, call->offset, data, count);
    if (run->phase == VERIFYING) run->counts.bytes_verified += is_end ? call->count : count;
    else run->counts.bytes_read += count;
    if (count == call->count) return;
    if (is_end) {
        // Behind the end is what a hole would be.
        judge(lane, call, end, zeros, call->count - count);
        return;
    }
    run->counts.short_reads++;
    if (run->phase != VERIFYING) return;
    struct call rest = *call;
    rest.offset = end;
    rest.count -= count;
    call_start(lane, rest);
}

static struct call *find_call(struct lane *lane, uint32_t xid) {
    for (unsigned i = 0; i < lane->run->options.in_flight; i++)
        if (lane->calls[i].kind != FREE && lane->calls[i].xid == xid) return &lane->calls[i];
    return NULL;
}

static bool may_be_repeated(const struct lane *lane, uint32_t xid) {
    for (unsigned i = 0; i < REPEATED; i++)
        if (lane->repeated[i] == xid) return true;
    return false;
}

static void update_horizon(struct run *run) {
    moment horizon = NEVER;
    for (unsigned l = 0; l < run->options.connections; l++) {
        for (unsigned i = 0; i < run->options.in_flight; i++) {
            const struct call *call = &run->lanes[l].calls[i];
            if (call->kind == READ && call->sent < horizon) horizon = call->sent;
        }
    }
    model_set_horizon(run->model, horizon);
}

void take_reply(void *context, uint32_t xid, struct reader *results) {
    struct lane *lane = context;
    struct run *run = lane->run;
    if (run->has_failed) return;
    struct call *slot = find_call(lane, xid);
    if (!slot) {
        if (may_be_repeated(lane, xid)) run->counts.repeated_replies++;
        else fail(run, lane, NULL, "connection %u: a reply to a call that was not made: xid %08x", lane->number, xid);
        return;
    }
    uint32_t status = get_uint32(results);
    if (slot->was_repeated) remember_repeated(lane, xid);
    if (status == JUKEBOX) {
        run->counts.jukebox++;
        slot->retry_at = seconds_now() + JUKEBOX_SECONDS;
        return;
    }
    struct call call = *slot;
    if (status != 0) {
        fail(run, lane, &call, "nfsstat3 %u", status);
        return;
    }
    slot->kind = FREE;
    lane->in_flight--;
    latency_add(&run->latencies[call.kind], seconds_now() - call.sent_at);
    update_horizon(run);
    model_tick(run->model);
    switch (call.kind) {
    case WRITE: take_write(lane, &call, results); break;
    case READ: take_read(lane, &call, results); break;
    case COMMIT: take_commit(lane, &call, results); break;
    case TRUNCATE:
        check_wcc(lane, &call, results);
        acknowledge(lane, &call, true);
        write_release(call.write);
        break;
    case GETATTR: {
        struct attributes attributes;
        get_attributes(results, &attributes);
        size_check(run, lane, &call, attributes.size, false);
        break;
    }
    default: break;
    }
}
