// Namers: each has a connection, a thread and a directory of its own, in which it makes files and directories, writes to
// them with FILE_SYNC or a COMMIT, sets sizes and times, renames and removes; one call at a time. So it knows exactly what
// must be there, whenever the server was killed: each reply is a promise (RFC 1813, 4.8: all but WRITE are stable before
// they are answered), and only the call without a reply may have happened or not. It is sent again until it is answered;
// where the server has no memory of it any more, "exists" and "no such" are then right answers, too.
//
// What is promised of a file: its name, its file id, its size, its bytes, and the time of its last change.
#pragma once
#include "stress.h"

#include <pthread.h>
#include <stdatomic.h>

enum { DIRECTORIES = 4, NAMES = 24, NAMED_FILE_BYTES = 32 << 10, NAME_BYTES = 16 };

enum named_status { OK3 = 0, NOENT3 = 2, EXIST3 = 17, STALE3 = 70 };

struct stamp {
    uint32_t seconds, nanoseconds;
};

struct node {
    uint32_t type;
    uint64_t size, file_id;
    struct stamp modified;
};

struct named_file {
    bool exists;
    struct handle handle;
    uint64_t file_id;
    uint32_t size;
    struct stamp modified;
    uint8_t *bytes; // NAMED_FILE_BYTES; zeros behind the size
};

struct named_directory {
    bool exists;
    struct handle handle;
    uint64_t file_id;
    struct named_file files[NAMES];
};

struct namer {
    struct names *names;
    unsigned number;
    pthread_t thread;
    struct link link;
    uint64_t random;
    uint32_t next_xid;
    // Of the call that is made: what, whether it was sent more than once, its reply.
    char doing[200];
    uint32_t xid;
    bool is_ambiguous, has_reply;
    uint8_t *reply;
    size_t reply_bytes, reply_capacity;
    struct stamp next_time;
    char top_name[NAME_BYTES];
    struct named_directory directories[DIRECTORIES]; // the first is its own, which has the others
    _Atomic bool is_settled, is_verified;
};

struct names {
    struct run *run;
    unsigned count;
    struct namer *namers;
    _Atomic int phase; // enum phase
    _Atomic bool has_failed, is_over;
    _Atomic uint64_t made, renamed, removed, written, resent, ambiguous, verified;
};

// What is put into a call; each procedure takes what it needs.
struct request {
    uint32_t procedure;
    const struct handle *object, *to;
    const char *name, *to_name;
    uint64_t offset; // READDIR: the cookie
    uint32_t count, how;
    const uint8_t *data;
    bool sets_size, sets_time;
    uint64_t size, verifier; // SETATTR; an exclusive CREATE's, READDIR's
    struct stamp time;
};

enum { NFS3_RENAME = 14, NFS3_READDIR = 16, NFS3_EXCLUSIVE = 2 };

// names_calls.c: makes a call until it is answered: the status. The results are valid until the next call.
uint32_t ask(struct namer *, const struct request *, struct reader *results);
// The same; any status but OK is wrong.
void ask_ok(struct namer *, const struct request *, struct reader *results);
// Something promised is not there: says so, and ends the thread.
_Noreturn void broken(struct namer *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void get_node(struct reader *, struct node *);
bool get_optional_node(struct reader *, struct node *);
bool get_wcc_node(struct reader *, struct node *);
struct node get_attributes_of(struct namer *, const struct handle *);

// names_check.c
void directory_name(const struct namer *, unsigned directory, char name[NAME_BYTES]);
void file_name(unsigned file, char name[NAME_BYTES]);
void check_entry(struct namer *, unsigned directory, unsigned file);
void check_list(struct namer *, unsigned directory);
void check_all(struct namer *);

// names_work.c
void make_top(struct namer *);
void work_once(struct namer *);

// names.c
void names_start(struct run *);
// No more operations are begun.
void names_settle(struct names *);
bool names_are_settled(const struct names *);
void names_verify(struct names *);
bool names_are_verified(const struct names *);
void names_end(struct names *);
void names_remove(struct names *, struct connection *);
void names_free(struct names *);
