#include "nfs3.h"

#include <string.h>

enum {
    NFS_PROGRAM = 100003,
    MOUNT_PROGRAM = 100005,
    VERSION_3 = 3,
    MOUNT_MNT = 1,
    NFS3ERR_NOENT = 2,
    NFS3ERR_EXIST = 17,
    // fattr3 (RFC 1813, 2.5): type, mode, nlink, uid, gid; size, used; rdev; fsid, fileid; three times.
    MODE_TO_SIZE_BYTES = 16,
    USED_TO_FSID_BYTES = 24,
    TIMES_BYTES = 24,
    WCC_ATTR_BYTES = 24, // size, mtime, ctime
};

void call_nfs3(struct connection *c, enum nfs3_procedure procedure, reply_handler handler, void *context) {
    call_begin(c, NFS_PROGRAM, VERSION_3, procedure, handler, context);
}

void put_handle(struct connection *c, const struct handle *handle) { put_opaque(c, handle->data, handle->bytes); }

void put_name(struct connection *c, const char *name) { put_opaque(c, name, (uint32_t)strlen(name)); }

void put_mode(struct connection *c, uint32_t mode) {
    put_uint32(c, 1);
    put_uint32(c, mode);
    for (int i = 0; i < 5; i++) put_uint32(c, 0); // no uid, gid, size, atime, mtime
}

void begin_create(struct connection *c, const struct handle *directory, const char *name, uint32_t how,
                  reply_handler handler, void *context) {
    call_nfs3(c, NFS3_CREATE, handler, context);
    put_handle(c, directory);
    put_name(c, name);
    put_uint32(c, how);
    put_mode(c, 0644);
    call_end(c);
}

void get_ok(struct reader *reader, const char *what) {
    uint32_t status = get_uint32(reader);
    if (status != 0) die("%s failed with nfsstat3 %u", what, status);
}

void get_handle(struct reader *reader, struct handle *handle) {
    const uint8_t *data = get_opaque(reader, &handle->bytes);
    if (handle->bytes > sizeof handle->data) die("a handle of %u bytes", handle->bytes);
    memcpy(handle->data, data, handle->bytes);
}

void get_attributes(struct reader *reader, struct attributes *attributes) {
    attributes->type = get_uint32(reader);
    skip(reader, MODE_TO_SIZE_BYTES);
    attributes->size = get_uint64(reader);
    skip(reader, USED_TO_FSID_BYTES);
    attributes->file_id = get_uint64(reader);
    skip(reader, TIMES_BYTES);
}

bool get_optional_attributes(struct reader *reader, struct attributes *attributes) {
    if (get_uint32(reader) == 0) return false;
    get_attributes(reader, attributes);
    return true;
}

void skip_wcc(struct reader *reader) {
    struct attributes ignored;
    if (get_uint32(reader)) skip(reader, WCC_ATTR_BYTES);
    get_optional_attributes(reader, &ignored);
}

void get_created(struct reader *reader, struct handle *handle) {
    get_ok(reader, "CREATE");
    if (get_uint32(reader) == 0) die("CREATE gave no handle");
    get_handle(reader, handle);
}

// One call and its reply: the handler leaves the results here, in the connection's input until the next wait.
static void keep_results(struct connection *c, void *context, struct reader *results) {
    (void)c;
    *(struct reader *)context = *results;
}

static struct reader finish_call(struct connection *c, struct reader *results) {
    call_end(c);
    connection_wait_all(c);
    return *results;
}

void nfs3_mount(const char *host, uint16_t port, const char *path, struct handle *root) {
    struct connection *c = connection_open(host, port);
    struct reader results;
    call_begin(c, MOUNT_PROGRAM, VERSION_3, MOUNT_MNT, keep_results, &results);
    put_name(c, path);
    finish_call(c, &results);
    get_ok(&results, "MNT");
    get_handle(&results, root);
    connection_close(c);
}

struct limits nfs3_limits(struct connection *c, const struct handle *root) {
    struct reader results;
    struct attributes ignored;
    call_nfs3(c, NFS3_FSINFO, keep_results, &results);
    put_handle(c, root);
    finish_call(c, &results);
    get_ok(&results, "FSINFO");
    get_optional_attributes(&results, &ignored);
    struct limits limits = {.read_bytes = get_uint32(&results)};
    skip(&results, 8); // rtpref, rtmult
    limits.write_bytes = get_uint32(&results);
    return limits;
}

void nfs3_create(struct connection *c, const struct handle *directory, const char *name, struct handle *created) {
    struct reader results;
    begin_create(c, directory, name, NFS3_UNCHECKED, keep_results, &results);
    connection_wait_all(c);
    get_created(&results, created);
}

bool nfs3_make_directory(struct connection *c, const struct handle *directory, const char *name, struct handle *handle) {
    struct reader results;
    call_nfs3(c, NFS3_MKDIR, keep_results, &results);
    put_handle(c, directory);
    put_name(c, name);
    put_mode(c, 0755);
    finish_call(c, &results);
    uint32_t status = get_uint32(&results);
    if (status != 0 && status != NFS3ERR_EXIST) die("MKDIR failed with nfsstat3 %u", status);
    struct attributes ignored;
    if (!nfs3_lookup(c, directory, name, handle, &ignored)) die("the directory %s is not there", name);
    return status == 0;
}

bool nfs3_lookup(struct connection *c, const struct handle *directory, const char *name, struct handle *handle,
                 struct attributes *attributes) {
    struct reader results;
    call_nfs3(c, NFS3_LOOKUP, keep_results, &results);
    put_handle(c, directory);
    put_name(c, name);
    finish_call(c, &results);
    uint32_t status = get_uint32(&results);
    if (status == NFS3ERR_NOENT) return false;
    if (status != 0) die("LOOKUP failed with nfsstat3 %u", status);
    get_handle(&results, handle);
    if (!get_optional_attributes(&results, attributes)) die("LOOKUP gave no attributes");
    return true;
}

static void remove_name(struct connection *c, enum nfs3_procedure procedure, const struct handle *directory,
                        const char *name) {
    struct reader results;
    call_nfs3(c, procedure, keep_results, &results);
    put_handle(c, directory);
    put_name(c, name);
    finish_call(c, &results);
    uint32_t status = get_uint32(&results);
    if (status != 0 && status != NFS3ERR_NOENT) die("removing %s failed with nfsstat3 %u", name, status);
}

void nfs3_remove(struct connection *c, const struct handle *directory, const char *name) {
    remove_name(c, NFS3_REMOVE, directory, name);
}

void nfs3_remove_directory(struct connection *c, const struct handle *directory, const char *name) {
    remove_name(c, NFS3_RMDIR, directory, name);
}
