"""Programs that people run: git, sqlite, a compiler. Each does the same on tmpfs and on the mount."""

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys

from steps import another_mount, check, elsewhere, equal, main, run, same, step
from trees import describe

GIT = {
    "HOME": "/nowhere", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    "GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000",
}


def git(directory, *arguments, **options):
    return run("git", "-c", "gc.auto=0", "-c", "safe.directory=*", *arguments, directory=directory, environment=GIT,
               **options).decode()


def history(files, commits):
    """Input of git fast-import: a tree with nested directories, a program, a large file, and some history."""
    chance = random.Random(7)
    words = [b"word%d" % number for number in range(500)]
    out = []

    def blob(size):
        data = b" ".join(chance.choices(words, k=size)) + b"\n"
        return b"data %d\n%b\n" % (len(data), data)

    for commit in range(commits):
        message = b"commit %d" % commit
        out.append(b"commit refs/heads/main\ncommitter a <a@b> %d +0000\ndata %d\n%b\n"
                   % (1_600_000_000 + commit * 3600, len(message), message))
        changed = range(files) if commit == 0 else chance.sample(range(files), 12)
        for number in changed:
            out.append(b"M 100%s inline src/part%d/sub%d/file%d.txt\n"
                       % (b"755" if number % 9 == 0 else b"644", number % 7, number % 13, number))
            out.append(blob(chance.choice((1, 20, 200, 2000))))
        if commit == 0:
            noise = chance.randbytes(3 << 20)
            out.append(b"M 100644 inline big\ndata %d\n%b\n" % (len(noise), noise))
            out.append(b"M 100644 inline empty\ndata 0\n\n")
            out.append(b"M 120000 inline link\ndata 16\nsrc/part0/nobody\n")
    return b"".join(out)


def bare_repository():
    path = "/run/bare.git"
    if not os.path.exists(path):
        git("/", "init", "-q", "--bare", "-b", "main", path)
        subprocess.run(["git", "-C", path, "fast-import", "--quiet"], input=history(300, 40), check=True,
                       env={**os.environ, **GIT})
    return path


def work_tree(clone):
    return {path: entry for path, entry in describe(clone, times=False).items() if path.split(b"/")[0] != b".git"}


@same("git clone, fsck, commits, checkouts, gc, fsck, and a clone of the clone")
def git_clone(directory):
    git(directory, "clone", "-q", bare_repository(), "clone")
    clone = os.path.join(directory, "clone")
    seen = [git(clone, "fsck", "--full", "--strict", "--no-dangling")]
    with open(os.path.join(clone, "src/part0/sub0/file0.txt"), "a") as file:
        file.write("more\n")
    os.mkdir(os.path.join(clone, "new"))
    for number in range(20):
        with open(os.path.join(clone, f"new/{number}"), "w") as file:
            file.write(f"new {number}\n" * number)
    git(clone, "add", "-A")
    git(clone, "mv", "src/part1", "moved")
    git(clone, "commit", "-q", "-m", "changed")
    git(clone, "checkout", "-q", "HEAD~20")
    seen.append(work_tree(clone))
    git(clone, "checkout", "-q", "-b", "side")
    os.unlink(os.path.join(clone, "big"))
    git(clone, "commit", "-q", "-a", "-m", "without big")
    git(clone, "merge", "-q", "-m", "merged", "main")
    git(clone, "gc", "-q", "--prune=now")
    seen += [git(clone, *arguments) for arguments in (
        ("fsck", "--full", "--strict"), ("status", "--porcelain"), ("rev-parse", "HEAD", "main", "side"),
        ("ls-tree", "-r", "-l", "HEAD"), ("branch", "-a"))]
    equal(seen[3], "", "git status after gc")
    # Between two directories of one file system git makes hard links.
    git(directory, "clone", "-q", "--bare", "clone", "again.git")
    again = os.path.join(directory, "again.git")
    seen += [git(again, "fsck", "--full", "--strict"), git(again, "rev-parse", "main", "side")]
    return [*seen, work_tree(clone)]


SCHEMA = """
CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL, amount INTEGER NOT NULL, note BLOB);
CREATE INDEX by_name ON account (name);
CREATE TABLE entry (id INTEGER PRIMARY KEY, source INTEGER, target INTEGER, amount INTEGER);
"""


def content(connection):
    digest = hashlib.sha256()
    for table in ("account", "entry"):
        for row in connection.execute(f"SELECT * FROM {table} ORDER BY id"):
            digest.update(repr(row).encode())
    return digest.hexdigest()


def checked(connection):
    equal(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)], "integrity_check")
    return content(connection)


def transactions(path, mode):
    """Transfers between accounts, some rolled back, while another connection reads; then VACUUM."""
    chance = random.Random(11)
    writer = sqlite3.connect(path, isolation_level=None)
    found = writer.execute(f"PRAGMA journal_mode={mode}").fetchone()[0]
    equal(found, mode, "the journal mode")
    writer.execute("PRAGMA synchronous=FULL")
    writer.execute("PRAGMA cache_size=100")  # so that some pages are written before the commit
    writer.executescript(SCHEMA)
    writer.execute("BEGIN")
    for number in range(500):
        writer.execute("INSERT INTO account VALUES (?, ?, 1000, ?)",
                       (number, f"name {chance.random()}", chance.randbytes(chance.choice((0, 50, 2000)))))
    writer.execute("COMMIT")
    reader = sqlite3.connect(path, isolation_level=None)
    for number in range(16):
        writer.execute("BEGIN IMMEDIATE")
        for _ in range(5):
            source, target, amount = chance.randrange(500), chance.randrange(500), chance.randrange(100)
            writer.execute("UPDATE account SET amount = amount - ? WHERE id = ?", (amount, source))
            writer.execute("UPDATE account SET amount = amount + ? WHERE id = ?", (amount, target))
            writer.execute("INSERT INTO entry (source, target, amount) VALUES (?, ?, ?)", (source, target, amount))
        writer.execute("ROLLBACK" if number % 4 == 3 else "COMMIT")
        equal(reader.execute("SELECT sum(amount) FROM account").fetchone()[0], 500_000, "the sum")
    writer.execute("DELETE FROM account WHERE id % 3 = 0")
    seen = [checked(reader)]
    reader.close()
    writer.execute("VACUUM")
    seen.append(checked(writer))
    writer.close()
    return seen


@same("sqlite: transactions, rollbacks, a reader, VACUUM and integrity_check in each journal mode")
def sqlite_transactions(directory):
    seen = {mode: transactions(os.path.join(directory, mode), mode)
            for mode in ("delete", "truncate", "persist", "wal", "memory")}
    # WAL needs memory shared by the processes: one client has it by mmap of the -shm file.
    seen["files"] = sorted(os.listdir(directory))
    return seen


@same("sqlite: a process killed inside a transaction leaves a journal that is rolled back")
def sqlite_hot_journal(directory):
    path = os.path.join(directory, "database")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(SCHEMA)
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO account VALUES (?, ?, 1, ?)", [(n, f"n{n}", bytes(2000)) for n in range(200)])
    connection.execute("COMMIT")
    before = checked(connection)
    connection.close()
    child = os.fork()
    if child == 0:
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("PRAGMA cache_size=40")  # dirty pages go to the file before the commit
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE account SET amount = 2, note = x'ff'")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    left = sorted(os.listdir(directory))
    connection = sqlite3.connect(path, isolation_level=None)
    equal(checked(connection), before, "the content after the roll back")
    connection.close()
    return [left, sorted(os.listdir(directory)), before]


@step("sqlite: what one mount committed another mount reads")
def sqlite_elsewhere(directory):
    path = os.path.join(directory, "database")
    expected = transactions(path, "delete")[-1]
    with another_mount() as mount:
        connection = sqlite3.connect(f"file:{elsewhere(path, mount)}?mode=ro", uri=True)
        equal(checked(connection), expected, "the content")
        connection.close()


SOURCES = {
    "table.h": "#define COUNT 5\nextern const char *const table[COUNT];\nint lookup(const char *name);\n",
    "table.c": '#include "table.h"\nconst char *const table[COUNT] = {"a", "bb", "ccc", "dddd", "eeeee"};\n',
    "lookup.c": '#include "table.h"\n#include <string.h>\nint lookup(const char *name) {\n'
                "    for (int i = 0; i < COUNT; i++)\n        if (!strcmp(name, table[i])) return i;\n    return -1;\n}\n",
    "plugin.c": "int answer(int question) { return question * 2; }\n",
    "main.c": '#include "table.h"\n#include <dlfcn.h>\n#include <stdio.h>\nint main(int count, char **arguments) {\n'
              '    void *plugin = dlopen(arguments[1], RTLD_NOW);\n    if (!plugin) return 3;\n'
              '    int (*answer)(int) = (int (*)(int))dlsym(plugin, "answer");\n'
              '    for (int i = 2; i < count; i++) printf("%s %d\\n", arguments[i], answer(lookup(arguments[i])));\n'
              "    return 0;\n}\n",
}


@same("gcc compiles and links with an archive and a shared library, and the program runs from there")
def compiler(directory):
    for name, text in SOURCES.items():
        with open(os.path.join(directory, name), "w") as file:
            file.write(text)

    def tool(*command):
        return run(*command, directory=directory, environment={"TMPDIR": directory})

    tool("gcc", "-O1", "-Wall", "-Werror", "-c", "table.c", "lookup.c", "main.c")
    tool("ar", "rcsD", "libtable.a", "table.o", "lookup.o")
    tool("gcc", "-shared", "-fPIC", "-o", "plugin.so", "plugin.c")
    tool("gcc", "-o", "program", "main.o", "-L.", "-ltable")
    printed = tool(os.path.join(directory, "program"), "./plugin.so", "ccc", "none", "eeeee")
    equal(printed, b"ccc 4\nnone -2\neeeee 8\n", "the output")
    # The program that was run is replaced.
    tool("strip", "program")
    equal(tool(os.path.join(directory, "program"), "./plugin.so", "a"), b"a 0\n", "the output of the stripped program")
    return describe(directory, times=False)


if __name__ == "__main__":
    sys.exit(main())
