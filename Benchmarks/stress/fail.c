// What was wrong, what may be wrong, and restarts of the server.
#include "stress.h"

#include <stdarg.h>
#include <string.h>

static void say(struct run *run, const struct lane *lane, const struct call *call, const char *words) {
    run->has_failed = true;
    fprintf(stderr, "\nstress: ");
    if (call) {
        char who[64] = "";
        if (call->value) value_describe(call->value, who, sizeof who);
        fprintf(stderr, "%s of file %u, offset %lu, %u bytes, xid %08x, connection %u%s%s: ", kind_names[call->kind],
                call->file, call->offset, call->count, call->xid, lane->number, *who ? ", " : "", who);
    }
    fprintf(stderr, "%s\nstress: seed %lu%s%s\n", words, run->options.seed, *run->directory_name ? "; the files are left in " : "",
            run->directory_name);
}

void fail(struct run *run, const struct lane *lane, const struct call *call, const char *format, ...) {
    char words[DESCRIPTION_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    run->counts.errors++;
    say(run, lane, call, words);
}

void mismatch(struct run *run, const struct lane *lane, const struct call *call, const char *words) {
    run->counts.mismatches++;
    say(run, lane, call, words);
}

void suspect(struct run *run, const struct lane *lane, const struct call *call, const char *words) {
    if (run->phase == VERIFYING) {
        mismatch(run, lane, call, words);
        return;
    }
    if (run->suspicion[0]) return;
    snprintf(run->suspicion, sizeof run->suspicion, "%s of file %u, offset %lu, %u bytes, connection %u: %s",
             kind_names[call->kind], call->file, call->offset, call->count, lane->number, words);
    run->suspected = model_tick(run->model);
    run->suspected_verifier = run->verifier;
}

void note_crash(struct run *run) {
    model_tick(run->model);
    model_crash(run->model);
    size_crashed(run);
    // The server's memory of calls is gone: a copy would rightly be executed.
    for (unsigned i = 0; i < run->options.connections; i++) forget_late_copies(&run->lanes[i]);
}

void take_verifier(struct run *run, const struct call *call, uint64_t verifier) {
    if (!run->has_verifier) {
        run->has_verifier = true;
        run->verifier = verifier;
    } else if (verifier != run->verifier) {
        run->verifier = verifier;
        run->counts.verifier_changes++;
        note_crash(run);
    }
    if (!run->suspicion[0] || call->sent < run->suspected) return;
    if (verifier == run->suspected_verifier) mismatch(run, NULL, NULL, run->suspicion);
    else run->counts.forgiven++;
    run->suspicion[0] = '\0';
}
