// The loop: connections are kept up, operations issued, replies taken; then everything is committed and read back.
#include "names.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RETRY_SECONDS 0.05

double seconds_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static bool all_operations_issued(const struct run *run) {
    const struct options *options = &run->options;
    if (options->seconds > 0 && seconds_now() - run->started >= options->seconds) return true;
    // The last kill, too, is followed by work, for as long as the next would have been away.
    const struct server_process *server = &run->server;
    if (options->kill && run->counts.kills >= options->kills && server->serves && seconds_now() >= server->kill_at) return true;
    for (unsigned i = 0; i < options->connections; i++) {
        uint64_t most = options->operations ? (options->operations + options->connections - 1 - i) / options->connections
                                            : MOST_OPERATIONS - 1;
        if (run->lanes[i].operation < most) return false;
    }
    return true;
}

static bool has_operations_left(const struct lane *lane) {
    const struct options *options = &lane->run->options;
    uint64_t most = options->operations
                        ? (options->operations + options->connections - 1 - lane->number) / options->connections
                        : MOST_OPERATIONS - 1;
    return lane->operation < most;
}

static void issue(struct lane *lane) {
    struct run *run = lane->run;
    while (lane->link.state == LINK_UP && lane->in_flight < run->options.in_flight) {
        if (issue_work(lane)) continue;
        if (run->phase != RUNNING || !has_operations_left(lane)) return;
        issue_operation(lane);
    }
}

static void came_up(struct lane *lane) {
    struct run *run = lane->run;
    lane->down_since = 0;
    lane->was_dropped = lane->has_noted_crash = false;
    for (unsigned i = 0; i < run->options.in_flight; i++) {
        struct call *call = &lane->calls[i];
        if (call->kind == FREE) continue;
        run->counts.calls_replayed++;
        call->copied_at = seconds_now();
        call_send(lane, call);
    }
}

static void went_down(struct lane *lane) {
    struct run *run = lane->run;
    if (lane->down_since == 0) {
        lane->down_since = lane->connect_at = seconds_now();
        if (!lane->was_dropped) run->counts.connections_lost++;
    }
    // Any end that is not ours may be that of the server, and so may be that nobody listens.
    bool may_be_killed = !lane->was_dropped || lane->link.error == ECONNREFUSED || lane->link.error == ECONNRESET;
    if (may_be_killed && !lane->has_noted_crash) {
        lane->has_noted_crash = true;
        note_crash(run);
    }
    if (seconds_now() - lane->down_since > run->options.patience)
        fail(run, lane, NULL, "connection %u: no connection for %.0f s: %s", lane->number, run->options.patience,
             lane->link.error ? strerror(lane->link.error) : "closed by the server");
}

static void look_at_calls(struct lane *lane) {
    struct run *run = lane->run;
    double now = seconds_now();
    for (unsigned i = 0; i < run->options.in_flight; i++) {
        struct call *call = &lane->calls[i];
        if (call->kind == FREE) continue;
        if (now - call->sent_at > run->options.patience) {
            fail(run, lane, call, "no reply for %.0f s", run->options.patience);
            return;
        }
        // A server may drop a copy while it executes the first, and have answered that on a connection that is gone.
        if (now - call->copied_at > run->options.timeout && call->retry_at == 0 && lane->link.state == LINK_UP) {
            run->counts.timeouts++;
            call->copied_at = now;
            call->was_repeated = true;
            call_send(lane, call);
        }
        if (call->retry_at > 0 && now >= call->retry_at && lane->link.state == LINK_UP) {
            call->retry_at = 0;
            call->copied_at = now;
            call->xid = run->next_xid++;
            call_send(lane, call);
        }
    }
}

// One round: whatever can be sent or received now, or 50 ms.
static void turn(struct run *run) {
    struct pollfd polled[MOST_CONNECTIONS];
    unsigned count = run->options.connections;
    for (unsigned i = 0; i < count; i++) {
        struct lane *lane = &run->lanes[i];
        if (lane->link.state == LINK_DOWN && (run->phase != VERIFYING || i == 0) && seconds_now() >= lane->connect_at) {
            lane->connect_at = seconds_now() + RETRY_SECONDS;
            link_connect(&lane->link, &run->options.server, !run->options.new_ports);
        }
        if (lane->link.state == LINK_UP) issue(lane);
        bool sends = lane->link.state == LINK_CONNECTING || lane->link.output.begin < lane->link.output.end;
        polled[i] = (struct pollfd){.fd = lane->link.state == LINK_DOWN ? -1 : lane->link.socket,
                                    .events = (short)(POLLIN | (sends ? POLLOUT : 0))};
    }
    poll(polled, count, 50);
    for (unsigned i = 0; i < count && !run->has_failed; i++) {
        struct lane *lane = &run->lanes[i];
        enum link_state before = lane->link.state;
        if (polled[i].revents & (POLLOUT | POLLERR | POLLHUP)) link_flush(&lane->link, SIZE_MAX);
        if (before == LINK_CONNECTING && lane->link.state == LINK_UP) came_up(lane);
        if (polled[i].revents & (POLLIN | POLLERR | POLLHUP)) link_receive(&lane->link, take_reply, lane);
        if (lane->link.state == LINK_DOWN && (run->phase != VERIFYING || i == 0)) went_down(lane);
        look_at_calls(lane);
    }
}

static void start_killer(struct run *run) {
    run->counts.kills++;
    run->killer = fork();
    if (run->killer < 0) die("fork: %s", strerror(errno));
    if (run->killer == 0) {
        if (run->phase != RUNNING) setenv("STRESS_LAST_KILL", "1", 1);
        execl("/bin/sh", "sh", "-c", run->options.kill_hook, (char *)NULL);
        _exit(127);
    }
}

static void look_at_killer(struct run *run, bool waits) {
    int status;
    if (run->killer == 0 || waitpid(run->killer, &status, waits ? 0 : WNOHANG) != run->killer) return;
    run->killer = 0;
    run->kill_at = seconds_now() + run->options.kill_every;
    if (status != 0) fail(run, NULL, NULL, "the kill hook ended with status %d", status);
}

static bool is_settled(const struct run *run) {
    for (unsigned i = 0; i < run->options.connections; i++)
        if (run->lanes[i].in_flight > 0) return false;
    for (unsigned i = 0; i < run->options.files; i++)
        if (run->files[i].uncommitted_count > 0) return false;
    return run->resend_begin == run->resend_end && names_are_settled(run->names);
}

// Everything is committed: no connection from before, and no server from before if there is a hook, helps with reading.
static void start_verifying(struct run *run) {
    if (run->options.kill_hook) {
        look_at_killer(run, true);
        start_killer(run);
        look_at_killer(run, true);
    }
    if (run->options.kill) server_restart(run);
    for (unsigned i = 0; i < run->options.connections; i++) {
        link_drop(&run->lanes[i].link);
        run->lanes[i].link.own_port = 0;
        run->lanes[i].was_dropped = true;
        run->lanes[i].connect_at = 0;
    }
    if (run->options.kill_hook || run->options.kill) note_crash(run);
    run->phase = VERIFYING;
    names_verify(run->names);
}

static bool is_verified(const struct run *run) {
    return run->verify_file == run->options.files && run->lanes[0].in_flight == 0 && names_are_verified(run->names);
}

void run_all(struct run *run) {
    run->started = seconds_now();
    if (run->options.kill_hook) run->kill_at = run->started + run->options.kill_every;
    while (!run->has_failed) {
        turn(run);
        show_progress(run, false);
        look_at_killer(run, false);
        server_turn(run);
        if (run->names->has_failed) run->has_failed = true;
        if (run->phase == RUNNING && run->kill_at > 0 && !run->killer && seconds_now() >= run->kill_at) {
            start_killer(run);
        }
        if (run->phase == RUNNING && all_operations_issued(run)) {
            run->ended = seconds_now();
            for (unsigned i = 0; i < run->options.connections; i++) send_late_copies(&run->lanes[i], true);
            run->phase = SETTLING;
            names_settle(run->names);
        }
        if (run->phase == SETTLING && is_settled(run)) start_verifying(run);
        if (run->phase == VERIFYING && is_verified(run)) break;
    }
    if (run->ended == 0) run->ended = seconds_now();
    look_at_killer(run, true);
    show_progress(run, true);
}
