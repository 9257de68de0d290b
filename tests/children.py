"""Programs that a test watches: what goes wrong in them may end a process, or never end."""

import os
import select
import signal
import subprocess
import sys
import tempfile

#: Seconds without a word after which a program hangs; a busy machine needs a few of them.
PATIENCE = 60


def watched(*arguments, patience=PATIENCE, **environment):
    """Run Python with these arguments; the lines that it prints, of which one must come every `patience` seconds.

    Fails if none comes, or if the program does not end with status 0.
    """
    with tempfile.TemporaryFile() as errors:
        command = [sys.executable, *map(str, arguments)]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=os.environ | environment, start_new_session=True
        )
        text = b""
        try:
            while True:
                ready, _, _ = select.select([child.stdout], [], [], patience)
                if not ready:
                    raise AssertionError(f"nothing was heard for {patience} s after {last(text)!r}")
                part = os.read(child.stdout.fileno(), 1 << 16)
                if not part:
                    break
                text += part
            status = child.wait()
        finally:
            if child.poll() is None:  # and what it has forked
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            child.stdout.close()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
        assert status == 0, f"it ended with status {status} after {last(text)!r}\n{said[-4000:]}"
    return text.decode().splitlines()


def last(text):
    return text.decode(errors="replace").rpartition("\n")[0].rpartition("\n")[2]
