// Starting, watching and killing the server: see server.h.
//
// The command has a process group of its own, and SIGKILL goes to that: whatever it is wrapped in ends with it. Orphans of
// the group become children of this process (PR_SET_CHILD_SUBREAPER), so it is known when the last has ended; only then is
// the command run again, since a store or a port may still be somebody's before.
#include "server.h"
#include "stress.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NFS3_NULL = 0 };

#define PROBE_SECONDS 0.02
#define STOP_SECONDS 60

// For handlers of signals and of the end of the program, which must not leave a server behind.
static volatile sig_atomic_t group;
static pid_t owner;

static void kill_group(void) {
    if (group && getpid() == owner) kill(-(pid_t)group, SIGKILL);
}

static void die_of_signal(int number) {
    kill_group();
    signal(number, SIG_DFL);
    raise(number);
}

static void start(struct run *run) {
    struct server_process *server = &run->server;
    server->pid = fork();
    if (server->pid < 0) die("fork: %s", strerror(errno));
    if (server->pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/bin/sh", "sh", "-c", run->options.kill, (char *)NULL);
        _exit(127);
    }
    setpgid(server->pid, server->pid); // whoever of the two comes first
    group = server->pid;
    server->serves = false;
    server->started_at = seconds_now();
    server->probe_at = 0;
}

// Waits until nothing of the group is left; a zombie whose parent is still there is not ours yet.
static void reap(struct run *run) {
    pid_t pid = run->server.pid;
    while (kill(-pid, 0) == 0) {
        pid_t ended = waitpid(-pid, NULL, 0);
        if (ended < 0 && errno == ECHILD) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    group = 0;
    run->server.pid = 0;
    link_drop(&run->server.probe);
}

static void kill_now(struct run *run) {
    kill(-run->server.pid, SIGKILL);
    reap(run);
}

static double share(uint64_t *random) { return (double)(random_next(random) >> 11) * 0x1p-53; }

// Some kills come while it starts: whatever it does then must be possible to begin again.
static void draw_kill(struct run *run, bool starts) {
    struct server_process *server = &run->server;
    bool is_early = share(&server->random) < run->options.kill_early;
    double moment = share(&server->random);
    if (starts) server->kill_at = is_early ? seconds_now() + moment * server->last_start : 0;
    else server->kill_at = seconds_now() + moment * 2 * run->options.kill_every;
}

static void answered(void *context, uint32_t xid, struct reader *results) {
    (void)xid, (void)results;
    struct run *run = context;
    struct server_process *server = &run->server;
    double seconds = seconds_now() - server->started_at;
    server->serves = true;
    server->last_start = seconds;
    if (seconds > server->slowest_start) server->slowest_start = seconds;
}

// Connects, or goes on with asking.
static void probe(struct run *run) {
    struct server_process *server = &run->server;
    struct link *link = &server->probe;
    if (link->state == LINK_DOWN) {
        if (seconds_now() < server->probe_at) return;
        server->probe_at = seconds_now() + PROBE_SECONDS;
        server->was_asked = false;
        link_connect(link, &run->options.server, false);
        if (link->state == LINK_DOWN) return;
    }
    struct pollfd polled = {.fd = link->socket, .events = (short)(server->was_asked ? POLLIN : POLLOUT)};
    if (poll(&polled, 1, 0) <= 0) return;
    link_flush(link, SIZE_MAX);
    if (link->state == LINK_UP && !server->was_asked) {
        link_begin_call(link, run->next_xid++, NFS3_NULL);
        link_end_call(link);
        link_flush(link, SIZE_MAX);
        server->was_asked = true;
        return;
    }
    if (link->state == LINK_UP) link_receive(link, answered, run);
    if (server->serves) link_drop(link);
}

static void look_if_ended(struct run *run) {
    int status;
    if (waitpid(run->server.pid, &status, WNOHANG) != run->server.pid) return;
    kill(-run->server.pid, SIGKILL);
    reap(run);
    if (WIFEXITED(status)) fail(run, NULL, NULL, "the server ended by itself, with exit code %d", WEXITSTATUS(status));
    else fail(run, NULL, NULL, "the server ended by itself, by signal %d", WTERMSIG(status));
}

static void look_if_it_serves(struct run *run) {
    struct server_process *server = &run->server;
    probe(run);
    if (!server->serves && seconds_now() - server->started_at > run->options.patience)
        fail(run, NULL, NULL, "the server has not answered NULL for %.0f s after its start", run->options.patience);
    if (server->serves) draw_kill(run, false);
}

void server_turn(struct run *run) {
    struct server_process *server = &run->server;
    if (!server->pid) return;
    look_if_ended(run);
    if (run->has_failed) return;
    if (!server->serves) look_if_it_serves(run);
    bool may_kill = run->phase == RUNNING && run->counts.kills < run->options.kills;
    if (run->has_failed || !may_kill || server->kill_at == 0 || seconds_now() < server->kill_at) return;
    run->counts.kills++;
    run->counts.early_kills += !server->serves;
    kill_now(run);
    start(run);
    draw_kill(run, true);
}

static void wait_until_it_serves(struct run *run) {
    while (!run->server.serves && !run->has_failed) {
        look_if_ended(run);
        if (!run->has_failed) look_if_it_serves(run);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

void server_begin(struct run *run) {
    run->server.random = run->options.seed ^ UINT64_C(0x6b696c6c);
    owner = getpid();
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) die("prctl: %s", strerror(errno));
    atexit(kill_group);
    const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    for (int i = 0; i < 3; i++) signal(ends[i], die_of_signal);
    start(run);
    wait_until_it_serves(run);
    if (run->has_failed) exit(1);
}

void server_restart(struct run *run) {
    run->counts.kills++;
    kill_now(run);
    start(run);
    wait_until_it_serves(run);
}

void server_end(struct run *run) {
    if (!run->server.pid) return;
    double end = seconds_now() + STOP_SECONDS;
    kill(-run->server.pid, SIGTERM);
    while (waitpid(run->server.pid, NULL, WNOHANG) == 0 && seconds_now() < end)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    kill(-run->server.pid, SIGKILL);
    reap(run);
}
