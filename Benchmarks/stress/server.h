// The server under --kill: started by a command, killed at random moments, started again.
#pragma once
#include "link.h"

struct run;

struct server_process {
    pid_t pid; // the command's process and process group; 0: it is not started
    bool serves; // it has answered NULL since it was started
    double started_at, last_start, slowest_start; // the latter: seconds to the first answer
    double kill_at;
    uint64_t random;
    struct link probe;
    bool was_asked; // NULL, on the probe's connection
    double probe_at;
};

// Starts it and waits until it answers NULL; ends the program if it does not.
void server_begin(struct run *);
// Looks after it, without waiting: whether it serves, has ended, and is to be killed, which starts it again.
void server_turn(struct run *);
// Kills it and starts it again, and waits until it answers NULL.
void server_restart(struct run *);
// SIGTERM, and SIGKILL when that does not help.
void server_end(struct run *);
