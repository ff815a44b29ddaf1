// A small NFSv3 server in memory that is wrong in one chosen way.
#pragma once

enum fault {
    NO_FAULT,
    RESTARTS,             // no fault: forgets what is not stable, and closes all connections
    CHANGES_VERIFIER,     // no fault either: forgets what is not stable, and says so only by its verifier
    DROPS_A_WRITE,        // answers a WRITE and does nothing
    DROPS_A_TAIL,         // a WRITE that doesn't end at a page loses its last byte
    MISPLACES_A_WRITE,    // by 8 bytes
    READS_STALE,          // READs some bytes as they were before
    REPEATS_COPIES,       // executes a copy of a call that was answered
    ANSWERS_LESS_STABLE,  // FILE_SYNC with UNSTABLE
    FORGETS_COMMITTED,    // a restart loses what a COMMIT has promised
    KEEPS_VERIFIER,       // forgets what is not stable, and the verifier stays
    SHOWS_LESS_SIZE,      // attributes without the last write
    KEEPS_BEHIND_END,     // bytes behind a SETATTR of the size are there again when the file grows
    FAULTS
};

// Serves on the listening socket until the process ends.
_Noreturn void fake_serve(int listening, enum fault, unsigned long seed);
