"""Authentication: customers by the token of their sign-up, staff by `EARLYBIRD_STAFF_TOKEN`."""

import hashlib
import os
import secrets
from typing import Annotated

from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from examples.earlybird.database import Db, Document

bearer = HTTPBearer(auto_error=False)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


async def get_current_user(db: Db, credentials: Credentials) -> Document:
    user = None
    if credentials is not None:
        user = await db.users.find_one({"token_hash": token_hash(credentials.credentials)})
    if user is None:
        raise HTTPException(401, "Sign up at POST /api/users/ for a token", headers={"WWW-Authenticate": "Bearer"})
    return user


async def require_staff(credentials: Credentials) -> None:
    token = os.environ.get("EARLYBIRD_STAFF_TOKEN", "")
    given = credentials.credentials if credentials is not None else ""
    if not token or not secrets.compare_digest(given.encode(), token.encode()):
        raise HTTPException(403, "Staff only")


CurrentUser = Annotated[Document, Depends(get_current_user)]
StaffOnly = Depends(require_staff)
