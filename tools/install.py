"""Make .venv and install the locked requirements named as arguments; nothing to do when that is what it holds.

Runs on the system's Python, before anything is installed: standard library only, and syntax that an old Python can read
far enough to say that it is too old.
"""

import hashlib
import os
import signal
import subprocess
import sys

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")


def fail(message):
    """End with one line."""
    sys.exit("error: " + message)


def check_python():
    """Refuse a Python that cannot make the environment."""
    if sys.version_info < OLDEST:
        fail("Python 3.11 or newer is needed, this is %d.%d; name another: make run PYTHON=python3.12" % sys.version_info[:2])
    try:
        import ensurepip  # noqa: F401, PLC0415
        import venv  # noqa: F401, PLC0415
    except ImportError:
        fail("this Python has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv)")


def stamp_file(locks):
    """Where it is recorded which content of these lock files was installed."""
    names = [os.path.splitext(name)[0] for name in locks]
    return os.path.join(VENV, "installed-" + "+".join(names))


def wanted(locks):
    """The digest of the lock files and of the interpreter's version."""
    digest = hashlib.sha256()
    for name in locks:
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_installed(locks):
    """Whether the environment holds these locks already."""
    try:
        with open(stamp_file(locks)) as file:
            return file.read() == wanted(locks) and os.path.exists(PYTHON)
    except OSError:
        return False


def works():
    """Whether .venv's Python starts (the interpreter it was made from may be gone) and is new enough."""
    code = "import sys, pip; sys.exit(sys.version_info < (%d, %d))" % OLDEST
    try:
        return subprocess.call([PYTHON, "-c", code], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def install(locks):
    """Make the environment if there is no usable one, and install; raises CalledProcessError."""
    if not works():
        check_python()
        print("making .venv with Python %d.%d" % sys.version_info[:2], flush=True)
        subprocess.check_call([sys.executable, "-m", "venv", "--clear", VENV])
    print("installing %s (the first time takes a minute or two)" % " and ".join(locks), flush=True)
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    for name in locks:
        command += ["-r", os.path.join(ROOT, name)]
    subprocess.check_call(command)
    temporary = "%s.%d" % (stamp_file(locks), os.getpid())
    with open(temporary, "w") as file:
        file.write(wanted(locks))
    os.replace(temporary, stamp_file(locks))


def main(locks):
    """Install under a lock, so that two that start together do not write one environment."""
    if is_installed(locks):
        return
    import fcntl  # noqa: PLC0415

    # A stop while pip runs must end pip as well: subprocess kills its child when an exception passes.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with open(os.path.join(ROOT, ".venv.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_installed(locks):
            try:
                install(locks)
            except subprocess.CalledProcessError as error:
                fail("%s ended with %s" % (" ".join(error.cmd[1:4]), error.returncode))
            except KeyboardInterrupt:
                fail("interrupted")


if __name__ == "__main__":
    main(sys.argv[1:])
