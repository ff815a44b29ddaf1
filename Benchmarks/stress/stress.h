// An out-of-order writer for NFSv3 servers: what its parts share. One thread does all, so that sending and answering are
// in one order, which the model needs.
#pragma once
#include "link.h"
#include "model.h"
#include "nfs3.h"
#include "server.h"

#include <stdio.h>
#include <sys/types.h>

enum {
    MOST_CONNECTIONS = 200,
    MOST_OPERATIONS = 1 << 24, // of a connection: a value has 24 bits for it
    LATE_COPIES = 32,
    REPEATED = 256,
};

struct options {
    char host[256];       // as given; `server` is its address
    struct sockaddr_in server;
    uint16_t mount_port;
    char export[1024];
    unsigned connections, files, in_flight;
    uint64_t size, window, operations, seed;
    uint32_t max_length;
    double seconds, timeout, patience, kill_every, kill_early;
    unsigned kills, namers;
    // Of all operations; of writes: stable and duplicates.
    double reads, commits, truncates, attributes, stable, duplicates, drops;
    const char *json, *kill_hook, *kill;
    bool keep, new_ports, quiet;
};

enum kind { FREE, WRITE, READ, COMMIT, TRUNCATE, GETATTR, KINDS };
extern const char *const kind_names[KINDS];

// How a write is sent more than once.
enum copies { ONE, TWICE, LATE, OTHER_XID, COPIES };

// A call in flight. It is sent again, with the same xid, when its connection breaks.
struct call {
    enum kind kind;
    enum copies copies;
    bool is_resent;        // the write was lost by the server before
    bool meets_truncate;   // a SETATTR of the size was in flight at some time while this was
    bool was_repeated;     // more than one reply may come
    unsigned file;
    uint32_t xid, count, how, value;
    uint64_t offset;       // TRUNCATE: the size
    struct write *write;
    moment sent;
    double sent_at, copied_at, retry_at; // copied_at: when it was last sent again, or first
    uint64_t low, high;    // the sizes that its reply may show
};

// What is drawn for an operation: the same for a seed, a connection and a number.
struct draw {
    enum kind kind;
    enum copies copies;
    bool drops;
    unsigned file;
    uint32_t count, how;
    uint64_t offset, random;
};

struct late_copy {
    struct call call;
    uint64_t due; // the number of the lane's operation before which it is sent
};

// A connection and what it does.
struct lane {
    struct run *run;
    unsigned number;
    struct link link;
    struct call *calls;
    unsigned in_flight;
    uint64_t random, operation;
    double down_since, connect_at; // down_since 0: it is up
    bool was_dropped;              // by us: the server need not have been restarted
    bool has_noted_crash;          // since it went down
    struct late_copy late[LATE_COPIES];
    unsigned late_count;
    uint32_t repeated[REPEATED];   // xids to which another reply may come
    unsigned repeated_next;
};

struct file {
    char name[32];
    struct handle handle;
    struct write **uncommitted; // acknowledged and not stable
    size_t uncommitted_count, uncommitted_capacity;
    uint64_t uncommitted_bytes;
    bool is_committing; // a COMMIT of all is in flight, which the bounds or the end asked for
    // The size: what it is at least and at most, and at least after a kill. While SETATTRs of the size are in flight the
    // latter ones are the bounds of what comes after them.
    uint64_t low, high, low_stable;
    unsigned truncates;
    uint64_t truncate_least, truncate_most, truncate_high;
    moment truncated; // when the last of them was done
};

struct latencies {
    uint64_t count, buckets[1024];
    double most;
};

struct counts {
    uint64_t bytes_written, bytes_read, stable_writes, same_xid_copies, late_copies, other_xid_copies, repeated_replies,
        drops, connections_lost, calls_replayed, timeouts, verifier_changes, writes_resent, writes_superseded, jukebox,
        short_writes, short_reads, kills, early_kills, forgiven, mismatches, errors, bytes_verified;
};

enum phase { RUNNING, SETTLING, VERIFYING };

struct names;

struct run {
    struct options options;
    struct model *model;
    struct file *files;
    struct lane *lanes;
    struct handle root, directory;
    char directory_name[64];
    uint32_t next_xid, read_bytes;
    enum phase phase;
    struct write **resend; // a queue: the server forgot them
    size_t resend_begin, resend_end, resend_capacity;
    bool has_verifier;
    uint64_t verifier;
    char suspicion[DESCRIPTION_BYTES + 256]; // what is wrong unless the server was restarted; "": nothing
    moment suspected;
    uint64_t suspected_verifier;
    bool has_failed;
    double started, ended;
    unsigned verify_file; // the next READ of the end
    uint64_t verify_offset;
    pid_t killer;
    double kill_at;
    struct server_process server;
    struct names *names; // what namers do, and know: see names.h
    struct counts counts;
    struct latencies latencies[KINDS];
};

double seconds_now(void);

// fail.c: what was wrong; ends the run.
void fail(struct run *, const struct lane *, const struct call *, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void mismatch(struct run *, const struct lane *, const struct call *, const char *words);
// Wrong unless the server was restarted: the next reply with a verifier tells.
void suspect(struct run *, const struct lane *, const struct call *, const char *words);
void take_verifier(struct run *, const struct call *, uint64_t verifier);
// The server may have been killed.
void note_crash(struct run *);

// draw.c
uint64_t random_next(uint64_t *state);
struct draw draw_operation(struct lane *);

// sizes.c
void size_sent(struct run *, struct call *);
void size_acknowledged(struct run *, const struct call *);
void size_stable(struct run *, const struct write *);
void size_crashed(struct run *);
void size_check(struct run *, const struct lane *, const struct call *, uint64_t size, bool is_before);

// calls.c
void call_send(struct lane *, const struct call *);
void call_start(struct lane *, struct call);
void issue_operation(struct lane *);
// Another call that has to be made now; returns whether there was one.
bool issue_work(struct lane *);
void send_late_copies(struct lane *, bool all);
void forget_late_copies(struct lane *);
void remember_repeated(struct lane *, uint32_t xid);

// replies.c
void take_reply(void *lane, uint32_t xid, struct reader *);
void keep_uncommitted(struct run *, struct write *);

// run.c: returns when all is done or something was wrong.
void run_all(struct run *);

// session.c: mounts, makes the files, runs, removes them; returns the exit code.
int stress(const struct options *, struct counts *);

// summary.c
void latency_add(struct latencies *, double seconds);
void show_progress(struct run *, bool is_last);
void print_summary(const struct run *);
bool write_json(const struct run *, const char *path);

// self_test.c: runs against a server with faults, each of which must be reported; returns the exit code.
int self_test(struct options);
