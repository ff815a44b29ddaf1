// Directories of numbered files, which are made and removed outside of what is measured.
#include "measure.h"

#include <stdio.h>

void numbered_directory_make(const struct options *options, char name[NUMBERED_NAME_BYTES], struct handle *directory) {
    snprintf(name, NUMBERED_NAME_BYTES, "nfsload-%016lx", options->seed);
    if (!nfs3_make_directory(options->connection, &options->root, name, directory))
        die("the directory %s is there already", name);
}

void numbered_name(char name[NUMBERED_NAME_BYTES], uint64_t number) {
    snprintf(name, NUMBERED_NAME_BYTES, "file-%08lu", number);
}

static void removed(struct connection *c, void *context, struct reader *results) {
    (void)c, (void)context;
    get_ok(results, "REMOVE");
}

void numbered_directory_remove(const struct options *options, const char *name, const struct handle *directory) {
    enum { REMOVES_IN_FLIGHT = 32 };
    struct connection *c = options->connection;
    for (unsigned i = 0; i < options->count; i++) {
        char file_name[NUMBERED_NAME_BYTES];
        numbered_name(file_name, i);
        while (connection_in_flight(c) >= REMOVES_IN_FLIGHT) connection_wait(c);
        call_nfs3(c, NFS3_REMOVE, removed, NULL);
        put_handle(c, directory);
        put_name(c, file_name);
        call_end(c);
    }
    connection_wait_all(c);
    nfs3_remove_directory(c, &options->root, name);
}
