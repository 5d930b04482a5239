"""Make .venv and install the locked requirements named as arguments; nothing to do when that is what it holds.

    python tools/install.py LOCK …                  what the locks name
    python tools/install.py LOCK … --beside FILE    and then what FILE names and no lock does, which moves nothing that the locks name

Runs on the system's Python, before anything is installed: standard library only, and syntax that an old Python can read
far enough to say that it is too old. pip, which every environment brings, fetches uv alone; uv does the rest.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
UV = os.path.join(VENV, "bin", "uv")
#: The lock of the installer itself; pip installs it, whatever else is wanted.
UV_LOCK = "requirements-uv.txt"
PIP_QUIETLY = [PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check"]

#: What the handler of SIGTERM and `run` tell each other.
STOP = {"number": 0, "is_starting_child": False}


def fail(message):
    """End with one line."""
    sys.exit("error: " + message)


def stop(number, frame):
    """SIGTERM ends this program, and by the exception the child that runs; one that is just being started is ended by `run`."""
    STOP["number"] = number
    if not STOP["is_starting_child"]:
        sys.exit(128 + number)


def run(command, environ=None):
    """Run a command to its end; it does not outlive a stop. Raises CalledProcessError."""
    STOP["is_starting_child"] = True
    with subprocess.Popen(command, env=environ) as process:
        try:
            STOP["is_starting_child"] = False
            if STOP["number"]:
                sys.exit(128 + STOP["number"])
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code:
        raise subprocess.CalledProcessError(code, command)


def check_python():
    """Refuse a Python that cannot make the environment."""
    if sys.version_info < OLDEST:
        fail("Python 3.11 or newer is needed, this is %d.%d; name another: make run PYTHON=python3.12" % sys.version_info[:2])
    try:
        import ensurepip  # noqa: F401, PLC0415
        import venv  # noqa: F401, PLC0415
    except ImportError:
        fail("this Python has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv)")


def stamp_file(lock):
    """Where it is recorded which content of this lock file was installed."""
    return os.path.join(VENV, "installed-" + os.path.splitext(lock)[0])


def wanted(lock):
    """The digest of the lock file and the interpreter behind .venv: another one, after an upgrade of the system, finds no packages."""
    with open(os.path.join(ROOT, lock), "rb") as file:
        return "%s %s\n" % (hashlib.sha256(file.read()).hexdigest(), os.path.realpath(PYTHON))


def is_installed(lock):
    """Whether the environment holds this lock already."""
    try:
        with open(stamp_file(lock)) as file:
            return file.read() == wanted(lock) and os.path.exists(UV if lock == UV_LOCK else PYTHON)
    except OSError:
        return False


def remember(lock):
    """Record that the environment holds this lock; a whole file or none."""
    temporary = "%s.%d" % (stamp_file(lock), os.getpid())
    with open(temporary, "w") as file:
        file.write(wanted(lock))
    os.replace(temporary, stamp_file(lock))


def forget(lock):
    """Record that what the environment holds of this lock is unknown: it is about to change."""
    if os.path.exists(stamp_file(lock)):
        os.remove(stamp_file(lock))


def site_packages():
    """Where the environment's packages lie; None when its Python does not start, is too old or has no pip."""
    code = "import sys, sysconfig, pip; print(sysconfig.get_path('purelib')); sys.exit(sys.version_info < (%d, %d))" % OLDEST
    try:
        return subprocess.check_output([PYTHON, "-c", code], stderr=subprocess.DEVNULL).decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def make_environment():
    """An environment with nothing but pip, in place of whatever was there. Raises CalledProcessError."""
    check_python()
    print("making .venv with Python %d.%d" % sys.version_info[:2], flush=True)
    run([sys.executable, "-m", "venv", "--clear", VENV])


def drop_half_installed(folder):
    """Let packages whose installation was cut off count as absent: INSTALLER and RECORD are the last that pip and uv write."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.endswith(".dist-info") and not all(os.path.exists(os.path.join(path, last)) for last in ("INSTALLER", "RECORD")):
            shutil.rmtree(path)


def install(locks):
    """Make the environment if there is no usable one, and install. Raises CalledProcessError and OSError."""
    folder = site_packages()
    if folder is None:
        make_environment()
    else:
        drop_half_installed(folder)
    print("installing %s (the first time takes up to a minute)" % " and ".join(locks), flush=True)
    if not is_installed(UV_LOCK):
        forget(UV_LOCK)
        run(PIP_QUIETLY + ["install", "--require-hashes", "--only-binary=:all:", "-r", os.path.join(ROOT, UV_LOCK)])
        remember(UV_LOCK)
    for lock in locks:
        forget(lock)
    # Not `uv pip sync`: torch and the developer's tools, installed beside what these locks name, are to stay.
    install_by_uv(["--require-hashes"] + files_of("-r", locks))
    for lock in locks:
        remember(lock)


def files_of(option, names):
    """The files of the checkout as uv takes them: each after its option."""
    return [word for name in names for word in (option, os.path.join(ROOT, name))]


def install_by_uv(arguments):
    """Run `uv pip install` in the environment, from where pip would install. Raises CalledProcessError."""
    import pip_settings  # noqa: PLC0415

    options, environ = pip_settings.for_uv(pip_settings.read(PYTHON), os.environ, os.path.join(ROOT, ".cache", "uv"))
    run([UV, "pip", "install", "--quiet", "--python", PYTHON] + arguments + options, environ)


def explain(error):
    """The one line for a command that failed; what it printed itself stands above."""
    if isinstance(error, subprocess.CalledProcessError):
        return "%s ended with %s; run it again to go on" % (" ".join(error.cmd[:4]).replace(VENV, ".venv"), error.returncode)
    return str(error)


def wait_for_turn(lock):
    """Hold the lock file, so that two that start together do not write one environment."""
    import fcntl  # noqa: PLC0415

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("waiting for another installation into .venv", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def main(locks, beside=()):
    """Install what is lacking, one at a time."""
    if not beside and all(is_installed(lock) for lock in [UV_LOCK] + locks):
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        with open(os.path.join(ROOT, ".venv.lock"), "w") as file:
            wait_for_turn(file)
            if not all(is_installed(lock) for lock in [UV_LOCK] + locks):
                install(locks)
            if beside:
                install_by_uv(files_of("-r", beside) + files_of("-c", locks))
    except (OSError, subprocess.CalledProcessError) as error:
        fail(explain(error))
    except KeyboardInterrupt:
        fail("interrupted")


if __name__ == "__main__":
    words = sys.argv[1:]
    place = words.index("--beside") if "--beside" in words else len(words)
    main(words[:place], words[place + 1 :])
