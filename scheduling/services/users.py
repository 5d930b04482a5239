"""Who a request speaks for. Accounts named by the X-User-ID header or typed at sign-in come and go without a password."""

from __future__ import annotations

import re

from scheduling.errors import Invalid, PermissionRefused
from scheduling.models import USER_ID_PATTERN, User
from scheduling.store import sets

MALFORMED = "A user id is 1 to 128 characters of A-Z a-z 0-9 . _ @ -, not . or .."


def user_for_header(user_id: str) -> User:
    """The account of that id, made without a password when it is new.

    Raises Invalid when the id is malformed, PermissionRefused for an account that must be signed in to: one of the staff,
    with a password, or disabled.
    """
    if not re.match(USER_ID_PATTERN, user_id):
        raise Invalid(MALFORMED)
    found = sets.models(User, [user_id], kind="text", column="username")
    user = found[0] if found else _made(user_id)
    if not is_open(user):
        raise PermissionRefused("This account must be signed in to.")
    return user


def is_open(user: User) -> bool:
    """Whether a bare user id may act as this account."""
    return user.is_active and not user.is_staff and not user.is_superuser and not user.has_usable_password()


def _made(user_id: str) -> User:
    user = User(username=user_id)
    user.set_unusable_password()
    made, _ = User.objects.get_or_create(username=user_id, defaults={"password": user.password})
    return made
