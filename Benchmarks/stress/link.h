// A TCP connection that may break and come back: RPC records go out and come in without blocking. What is in flight is
// kept by who uses it; here nothing is sent twice.
#pragma once
#include "rpc.h"
#include <netinet/in.h>

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_UP };

struct bytes {
    uint8_t *memory;
    size_t begin, end, capacity;
};

struct link {
    enum link_state state;
    int socket, error;  // why it is down; 0: the server closed it, or we did
    uint16_t own_port;  // used again for the next connection, as by Linux: servers tell clients apart by it
    struct bytes output, input, record;
    size_t call_start;
};

void link_connect(struct link *, const struct sockaddr_in *server, bool keeps_port);
// To be called when the socket can be written: looks whether it is connected now, and sends what is gathered, at most
// so much.
void link_flush(struct link *, size_t most);
// Receives what is there and hands over each reply, until the link is down.
void link_receive(struct link *, void (*handler)(void *context, uint32_t xid, struct reader *), void *context);
// At once and without a farewell: what is on the way may be lost.
void link_drop(struct link *);
void link_free(struct link *);

void link_begin_call(struct link *, uint32_t xid, uint32_t procedure);
void link_put_uint32(struct link *, uint32_t);
void link_put_uint64(struct link *, uint64_t);
void link_put_opaque(struct link *, const void *, uint32_t bytes);
// Room for an opaque, to be filled before anything else is put.
uint8_t *link_put_room(struct link *, uint32_t bytes);
void link_end_call(struct link *);
