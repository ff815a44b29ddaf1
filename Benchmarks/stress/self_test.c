// Does stress find what it is there to find, and nothing in a server that is right? Runs against the fake server.
#include "fake_server.h"
#include "stress.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES "; expected"
#define SIZE "the size was"

static const struct {
    const char *about;
    const char *words[4]; // one of them must be in what is said; none: the server is right
} faults[FAULTS] = {
    [NO_FAULT] = {"a right server", {NULL}},
    [RESTARTS] = {"a right server that restarts", {NULL}},
    [CHANGES_VERIFIER] = {"a right server that forgets, and changes its verifier", {NULL}},
    [DROPS_A_WRITE] = {"drops a write", {BYTES, SIZE}},
    [DROPS_A_TAIL] = {"drops the last byte of a write", {BYTES, SIZE}},
    [MISPLACES_A_WRITE] = {"misplaces a write by 8 bytes", {BYTES, SIZE}},
    [READS_STALE] = {"reads what was overwritten", {BYTES}},
    [REPEATS_COPIES] = {"executes copies of calls", {BYTES, SIZE}},
    [ANSWERS_LESS_STABLE] = {"is less stable than asked for", {"stable_how"}},
    [FORGETS_COMMITTED] = {"forgets what was committed", {BYTES, SIZE}},
    [KEEPS_VERIFIER] = {"forgets, and keeps its verifier", {BYTES, SIZE}},
    [SHOWS_LESS_SIZE] = {"shows the size from before", {SIZE}},
    [KEEPS_BEHIND_END] = {"keeps bytes behind the end", {BYTES}},
};

static pid_t start_server(struct options *options, enum fault fault) {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof options->server;
    if (s < 0 || bind(s, (struct sockaddr *)&any, sizeof any) != 0 || listen(s, 64) != 0 ||
        getsockname(s, (struct sockaddr *)&options->server, &bytes) != 0)
        die("no port for the server: %s", strerror(errno));
    pid_t server = fork();
    if (server < 0) die("fork: %s", strerror(errno));
    if (server == 0) fake_serve(s, fault, options->seed);
    close(s);
    return server;
}

// Runs stress in a process of its own; returns its exit code, and what it said.
static int run_stress(const struct options *options, char *said, size_t size) {
    int ends[2];
    if (pipe(ends) != 0) die("no pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0) die("fork: %s", strerror(errno));
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        exit(stress(options, NULL));
    }
    close(ends[1]);
    size_t used = 0;
    char rest[256];
    for (;;) {
        bool is_full = used + 1 == size;
        ssize_t part = read(ends[0], is_full ? rest : said + used, is_full ? sizeof rest : size - 1 - used);
        if (part <= 0) break;
        if (!is_full) used += (size_t)part;
    }
    said[used] = '\0';
    close(ends[0]);
    int status;
    if (waitpid(child, &status, 0) != child) die("waitpid: %s", strerror(errno));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int self_test(struct options options) {
    strcpy(options.export, "/");
    strcpy(options.host, "127.0.0.1");
    options.quiet = true;
    options.seconds = 0;
    options.operations = 12000;
    options.files = 4;
    options.size = 1 << 20;
    options.window = 64 << 10;
    options.max_length = 16 << 10;
    options.patience = 10;
    options.timeout = 2;
    options.drops = 0.002;
    options.truncates = 0.003;
    options.duplicates = 0.1;
    int failed = 0;
    for (enum fault fault = 0; fault < FAULTS; fault++) {
        char said[4096];
        pid_t server = start_server(&options, fault);
        int code = run_stress(&options, said, sizeof said);
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
        bool is_found = faults[fault].words[0] == NULL && code == 0;
        for (int i = 0; i < 4 && faults[fault].words[i]; i++)
            if (code == 1 && strstr(said, faults[fault].words[i])) is_found = true;
        printf("%s  %s\n", is_found ? "ok  " : "FAIL", faults[fault].about);
        const char *first = said[0] == '\n' ? said + 1 : said;
        if (!is_found || faults[fault].words[0]) printf("      %.*s\n", (int)strcspn(first, "\n"), first);
        fflush(stdout);
        failed += !is_found;
    }
    printf("%d of %d failed; seed %lu\n", failed, (int)FAULTS, options.seed);
    return failed > 0;
}
