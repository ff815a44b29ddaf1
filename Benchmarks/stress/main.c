// stress: writes out of order to an NFSv3 server, and reads back what must be there. tools/stress builds and runs it.
#include "stress.h"

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

enum { USAGE = 64, NFS_PORT = 2049 };

static const char usage[] =
    "usage: stress [options] nfs://HOST[:PORT]/EXPORT\n"
    "       stress --self-test [--seed N]\n"
    "\n"
    "Writes at random offsets inside a window that slides over the files, from several connections at once, with\n"
    "overlaps, duplicates, dropped connections, mixed stability and COMMITs; reads in between and at the end, when all is\n"
    "committed, and checks each byte. No rpcbind is asked. Sizes are in bytes, or with k, M, G.\n"
    "\n"
    "  --connections N       (4)\n"
    "  --in-flight N         calls in flight on each connection (8)\n"
    "  --files N             (4)\n"
    "  --size BYTES          of a file (64M)\n"
    "  --window BYTES        (4M)\n"
    "  --max-length BYTES    of a WRITE or READ (256k)\n"
    "  --seconds N           (10, unless --operations is there)\n"
    "  --operations N\n"
    "  --seed N              the same operations for the same seed; in which order they meet is up to the server (random)\n"
    "  --read-share X        of the operations (0.25)\n"
    "  --commit-share X      (0.02)\n"
    "  --truncate-share X    SETATTR of the size (0.001)\n"
    "  --getattr-share X     (0.01)\n"
    "  --stable-share X      of the WRITEs: half of them FILE_SYNC, half DATA_SYNC (0.05)\n"
    "  --duplicate-share X   of the WRITEs: sent twice at once with the same xid, or again with it after the reply, or\n"
    "                        again with another xid (0.05)\n"
    "  --retransmit X        of the operations: the connection is dropped in the middle of it, and all calls in flight\n"
    "                        are sent again, with the same xids, on a new one (0.001)\n"
    "  --new-ports           new connections have new ports; otherwise the old one's, as with Linux\n"
    "  --mount-port PORT     (the port of NFS)\n"
    "  --timeout SECONDS     without a reply: the call is sent again, with the same xid, on the same connection (20)\n"
    "  --patience SECONDS    for a connection and for a reply (60)\n"
    "  --namers N            more connections, each of which makes, writes, renames and removes files and directories of its\n"
    "                        own, one call at a time, and knows each name, size, byte and mtime (0; with --kill 2)\n"
    "  --kill COMMAND        the server in the foreground, run by sh as a process group of its own: it is started, killed\n"
    "                        with SIGKILL at random moments and started again; and once more when everything is committed,\n"
    "                        before it is read back\n"
    "  --kills N             so often, then the run ends (10)\n"
    "  --kill-every SECONDS  after it has answered NULL, on average: any time from 0 to twice as long (2)\n"
    "  --kill-early X        of the kills: while it starts (0.2)\n"
    "  --kill-hook COMMAND   instead: kills the server and starts it again; run by sh --kill-every seconds after the start or\n"
    "                        the end of the last such command (5), and with STRESS_LAST_KILL=1 once more at the end\n"
    "  --json FILE           a summary\n"
    "  --keep                leave the files there\n"
    "  --quiet\n"
    "\n"
    "The exit code is 0 if all was right, 1 if a byte, a size or a reply was wrong, 64 for a wrong command line.\n";

static _Noreturn void refuse(const char *option, const char *text) {
    fprintf(stderr, "stress: not usable for %s: %s\n", option, text);
    exit(USAGE);
}

static uint64_t parse_number(const char *option, const char *text, uint64_t least, uint64_t most) {
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || value < least || value > most) refuse(option, text);
    return value;
}

static uint64_t parse_size(const char *option, const char *text, uint64_t least, uint64_t most) {
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    static const char units[] = "kMG";
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (errno || end == text || *text == '-' || (*end && (!unit || end[1]))) refuse(option, text);
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (value > most >> shift || value << shift < least) refuse(option, text);
    return value << shift;
}

static double parse_real(const char *option, const char *text, double least, double most) {
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (errno || end == text || *end || !(value >= least && value <= most)) refuse(option, text);
    return value;
}

static void parse_url(struct options *options, const char *url) {
    char host[sizeof options->host];
    const char *rest = strncmp(url, "nfs://", 6) == 0 ? url + 6 : NULL;
    const char *path = rest ? strchr(rest, '/') : NULL;
    if (!path || path == rest || (size_t)(path - rest) >= sizeof host || strlen(path) >= sizeof options->export)
        refuse("nfs://HOST[:PORT]/EXPORT", url);
    memcpy(host, rest, (size_t)(path - rest));
    host[path - rest] = '\0';
    strcpy(options->host, host);
    strcpy(options->export, path);
    uint16_t port = NFS_PORT;
    char *colon = strrchr(host, ':');
    if (colon) {
        *colon = '\0';
        port = (uint16_t)parse_number("the port", colon + 1, 1, UINT16_MAX);
    }
    struct addrinfo *found, hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    int error = getaddrinfo(host, NULL, &hints, &found);
    if (error) {
        fprintf(stderr, "stress: %s: %s\n", host, gai_strerror(error));
        exit(USAGE);
    }
    memcpy(&options->server, found->ai_addr, sizeof options->server);
    options->server.sin_port = htons(port);
    freeaddrinfo(found);
}

int main(int count, char **arguments) {
    enum { CONNECTIONS = 1, IN_FLIGHT, FILES, SIZE, WINDOW, MAX_LENGTH, SECONDS, OPERATIONS, SEED, READS, COMMITS, TRUNCATES,
           ATTRIBUTES, STABLE, DUPLICATES, DROPS, NEW_PORTS, MOUNT_PORT, PATIENCE, KILL_HOOK, KILL_EVERY, JSON, KEEP, QUIET,
           SELF_TEST, TIMEOUT, KILL, KILLS, KILL_EARLY, NAMERS, HELP };
    static const struct option known[] = {
        {"connections", 1, NULL, CONNECTIONS}, {"in-flight", 1, NULL, IN_FLIGHT},   {"files", 1, NULL, FILES},
        {"size", 1, NULL, SIZE},               {"window", 1, NULL, WINDOW},         {"max-length", 1, NULL, MAX_LENGTH},
        {"seconds", 1, NULL, SECONDS},         {"operations", 1, NULL, OPERATIONS}, {"seed", 1, NULL, SEED},
        {"read-share", 1, NULL, READS},        {"commit-share", 1, NULL, COMMITS},  {"truncate-share", 1, NULL, TRUNCATES},
        {"getattr-share", 1, NULL, ATTRIBUTES}, {"stable-share", 1, NULL, STABLE},  {"duplicate-share", 1, NULL, DUPLICATES},
        {"retransmit", 1, NULL, DROPS},        {"new-ports", 0, NULL, NEW_PORTS},   {"mount-port", 1, NULL, MOUNT_PORT},
        {"patience", 1, NULL, PATIENCE},       {"kill-hook", 1, NULL, KILL_HOOK},   {"kill-every", 1, NULL, KILL_EVERY},
        {"json", 1, NULL, JSON},               {"keep", 0, NULL, KEEP},             {"quiet", 0, NULL, QUIET},
        {"self-test", 0, NULL, SELF_TEST},     {"timeout", 1, NULL, TIMEOUT},         {"kill", 1, NULL, KILL},
        {"kills", 1, NULL, KILLS},             {"kill-early", 1, NULL, KILL_EARLY}, {"namers", 1, NULL, NAMERS},
        {"help", 0, NULL, HELP},               {0},
    };
    struct options options = {.connections = 4, .in_flight = 8, .files = 4, .size = 64 << 20, .window = 4 << 20,
                              .max_length = 256 << 10, .reads = 0.25, .commits = 0.02, .truncates = 0.001,
                              .attributes = 0.01, .stable = 0.05, .duplicates = 0.05, .drops = 0.001, .timeout = 20,
                              .patience = 60, .kill_early = 0.2};
    if (getrandom(&options.seed, sizeof options.seed, 0) != sizeof options.seed) die("getrandom failed");
    options.seed %= 1000000000; // to be typed
    bool tests = false, has_namers = false;
    for (int option, index; (option = getopt_long(count, arguments, "", known, &index)) != -1;) {
        const char *name = option == '?' ? "" : known[index].name;
        switch (option) {
        case CONNECTIONS: options.connections = (unsigned)parse_number(name, optarg, 1, MOST_CONNECTIONS); break;
        case IN_FLIGHT: options.in_flight = (unsigned)parse_number(name, optarg, 1, 128); break;
        case FILES: options.files = (unsigned)parse_number(name, optarg, 1, 10000); break;
        case SIZE: options.size = parse_size(name, optarg, 1, UINT64_C(1) << 34); break;
        case WINDOW: options.window = parse_size(name, optarg, 1, UINT64_C(1) << 34); break;
        case MAX_LENGTH: options.max_length = (uint32_t)parse_size(name, optarg, 1, 1 << 20); break;
        case SECONDS: options.seconds = parse_real(name, optarg, 0.1, 1e6); break;
        case OPERATIONS: options.operations = parse_number(name, optarg, 1, UINT32_MAX); break;
        case SEED: options.seed = parse_number(name, optarg, 0, UINT64_MAX); break;
        case READS: options.reads = parse_real(name, optarg, 0, 1); break;
        case COMMITS: options.commits = parse_real(name, optarg, 0, 1); break;
        case TRUNCATES: options.truncates = parse_real(name, optarg, 0, 1); break;
        case ATTRIBUTES: options.attributes = parse_real(name, optarg, 0, 1); break;
        case STABLE: options.stable = parse_real(name, optarg, 0, 1); break;
        case DUPLICATES: options.duplicates = parse_real(name, optarg, 0, 1); break;
        case DROPS: options.drops = parse_real(name, optarg, 0, 0.5); break;
        case NEW_PORTS: options.new_ports = true; break;
        case MOUNT_PORT: options.mount_port = (uint16_t)parse_number(name, optarg, 1, UINT16_MAX); break;
        case PATIENCE: options.patience = parse_real(name, optarg, 0.1, 1e6); break;
        case TIMEOUT: options.timeout = parse_real(name, optarg, 0.1, 1e6); break;
        case KILL_HOOK: options.kill_hook = optarg; break;
        case KILL_EVERY: options.kill_every = parse_real(name, optarg, 0.1, 1e6); break;
        case KILL: options.kill = optarg; break;
        case KILLS: options.kills = (unsigned)parse_number(name, optarg, 1, 1000000); break;
        case KILL_EARLY: options.kill_early = parse_real(name, optarg, 0, 1); break;
        case NAMERS: options.namers = (unsigned)parse_number(name, optarg, 0, 100); has_namers = true; break;
        case JSON: options.json = optarg; break;
        case KEEP: options.keep = true; break;
        case QUIET: options.quiet = true; break;
        case SELF_TEST: tests = true; break;
        case HELP: fputs(usage, stdout); return 0;
        default: fputs(usage, stderr); return USAGE;
        }
    }
    if (tests && optind == count) {
        fprintf(stderr, "stress: seed %lu\n", options.seed);
        return self_test(options);
    }
    if (tests || optind != count - 1) {
        fputs(usage, stderr);
        return USAGE;
    }
    if (options.reads + options.commits + options.truncates + options.attributes > 1) refuse("the shares", "more than 1");
    if (options.window > options.size) options.window = options.size;
    if (options.max_length > options.window) options.max_length = (uint32_t)options.window;
    if (options.kill && options.kill_hook) refuse("--kill", "there is a --kill-hook");
    if (options.kill && options.kills == 0) options.kills = 10;
    if (options.kill_every == 0) options.kill_every = options.kill ? 2 : 5;
    if (options.kill && !has_namers) options.namers = 2;
    if (options.seconds == 0 && options.operations == 0 && !options.kill) options.seconds = 10;
    if (options.operations / options.connections >= MOST_OPERATIONS) refuse("--operations", "too many for a connection");
    parse_url(&options, arguments[optind]);
    fprintf(stderr, "stress: seed %lu\n", options.seed);
    return stress(&options, NULL);
}
