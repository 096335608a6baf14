import pytest

from slipway.schema import database


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql+asyncpg://logbook@/logbook?host=/run/postgresql",
            {"PGHOST": "/run/postgresql", "PGUSER": "logbook", "PGDATABASE": "logbook"},
        ),
        (
            "postgresql+asyncpg://me:p%40ss@db.example.com:6432/app?ssl=verify-full",
            {
                "PGHOST": "db.example.com",
                "PGPORT": "6432",
                "PGUSER": "me",
                "PGPASSWORD": "p@ss",
                "PGDATABASE": "app",
                "PGSSLMODE": "verify-full",
            },
        ),
        ("sqlite+aiosqlite:///./dev.sqlite3", {}),
        ("", {}),
    ],
)
def test_sqlalchemy_urls_become_libpq_variables(url: str, expected: dict[str, str]) -> None:
    assert database.libpq_environment(url) == expected
