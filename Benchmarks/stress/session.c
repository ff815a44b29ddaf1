// A run from the mount to the removal of its files.
#include "names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void wait_until_there(const struct options *options) {
    double end = seconds_now() + options->patience;
    for (;;) {
        int s = socket(AF_INET, SOCK_STREAM, 0);
        bool is_there = s >= 0 && connect(s, (const struct sockaddr *)&options->server, sizeof options->server) == 0;
        int error = errno;
        if (s >= 0) close(s);
        if (is_there) return;
        if (seconds_now() > end) die("no connection to %s: %s", options->host, strerror(error));
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
}

static const char *address(const struct options *options, char text[INET_ADDRSTRLEN]) {
    return inet_ntop(AF_INET, &options->server.sin_addr, text, INET_ADDRSTRLEN);
}

static struct connection *connect_to(const struct options *options) {
    char text[INET_ADDRSTRLEN];
    return connection_open(address(options, text), ntohs(options->server.sin_port));
}

static void make_files(struct run *run) {
    struct options *options = &run->options;
    char text[INET_ADDRSTRLEN];
    wait_until_there(options);
    nfs3_mount(address(options, text), options->mount_port ? options->mount_port : ntohs(options->server.sin_port),
               options->export, &run->root);
    struct connection *c = connect_to(options);
    struct limits limits = nfs3_limits(c, &run->root);
    if (limits.write_bytes < options->max_length || limits.read_bytes < options->max_length)
        die("the server takes %u bytes in a WRITE and gives %u in a READ: --max-length is %u", limits.write_bytes,
            limits.read_bytes, options->max_length);
    run->read_bytes = limits.read_bytes < 1 << 20 ? limits.read_bytes : 1 << 20;
    for (int i = 0;; i++) {
        snprintf(run->directory_name, sizeof run->directory_name, "stress-%lu-%d-%d", options->seed, (int)getpid(), i);
        if (nfs3_make_directory(c, &run->root, run->directory_name, &run->directory)) break;
    }
    for (unsigned i = 0; i < options->files; i++) {
        snprintf(run->files[i].name, sizeof run->files[i].name, "file-%u", i);
        nfs3_create(c, &run->directory, run->files[i].name, &run->files[i].handle);
    }
    connection_close(c);
}

static void remove_files(struct run *run) {
    struct connection *c = connect_to(&run->options);
    names_remove(run->names, c);
    for (unsigned i = 0; i < run->options.files; i++) nfs3_remove(c, &run->directory, run->files[i].name);
    nfs3_remove_directory(c, &run->root, run->directory_name);
    connection_close(c);
}

static void free_run(struct run *run) {
    for (unsigned i = 0; i < run->options.connections; i++) {
        link_free(&run->lanes[i].link);
        free(run->lanes[i].calls);
    }
    for (unsigned i = 0; i < run->options.files; i++) free(run->files[i].uncommitted);
    free(run->resend);
    free(run->lanes);
    free(run->files);
    model_free(run->model);
    names_free(run->names);
    free(run);
}

int stress(const struct options *options, struct counts *counts) {
    struct run *run = calloc(1, sizeof *run);
    if (!run) die("out of memory");
    run->options = *options;
    run->files = calloc(options->files, sizeof *run->files);
    run->lanes = calloc(options->connections, sizeof *run->lanes);
    run->model = model_make(options->files, options->size, options->seed);
    if (!run->files || !run->lanes) die("out of memory");
    // Not from the start in each run: a duplicate request cache would answer with an earlier run's replies.
    if (getrandom(&run->next_xid, sizeof run->next_xid, 0) != sizeof run->next_xid) die("getrandom failed");
    for (unsigned i = 0; i < options->connections; i++) {
        struct lane *lane = &run->lanes[i];
        *lane = (struct lane){.run = run, .number = i, .was_dropped = true};
        // One more than in flight: a reply may ask for another call.
        lane->calls = calloc(options->in_flight + 1, sizeof *lane->calls);
        if (!lane->calls) die("out of memory");
    }
    if (options->kill) server_begin(run);
    make_files(run);
    names_start(run);
    run_all(run);
    names_end(run->names);
    if (run->names->has_failed) run->has_failed = true;
    if (!options->quiet) print_summary(run);
    bool has_failed = run->has_failed;
    if (options->json && !write_json(run, options->json)) {
        fprintf(stderr, "stress: %s can't be written: %s\n", options->json, strerror(errno));
        has_failed = true;
    }
    if (!has_failed && !options->keep) remove_files(run);
    server_end(run);
    if (counts) *counts = run->counts;
    free_run(run);
    return has_failed;
}
