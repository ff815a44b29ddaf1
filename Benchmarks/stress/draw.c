// The operations: drawn from the seed, the connection and the operation's number, and from nothing else.
#include "stress.h"

// splitmix64
uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static double share(uint64_t *state) { return (double)(random_next(state) >> 11) * 0x1p-53; }

// Each byte is written about so often before the window has moved on.
enum { OVERLAP = 3 };

// Where the window begins: it slides with the operation's number, and at the end of the file it begins again.
static uint64_t window_base(const struct options *options, uint64_t operation) {
    uint64_t room = options->size - options->window;
    if (room == 0) return 0;
    // A length is a quarter of the longest on average: see draw_length.
    double step = (double)options->max_length / 4 * options->connections / options->files / OVERLAP;
    return (uint64_t)((double)operation * step) % (room + 1);
}

// Half of the lengths are below an eighth of the longest.
static uint32_t draw_length(const struct options *options, uint64_t *state) {
    uint32_t most = options->max_length >> random_next(state) % 6;
    return 1 + (uint32_t)(random_next(state) % (most ? most : 1));
}

struct draw draw_operation(struct lane *lane) {
    const struct options *options = &lane->run->options;
    // Each operation has a state of its own: the next doesn't depend on how much this one draws.
    uint64_t state = options->seed ^ (uint64_t)(lane->number + 1) << 40 ^ lane->operation << 2;
    random_next(&state);
    struct draw draw = {.file = (unsigned)(random_next(&state) % options->files), .random = random_next(&state)};
    double what = share(&state), how = share(&state), copy = share(&state);
    draw.drops = share(&state) < options->drops;
    draw.count = draw_length(options, &state);
    uint64_t base = window_base(options, lane->operation);
    draw.offset = base + random_next(&state) % options->window;
    // A third begins and ends at pages, as a client's cache writes; a third begins where a page begins.
    unsigned alignment = random_next(&state) % 3;
    if (alignment < 2) draw.offset &= ~UINT64_C(4095);
    if (alignment < 1) draw.count = (draw.count + 4095) & ~UINT32_C(4095);
    if (draw.count > options->max_length) draw.count = options->max_length;
    if (draw.offset + draw.count > options->size) draw.count = (uint32_t)(options->size - draw.offset);

    draw.kind = WRITE;
    if ((what -= options->reads) < 0) draw.kind = READ;
    else if ((what -= options->commits) < 0) draw.kind = COMMIT;
    else if ((what -= options->truncates) < 0) draw.kind = TRUNCATE;
    else if ((what -= options->attributes) < 0) draw.kind = GETATTR;
    if (draw.kind == COMMIT && draw.random % 2) draw.offset = draw.count = 0; // all of the file
    if (draw.kind == WRITE) {
        draw.how = how < options->stable / 2 ? NFS3_FILE_SYNC : how < options->stable ? NFS3_DATA_SYNC : NFS3_UNSTABLE;
        if (copy < options->duplicates) draw.copies = (enum copies)(1 + draw.random % (COPIES - 1));
    }
    lane->operation++;
    return draw;
}
