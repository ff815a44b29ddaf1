// What is shown while it runs and at the end: progress, the summary, JSON.
#include "names.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

const char *const kind_names[KINDS] = {"", "WRITE", "READ", "COMMIT", "SETATTR", "GETATTR"};

#define LINE_SECONDS 5.0
#define BAR_SECONDS 0.1

enum { BUCKETS = sizeof((struct latencies *)0)->buckets / sizeof(uint64_t), BUCKETS_PER_DOUBLING = 32 };

// The buckets begin at a microsecond and grow by 2 % each.
void latency_add(struct latencies *latencies, double seconds) {
    double microseconds = seconds * 1e6;
    int bucket = microseconds <= 1 ? 0 : (int)(log2(microseconds) * BUCKETS_PER_DOUBLING);
    latencies->buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    latencies->count++;
    if (seconds > latencies->most) latencies->most = seconds;
}

static double latency_percentile(const struct latencies *latencies, double share) {
    uint64_t rank = (uint64_t)(share * (double)latencies->count), passed = 0;
    for (int i = 0; i < BUCKETS; i++) {
        passed += latencies->buckets[i];
        if (passed > rank) return exp2((i + 0.5) / BUCKETS_PER_DOUBLING) / 1e6;
    }
    return latencies->most;
}

static uint64_t operations(const struct run *run) {
    uint64_t sum = 0;
    for (int i = 1; i < KINDS; i++) sum += run->latencies[i].count;
    return sum;
}

static double done_share(const struct run *run) {
    if (run->phase == VERIFYING)
        return (double)run->counts.bytes_verified / ((double)run->options.files * (double)run->options.size);
    if (run->phase == SETTLING) return 1;
    double by_time = run->options.seconds > 0 ? (seconds_now() - run->started) / run->options.seconds : 0, by_count = 0;
    if (run->options.operations) {
        for (unsigned i = 0; i < run->options.connections; i++) by_count += (double)run->lanes[i].operation;
        by_count /= (double)run->options.operations;
    }
    double by_kills = run->options.kill ? (double)run->counts.kills / run->options.kills : 0;
    return fmin(1, fmax(by_kills, fmax(by_time, by_count)));
}

void show_progress(struct run *run, bool is_last) {
    static double next;
    static enum phase shown;
    static const char *const names[] = {"writing", "committing", "reading back"};
    if (run->options.quiet) return;
    bool is_terminal = isatty(STDERR_FILENO);
    double now = seconds_now();
    if (now < next && !is_last && shown == run->phase) return;
    shown = run->phase;
    next = now + (is_terminal ? BAR_SECONDS : LINE_SECONDS);
    double share = done_share(run), seconds = now - run->started;
    char line[200];
    snprintf(line, sizeof line, "%3.0f %%  %s, %lu calls, %.0f MiB/s written, %.0f MiB/s read, %lu sent again", share * 100,
             names[run->phase], operations(run), (double)run->counts.bytes_written / seconds / 1048576,
             (double)run->counts.bytes_read / seconds / 1048576,
             run->counts.calls_replayed + run->counts.timeouts + run->counts.writes_resent);
    if (is_terminal) {
        int width = (int)(share * 24);
        fprintf(stderr, "\r[%.*s%*s] %s\x1b[K%s", width, "########################", 24 - width, "", line, is_last ? "\n" : "");
    } else {
        fprintf(stderr, "stress: %s\n", line);
    }
    fflush(stderr);
}

void print_summary(const struct run *run) {
    const struct counts *counts = &run->counts;
    double seconds = run->ended - run->started;
    printf("seed %lu: %lu calls in %.1f s, %.1f MiB/s written, %.1f MiB/s read\n", run->options.seed, operations(run), seconds,
           (double)counts->bytes_written / seconds / 1048576,
           (double)counts->bytes_read / seconds / 1048576);
    printf("%-8s %9s %9s %9s %9s\n", "", "calls", "p50 ms", "p99 ms", "max ms");
    for (int i = 1; i < KINDS; i++) {
        const struct latencies *each = &run->latencies[i];
        if (each->count)
            printf("%-8s %9lu %9.2f %9.2f %9.2f\n", kind_names[i], each->count, latency_percentile(each, 0.5) * 1e3,
                   latency_percentile(each, 0.99) * 1e3, each->most * 1e3);
    }
    printf("copies: %lu at once and %lu late with the same xid, %lu with another; %lu replies were repeated\n"
           "connections: %lu dropped, %lu lost, %lu calls replayed, %lu sent again after a time; "
           "%lu verifier changes, %lu writes sent again\n"
           "%lu bytes read back; %lu mismatches, %lu errors\n",
           counts->same_xid_copies, counts->late_copies, counts->other_xid_copies, counts->repeated_replies, counts->drops,
           counts->connections_lost, counts->calls_replayed, counts->timeouts, counts->verifier_changes, counts->writes_resent,
           counts->bytes_verified, counts->mismatches, counts->errors);
    const struct names *names = run->names;
    if (names->count)
        printf("names: %lu made, %lu renamed, %lu removed, %lu writes, %lu of them sent again; %lu calls were answered only when "
               "sent again; %lu looked at\n", names->made, names->renamed, names->removed, names->written, names->resent,
               names->ambiguous, names->verified);
    if (run->options.kill)
        printf("kills: %lu, %lu of them while it started; it served after %.2f s at most\n", counts->kills, counts->early_kills,
               run->server.slowest_start);
    printf("verdict, seed %lu: %s\n", run->options.seed,
           run->has_failed ? "WRONG, as said above" : "all that was promised is there");
}

bool write_json(const struct run *run, const char *path) {
    FILE *file = fopen(path, "w");
    if (!file) return false;
    const struct counts *c = &run->counts;
    struct model_counts model = model_count(run->model);
    double seconds = run->ended - run->started;
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"seed", run->options.seed}, {"connections", run->options.connections}, {"files", run->options.files},
        {"calls", operations(run)}, {"bytes_written", c->bytes_written}, {"bytes_read", c->bytes_read},
        {"bytes_verified", c->bytes_verified}, {"stable_writes", c->stable_writes},
        {"same_xid_copies", c->same_xid_copies}, {"late_copies", c->late_copies}, {"other_xid_copies", c->other_xid_copies},
        {"repeated_replies", c->repeated_replies}, {"connections_dropped", c->drops},
        {"connections_lost", c->connections_lost}, {"calls_replayed", c->calls_replayed}, {"calls_timed_out", c->timeouts},
        {"verifier_changes", c->verifier_changes}, {"writes_resent", c->writes_resent},
        {"writes_superseded", c->writes_superseded}, {"jukebox", c->jukebox}, {"short_writes", c->short_writes},
        {"short_reads", c->short_reads}, {"mixed_reads", model.mixed}, {"model_segments", model.segments},
        {"model_entries", model.entries}, {"kills", c->kills},
        {"kills_while_starting", c->early_kills}, {"names_made", run->names->made},
        {"names_renamed", run->names->renamed}, {"names_removed", run->names->removed},
        {"named_writes", run->names->written}, {"named_writes_resent", run->names->resent},
        {"names_ambiguous", run->names->ambiguous}, {"names_verified", run->names->verified},
        {"forgiven", c->forgiven}, {"mismatches", c->mismatches}, {"errors", c->errors},
    };
    fprintf(file, "{\n");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        fprintf(file, " \"%s\": %lu,\n", numbers[i].name, numbers[i].value);
    fprintf(file, " \"is_right\": %s,\n \"slowest_start_seconds\": %.3f,\n", run->has_failed ? "false" : "true",
            run->server.slowest_start);
    fprintf(file, " \"seconds\": %.3f,\n \"mib_per_second_written\": %.3f,\n \"mib_per_second_read\": %.3f,\n \"latencies\": {",
            seconds, (double)c->bytes_written / seconds / 1048576,
            (double)c->bytes_read / seconds / 1048576);
    const char *separator = "";
    for (int i = 1; i < KINDS; i++) {
        const struct latencies *each = &run->latencies[i];
        if (!each->count) continue;
        fprintf(file, "%s\n  \"%s\": {\"count\": %lu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f}", separator,
                kind_names[i], each->count, latency_percentile(each, 0.5) * 1e3, latency_percentile(each, 0.99) * 1e3,
                each->most * 1e3);
        separator = ",";
    }
    fprintf(file, "\n }\n}\n");
    bool has_failed = ferror(file);
    return fclose(file) == 0 && !has_failed;
}
