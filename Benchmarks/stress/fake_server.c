// The server of the self-test. What has arrived is executed in a random order over the connections, so that a right
// server reorders whatever it may.
#include "fake_server.h"
#include "stress.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FILES = 4, FILE_BYTES = 4 << 20, CONNECTIONS = 64, CALL_BYTES = 4 << 20, REMEMBERED = 4096, FIRST_FILE = 10 };
enum { MOUNT_PROGRAM = 100005, OPERATIONS_TO_FAULT = 400 };

struct image {
    uint64_t size;
    uint8_t bytes[FILE_BYTES];
};

struct reply {
    uint32_t xid;
    size_t count;
    uint8_t bytes[256]; // READs are not remembered
};

struct server {
    enum fault fault;
    uint64_t random, verifier, operations;
    struct image now[FILES], stable[FILES], earlier[FILES];
    uint64_t sizes_before[FILES];
    struct reply remembered[REMEMBERED];
    struct {
        int socket;
        uint8_t *input;
        size_t count;
    } connections[CONNECTIONS];
    uint8_t output[CALL_BYTES];
    size_t used;
    bool restarts;
};

static void put32(struct server *s, uint32_t value) {
    value = htonl(value);
    memcpy(s->output + s->used, &value, 4);
    s->used += 4;
}

static void put64(struct server *s, uint64_t value) {
    put32(s, (uint32_t)(value >> 32));
    put32(s, (uint32_t)value);
}

static void put_number_as_handle(struct server *s, uint32_t number) {
    put32(s, 4);
    put32(s, number);
}

static void put_zeros(struct server *s, int words) {
    while (words-- > 0) put32(s, 0);
}

static void put_fattr(struct server *s, uint32_t number) {
    put32(s, number < FIRST_FILE ? 2 : 1);
    put_zeros(s, 4);
    uint64_t size = 0;
    if (number >= FIRST_FILE)
        size = s->fault == SHOWS_LESS_SIZE ? s->sizes_before[number - FIRST_FILE] : s->now[number - FIRST_FILE].size;
    put64(s, size);
    put_zeros(s, 14);
}

// No attributes before, those after.
static void put_wcc_of(struct server *s, uint32_t number) {
    put32(s, 0);
    put32(s, 1);
    put_fattr(s, number);
}

// One in so many, once there is something to spoil.
static bool now_and_then(struct server *s) {
    return s->operations > OPERATIONS_TO_FAULT && random_next(&s->random) % 100 == 0;
}

static void store(struct image *image, uint64_t offset, const uint8_t *bytes, size_t count) {
    memcpy(image->bytes + offset, bytes, count);
    if (offset + count > image->size) image->size = offset + count;
}

static void write_file(struct server *s, uint32_t number, struct reader *arguments) {
    uint64_t offset = get_uint64(arguments);
    get_uint32(arguments);
    uint32_t how = get_uint32(arguments), count;
    const uint8_t *bytes = get_opaque(arguments, &count);
    if (offset + count > FILE_BYTES) die("a WRITE behind the end");
    struct image *image = &s->now[number - FIRST_FILE];
    s->sizes_before[number - FIRST_FILE] = image->size;
    size_t stored = count;
    uint64_t place = offset;
    if (s->fault == DROPS_A_WRITE && now_and_then(s)) stored = 0;
    if (s->fault == DROPS_A_TAIL && (offset + count) % 4096 && now_and_then(s)) stored--;
    if (s->fault == MISPLACES_A_WRITE && place >= 8 && now_and_then(s)) place -= 8;
    if (s->fault == READS_STALE) memcpy(s->earlier[number - FIRST_FILE].bytes + offset, image->bytes + offset, count);
    if (stored) {
        store(image, place, bytes, stored);
        if (how != NFS3_UNSTABLE) store(&s->stable[number - FIRST_FILE], place, bytes, stored);
    }
    if (s->fault == ANSWERS_LESS_STABLE && now_and_then(s)) how = NFS3_UNSTABLE;
    put32(s, 0);
    put_wcc_of(s, number);
    put32(s, count);
    put32(s, how);
    put64(s, s->verifier);
}

static void read_file(struct server *s, uint32_t number, struct reader *arguments) {
    uint64_t offset = get_uint64(arguments);
    uint32_t count = get_uint32(arguments);
    struct image *image = &s->now[number - FIRST_FILE];
    uint64_t rest = offset < image->size ? image->size - offset : 0;
    bool is_end = count >= rest;
    if (is_end) count = (uint32_t)rest;
    put32(s, 0);
    put32(s, 1);
    put_fattr(s, number);
    put32(s, count);
    put32(s, is_end);
    put32(s, count);
    bool is_stale = s->fault == READS_STALE && now_and_then(s);
    memcpy(s->output + s->used, (is_stale ? s->earlier[number - FIRST_FILE].bytes : image->bytes) + offset, count);
    memset(s->output + s->used + count, 0, 3);
    s->used += (count + 3) & ~UINT32_C(3);
}

static void commit_file(struct server *s, uint32_t number, struct reader *arguments) {
    uint64_t offset = get_uint64(arguments);
    uint32_t count = get_uint32(arguments);
    struct image *image = &s->now[number - FIRST_FILE];
    uint64_t end = count && offset + count < image->size ? offset + count : image->size;
    bool forgets = s->fault == FORGETS_COMMITTED && random_next(&s->random) % 2;
    if (offset < end && !forgets) store(&s->stable[number - FIRST_FILE], offset, image->bytes + offset, end - offset);
    put32(s, 0);
    put_wcc_of(s, number);
    put64(s, s->verifier);
}

static void truncate_file(struct server *s, uint32_t number, struct reader *arguments) {
    skip(arguments, 12); // no mode, uid, gid
    if (get_uint32(arguments) != 1) die("a SETATTR without a size");
    uint64_t size = get_uint64(arguments);
    struct image *images[] = {&s->now[number - FIRST_FILE], &s->stable[number - FIRST_FILE]};
    for (int i = 0; i < 2; i++) {
        if (s->fault != KEEPS_BEHIND_END) memset(images[i]->bytes + size, 0, FILE_BYTES - size);
        images[i]->size = size;
    }
    s->sizes_before[number - FIRST_FILE] = size;
    put32(s, 0);
    put_wcc_of(s, number);
}

static uint32_t named(struct reader *arguments) {
    uint32_t bytes;
    const uint8_t *name = get_opaque(arguments, &bytes);
    // "file-N"; anything else is the directory.
    return bytes == 6 && memcmp(name, "file-", 5) == 0 ? FIRST_FILE + name[5] - '0' : 1;
}

static void execute(struct server *s, uint32_t program, uint32_t procedure, struct reader *arguments) {
    if (program == MOUNT_PROGRAM) {
        put32(s, 0);
        put_number_as_handle(s, 0);
        put32(s, 0);
        return;
    }
    uint32_t bytes, number = 0;
    const uint8_t *handle = get_opaque(arguments, &bytes);
    if (bytes != 4) die("a handle of %u bytes", bytes);
    memcpy(&number, handle, 4);
    number = ntohl(number);
    switch (procedure) {
    case NFS3_WRITE: write_file(s, number, arguments); break;
    case NFS3_READ: read_file(s, number, arguments); break;
    case NFS3_COMMIT: commit_file(s, number, arguments); break;
    case NFS3_SETATTR: truncate_file(s, number, arguments); break;
    case NFS3_GETATTR:
        put32(s, 0);
        put_fattr(s, number);
        break;
    case NFS3_FSINFO:
        put_zeros(s, 2);
        for (int i = 0; i < 6; i++) put32(s, 1 << 20);
        put_zeros(s, 6);
        break;
    case NFS3_LOOKUP:
        number = named(arguments);
        put32(s, 0);
        put_number_as_handle(s, number);
        put32(s, 1);
        put_fattr(s, number);
        put32(s, 0);
        break;
    case NFS3_MKDIR:
    case NFS3_CREATE:
        put32(s, 0);
        put32(s, 1);
        put_number_as_handle(s, named(arguments));
        put_zeros(s, 3);
        break;
    case NFS3_REMOVE:
    case NFS3_RMDIR: put_zeros(s, 3); break;
    default: die("procedure %u", procedure);
    }
}

static void send_output(struct server *s, int socket) {
    for (size_t sent = 0; sent < s->used;) {
        ssize_t part = send(socket, s->output + sent, s->used - sent, MSG_NOSIGNAL);
        if (part < 0 && errno == EINTR) continue;
        if (part < 0) return; // the client dropped the connection
        sent += (size_t)part;
    }
}

static void forget(struct server *s) {
    memcpy(s->now, s->stable, sizeof s->now);
    if (s->fault != KEEPS_VERIFIER) s->verifier++;
}

static void handle_call(struct server *s, int socket, struct reader call) {
    uint32_t xid = get_uint32(&call), bytes;
    skip(&call, 8); // CALL, the RPC version
    uint32_t program = get_uint32(&call);
    get_uint32(&call);
    uint32_t procedure = get_uint32(&call);
    for (int i = 0; i < 2; i++) { // credentials, verifier
        get_uint32(&call);
        get_opaque(&call, &bytes);
    }
    s->used = 0;
    struct reply *reply = &s->remembered[xid % REMEMBERED];
    bool changes = program != MOUNT_PROGRAM && procedure != NFS3_READ;
    if (changes && reply->xid == xid && s->fault != REPEATS_COPIES) {
        memcpy(s->output, reply->bytes, reply->count);
        s->used = reply->count;
        send_output(s, socket);
        return;
    }
    put32(s, 0);
    put32(s, xid);
    put32(s, 1);
    put_zeros(s, 4); // accepted, no verifier, executed
    execute(s, program, procedure, &call);
    uint32_t mark = htonl(UINT32_C(0x80000000) | (uint32_t)(s->used - 4));
    memcpy(s->output, &mark, 4);
    if (changes) {
        *reply = (struct reply){.xid = xid, .count = s->used};
        memcpy(reply->bytes, s->output, s->used);
    }
    send_output(s, socket);
    bool forgets = s->fault == RESTARTS || s->fault == CHANGES_VERIFIER || s->fault == FORGETS_COMMITTED ||
                   s->fault == KEEPS_VERIFIER;
    if (++s->operations % 700 != 0 || !forgets) return;
    forget(s);
    s->restarts = s->fault == RESTARTS || s->fault == FORGETS_COMMITTED;
}

// Executes one whole call of the connection; returns whether there was one.
static bool handle_next(struct server *s, int index) {
    uint8_t *input = s->connections[index].input;
    uint32_t mark;
    if (s->connections[index].count < 4) return false;
    memcpy(&mark, input, 4);
    size_t bytes = ntohl(mark) & 0x7fffffff;
    if (s->connections[index].count < 4 + bytes) return false;
    handle_call(s, s->connections[index].socket, (struct reader){input + 4, input + 4 + bytes});
    s->connections[index].count -= 4 + bytes;
    memmove(input, input + 4 + bytes, s->connections[index].count);
    return true;
}

static void end_connection(struct server *s, int index) {
    close(s->connections[index].socket);
    free(s->connections[index].input);
    s->connections[index].input = NULL;
}

static void restart(struct server *s) {
    for (int i = 0; i < CONNECTIONS; i++)
        if (s->connections[i].input) end_connection(s, i);
    memset(s->remembered, 0, sizeof s->remembered);
    s->restarts = false;
}

static void accept_one(struct server *s, int listening) {
    int socket = accept(listening, NULL, NULL);
    for (int i = 0; i < CONNECTIONS && socket >= 0; i++) {
        if (s->connections[i].input) continue;
        s->connections[i].socket = socket;
        s->connections[i].count = 0;
        s->connections[i].input = malloc(CALL_BYTES);
        if (!s->connections[i].input) die("out of memory");
        return;
    }
    die("too many connections");
}

static void receive(struct server *s, int index) {
    size_t count = s->connections[index].count;
    ssize_t part = recv(s->connections[index].socket, s->connections[index].input + count, CALL_BYTES - count, 0);
    if (part > 0) s->connections[index].count += (size_t)part;
    else if (part == 0 || errno != EINTR) end_connection(s, index);
}

_Noreturn void fake_serve(int listening, enum fault fault, unsigned long seed) {
    struct server *s = calloc(1, sizeof *s);
    if (!s) die("out of memory");
    s->fault = fault;
    s->random = seed;
    s->verifier = seed + 1;
    for (;;) {
        struct pollfd polled[CONNECTIONS + 1];
        for (int i = 0; i < CONNECTIONS; i++)
            polled[i] = (struct pollfd){.fd = s->connections[i].input ? s->connections[i].socket : -1, .events = POLLIN};
        polled[CONNECTIONS] = (struct pollfd){.fd = listening, .events = POLLIN};
        poll(polled, CONNECTIONS + 1, -1);
        for (int i = 0; i < CONNECTIONS; i++)
            if (polled[i].revents) receive(s, i);
        if (polled[CONNECTIONS].revents) accept_one(s, listening);
        for (int idle = 0; idle < CONNECTIONS && !s->restarts;) {
            int index = (int)(random_next(&s->random) % CONNECTIONS);
            idle = s->connections[index].input && handle_next(s, index) ? 0 : idle + 1;
        }
        // Nobody must wait for a call that was left over by the random choice.
        for (int i = 0; i < CONNECTIONS && !s->restarts; i++)
            while (s->connections[i].input && !s->restarts && handle_next(s, i)) {}
        if (s->restarts) restart(s);
    }
}
