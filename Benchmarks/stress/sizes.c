// The size of a file: the least and the most that an attribute may show between a call and its reply.
//
// A write that was acknowledged makes the file at least so long, one that was sent at most so long. A SETATTR of the size
// takes both bounds back to where they were: while some are in flight the size is between the least and the most of all,
// and when none is, only the writes that were not done before the first of them was sent count for the upper bound, and
// only those that were sent after the last was done for the lower.
#include "stress.h"

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t most(uint64_t a, uint64_t b) { return a > b ? a : b; }

// Widens the bounds of all calls in flight to those of the file.
static void widen(struct run *run, unsigned number, bool truncates) {
    struct file *file = &run->files[number];
    for (unsigned l = 0; l < run->options.connections; l++) {
        for (unsigned i = 0; i < run->options.in_flight; i++) {
            struct call *call = &run->lanes[l].calls[i];
            if (call->kind == FREE || call->file != number) continue;
            call->low = least(call->low, file->low);
            call->high = most(call->high, file->high);
            if (truncates) call->meets_truncate = true;
        }
    }
}

static uint64_t end_of_writes_in_flight(struct run *run, unsigned number) {
    uint64_t end = 0;
    for (unsigned l = 0; l < run->options.connections; l++) {
        for (unsigned i = 0; i < run->options.in_flight; i++) {
            const struct call *call = &run->lanes[l].calls[i];
            if (call->kind == WRITE && call->file == number) end = most(end, call->offset + call->count);
        }
    }
    return end;
}

void size_sent(struct run *run, struct call *call) {
    struct file *file = &run->files[call->file];
    uint64_t low = file->low, high = file->high;
    if (call->kind == WRITE) {
        uint64_t end = call->offset + call->count;
        file->high = most(file->high, end);
        file->truncate_high = most(file->truncate_high, end);
    } else if (call->kind == TRUNCATE) {
        if (file->truncates++ == 0) {
            file->truncate_least = UINT64_MAX;
            file->truncate_most = 0;
            file->truncate_high = end_of_writes_in_flight(run, call->file);
        }
        file->truncate_least = least(file->truncate_least, call->offset);
        file->truncate_most = most(file->truncate_most, call->offset);
        file->low = least(file->low, call->offset);
        file->low_stable = least(file->low_stable, call->offset);
        file->high = most(file->high, call->offset);
    }
    call->low = file->low;
    call->high = file->high;
    call->meets_truncate = file->truncates > 0;
    if (file->low < low || file->high > high || call->kind == TRUNCATE)
        widen(run, call->file, call->kind == TRUNCATE);
}

void size_acknowledged(struct run *run, const struct call *call) {
    struct file *file = &run->files[call->file];
    if (call->kind == TRUNCATE) {
        if (--file->truncates > 0) return;
        file->low = file->low_stable = file->truncate_least;
        file->high = most(file->truncate_most, file->truncate_high);
        file->truncated = model_now(run->model);
    } else if (call->kind == WRITE && file->truncates == 0 && call->write->sent > file->truncated) {
        file->low = most(file->low, call->offset + call->count);
    }
}

void size_stable(struct run *run, const struct write *write) {
    struct file *file = &run->files[write->file];
    if (file->truncates == 0 && write->sent > file->truncated) file->low_stable = most(file->low_stable, write->end);
}

void size_crashed(struct run *run) {
    for (unsigned i = 0; i < run->options.files; i++) {
        run->files[i].low = least(run->files[i].low, run->files[i].low_stable);
        widen(run, i, false);
    }
}

// `is_before`: the size in wcc_data before the operation.
void size_check(struct run *run, const struct lane *lane, const struct call *call, uint64_t size, bool is_before) {
    uint64_t low = call->low;
    if (call->kind == WRITE && !is_before && !call->meets_truncate) low = most(low, call->offset + call->count);
    if (size >= low && size <= call->high) return;
    char words[200];
    snprintf(words, sizeof words, "the reply has a size of %lu%s; from the call to the reply the size was %lu to %lu",
             size, is_before ? " before the operation" : "", low, call->high);
    const struct file *file = &run->files[call->file];
    if (size < low && size >= least(file->low_stable, low)) suspect(run, lane, call, words);
    else mismatch(run, lane, call, words);
}
