// What a namer knows, held against what the server has.
#include "names.h"

#include <string.h>

enum { MOST_LISTED = 4096, LIST_BYTES = 8192, DIRECTORY_TYPE = 2 };

void directory_name(const struct namer *n, unsigned directory, char name[NAME_BYTES]) {
    if (directory == 0) memcpy(name, n->top_name, NAME_BYTES);
    else snprintf(name, NAME_BYTES, "d-%u", directory);
}

void file_name(unsigned file, char name[NAME_BYTES]) { snprintf(name, NAME_BYTES, "n-%02u", file); }

static void check_bytes(struct namer *n, const struct named_file *file) {
    uint32_t done = 0;
    while (done < file->size) {
        struct reader results;
        struct node ignored;
        ask_ok(n, &(struct request){.procedure = NFS3_READ, .object = &file->handle, .offset = done,
                                    .count = file->size - done}, &results);
        get_optional_node(&results, &ignored);
        uint32_t count = get_uint32(&results), is_end = get_uint32(&results), bytes;
        const uint8_t *data = get_opaque(&results, &bytes);
        if (bytes != count || count == 0 || count > file->size - done || (is_end && done + count != file->size))
            broken(n, "READ at %u of %u gave count %u and %u bytes, eof %u", done, file->size, count, bytes, is_end);
        for (uint32_t i = 0; i < count; i++)
            if (data[i] != file->bytes[done + i])
                broken(n, "byte %u of %u is 0x%02x, not 0x%02x, which was promised", done + i, file->size, data[i],
                       file->bytes[done + i]);
        done += count;
    }
}

// LOOKUP: whether the name is there, and its handle and attributes.
static bool look_up(struct namer *n, const struct handle *directory, const char *name, struct handle *handle,
                    struct node *node) {
    struct reader results;
    uint32_t status = ask(n, &(struct request){.procedure = NFS3_LOOKUP, .object = directory, .name = name}, &results);
    if (status == NOENT3) return false;
    if (status != OK3) broken(n, "LOOKUP failed with nfsstat3 %u", status);
    get_handle(&results, handle);
    if (!get_optional_node(&results, node)) *node = get_attributes_of(n, handle);
    return true;
}

void check_entry(struct namer *n, unsigned d, unsigned number) {
    const struct named_directory *directory = &n->directories[d];
    const struct named_file *file = &directory->files[number];
    char name[NAME_BYTES], in[NAME_BYTES];
    file_name(number, name);
    directory_name(n, d, in);
    snprintf(n->doing, sizeof n->doing, "looking at %s/%s", in, name);
    struct handle handle;
    struct node node;
    bool is_there = look_up(n, &directory->handle, name, &handle, &node);
    n->names->verified++;
    if (is_there != file->exists)
        broken(n, is_there ? "the name is there, and was removed or never made" : "the name is gone, and was promised");
    if (!is_there) return;
    if (node.type != NFS3_REGULAR_FILE || node.file_id != file->file_id)
        broken(n, "it is file %lu of type %u, and was promised to be file %lu", node.file_id, node.type, file->file_id);
    node = get_attributes_of(n, &file->handle); // the handle is promised, too
    if (node.size != file->size) broken(n, "its size is %lu, not %u, which was promised", node.size, file->size);
    if (node.modified.seconds != file->modified.seconds || node.modified.nanoseconds != file->modified.nanoseconds)
        broken(n, "its mtime is %u.%09u, not %u.%09u, which was promised", node.modified.seconds, node.modified.nanoseconds,
               file->modified.seconds, file->modified.nanoseconds);
    check_bytes(n, file);
}

static void take_listed(struct namer *n, unsigned d, const char *name, bool found[NAMES + DIRECTORIES]) {
    for (unsigned i = 0; i < NAMES + DIRECTORIES; i++) {
        char expected[NAME_BYTES];
        bool is_directory = i >= NAMES;
        if (is_directory && (d > 0 || i == NAMES)) continue;
        if (is_directory) directory_name(n, i - NAMES, expected);
        else file_name(i, expected);
        if (strcmp(name, expected) != 0) continue;
        if (found[i]) broken(n, "%s is listed twice", name);
        found[i] = true;
        return;
    }
    broken(n, "%s is listed, which nobody has made", name);
}

void check_list(struct namer *n, unsigned d) {
    const struct named_directory *directory = &n->directories[d];
    char in[NAME_BYTES];
    directory_name(n, d, in);
    snprintf(n->doing, sizeof n->doing, "listing %s", in);
    bool found[NAMES + DIRECTORIES] = {false};
    struct request r = {.procedure = NFS3_READDIR, .object = &directory->handle, .count = LIST_BYTES};
    for (bool is_end = false; !is_end;) {
        struct reader results;
        struct node ignored;
        ask_ok(n, &r, &results);
        get_optional_node(&results, &ignored);
        r.verifier = get_uint64(&results);
        bool is_empty = true;
        while (get_uint32(&results)) {
            uint32_t bytes;
            char name[MOST_LISTED];
            get_uint64(&results);
            const uint8_t *data = get_opaque(&results, &bytes);
            if (bytes >= sizeof name) broken(n, "a name of %u bytes", bytes);
            memcpy(name, data, bytes);
            name[bytes] = '\0';
            r.offset = get_uint64(&results);
            is_empty = false;
            if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) take_listed(n, d, name, found);
        }
        is_end = get_uint32(&results);
        if (is_empty && !is_end) broken(n, "READDIR gave neither an entry nor the end");
    }
    for (unsigned i = 0; i < NAMES + DIRECTORIES; i++) {
        char name[NAME_BYTES];
        bool is_directory = i >= NAMES;
        if (is_directory && (d > 0 || i == NAMES)) continue;
        if (is_directory) directory_name(n, i - NAMES, name);
        else file_name(i, name);
        bool exists = is_directory ? n->directories[i - NAMES].exists : directory->files[i].exists;
        if (exists && !found[i]) broken(n, "%s is not listed, and was promised", name);
        if (!exists && found[i]) broken(n, "%s is listed, and was removed", name);
    }
}

void check_all(struct namer *n) {
    for (unsigned d = 0; d < DIRECTORIES; d++) {
        struct named_directory *directory = &n->directories[d];
        if (!directory->exists) continue;
        char name[NAME_BYTES];
        directory_name(n, d, name);
        snprintf(n->doing, sizeof n->doing, "looking at %s", name);
        const struct handle *parent = d ? &n->directories[0].handle : &n->names->run->directory;
        struct handle handle;
        struct node node;
        if (!look_up(n, parent, name, &handle, &node)) broken(n, "the directory is gone, and was promised");
        if (node.type != DIRECTORY_TYPE || node.file_id != directory->file_id)
            broken(n, "it is file %lu of type %u, and was promised to be directory %lu", node.file_id, node.type,
                   directory->file_id);
        check_list(n, d);
        for (unsigned i = 0; i < NAMES; i++) check_entry(n, d, i);
    }
}
