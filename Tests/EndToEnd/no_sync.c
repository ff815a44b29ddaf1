/* Preloaded into a gateway whose promises shall be lies: nothing that is written is made durable. */
int fsync(int fd) { return 0; }
int fdatasync(int fd) { return 0; }
int syncfs(int fd) { return 0; }
void sync(void) {}
int sync_file_range(int fd, long long offset, long long count, unsigned flags) { return 0; }
int msync(void *start, unsigned long count, int flags) { return 0; }
