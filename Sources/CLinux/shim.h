// What Swift's Glibc module leaves out: Linux calls that need _GNU_SOURCE, and, for benchmarks, the allocator's counts.
#ifndef SLUICE_CLINUX_SHIM_H
#define SLUICE_CLINUX_SHIM_H

#include <malloc.h>
#include <pthread.h>
#include <sys/types.h>

int sync_file_range(int descriptor, off_t offset, off_t count, unsigned int flags);

int pthread_setname_np(pthread_t thread, const char *name);

#define SLUICE_SYNC_FILE_RANGE_WRITE 2u

#endif
