"""A command for tools/stress --kill-hook that is done in this process: what must be done by who has started the gateway."""

import os
import threading


class KillHook:
    """In a `with` statement; `command` asks for `action(is_last)`, in a thread, and waits until it is done."""

    def __init__(self, directory, action):
        self.action = action
        self.failure = None  # what the action has raised
        self.wishes, self.answers = (os.path.join(directory, name) for name in ("wishes", "answers"))
        self.command = (f"echo \"kill $STRESS_LAST_KILL\" > '{self.wishes}' && read -r answer < '{self.answers}' && "
                        "echo \"$answer\" >&2 && [ \"$answer\" = done ]")

    def __enter__(self):
        os.mkfifo(self.wishes)
        os.mkfifo(self.answers)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        with open(self.wishes, "w") as wish:
            wish.write("end\n")
        self.thread.join()

    def _run(self):
        while True:
            with open(self.wishes) as wish:
                words = wish.read().split()
            if words[0] != "kill":
                return
            try:
                self.action("1" in words)
                answer = "done"
            except Exception as failure:
                self.failure = failure
                answer = f"failed: {type(failure).__name__}"
            with open(self.answers, "w") as file:
                file.write(f"{answer}\n")
