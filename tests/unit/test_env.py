"""The environment: defaults, types, bounds, and which variable a bad value names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling import env
from scheduling.env import BadSetting, read


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    found = read({})
    assert (found.host, found.port) == ("127.0.0.1", 8000)
    assert found.data_dir == env.BASE_DIR / "var"
    assert found.max_workers >= 4
    assert found.worker_processes == found.max_workers
    assert (found.max_concurrent_users, found.user_slot_max_seconds) == (3, 3600)
    assert (found.rate_limit_capacity, found.rate_limit_refill_per_second) == (10, 1)
    assert found.max_upload_bytes == 64 * 2**30
    assert (found.simulated_seconds_per_tile, found.secret_key, found.database_url) == (None, None, None)
    assert (found.debug, found.demo, found.trust_user_header) == (False, False, False)
    assert set(found.allowed_hosts) == {"localhost", "127.0.0.1", "[::1]"}


def test_an_empty_value_counts_as_unset() -> None:
    assert read({"PORT": "", "MAX_WORKERS": " ", "REDIS_URL": ""}) == read({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("MAX_WORKERS", "many"),
        ("MAX_WORKERS", "0"),
        ("MAX_WORKERS", "1.5"),
        ("WORKER_PROCESSES", "-1"),
        ("MAX_CONCURRENT_USERS", "0"),
        ("USER_SLOT_MAX_SECONDS", "-1"),
        ("RATE_LIMIT_CAPACITY", "-3"),
        ("RATE_LIMIT_REFILL_PER_SECOND", "0"),
        ("SIMULATED_SECONDS_PER_TILE", "nan"),
        ("SIMULATED_SECONDS_PER_TILE", "inf"),
        ("MAX_UPLOAD_BYTES", "64GiB"),
        ("TRUST_USER_HEADER", "maybe"),
        ("DEMO", "2"),
        ("DEBUG", "y"),
        ("LOG_JSON", "x"),
        ("HTTPS", "https"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "postgres://[broken"),
        ("DATABASE_URL", "postgres://u:p@127.0.0.1:port/x"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "redis://127.0.0.1:port/0"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "https://slides.example.org"),
        ("ALLOWED_HOSTS", "slides.example.org:8000"),
        ("CSRF_TRUSTED_ORIGINS", "slides.example.org"),
        ("GPU_WORKER", "maybe"),
        ("TORCH_DEVICE", "gpu"),
        ("TORCH_DEVICE", "cuda:"),
        ("TORCH_DEVICE", "cuda:-1"),
        ("TORCH_DEVICE", "mps"),
        ("SLIDE_ROOTS", "/mnt/share"),
        ("SLIDE_ROOTS", "share=mnt/share"),
        ("SLIDE_ROOTS", "share="),
        ("SLIDE_ROOTS", "=/mnt/share"),
        ("SLIDE_ROOTS", "..=/mnt/share"),
        ("SLIDE_ROOTS", "a b=/mnt/share"),
        ("SLIDE_ROOTS", "slides=/mnt/share"),
        ("SLIDE_ROOTS", "share=/mnt/../etc"),
        ("SLIDE_ROOTS", "share=/mnt/share:"),
        ("SLIDE_ROOTS", "share=/mnt/share:lab++x"),
        ("SLIDE_ROOTS", "share=/mnt/a;share=/mnt/b"),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(BadSetting) as caught:
        read({name: value})
    assert caught.value.name == name
    assert str(caught.value).startswith(f"{name}={env.without_password(value)!r}: ")


@pytest.mark.parametrize(
    ("host", "named"), [("::1", "[::1]"), ("2001:db8::7", "[2001:db8::7]"), ("slides.example.org", "slides.example.org")]
)
def test_the_default_hosts_begin_with_the_host_as_a_browser_names_it(host: str, named: str) -> None:
    assert read({"HOST": host}).allowed_hosts[0] == named


def test_allowed_hosts_are_names_addresses_and_domains() -> None:
    given = "slides.example.org, .example.org,localhost,10.0.0.7,[::1],lab_7"
    assert read({"ALLOWED_HOSTS": given}).allowed_hosts == ("slides.example.org", ".example.org", "localhost", "10.0.0.7", "[::1]", "lab_7")
    assert read({"ALLOWED_HOSTS": "*", "DEBUG": "1"}).allowed_hosts == ("*",)


def test_trust_and_demo_are_on_by_default_only_when_embedded_on_loopback() -> None:
    assert read({"EMBEDDED": "1"}).trust_user_header
    assert read({"EMBEDDED": "1"}).demo
    assert not read({"EMBEDDED": "1", "HOST": "0.0.0.0"}).trust_user_header
    assert not read({"EMBEDDED": "1", "TRUST_USER_HEADER": "0"}).trust_user_header


def test_a_gpu_worker_is_started_by_itself_never_or_always() -> None:
    assert [read({"GPU_WORKER": value}).gpu_worker for value in ("", "auto", "0", "1")] == [None, None, False, True]
    assert [read({"TORCH_DEVICE": value}).torch_device for value in ("", "cpu", "cuda", "cuda:3")] == ["auto", "cpu", "cuda", "cuda:3"]


def test_worker_processes_follow_max_workers() -> None:
    assert read({"MAX_WORKERS": "7"}).worker_processes == 7
    assert read({"MAX_WORKERS": "7", "WORKER_PROCESSES": "2"}).worker_processes == 2


def test_a_relative_data_dir_lies_in_the_checkout_and_an_absolute_one_where_it_says() -> None:
    assert read({"DATA_DIR": "elsewhere"}).data_dir == env.BASE_DIR / "elsewhere"
    assert read({"DATA_DIR": "/srv/slides"}).data_dir == Path("/srv/slides")


def test_a_data_dir_too_long_for_a_unix_socket_is_refused_unless_redis_is_elsewhere() -> None:
    long = "/" + "x" * 100
    with pytest.raises(BadSetting, match="too long"):
        read({"DATA_DIR": long})
    assert read({"DATA_DIR": long, "REDIS_URL": "redis://localhost"}).redis_url == "redis://localhost"


def test_redis_urls_follow_the_socket_and_the_broker_spells_it_its_own_way() -> None:
    found = read({"DATA_DIR": "/srv/slides"})
    assert found.redis_url == "unix:///srv/slides/redis/redis.sock"
    assert found.broker_url == "redis+socket:///srv/slides/redis/redis.sock"
    assert read({"REDIS_URL": "redis://broker:6379/2"}).broker_url == "redis://broker:6379/2"


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "[::1]"), ("slides.example.org", "slides.example.org")]
)
def test_a_person_is_shown_a_host_that_a_browser_can_open(host: str, shown: str) -> None:
    assert read({"HOST": host}).display_host == shown


@given(st.dictionaries(st.sampled_from(["PORT", "MAX_WORKERS", "DEBUG", "REDIS_URL", "DATABASE_URL", "RATE_LIMIT_CAPACITY"]), st.text()))
def test_whatever_the_environment_holds_reading_it_works_or_names_a_variable_of_it(environ: dict[str, str]) -> None:
    try:
        read(environ)
    except BadSetting as error:
        assert error.name in environ


def test_a_refused_url_is_shown_without_its_password() -> None:
    with pytest.raises(BadSetting) as refused:
        read({"DATABASE_URL": "mysql://lab:hush@db.example.org/x"})
    assert "hush" not in str(refused.value)
    assert "mysql://…@db.example.org/x" in str(refused.value)


def test_slide_roots_have_a_name_a_path_and_perhaps_groups() -> None:
    found = read({"SLIDE_ROOTS": " archive=/mnt/archive:Pathology A+research ; teaching=/srv/teaching;"}).slide_roots
    assert [(root.name, str(root.path), root.groups) for root in found] == [
        ("archive", "/mnt/archive", ("Pathology A", "research")),
        ("teaching", "/srv/teaching", ()),
    ]
    assert read({}).slide_roots == ()


@pytest.mark.parametrize("path", ["/data/scheduler", "/data/scheduler/uploads", "/data", "/"])
def test_a_slide_root_that_overlaps_the_data_folder_is_refused(path: str) -> None:
    with pytest.raises(BadSetting) as caught:
        read({"DATA_DIR": "/data/scheduler", "SLIDE_ROOTS": f"share={path}"})
    assert caught.value.name == "SLIDE_ROOTS"
