"""What the app is told from outside; the project's own env.py asks for it by these names."""

import os
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Settings:
    database_url: str
    pool_size: int
    release_tag: str
    release_sha: str


@cache
def get_settings() -> Settings:
    return Settings(
        database_url=os.environ["DATABASE_URL"],
        pool_size=int(os.environ.get("DATABASE_POOL_SIZE", "5")),
        release_tag=os.environ.get("RELEASE_TAG", ""),
        release_sha=os.environ.get("RELEASE_SHA", ""),
    )
