// The calls of NFSv3 and MOUNT (RFC 1813) that the load is made of. A status other than OK ends the program.
//
// `nfs3_...` functions make one call and wait for its reply, and are for what is not measured; the put and get functions
// are for handlers of calls in flight.
#pragma once
#include "rpc.h"

enum nfs3_procedure {
    NFS3_GETATTR = 1,
    NFS3_SETATTR = 2,
    NFS3_LOOKUP = 3,
    NFS3_READ = 6,
    NFS3_WRITE = 7,
    NFS3_CREATE = 8,
    NFS3_MKDIR = 9,
    NFS3_REMOVE = 12,
    NFS3_RMDIR = 13,
    NFS3_READDIRPLUS = 17,
    NFS3_FSINFO = 19,
    NFS3_COMMIT = 21,
};

enum { NFS3_REGULAR_FILE = 1, NFS3_UNSTABLE = 0, NFS3_DATA_SYNC = 1, NFS3_FILE_SYNC = 2, NFS3_UNCHECKED = 0, NFS3_GUARDED = 1 };

struct handle {
    uint32_t bytes;
    uint8_t data[64];
};

// What is compared of fattr3.
struct attributes {
    uint32_t type;
    uint64_t size, file_id;
};

struct limits {
    uint32_t read_bytes, write_bytes;
};

void call_nfs3(struct connection *, enum nfs3_procedure, reply_handler, void *context);
void put_handle(struct connection *, const struct handle *);
void put_name(struct connection *, const char *);
// The attributes of a new file or directory: its mode and nothing else.
void put_mode(struct connection *, uint32_t mode);
void begin_create(struct connection *, const struct handle *directory, const char *name, uint32_t how, reply_handler,
                  void *context);

void get_ok(struct reader *, const char *what);
void get_handle(struct reader *, struct handle *);
void get_attributes(struct reader *, struct attributes *);
bool get_optional_attributes(struct reader *, struct attributes *);
void skip_wcc(struct reader *);
// The handle of a new file; the reply may leave it out, no server here does.
void get_created(struct reader *, struct handle *);

void nfs3_mount(const char *host, uint16_t port, const char *path, struct handle *root);
struct limits nfs3_limits(struct connection *, const struct handle *root);
void nfs3_create(struct connection *, const struct handle *directory, const char *name, struct handle *created);
// Returns whether it was made; false if the name was there, whose handle is then looked up.
bool nfs3_make_directory(struct connection *, const struct handle *directory, const char *name, struct handle *);
bool nfs3_lookup(struct connection *, const struct handle *directory, const char *name, struct handle *,
                 struct attributes *);
// Removing what is not there is no error.
void nfs3_remove(struct connection *, const struct handle *directory, const char *name);
void nfs3_remove_directory(struct connection *, const struct handle *directory, const char *name);
