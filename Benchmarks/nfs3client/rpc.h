// ONC RPC (RFC 5531) over one TCP connection, many calls in flight, and the XDR (RFC 4506) that it needs.
//
// One thread. Small calls are gathered and go out together when the connection waits for replies; so the load takes few
// system calls and leaves the processor to the server. Replies are read where they arrive, without a copy. Whatever is
// not as the protocol says ends the program: a benchmark of wrong replies has no figures.
//
// Rules: calls are made one at a time (call_begin, put..., call_end). A reply handler may make calls and must not wait.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_IN_FLIGHT = 256 };

struct connection;

// A reply's results, from their first byte to their last.
struct reader {
    const uint8_t *at, *end;
};

typedef void (*reply_handler)(struct connection *, void *context, struct reader *results);

struct connection *connection_open(const char *host, uint16_t port);
void connection_close(struct connection *);
unsigned connection_in_flight(const struct connection *);
// Sends what was gathered and handles at least one reply; at least one call must be in flight.
void connection_wait(struct connection *);
// Waits until no call is in flight.
void connection_wait_all(struct connection *);

void call_begin(struct connection *, uint32_t program, uint32_t version, uint32_t procedure, reply_handler, void *context);
void put_uint32(struct connection *, uint32_t);
void put_uint64(struct connection *, uint64_t);
void put_opaque(struct connection *, const void *, uint32_t bytes);
void call_end(struct connection *);
// Ends a call whose last argument is an opaque that is sent from where it lies; `bytes` is a multiple of 4.
void call_end_with_payload(struct connection *, const void *, uint32_t bytes);

uint32_t get_uint32(struct reader *);
uint64_t get_uint64(struct reader *);
// The bytes of a variable-length opaque, where they lie.
const uint8_t *get_opaque(struct reader *, uint32_t *bytes);
void skip(struct reader *, size_t bytes);

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
