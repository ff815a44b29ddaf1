"""What a test is here: a function with a sentence as its name, which gets an empty directory."""

import contextlib

from nfs3 import NFSError

tests = []


def test(name):
    """Registers a test: `def f(directory)`."""
    def register(function):
        tests.append((name, function))
        return function
    return register


def test_each(name, **values):
    """Registers a test once for each value: `name` has the value's key in braces."""
    (key, alternatives), = values.items()

    def register(function):
        for value in alternatives:
            tests.append((name.format(**{key: value}), lambda directory, value=value: function(directory, value)))
        return function
    return register


class Failure(AssertionError):
    pass


def check(condition, what):
    if not condition:
        raise Failure(what)


def equal(found, expected, what):
    if found == expected:
        return
    if isinstance(found, bytes) and isinstance(expected, bytes) and len(expected) > 64:
        shared = min(len(found), len(expected))
        first = next((at for at in range(shared) if found[at] != expected[at]), shared)
        raise Failure(f"{what}: {len(found)} bytes found, {len(expected)} expected, the first difference at {first}: "
                      f"{found[first:first + 16].hex()} instead of {expected[first:first + 16].hex()}")
    raise Failure(f"{what}: found {found!r}, expected {expected!r}")


@contextlib.contextmanager
def fails(*statuses, what="the call"):
    """The block must raise NFSError with one of these statuses."""
    try:
        yield
    except NFSError as error:
        check(error.status in statuses, f"{what} failed with {error}, expected {statuses}")
    else:
        raise Failure(f"{what} succeeded, expected {statuses}")
