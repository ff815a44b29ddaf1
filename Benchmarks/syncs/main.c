// syncs: what a disk takes to make a block durable in several files at once, which is the least that a journal with so many
// replicas takes. tools/bench builds and runs it.
//
// Each thread has a file, written and synced before. In each round all threads write a block of theirs and call fdatasync;
// it takes from when the first begins until the last has ended. Prints a line of JSON as nfsload does.
#include "rpc.h" // die

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FILES = 16 };

static struct {
    unsigned files, rounds;
    size_t block_bytes;
    const char *directory;
    pthread_barrier_t begins, ends;
    double begun[MOST_FILES], ended[MOST_FILES]; // of this round; read between the barriers
} all;

static double seconds_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void write_block(int file, const char *block, unsigned number) {
    ssize_t written = pwrite(file, block, all.block_bytes, (off_t)(number * all.block_bytes));
    if (written != (ssize_t)all.block_bytes) die("pwrite: %s", strerror(errno));
}

static void *run_file(void *context) {
    unsigned number = (unsigned)(uintptr_t)context;
    char path[4096];
    snprintf(path, sizeof path, "%s/syncs-%u", all.directory, number);
    char *block = malloc(all.block_bytes);
    if (!block) die("out of memory");
    memset(block, 'a', all.block_bytes);
    int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) die("%s: %s", path, strerror(errno));
    for (unsigned i = 0; i < all.rounds; i++) write_block(file, block, i);
    if (fsync(file) != 0) die("fsync: %s", strerror(errno));
    for (unsigned i = 0; i < all.rounds; i++) {
        memset(block, 'b' + (int)(i % 16), all.block_bytes);
        pthread_barrier_wait(&all.begins);
        all.begun[number] = seconds_now();
        write_block(file, block, i);
        if (fdatasync(file) != 0) die("fdatasync: %s", strerror(errno));
        all.ended[number] = seconds_now();
        pthread_barrier_wait(&all.ends);
    }
    close(file);
    if (unlink(path) != 0) die("%s: %s", path, strerror(errno));
    free(block);
    return NULL;
}

static int compare_seconds(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static unsigned parse_number(const char *text, unsigned long least, unsigned long most) {
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end || value < least || value > most) die("not a usable number: %s", text);
    return (unsigned)value;
}

int main(int count, char **arguments) {
    if (count != 5) {
        fputs("usage: syncs FILES BLOCK-BYTES ROUNDS DIRECTORY\n", stderr);
        return 64;
    }
    all.files = parse_number(arguments[1], 1, MOST_FILES);
    all.block_bytes = parse_number(arguments[2], 1, 1 << 24);
    all.rounds = parse_number(arguments[3], 1, 1 << 20);
    all.directory = arguments[4];
    pthread_barrier_init(&all.begins, NULL, all.files + 1);
    pthread_barrier_init(&all.ends, NULL, all.files + 1);
    pthread_t threads[MOST_FILES];
    for (unsigned i = 0; i < all.files; i++)
        if (pthread_create(&threads[i], NULL, run_file, (void *)(uintptr_t)i) != 0) die("no thread");
    double *seconds = calloc(all.rounds, sizeof *seconds), begun = seconds_now();
    if (!seconds) die("out of memory");
    for (unsigned i = 0; i < all.rounds; i++) {
        pthread_barrier_wait(&all.begins);
        pthread_barrier_wait(&all.ends);
        double first = all.begun[0], last = all.ended[0];
        for (unsigned file = 1; file < all.files; file++) {
            if (all.begun[file] < first) first = all.begun[file];
            if (all.ended[file] > last) last = all.ended[file];
        }
        seconds[i] = last - first;
    }
    double took = seconds_now() - begun;
    for (unsigned i = 0; i < all.files; i++) pthread_join(threads[i], NULL);
    qsort(seconds, all.rounds, sizeof *seconds, compare_seconds);
    printf("{\"interval\": \"fdatasync\", \"seconds\": %.6f, \"operations\": %u, \"bytes\": %zu, \"p50_ms\": %.4f, "
           "\"p99_ms\": %.4f, \"max_ms\": %.4f}\n",
           took, all.rounds, all.rounds * all.block_bytes * all.files, seconds[all.rounds / 2] * 1e3,
           seconds[all.rounds * 99ul / 100] * 1e3, seconds[all.rounds - 1] * 1e3);
    free(seconds);
    return 0;
}
