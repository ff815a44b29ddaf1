// What namers do: drawn from the seed and the namer's number.
#include "names.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_WRITES = 3, MOST_WRITE_BYTES = 8 << 10, FIRST_TIME = 1000000000 };

static uint32_t below(struct namer *n, uint32_t end) { return (uint32_t)(random_next(&n->random) % end); }

static void path(const struct namer *n, unsigned directory, unsigned file, char words[2 * NAME_BYTES]) {
    char in[NAME_BYTES], name[NAME_BYTES];
    directory_name(n, directory, in);
    file_name(file, name);
    snprintf(words, 2 * NAME_BYTES, "%s/%s", in, name);
}

#define DOES(n, ...) snprintf((n)->doing, sizeof (n)->doing, __VA_ARGS__)

// A server may leave attributes out of a reply; nobody else changes the file meanwhile.
static void learn_time(struct namer *n, struct named_file *file, bool is_there, struct node node) {
    if (!is_there) node = get_attributes_of(n, &file->handle);
    if (node.size != file->size) broken(n, "the size is %lu, not %u", node.size, file->size);
    file->modified = node.modified;
}

static void set_time(struct namer *n, struct named_file *file) {
    struct reader results;
    struct node node;
    // Microseconds, which every server keeps.
    n->next_time.seconds++;
    n->next_time.nanoseconds = below(n, 1000000) * 1000;
    ask_ok(n, &(struct request){.procedure = NFS3_SETATTR, .object = &file->handle, .sets_time = true,
                                .time = n->next_time}, &results);
    bool is_there = get_wcc_node(&results, &node);
    if (is_there && (node.modified.seconds != n->next_time.seconds || node.modified.nanoseconds != n->next_time.nanoseconds))
        broken(n, "SETATTR of the mtime answers with another");
    file->modified = n->next_time;
}

// The handle and the attributes of what was made; after an "exists" for what was sent twice, too.
static void take_made(struct namer *n, const struct request *r, uint32_t status, struct reader *results,
                      struct handle *handle, struct node *node) {
    bool has_handle = false, has_node = false;
    if (status == OK3) {
        if ((has_handle = get_uint32(results))) get_handle(results, handle);
        has_node = get_optional_node(results, node);
    } else if (status != EXIST3 || !n->is_ambiguous) {
        broken(n, "nfsstat3 %u", status);
    }
    if (!has_handle) {
        ask_ok(n, &(struct request){.procedure = NFS3_LOOKUP, .object = r->object, .name = r->name}, results);
        get_handle(results, handle);
        has_node = get_optional_node(results, node);
    }
    if (!has_node) *node = get_attributes_of(n, handle);
}

static void make_file(struct namer *n, unsigned d, unsigned number) {
    struct named_file *file = &n->directories[d].files[number];
    char name[NAME_BYTES], where[2 * NAME_BYTES];
    file_name(number, name);
    path(n, d, number, where);
    bool is_exclusive = below(n, 3) == 0;
    DOES(n, "CREATE %s of %s", is_exclusive ? "EXCLUSIVE" : "GUARDED", where);
    struct request r = {.procedure = NFS3_CREATE, .object = &n->directories[d].handle, .name = name,
                        .how = is_exclusive ? NFS3_EXCLUSIVE : NFS3_GUARDED, .verifier = random_next(&n->random)};
    struct reader results;
    struct node node;
    uint32_t status = ask(n, &r, &results);
    // An exclusive CREATE knows its own file by the verifier: it never says that it exists.
    if (status == EXIST3 && is_exclusive) broken(n, "the name is there, and was removed or never made");
    if (status == EXIST3 && !n->is_ambiguous) broken(n, "the name is there, and was removed or never made");
    take_made(n, &r, status, &results, &file->handle, &node);
    if (node.type != NFS3_REGULAR_FILE || node.size != 0) broken(n, "it has type %u and size %lu", node.type, node.size);
    file->exists = true;
    file->file_id = node.file_id;
    file->modified = node.modified;
    file->size = 0;
    if (!file->bytes) file->bytes = malloc(NAMED_FILE_BYTES);
    if (!file->bytes) die("out of memory");
    memset(file->bytes, 0, NAMED_FILE_BYTES);
    n->names->made++;
    // The server may keep the verifier in the times until they are set (RFC 1813, 3.3.8).
    if (is_exclusive) set_time(n, file);
}

struct range {
    uint32_t start, count;
};

static struct range fill_range(struct namer *n, struct named_file *file) {
    uint32_t start = below(n, NAMED_FILE_BYTES), most = NAMED_FILE_BYTES - start;
    if (most > MOST_WRITE_BYTES) most = MOST_WRITE_BYTES;
    uint32_t count = 1 + below(n, most);
    for (uint32_t i = 0; i < count; i++) file->bytes[start + i] = (uint8_t)random_next(&n->random);
    if (start + count > file->size) file->size = start + count;
    return (struct range){start, count};
}

// Returns the verifier. A short WRITE is made again as a whole.
static uint64_t write_range(struct namer *n, struct named_file *file, struct range range, uint32_t how, bool *has_node,
                            struct node *node) {
    for (;;) {
        struct reader results;
        ask_ok(n, &(struct request){.procedure = NFS3_WRITE, .object = &file->handle, .offset = range.start,
                                    .count = range.count, .how = how, .data = file->bytes + range.start}, &results);
        *has_node = get_wcc_node(&results, node);
        uint32_t count = get_uint32(&results), committed = get_uint32(&results);
        if (count > range.count) broken(n, "WRITE took %u of %u bytes", count, range.count);
        if (committed < how || committed > NFS3_FILE_SYNC)
            broken(n, "WRITE asked for stable_how %u and was answered %u", how, committed);
        n->names->written++;
        if (count == range.count) return get_uint64(&results);
    }
}

static void write_stable(struct namer *n, struct named_file *file) {
    bool has_node;
    struct node node;
    write_range(n, file, fill_range(n, file), NFS3_FILE_SYNC, &has_node, &node);
    learn_time(n, file, has_node, node);
}

// WRITEs and a COMMIT, until all have one verifier (RFC 1813, 3.3.21).
static void write_and_commit(struct namer *n, struct named_file *file) {
    struct range ranges[MOST_WRITES];
    unsigned count = 1 + below(n, MOST_WRITES);
    for (unsigned i = 0; i < count; i++) ranges[i] = fill_range(n, file);
    for (bool is_done = false; !is_done;) {
        bool has_node;
        struct node node;
        struct reader results;
        uint64_t verifiers[MOST_WRITES];
        for (unsigned i = 0; i < count; i++)
            verifiers[i] = write_range(n, file, ranges[i], NFS3_UNSTABLE, &has_node, &node);
        ask_ok(n, &(struct request){.procedure = NFS3_COMMIT, .object = &file->handle}, &results);
        has_node = get_wcc_node(&results, &node);
        uint64_t verifier = get_uint64(&results);
        is_done = true;
        for (unsigned i = 0; i < count; i++) is_done &= verifiers[i] == verifier;
        if (is_done) learn_time(n, file, has_node, node);
        else n->names->resent += count;
    }
}

static void set_size(struct namer *n, struct named_file *file) {
    struct reader results;
    struct node node;
    uint32_t size = below(n, NAMED_FILE_BYTES + 1);
    if (size < file->size) memset(file->bytes + size, 0, file->size - size);
    file->size = size;
    ask_ok(n, &(struct request){.procedure = NFS3_SETATTR, .object = &file->handle, .sets_size = true, .size = size},
           &results);
    bool has_node = get_wcc_node(&results, &node);
    learn_time(n, file, has_node, node);
}

static void change_file(struct namer *n, unsigned d, unsigned number) {
    static const struct {
        const char *name;
        void (*change)(struct namer *, struct named_file *);
    } changes[] = {{"WRITE FILE_SYNC", write_stable}, {"WRITE and COMMIT", write_and_commit},
                   {"SETATTR of the mtime", set_time}, {"SETATTR of the size", set_size}};
    static const uint8_t weights[] = {0, 0, 1, 1, 1, 2, 3};
    unsigned which = weights[below(n, sizeof weights)];
    char where[2 * NAME_BYTES];
    path(n, d, number, where);
    DOES(n, "%s of %s", changes[which].name, where);
    changes[which].change(n, &n->directories[d].files[number]);
}

// For what takes a name away: "no such" is right when it was sent before.
static void expect_gone(struct namer *n, uint32_t status) {
    if (status == OK3 || (status == NOENT3 && n->is_ambiguous)) return;
    broken(n, status == NOENT3 ? "the name is gone, and was promised" : "nfsstat3 %u", status);
}

static void remove_file(struct namer *n, unsigned d, unsigned number) {
    char name[NAME_BYTES], where[2 * NAME_BYTES];
    struct reader results;
    file_name(number, name);
    path(n, d, number, where);
    DOES(n, "REMOVE of %s", where);
    expect_gone(n, ask(n, &(struct request){.procedure = NFS3_REMOVE, .object = &n->directories[d].handle, .name = name},
                       &results));
    n->directories[d].files[number].exists = false;
    n->names->removed++;
}

static void rename_file(struct namer *n, unsigned d, unsigned number, unsigned to, unsigned to_number) {
    struct named_file *from = &n->directories[d].files[number], *target = &n->directories[to].files[to_number];
    if (from == target) return;
    char name[NAME_BYTES], to_name[NAME_BYTES], where[2 * NAME_BYTES], to_where[2 * NAME_BYTES];
    struct reader results;
    file_name(number, name);
    file_name(to_number, to_name);
    path(n, d, number, where);
    path(n, to, to_number, to_where);
    DOES(n, "RENAME of %s to %s%s", where, to_where, target->exists ? ", which is there" : "");
    expect_gone(n, ask(n, &(struct request){.procedure = NFS3_RENAME, .object = &n->directories[d].handle, .name = name,
                                            .to = &n->directories[to].handle, .to_name = to_name}, &results));
    uint8_t *replaced = target->bytes;
    *target = *from;
    *from = (struct named_file){.bytes = replaced};
    n->names->renamed++;
}

static void make_directory(struct namer *n, const struct handle *parent, unsigned d) {
    struct named_directory *directory = &n->directories[d];
    char name[NAME_BYTES];
    directory_name(n, d, name);
    DOES(n, "MKDIR of %s", name);
    struct request r = {.procedure = NFS3_MKDIR, .object = parent, .name = name};
    struct reader results;
    struct node node;
    uint32_t status = ask(n, &r, &results);
    if (status == EXIST3 && !n->is_ambiguous) broken(n, "the name is there, and was removed or never made");
    take_made(n, &r, status, &results, &directory->handle, &node);
    directory->exists = true;
    directory->file_id = node.file_id;
    n->names->made++;
}

static bool is_empty(const struct named_directory *directory) {
    for (unsigned i = 0; i < NAMES; i++)
        if (directory->files[i].exists) return false;
    return true;
}

// Makes it, removes it if it is empty, or gives it another name.
static void change_directory(struct namer *n, unsigned d) {
    struct named_directory *directory = &n->directories[d];
    const struct handle *top = &n->directories[0].handle;
    char name[NAME_BYTES], to_name[NAME_BYTES];
    struct reader results;
    directory_name(n, d, name);
    if (!directory->exists) {
        make_directory(n, top, d);
        return;
    }
    if (is_empty(directory)) {
        DOES(n, "RMDIR of %s", name);
        expect_gone(n, ask(n, &(struct request){.procedure = NFS3_RMDIR, .object = top, .name = name}, &results));
        directory->exists = false;
        n->names->removed++;
        return;
    }
    unsigned to = 1 + below(n, DIRECTORIES - 1);
    if (n->directories[to].exists) return;
    directory_name(n, to, to_name);
    DOES(n, "RENAME of %s to %s", name, to_name);
    expect_gone(n, ask(n, &(struct request){.procedure = NFS3_RENAME, .object = top, .name = name, .to = top,
                                            .to_name = to_name}, &results));
    struct named_directory was_there = n->directories[to]; // its files' memory
    n->directories[to] = *directory;
    *directory = was_there;
    n->names->renamed++;
}

void make_top(struct namer *n) {
    snprintf(n->top_name, sizeof n->top_name, "names-%u", n->number);
    n->next_time.seconds = FIRST_TIME;
    make_directory(n, &n->names->run->directory, 0);
}

static unsigned some_directory(struct namer *n) {
    for (;;) {
        unsigned d = below(n, DIRECTORIES);
        if (n->directories[d].exists) return d;
    }
}

void work_once(struct namer *n) {
    unsigned d = some_directory(n), number = below(n, NAMES), what = below(n, 100);
    bool exists = n->directories[d].files[number].exists;
    if (what < 6) change_directory(n, 1 + below(n, DIRECTORIES - 1));
    else if (what < 9) check_list(n, d);
    else if (what < 20) check_entry(n, d, number);
    else if (!exists) make_file(n, d, number);
    else if (what < 60) change_file(n, d, number);
    else if (what < 80) rename_file(n, d, number, some_directory(n), below(n, NAMES));
    else remove_file(n, d, number);
}
