// Calls: how they are made, sent, and sent again.
#include "stress.h"

#include <stdlib.h>
#include <string.h>

// So much is left uncommitted in a file before a COMMIT of it is made, whatever was drawn: memory is bounded.
enum { MOST_UNCOMMITTED = 4096, MOST_UNCOMMITTED_BYTES = 64 << 20 };

// Encodes the call; a copy has the same bytes.
void call_send(struct lane *lane, const struct call *call) {
    static const uint32_t procedures[KINDS] = {0, NFS3_WRITE, NFS3_READ, NFS3_COMMIT, NFS3_SETATTR, NFS3_GETATTR};
    struct run *run = lane->run;
    struct link *link = &lane->link;
    if (link->state == LINK_DOWN) return; // it goes out when the link is up again
    const struct handle *handle = &run->files[call->file].handle;
    link_begin_call(link, call->xid, procedures[call->kind]);
    link_put_opaque(link, handle->data, handle->bytes);
    switch (call->kind) {
    case WRITE:
        link_put_uint64(link, call->offset);
        link_put_uint32(link, call->count);
        link_put_uint32(link, call->how);
        content_fill(run->model, call->file, call->value, call->offset, link_put_room(link, call->count), call->count);
        break;
    case READ:
    case COMMIT:
        link_put_uint64(link, call->offset);
        link_put_uint32(link, call->count);
        break;
    case TRUNCATE:
        for (int i = 0; i < 3; i++) link_put_uint32(link, 0); // no mode, uid, gid
        link_put_uint32(link, 1);
        link_put_uint64(link, call->offset);
        for (int i = 0; i < 3; i++) link_put_uint32(link, 0); // no times, no guard
        break;
    default: break;
    }
    link_end_call(link);
}

void remember_repeated(struct lane *lane, uint32_t xid) { lane->repeated[lane->repeated_next++ % REPEATED] = xid; }

void call_start(struct lane *lane, struct call call) {
    struct run *run = lane->run;
    struct call *slot = lane->calls;
    while (slot->kind != FREE) slot++;
    call.xid = run->next_xid++;
    size_sent(run, &call);
    if (call.kind == WRITE)
        call.write = model_begin(run->model, call.file, call.value, call.offset, call.offset + call.count);
    else if (call.kind == TRUNCATE)
        call.write = model_begin(run->model, call.file, ZEROS, call.offset, run->options.size);
    call.sent = model_tick(run->model);
    call.sent_at = call.copied_at = seconds_now();
    *slot = call;
    lane->in_flight++;
    // Calls are sent when the link comes up, all that are in flight.
    if (lane->link.state != LINK_UP) return;
    call_send(lane, slot);
    if (call.copies == TWICE) {
        slot->was_repeated = true;
        run->counts.same_xid_copies++;
        call_send(lane, slot);
    }
}

void send_late_copies(struct lane *lane, bool all) {
    for (unsigned i = 0; i < lane->late_count;) {
        struct late_copy *late = &lane->late[i];
        if (!all && late->due > lane->operation) {
            i++;
            continue;
        }
        if (lane->link.state == LINK_UP) {
            remember_repeated(lane, late->call.xid);
            call_send(lane, &late->call);
            lane->run->counts.late_copies++;
        }
        *late = lane->late[--lane->late_count];
    }
}

void forget_late_copies(struct lane *lane) { lane->late_count = 0; }

static void start_commit_of_all(struct lane *lane, unsigned number) {
    lane->run->files[number].is_committing = true;
    call_start(lane, (struct call){.kind = COMMIT, .file = number});
}

static bool resend_one(struct lane *lane) {
    struct run *run = lane->run;
    while (run->resend_begin < run->resend_end) {
        struct write *lost = run->resend[run->resend_begin++];
        bool is_superseded = model_superseded(run->model, lost);
        if (is_superseded) {
            run->counts.writes_superseded++;
        } else {
            run->counts.writes_resent++;
            call_start(lane, (struct call){.kind = WRITE, .is_resent = true, .file = lost->file, .value = lost->value,
                                           .offset = lost->start, .count = (uint32_t)(lost->end - lost->start),
                                           .how = NFS3_UNSTABLE});
        }
        write_release(lost);
        if (!is_superseded) return true;
    }
    run->resend_begin = run->resend_end = 0;
    return false;
}

static bool verify_next(struct lane *lane) {
    struct run *run = lane->run;
    // The fresh connection is the first; others have nothing to do.
    if (lane->number > 0) return false;
    while (run->verify_file < run->options.files) {
        unsigned number = run->verify_file;
        uint64_t offset = run->verify_offset, rest = run->options.size - offset;
        if (rest == 0) {
            call_start(lane, (struct call){.kind = GETATTR, .file = number});
            run->verify_file++;
            run->verify_offset = 0;
            return true;
        }
        uint32_t count = rest < run->read_bytes ? (uint32_t)rest : run->read_bytes;
        call_start(lane, (struct call){.kind = READ, .file = number, .offset = offset, .count = count});
        run->verify_offset += count;
        return true;
    }
    return false;
}

bool issue_work(struct lane *lane) {
    struct run *run = lane->run;
    if (run->phase == VERIFYING) return verify_next(lane);
    if (resend_one(lane)) return true;
    for (unsigned i = 0; i < run->options.files; i++) {
        struct file *file = &run->files[i];
        if (file->is_committing || file->uncommitted_count == 0) continue;
        if (run->phase == SETTLING || file->uncommitted_count > MOST_UNCOMMITTED ||
            file->uncommitted_bytes > MOST_UNCOMMITTED_BYTES) {
            start_commit_of_all(lane, i);
            return true;
        }
    }
    return false;
}

void issue_operation(struct lane *lane) {
    struct run *run = lane->run;
    uint32_t value = (uint32_t)((lane->number + 1) << 24 | lane->operation);
    struct draw draw = draw_operation(lane);
    struct call call = {.kind = draw.kind, .copies = draw.copies, .file = draw.file, .offset = draw.offset,
                        .count = draw.count, .how = draw.how};
    if (draw.kind == TRUNCATE) call.count = 0;
    if (draw.kind == GETATTR) call.offset = call.count = 0;
    if (draw.kind == WRITE) call.value = value;
    call_start(lane, call);
    send_late_copies(lane, false);
    if (!draw.drops || lane->link.state != LINK_UP) return;
    // In the middle of a record, as likely as not.
    size_t gathered = lane->link.output.end - lane->link.output.begin;
    link_flush(&lane->link, (size_t)(draw.random % (gathered + 1)));
    link_drop(&lane->link);
    lane->was_dropped = true;
    run->counts.drops++;
}
