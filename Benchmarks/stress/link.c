// Non-blocking connections: see link.h. Record marking is RFC 5531, section 11.
#include "link.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LAST_FRAGMENT UINT32_C(0x80000000)

enum { MOST_REPLY_BYTES = 4 << 20, RECEIVE_BYTES = 256 << 10, NFS_PROGRAM = 100003, VERSION_3 = 3 };

static uint8_t *room(struct bytes *bytes, size_t count) {
    if (bytes->begin == bytes->end) bytes->begin = bytes->end = 0;
    if (bytes->end + count > bytes->capacity && bytes->begin > 0) {
        memmove(bytes->memory, bytes->memory + bytes->begin, bytes->end - bytes->begin);
        bytes->end -= bytes->begin;
        bytes->begin = 0;
    }
    if (bytes->end + count > bytes->capacity) {
        bytes->capacity = (bytes->end + count) * 2;
        bytes->memory = realloc(bytes->memory, bytes->capacity);
        if (!bytes->memory) die("out of memory");
    }
    return bytes->memory + bytes->end;
}

static void go_down(struct link *l, int error) {
    close(l->socket);
    l->state = LINK_DOWN;
    l->error = error;
    l->output.begin = l->output.end = 0;
    l->input.begin = l->input.end = 0;
    l->record.begin = l->record.end = 0;
}

void link_connect(struct link *l, const struct sockaddr_in *server, bool keeps_port) {
    l->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->socket < 0) die("no socket: %s", strerror(errno));
    int on = 1;
    // The end of a connection is then a reset, which leaves the port free at once (link_drop).
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(l->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(l->socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    setsockopt(l->socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = l->own_port};
    if (keeps_port && l->own_port && bind(l->socket, (struct sockaddr *)&own, sizeof own) != 0) l->own_port = 0;
    l->state = LINK_CONNECTING;
    if (connect(l->socket, (const struct sockaddr *)server, sizeof *server) != 0 && errno != EINPROGRESS) {
        if (errno == EADDRNOTAVAIL || errno == EADDRINUSE) l->own_port = 0; // the next time with another port
        go_down(l, errno);
    }
}

static void look_if_connected(struct link *l) {
    int error = 0;
    socklen_t bytes = sizeof error;
    getsockopt(l->socket, SOL_SOCKET, SO_ERROR, &error, &bytes);
    if (error) {
        go_down(l, error);
        return;
    }
    struct sockaddr_in own;
    bytes = sizeof own;
    if (getsockname(l->socket, (struct sockaddr *)&own, &bytes) == 0) l->own_port = own.sin_port;
    l->state = LINK_UP;
}

void link_flush(struct link *l, size_t most) {
    if (l->state == LINK_CONNECTING) look_if_connected(l);
    while (l->state == LINK_UP && l->output.begin < l->output.end && most > 0) {
        size_t count = l->output.end - l->output.begin;
        ssize_t sent = send(l->socket, l->output.memory + l->output.begin, count < most ? count : most, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno == EAGAIN) return;
        if (sent < 0) {
            // What the server sent before is still to be read; then its end is seen there.
            l->output.begin = l->output.end = 0;
            return;
        }
        l->output.begin += (size_t)sent;
        most -= (size_t)sent;
    }
}

static void hand_over(const uint8_t *record, size_t bytes, void (*handler)(void *, uint32_t, struct reader *), void *context) {
    struct reader reader = {record, record + bytes};
    uint32_t xid = get_uint32(&reader), verifier_bytes;
    if (get_uint32(&reader) != 1) die("a message that is not a reply");
    if (get_uint32(&reader) != 0) die("the call was denied: %u", get_uint32(&reader));
    get_uint32(&reader); // the verifier's flavour
    get_opaque(&reader, &verifier_bytes);
    uint32_t accepted = get_uint32(&reader);
    if (accepted != 0) die("the call was not executed: accept_stat %u", accepted);
    handler(context, xid, &reader);
}

static void hand_over_records(struct link *l, void (*handler)(void *, uint32_t, struct reader *), void *context) {
    while (l->state == LINK_UP && l->input.end - l->input.begin >= 4) {
        const uint8_t *fragment = l->input.memory + l->input.begin;
        uint32_t mark;
        memcpy(&mark, fragment, sizeof mark);
        mark = ntohl(mark);
        size_t bytes = mark & ~LAST_FRAGMENT;
        if (bytes + l->record.end > MOST_REPLY_BYTES) die("a reply of more than %d bytes", MOST_REPLY_BYTES);
        if (l->input.end - l->input.begin < 4 + bytes) return;
        l->input.begin += 4 + bytes;
        bool is_last = mark & LAST_FRAGMENT;
        if (is_last && l->record.end == 0) {
            hand_over(fragment + 4, bytes, handler, context);
            continue;
        }
        memcpy(room(&l->record, bytes), fragment + 4, bytes);
        l->record.end += bytes;
        if (!is_last) continue;
        hand_over(l->record.memory, l->record.end, handler, context);
        l->record.begin = l->record.end = 0;
    }
}

void link_receive(struct link *l, void (*handler)(void *, uint32_t, struct reader *), void *context) {
    while (l->state == LINK_UP) {
        ssize_t received = recv(l->socket, room(&l->input, RECEIVE_BYTES), RECEIVE_BYTES, 0);
        if (received < 0 && errno == EINTR) continue;
        if (received < 0 && errno == EAGAIN) return;
        if (received <= 0) {
            go_down(l, received < 0 ? errno : 0);
            return;
        }
        l->input.end += (size_t)received;
        hand_over_records(l, handler, context);
    }
}

void link_drop(struct link *l) {
    if (l->state != LINK_DOWN) go_down(l, 0);
}

void link_free(struct link *l) {
    link_drop(l);
    free(l->output.memory);
    free(l->input.memory);
    free(l->record.memory);
    *l = (struct link){0};
}

void link_put_uint32(struct link *l, uint32_t value) {
    value = htonl(value);
    memcpy(room(&l->output, 4), &value, 4);
    l->output.end += 4;
}

void link_put_uint64(struct link *l, uint64_t value) {
    link_put_uint32(l, (uint32_t)(value >> 32));
    link_put_uint32(l, (uint32_t)value);
}

uint8_t *link_put_room(struct link *l, uint32_t count) {
    link_put_uint32(l, count);
    uint32_t padding = -count & 3;
    uint8_t *place = room(&l->output, count + padding);
    memset(place + count, 0, padding);
    l->output.end += count + padding;
    return place;
}

void link_put_opaque(struct link *l, const void *bytes, uint32_t count) { memcpy(link_put_room(l, count), bytes, count); }

void link_begin_call(struct link *l, uint32_t xid, uint32_t procedure) {
    room(&l->output, 0);
    l->call_start = l->output.end - l->output.begin; // room() may move what is not sent yet
    static const uint32_t rest[] = {1, 28, 0}; // AUTH_SYS: stamp, machine name, root, no further groups
    const uint32_t head[] = {0, xid, 0, 2, NFS_PROGRAM, VERSION_3, procedure};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++) link_put_uint32(l, head[i]);
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) link_put_uint32(l, rest[i]);
    link_put_opaque(l, "stress", 6);
    for (int i = 0; i < 5; i++) link_put_uint32(l, 0); // uid, gid, groups; the verifier: AUTH_NONE
}

void link_end_call(struct link *l) {
    size_t start = l->output.begin + l->call_start;
    uint32_t mark = htonl(LAST_FRAGMENT | (uint32_t)(l->output.end - start - 4));
    memcpy(l->output.memory + start, &mark, sizeof mark);
}
