#define _GNU_SOURCE // program_invocation_short_name
#include "rpc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    LAST_FRAGMENT = 0x80000000, // RFC 5531, section 11
    // The largest reply is a READ of 1 MiB; with 4 MiB its rest seldom has to be moved.
    INPUT_BYTES = 4 << 20,
    // Calls without payload are below 512 bytes (two handles, two names of at most 64); all slots fit.
    OUTPUT_BYTES = MAX_IN_FLIGHT * 512,
    // A server that does not answer for so long is taken for hung.
    TIMEOUT_SECONDS = 120,
};

struct slot {
    uint32_t xid;
    bool in_flight;
    reply_handler handler;
    void *context;
};

struct connection {
    int socket;
    uint32_t next_serial;
    struct slot slots[MAX_IN_FLIGHT];
    uint8_t free_slots[MAX_IN_FLIGHT]; // a stack
    unsigned free_count;
    uint8_t *output;
    size_t output_used, call_start;
    uint8_t *input;
    size_t input_begin, input_end;
    uint8_t *record; // a record of several fragments
    size_t record_bytes;
};

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

struct connection *connection_open(const char *host, uint16_t port) {
    struct connection *c = calloc(1, sizeof *c);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die("%s is not an IPv4 address", host);
    c->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (c->socket < 0 || connect(c->socket, (struct sockaddr *)&address, sizeof address) != 0)
        die("no connection to %s:%u: %s", host, port, strerror(errno));
    int on = 1;
    setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct timeval timeout = {.tv_sec = TIMEOUT_SECONDS};
    setsockopt(c->socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(c->socket, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    // Not from the start in each run: a duplicate request cache would answer with an earlier run's replies.
    if (getrandom(&c->next_serial, sizeof c->next_serial, 0) != sizeof c->next_serial) die("getrandom failed");
    for (unsigned i = 0; i < MAX_IN_FLIGHT; i++) c->free_slots[c->free_count++] = (uint8_t)i;
    c->output = malloc(OUTPUT_BYTES);
    c->input = malloc(INPUT_BYTES);
    c->record = malloc(INPUT_BYTES);
    if (!c->output || !c->input || !c->record) die("out of memory");
    return c;
}

void connection_close(struct connection *c) {
    close(c->socket);
    free(c->output);
    free(c->input);
    free(c->record);
    free(c);
}

unsigned connection_in_flight(const struct connection *c) { return MAX_IN_FLIGHT - c->free_count; }

// Sends the gathered calls and then the payload, if there is any.
static void send_all(struct connection *c, const void *payload, size_t payload_bytes) {
    struct iovec parts[2] = {{c->output, c->output_used}, {(void *)payload, payload_bytes}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    while (parts[0].iov_len + parts[1].iov_len > 0) {
        ssize_t sent = sendmsg(c->socket, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) die("the server takes no more calls: %s", strerror(errno));
        for (int i = 0; i < 2; i++) {
            size_t done = (size_t)sent < parts[i].iov_len ? (size_t)sent : parts[i].iov_len;
            parts[i].iov_base = (uint8_t *)parts[i].iov_base + done;
            parts[i].iov_len -= done;
            sent -= (ssize_t)done;
        }
    }
    c->output_used = 0;
}

void call_begin(struct connection *c, uint32_t program, uint32_t version, uint32_t procedure, reply_handler handler,
                void *context) {
    if (c->free_count == 0) die("more than %d calls in flight", MAX_IN_FLIGHT);
    uint8_t index = c->free_slots[--c->free_count];
    struct slot *slot = &c->slots[index];
    *slot = (struct slot){.xid = c->next_serial++ << 8 | index, .in_flight = true, .handler = handler, .context = context};
    c->call_start = c->output_used;
    put_uint32(c, 0); // the record mark, set by call_end
    put_uint32(c, slot->xid);
    put_uint32(c, 0); // CALL
    put_uint32(c, 2); // the RPC version
    put_uint32(c, program);
    put_uint32(c, version);
    put_uint32(c, procedure);
    put_uint32(c, 1); // AUTH_SYS: stamp, machine name, uid, gid, no further groups (RFC 5531, appendix A)
    put_uint32(c, 28);
    put_uint32(c, 0);
    put_opaque(c, "nfsload", 7);
    put_uint32(c, 0);
    put_uint32(c, 0);
    put_uint32(c, 0);
    put_uint32(c, 0); // the verifier: AUTH_NONE
    put_uint32(c, 0);
}

static void put_bytes(struct connection *c, const void *bytes, size_t count) {
    if (c->output_used + count > OUTPUT_BYTES) die("the calls are larger than expected");
    memcpy(c->output + c->output_used, bytes, count);
    c->output_used += count;
}

void put_uint32(struct connection *c, uint32_t value) {
    value = htonl(value);
    put_bytes(c, &value, sizeof value);
}

void put_uint64(struct connection *c, uint64_t value) {
    put_uint32(c, (uint32_t)(value >> 32));
    put_uint32(c, (uint32_t)value);
}

void put_opaque(struct connection *c, const void *bytes, uint32_t count) {
    put_uint32(c, count);
    put_bytes(c, bytes, count);
    put_bytes(c, "\0\0\0", -count & 3);
}

static void set_record_mark(struct connection *c, size_t payload_bytes) {
    uint32_t mark = htonl(LAST_FRAGMENT | (uint32_t)(c->output_used - c->call_start - 4 + payload_bytes));
    memcpy(c->output + c->call_start, &mark, sizeof mark);
}

void call_end(struct connection *c) { set_record_mark(c, 0); }

void call_end_with_payload(struct connection *c, const void *payload, uint32_t bytes) {
    put_uint32(c, bytes);
    set_record_mark(c, bytes);
    send_all(c, payload, bytes);
}

static void handle_reply(struct connection *c, const uint8_t *record, size_t bytes) {
    struct reader reader = {record, record + bytes};
    uint32_t xid = get_uint32(&reader);
    struct slot *slot = &c->slots[xid & (MAX_IN_FLIGHT - 1)];
    if (!slot->in_flight || slot->xid != xid) die("a reply to a call that was not made: xid %08x", xid);
    if (get_uint32(&reader) != 1) die("a message that is not a reply");
    if (get_uint32(&reader) != 0) die("the call was denied: %u", get_uint32(&reader));
    get_uint32(&reader); // the verifier's flavour
    uint32_t verifier_bytes;
    get_opaque(&reader, &verifier_bytes);
    uint32_t accepted = get_uint32(&reader);
    if (accepted != 0) die("the call was not executed: accept_stat %u", accepted);
    slot->in_flight = false;
    c->free_slots[c->free_count++] = (uint8_t)(xid & (MAX_IN_FLIGHT - 1));
    slot->handler(c, slot->context, &reader);
}

// Handles each whole record in the input; returns how many there were.
static unsigned handle_input(struct connection *c) {
    unsigned handled = 0;
    for (;;) {
        size_t available = c->input_end - c->input_begin;
        const uint8_t *fragment = c->input + c->input_begin;
        uint32_t mark;
        if (available < sizeof mark) return handled;
        memcpy(&mark, fragment, sizeof mark);
        mark = ntohl(mark);
        size_t bytes = mark & ~(uint32_t)LAST_FRAGMENT;
        if (bytes + c->record_bytes > INPUT_BYTES - sizeof mark) die("a reply of more than %d bytes", INPUT_BYTES);
        if (available < sizeof mark + bytes) return handled;
        fragment += sizeof mark;
        c->input_begin += sizeof mark + bytes;
        bool is_last = mark & LAST_FRAGMENT;
        if (!is_last || c->record_bytes > 0) {
            memcpy(c->record + c->record_bytes, fragment, bytes);
            c->record_bytes += bytes;
            fragment = c->record;
            bytes = c->record_bytes;
        }
        if (!is_last) continue;
        c->record_bytes = 0;
        handle_reply(c, fragment, bytes);
        handled++;
    }
}

void connection_wait(struct connection *c) {
    if (connection_in_flight(c) == 0) die("nothing to wait for");
    if (c->output_used > 0) send_all(c, NULL, 0);
    do {
        if (c->input_begin > 0) {
            // The rest of a record goes to the front once the room behind it gets small; mostly nothing is left.
            size_t rest = c->input_end - c->input_begin;
            if (rest == 0 || INPUT_BYTES - c->input_end < INPUT_BYTES / 2) {
                memmove(c->input, c->input + c->input_begin, rest);
                c->input_begin = 0;
                c->input_end = rest;
            }
        }
        ssize_t received = recv(c->socket, c->input + c->input_end, INPUT_BYTES - c->input_end, 0);
        if (received < 0 && errno == EINTR) continue;
        if (received < 0) die("no reply: %s", strerror(errno));
        if (received == 0) die("the server closed the connection");
        c->input_end += (size_t)received;
    } while (handle_input(c) == 0);
}

void connection_wait_all(struct connection *c) {
    while (connection_in_flight(c) > 0) connection_wait(c);
}

void skip(struct reader *reader, size_t bytes) {
    if ((size_t)(reader->end - reader->at) < bytes) die("a reply that is too short");
    reader->at += bytes;
}

uint32_t get_uint32(struct reader *reader) {
    uint32_t value;
    const uint8_t *from = reader->at;
    skip(reader, sizeof value);
    memcpy(&value, from, sizeof value);
    return ntohl(value);
}

uint64_t get_uint64(struct reader *reader) {
    uint64_t high = get_uint32(reader);
    return high << 32 | get_uint32(reader);
}

const uint8_t *get_opaque(struct reader *reader, uint32_t *bytes) {
    *bytes = get_uint32(reader);
    const uint8_t *from = reader->at;
    skip(reader, (size_t)*bytes + (-*bytes & 3));
    return from;
}
