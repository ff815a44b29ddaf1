// Calls of namers: one at a time, made until they are answered, over however many connections.
#include "names.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { JUKEBOX3 = 10008, FATTR_BYTES_TO_SIZE = 16, FATTR_BYTES_TO_FSID = 16 };

#define RECONNECT_SECONDS 0.05
#define JUKEBOX_SECONDS 0.2

void broken(struct namer *n, const char *format, ...) {
    char words[DESCRIPTION_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    const struct run *run = n->names->run;
    if (!atomic_exchange(&n->names->has_failed, true))
        fprintf(stderr, "\nstress: namer %u, %s: %s\nstress: seed %lu; the files are left in %s\n", n->number, n->doing, words,
                run->options.seed, run->directory_name);
    link_free(&n->link);
    pthread_exit(NULL);
}

static void put_stamp(struct link *link, bool is_set, struct stamp time) {
    link_put_uint32(link, is_set ? 2 : 0); // the client's time, or none
    if (!is_set) return;
    link_put_uint32(link, time.seconds);
    link_put_uint32(link, time.nanoseconds);
}

static void put_attributes(struct link *link, const struct request *r, bool sets_mode) {
    link_put_uint32(link, sets_mode);
    if (sets_mode) link_put_uint32(link, 0755);
    for (int i = 0; i < 2; i++) link_put_uint32(link, 0); // no uid, gid
    link_put_uint32(link, r->sets_size);
    if (r->sets_size) link_put_uint64(link, r->size);
    link_put_uint32(link, 0); // no atime
    put_stamp(link, r->sets_time, r->time);
}

static void put_name_of(struct link *link, const struct handle *directory, const char *name) {
    link_put_opaque(link, directory->data, directory->bytes);
    link_put_opaque(link, name, (uint32_t)strlen(name));
}

static void put_request(struct link *link, const struct request *r, uint32_t xid) {
    link_begin_call(link, xid, r->procedure);
    switch (r->procedure) {
    case NFS3_GETATTR: link_put_opaque(link, r->object->data, r->object->bytes); break;
    case NFS3_SETATTR:
        link_put_opaque(link, r->object->data, r->object->bytes);
        put_attributes(link, r, false);
        link_put_uint32(link, 0); // no guard
        break;
    case NFS3_READ:
    case NFS3_COMMIT:
    case NFS3_WRITE:
        link_put_opaque(link, r->object->data, r->object->bytes);
        link_put_uint64(link, r->offset);
        link_put_uint32(link, r->count);
        if (r->procedure != NFS3_WRITE) break;
        link_put_uint32(link, r->how);
        link_put_opaque(link, r->data, r->count);
        break;
    case NFS3_CREATE:
        put_name_of(link, r->object, r->name);
        link_put_uint32(link, r->how);
        if (r->how == NFS3_EXCLUSIVE) link_put_uint64(link, r->verifier);
        else put_attributes(link, r, true);
        break;
    case NFS3_MKDIR:
        put_name_of(link, r->object, r->name);
        put_attributes(link, r, true);
        break;
    case NFS3_LOOKUP:
    case NFS3_REMOVE:
    case NFS3_RMDIR: put_name_of(link, r->object, r->name); break;
    case NFS3_RENAME:
        put_name_of(link, r->object, r->name);
        put_name_of(link, r->to, r->to_name);
        break;
    case NFS3_READDIR:
        link_put_opaque(link, r->object->data, r->object->bytes);
        link_put_uint64(link, r->offset);
        link_put_uint64(link, r->verifier);
        link_put_uint32(link, r->count);
        break;
    default: die("procedure %u", r->procedure);
    }
    link_end_call(link);
}

static void keep_reply(void *context, uint32_t xid, struct reader *results) {
    struct namer *n = context;
    if (xid != n->xid || n->has_reply) return; // of an earlier copy
    n->reply_bytes = (size_t)(results->end - results->at);
    if (n->reply_bytes > n->reply_capacity) {
        n->reply_capacity = n->reply_bytes * 2;
        n->reply = realloc(n->reply, n->reply_capacity);
        if (!n->reply) die("out of memory");
    }
    memcpy(n->reply, results->at, n->reply_bytes);
    n->has_reply = true;
}

static void sleep_for(double seconds) {
    nanosleep(&(struct timespec){.tv_nsec = (long)(seconds * 1e9)}, NULL);
}

// Waits for the reply to the call with the xid, which is sent on each new connection, and again after a time.
static void wait_for_reply(struct namer *n, const struct request *r) {
    const struct options *options = &n->names->run->options;
    double begun = seconds_now(), sent_at = 0;
    bool was_sent = false, is_sent_here = false;
    while (!n->has_reply) {
        double now = seconds_now();
        if (n->names->is_over) pthread_exit(NULL);
        if (now - begun > options->patience) broken(n, "no reply for %.0f s", options->patience);
        if (n->link.state == LINK_DOWN) {
            is_sent_here = false;
            link_connect(&n->link, &options->server, !options->new_ports);
            if (n->link.state == LINK_DOWN) {
                sleep_for(RECONNECT_SECONDS);
                continue;
            }
        }
        if (n->link.state == LINK_UP && (!is_sent_here || now - sent_at > options->timeout)) {
            if (was_sent) n->is_ambiguous = true;
            was_sent = is_sent_here = true;
            sent_at = now;
            put_request(&n->link, r, n->xid);
            link_flush(&n->link, SIZE_MAX);
        }
        bool sends = n->link.state == LINK_CONNECTING || n->link.output.begin < n->link.output.end;
        struct pollfd polled = {.fd = n->link.socket, .events = (short)(POLLIN | (sends ? POLLOUT : 0))};
        if (poll(&polled, 1, 50) <= 0) continue;
        if (polled.revents & (POLLOUT | POLLERR | POLLHUP)) link_flush(&n->link, SIZE_MAX);
        if (polled.revents & (POLLIN | POLLERR | POLLHUP) && n->link.state == LINK_UP)
            link_receive(&n->link, keep_reply, n);
        if (n->link.state == LINK_DOWN) sleep_for(RECONNECT_SECONDS);
    }
    n->names->ambiguous += n->is_ambiguous;
}

uint32_t ask(struct namer *n, const struct request *r, struct reader *results) {
    n->is_ambiguous = false;
    for (;;) {
        bool was_ambiguous = n->is_ambiguous;
        n->xid = n->next_xid++;
        n->has_reply = n->is_ambiguous = false;
        wait_for_reply(n, r);
        n->is_ambiguous |= was_ambiguous;
        *results = (struct reader){n->reply, n->reply + n->reply_bytes};
        uint32_t status = get_uint32(results);
        if (status != JUKEBOX3) return status;
        sleep_for(JUKEBOX_SECONDS);
    }
}

void ask_ok(struct namer *n, const struct request *r, struct reader *results) {
    uint32_t status = ask(n, r, results);
    if (status == STALE3) broken(n, "the handle is stale, and was promised");
    if (status != OK3) broken(n, "nfsstat3 %u of procedure %u", status, r->procedure);
}

void get_node(struct reader *reader, struct node *node) {
    node->type = get_uint32(reader);
    skip(reader, FATTR_BYTES_TO_SIZE);
    node->size = get_uint64(reader);
    skip(reader, 8 + FATTR_BYTES_TO_FSID); // used; rdev, fsid
    node->file_id = get_uint64(reader);
    skip(reader, 8);
    node->modified.seconds = get_uint32(reader);
    node->modified.nanoseconds = get_uint32(reader);
    skip(reader, 8);
}

bool get_optional_node(struct reader *reader, struct node *node) {
    if (!get_uint32(reader)) return false;
    get_node(reader, node);
    return true;
}

bool get_wcc_node(struct reader *reader, struct node *node) {
    if (get_uint32(reader)) skip(reader, 24);
    return get_optional_node(reader, node);
}

struct node get_attributes_of(struct namer *n, const struct handle *handle) {
    struct reader results;
    struct node node;
    ask_ok(n, &(struct request){.procedure = NFS3_GETATTR, .object = handle}, &results);
    get_node(&results, &node);
    return node;
}
