// nfsload: an NFSv3 load on one TCP connection, for measuring servers. tools/bench builds and runs it.
#include "measure.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: nfsload [options] MEASURE\n"
    "MEASURE: write read small open sync journal journal-read getattr lookup fill readdirplus\n"
    "  --nfs-port PORT      of the server, which is at 127.0.0.1\n"
    "  --mount-port PORT    (the NFS port)\n"
    "  --export PATH        what is mounted (/)\n"
    "  --server PID         count this process's CPU time\n"
    "  --in-flight N        calls, or small files, at once (8)\n"
    "  --block-bytes N      of a WRITE or READ (1048576)\n"
    "  --size BYTES         of the large file, or of all blocks of journal (536870912)\n"
    "  --window BYTES       shuffle the WRITEs inside windows of so much (0: in order)\n"
    "  --backwards          send the WRITEs from the last to the first\n"
    "  --count N            small files, open files, directory entries or synced calls (1000)\n"
    "  --rounds N           WRITEs of a block to each open file (8)\n"
    "  --head BYTES         of each open file, written before the rounds (0)\n"
    "  --gap BYTES          before the first WRITE of each open file (0)\n"
    "  --seconds N          of GETATTR or LOOKUP (2)\n"
    "  --seed N             of the bytes and the order (1)\n"
    "Each measure prints a line of JSON. The exit code is 1 if any reply was not as it must be.\n";

static const struct {
    const char *name;
    void (*run)(const struct options *);
} measures[] = {
    {"write", measure_write},     {"read", measure_read},     {"small", measure_small_files},
    {"open", measure_open_files}, {"getattr", measure_getattr}, {"lookup", measure_lookup},
    {"fill", measure_fill},       {"readdirplus", measure_readdirplus},
    {"sync", measure_sync},       {"journal", measure_journal}, {"journal-read", measure_journal_read},
};

static double timespec_seconds(struct timespec time) { return (double)time.tv_sec + (double)time.tv_nsec / 1e9; }

double monotonic_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return timespec_seconds(time);
}

static double own_cpu_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return timespec_seconds(time);
}

// utime + stime of the server's threads, those that have ended included (proc(5): fields 14 and 15 of stat).
static double server_cpu_seconds(pid_t pid) {
    if (pid == 0) return 0;
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(line, sizeof line, file)) die("the server is gone: no %s", path);
    fclose(file);
    unsigned long user, system;
    char *fields = strrchr(line, ')'); // the program's name may hold anything
    if (!fields || sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        die("%s is not understood", path);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

struct interval interval_begin(const struct options *options) {
    return (struct interval){monotonic_seconds(), server_cpu_seconds(options->server), own_cpu_seconds()};
}

static void print_interval(const struct options *options, struct interval begin, const char *name, uint64_t operations,
                           uint64_t bytes) {
    double seconds = monotonic_seconds() - begin.started;
    printf("{\"interval\": \"%s\", \"seconds\": %.6f, \"operations\": %lu, \"bytes\": %lu, "
           "\"server_cpu_seconds\": %.2f, \"client_cpu_seconds\": %.3f",
           name, seconds, operations, bytes, server_cpu_seconds(options->server) - begin.server_cpu,
           own_cpu_seconds() - begin.client_cpu);
}

void interval_end(const struct options *options, struct interval begin, const char *name, uint64_t operations,
                  uint64_t bytes) {
    print_interval(options, begin, name, operations, bytes);
    printf("}\n");
}

static int compare_seconds(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

void interval_end_with_latencies(const struct options *options, struct interval begin, const char *name,
                                 uint64_t operations, uint64_t bytes, double *seconds) {
    print_interval(options, begin, name, operations, bytes);
    qsort(seconds, operations, sizeof *seconds, compare_seconds);
    printf(", \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f}\n", seconds[operations / 2] * 1e3,
           seconds[operations * 99 / 100] * 1e3, seconds[operations - 1] * 1e3);
}

// splitmix64
uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

// Blocks start 8 bytes apart, in turns of 64 Ki: only after 65,536 blocks would one be like another.
enum { PATTERN_STARTS = 65536, PATTERN_STEP = 8 };

struct pattern pattern_make(uint32_t block_bytes, uint64_t seed) {
    size_t words = ((size_t)block_bytes + PATTERN_STARTS * PATTERN_STEP) / sizeof(uint64_t);
    uint64_t *bytes = malloc(words * sizeof *bytes);
    if (!bytes) die("out of memory");
    for (size_t i = 0; i < words; i++) bytes[i] = random_next(&seed);
    return (struct pattern){(uint8_t *)bytes, block_bytes};
}

const uint8_t *pattern_block(const struct pattern *pattern, uint64_t number) {
    return pattern->bytes + number % PATTERN_STARTS * PATTERN_STEP;
}

static uint64_t parse_number(const char *text, uint64_t least, uint64_t most) {
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || *end || end == text || value < least || value > most) die("not a usable number: %s", text);
    return value;
}

int main(int count, char **arguments) {
    enum { NFS_PORT = 1, MOUNT_PORT, EXPORT, SERVER, IN_FLIGHT, BLOCK_BYTES, SIZE, WINDOW, BACKWARDS, COUNT, ROUNDS, GAP,
           HEAD, SECONDS, SEED };
    static const struct option known[] = {
        {"nfs-port", required_argument, NULL, NFS_PORT},   {"mount-port", required_argument, NULL, MOUNT_PORT},
        {"export", required_argument, NULL, EXPORT},       {"server", required_argument, NULL, SERVER},
        {"in-flight", required_argument, NULL, IN_FLIGHT}, {"block-bytes", required_argument, NULL, BLOCK_BYTES},
        {"size", required_argument, NULL, SIZE},           {"window", required_argument, NULL, WINDOW},
        {"count", required_argument, NULL, COUNT},         {"seconds", required_argument, NULL, SECONDS},
        {"backwards", no_argument, NULL, BACKWARDS},       {"rounds", required_argument, NULL, ROUNDS},
        {"gap", required_argument, NULL, GAP},             {"head", required_argument, NULL, HEAD},
        {"seed", required_argument, NULL, SEED},           {0},
    };
    struct options options = {.in_flight = 8, .block_bytes = 1 << 20, .size = 512 << 20, .count = 1000, .rounds = 8,
                              .seconds = 2, .seed = 1};
    uint16_t nfs_port = 0, mount_port = 0;
    const char *export = "/";
    for (int option; (option = getopt_long(count, arguments, "", known, NULL)) != -1;) {
        switch (option) {
        case NFS_PORT: nfs_port = (uint16_t)parse_number(optarg, 1, UINT16_MAX); break;
        case MOUNT_PORT: mount_port = (uint16_t)parse_number(optarg, 1, UINT16_MAX); break;
        case EXPORT: export = optarg; break;
        case SERVER: options.server = (pid_t)parse_number(optarg, 1, INT32_MAX); break;
        case IN_FLIGHT: options.in_flight = (unsigned)parse_number(optarg, 1, MAX_IN_FLIGHT); break;
        case BLOCK_BYTES: options.block_bytes = (uint32_t)parse_number(optarg, 4, 1 << 20) & ~3u; break;
        case SIZE: options.size = parse_number(optarg, 4, UINT64_MAX); break;
        case WINDOW: options.window = parse_number(optarg, 0, UINT64_MAX); break;
        case BACKWARDS: options.backwards = true; break;
        case ROUNDS: options.rounds = (unsigned)parse_number(optarg, 1, 1 << 20); break;
        case GAP: options.gap = parse_number(optarg, 0, UINT32_MAX); break;
        case HEAD: options.head = parse_number(optarg, 0, UINT32_MAX); break;
        case COUNT: options.count = (unsigned)parse_number(optarg, 1, 99999999); break;
        case SECONDS: options.seconds = (double)parse_number(optarg, 1, 3600); break;
        case SEED: options.seed = parse_number(optarg, 0, UINT64_MAX); break;
        default: fputs(usage, stderr); return 64;
        }
    }
    if (optind != count - 1 || nfs_port == 0) {
        fputs(usage, stderr);
        return 64;
    }
    for (size_t i = 0; i < sizeof measures / sizeof *measures; i++) {
        if (strcmp(measures[i].name, arguments[optind]) != 0) continue;
        nfs3_mount("127.0.0.1", mount_port ? mount_port : nfs_port, export, &options.root);
        options.connection = connection_open("127.0.0.1", nfs_port);
        struct limits limits = nfs3_limits(options.connection, &options.root);
        if (limits.read_bytes < options.block_bytes || limits.write_bytes < options.block_bytes)
            die("the server takes %u bytes in a WRITE and gives %u in a READ", limits.write_bytes, limits.read_bytes);
        measures[i].run(&options);
        connection_close(options.connection);
        return 0;
    }
    fputs(usage, stderr);
    return 64;
}
