"""What the operator has told pip about indexes, proxies and certificates, in the words of uv, which reads none of it.

Used by install.py on the system's Python: standard library only. What is set for uv itself, in its variables or its uv.toml, comes first.
"""

import ast
import os
import re
import ssl
import subprocess

#: pip's option -> uv's variables: the first is set, unless one of them is there already.
VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "keyring-provider": ("UV_KEYRING_PROVIDER",),
    "cert": ("SSL_CERT_FILE",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "proxy": ("ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "retries": ("UV_HTTP_RETRIES",),
    "no-cache-dir": ("UV_NO_CACHE",),
}
ABOUT_INDEXES = ("index-url", "extra-index-url", "find-links", "no-index")
#: Later ones win: the files' sections, then the environment (pip itself has merged the files).
SECTIONS = ("global", "install", ":env:")
#: What would turn uv away from .venv, or from the hashes.
NOT_FOR_UV = ("UV_SYSTEM_PYTHON", "UV_NO_VERIFY_HASHES")


def read(python):
    """pip's settings that matter to `pip install`, by option; {} where pip cannot tell."""
    try:
        lines = subprocess.check_output([python, "-m", "pip", "config", "list"], stderr=subprocess.DEVNULL).decode().splitlines()
    except subprocess.CalledProcessError:
        return {}
    found = {section: {} for section in SECTIONS}
    for line in lines:
        name, _, value = line.partition("=")
        section, _, option = name.partition(".")
        if section in found:
            found[section][option.replace("default-timeout", "timeout")] = str(ast.literal_eval(value))
    return dict(item for section in SECTIONS for item in found[section].items())


def is_on(value):
    """Whether pip takes this value of a switch for yes."""
    return value.strip().lower() in ("1", "true", "yes", "on", "y", "t")


def there(places):
    """The places to find links that exist, as uv lists them: it fails for a missing folder where pip goes on."""
    return ",".join(place for place in places.split() if "://" in place or os.path.exists(place))


def in_words_of_uv(settings):
    """The settings by uv's first variable for each."""
    said = {VARIABLES[option][0]: value for option, value in settings.items() if option in VARIABLES}
    for option, change in (("find-links", there), ("extra-index-url", _one_line), ("trusted-host", _one_line)):
        if option in settings:
            said[VARIABLES[option][0]] = change(settings[option])
    if settings.get("keyring-provider") != "subprocess":
        said.pop("UV_KEYRING_PROVIDER", None)
    if not is_on(settings.get("no-cache-dir", "no")):
        said.pop("UV_NO_CACHE", None)
    return {name: value for name, value in said.items() if value}


def _one_line(words):
    return " ".join(words.split())


def uv_has_indexes(environ):
    """Whether a uv.toml of the operator's speaks of indexes: then what pip was told of them is not for uv."""
    home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    for path in (environ.get("UV_CONFIG_FILE", ""), os.path.join(home, "uv", "uv.toml"), "/etc/xdg/uv/uv.toml", "/etc/uv/uv.toml"):
        try:
            with open(path) as file:
                if re.search(r"^[^#]*(index|find-links)", file.read(), re.MULTILINE):
                    return True
        except OSError:
            continue
    return False


def has_certificates():
    """Whether this system keeps certificates of its own, which pip would believe as well."""
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or (paths.capath and os.listdir(paths.capath)))


def can_write(folder):
    """Whether a folder can be made and written, as seen from the nearest one that exists."""
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK)


def cache_dir(settings, environ, fallback):
    """Where uv keeps what it downloads: beside pip's cache where that was moved, below HOME by itself, else the fallback."""
    if "cache-dir" in settings:
        return os.path.join(os.path.expanduser(settings["cache-dir"]), "uv")
    usual = os.path.join(environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "uv")
    return usual if can_write(usual) else fallback


def for_uv(settings, environ, fallback_cache):
    """Options and environment for a `uv pip` command that installs from where pip would."""
    if uv_has_indexes(environ):
        settings = dict(item for item in settings.items() if item[0] not in ABOUT_INDEXES)
    said = in_words_of_uv(settings)
    said["UV_CACHE_DIR"] = cache_dir(settings, environ, fallback_cache)
    if has_certificates():
        said["UV_SYSTEM_CERTS"] = "1"
    if "UV_INDEX" in said:
        # pip looks at all indexes, uv at the first that knows the name; what is taken is settled by the hashes.
        said["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    aliases = {names[0]: names for names in VARIABLES.values()}
    given = [name for name in said if any(environ.get(alias) for alias in aliases.get(name, (name,)))]
    kept = dict(item for item in environ.items() if item[0] not in NOT_FOR_UV)
    kept.update(item for item in said.items() if item[0] not in given)
    return ["--no-index"] if is_on(settings.get("no-index", "no")) else [], kept
