"""Statements over sets of rows: what a pass writes or asks about goes to the database at once, however much it is.

The rows travel as one text, a JSON array of arrays, which both databases unfold into a table: a statement has the same text
for one row and for a thousand, is written down once and costs one round trip. The texts are plain SQL that both understand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, TypeVar
from uuid import UUID

import orjson
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Model, QuerySet
from django.db.models.expressions import RawSQL
from psycopg import Cursor

#: What a column of a set may hold, and what PostgreSQL calls it.
_TYPES = {
    "key": "bigint",
    "number": "double precision",
    "text": "text",
    "flag": "boolean",
    "uuid": "uuid",
    "moment": "timestamptz",
    "json": "jsonb",
}
Row = Sequence[Any]
M = TypeVar("M", bound=Model)


@cache
def table(**columns: str) -> str:
    """SQL of a table with these columns (name=type, a word of `_TYPES`), unfolded from what `rows` makes.

    Goes between "WITH v AS (" and ")". The order of the rows is kept.
    """
    unfold = _postgres if connection.vendor == "postgresql" else _sqlite
    return unfold(columns)


def _postgres(columns: dict[str, str]) -> str:
    picked = [
        f"value->{place} AS {name}" if kind == "json" else f"(value->>{place})::{_TYPES[kind]} AS {name}"
        for place, (name, kind) in enumerate(columns.items())
    ]
    return f"SELECT {', '.join(picked)} FROM jsonb_array_elements(%s::jsonb) AS sent(value) LIMIT %s"  # noqa: S608  (names of ours)


def _sqlite(columns: dict[str, str]) -> str:
    picked = [
        f"REPLACE(json_extract(value, '$[{place}]'), '-', '') AS {name}"
        if kind == "uuid"
        else f"json_extract(value, '$[{place}]') AS {name}"
        for place, (name, kind) in enumerate(columns.items())
    ]
    return f"SELECT {', '.join(picked)} FROM json_each(%s) LIMIT %s"  # noqa: S608  (names of ours)


def rows(values: Iterable[Row]) -> tuple[str, int]:
    """The parameters that `table` unfolds. Their number is among them, so that PostgreSQL plans for as many and not for a hundred."""
    listed = list(values)
    return orjson.dumps(listed, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME).decode(), len(listed)


def keys(values: Iterable[int]) -> tuple[str, int]:
    """As `rows`, of a table with one column."""
    return rows([value] for value in values)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return str(connection.ops.adapt_datetimefield_value(value))
    if isinstance(value, tuple | frozenset | set):
        return list(value)
    raise TypeError(f"{type(value).__name__} does not go into a set of rows")


def still(state: str, row: str) -> str:
    """A guard on the state of a row that is found by its key.

    An expression, not the column alone: PostgreSQL, before it knows how large the table is, would walk the index of all rows in that state.
    """
    return f"{row}.state || '' = '{state}'"


def ask(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement."""
    with _cursor() as (execute, cursor):
        execute(sql, params)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def change(sql: str, *params: Any) -> int:
    """Carry out a statement that gives no rows; how many it has changed."""
    with _cursor() as (execute, cursor):
        execute(sql, params)
        count: int = cursor.rowcount
    return count


@contextmanager
def _cursor() -> Iterator[tuple[Callable[..., Any], Any]]:
    """How to execute a statement, and the cursor that then holds what it gave.

    PostgreSQL takes longer to plan a statement of a pass than to carry it out: there it is prepared, once a connection. Django's own cursors
    write parameters into the text; they are used where somebody listens to the statements.
    """
    if connection.vendor != "postgresql" or connection.queries_logged or connection.execute_wrappers:
        with connection.cursor() as cursor:
            yield cursor.execute, cursor
        return
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    with connection.wrap_database_errors, Cursor(connection.connection) as cursor:
        yield partial(cursor.execute, prepare=True), cursor


def as_time(value: Any) -> datetime | None:
    """A time that `ask` has given: SQLite keeps it in UTC without saying so."""
    found: datetime | None = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


def as_uuid(value: Any) -> UUID:
    """A UUID that `ask` has given: SQLite keeps it as text."""
    return value if isinstance(value, UUID) else UUID(value)


def as_json(value: Any) -> Any:
    """What a JSON column holds, as `ask` has given it: text, on either database."""
    return orjson.loads(value) if isinstance(value, str) else value


#: Stand in a kept query for the set that it is asked about: its text, and how many rows that has.
_GIVEN = (object(), object())


def given() -> RawSQL:
    """The keys that `asked_once` is told, for `__in` of the query that it builds."""
    # Without brackets of its own: SQLite takes a query in two pairs of them for one value.
    return RawSQL(f"WITH v AS ({table(key='key')}) SELECT v.key FROM v", _GIVEN)  # noqa: S608  (texts of ours)


def asked_once(build: Callable[..., QuerySet[Any, Any]], *arguments: Any, about: Iterable[int] = ()) -> list[tuple[Any, ...]]:
    """The rows of a query whose text is kept after its first use. `build` is a plain function, its arguments name the query.

    `about`: the keys that the query means by `given()`.
    """
    kept = _text_of(build, arguments)
    if kept is None:
        return []
    sql, params = kept
    text, number = keys(about)
    return ask(sql, *(text if param is _GIVEN[0] else number if param is _GIVEN[1] else param for param in params))


#: Queues and limits change a few times in a leader's life.
@cache
def _text_of(build: Callable[..., QuerySet[Any, Any]], arguments: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]] | None:
    """The text and its parameters; None of a query that can have no rows, whatever the database holds."""
    try:
        sql, params = build(*arguments).query.sql_with_params()
    except EmptyResultSet:
        return None
    return sql, tuple(params)


def models(
    model: type[M], keys: Iterable[Any], *, where: str = "", kind: str = "key", column: str = "id", are_locked: bool = False
) -> list[M]:
    """The rows of a model whose `column` is one of these keys (of `kind`), with this condition on a row `m`, in order of primary key.

    `are_locked`: until the end of the transaction. On SQLite the transaction itself is the lock.
    """
    wanted = list(keys)
    if not wanted:
        return []
    sql = _models_sql(model._meta.db_table, where, kind, column, are_locked and connection.vendor == "postgresql")
    return list(model._default_manager.raw(sql, rows([key] for key in wanted)))


@cache
def _models_sql(name: str, where: str, kind: str, column: str, are_locked: bool) -> str:
    condition = f" WHERE {where}" if where else ""
    end = " FOR UPDATE OF m" if are_locked else ""
    joined = f"SELECT m.* FROM v JOIN {name} m ON m.{column} = v.key{condition} ORDER BY m.id{end}"  # noqa: S608  (names of ours)
    return f"WITH v AS ({table(key=kind)}) {joined}"
