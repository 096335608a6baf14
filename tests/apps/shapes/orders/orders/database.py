"""The database, whose parts come in variables of their own."""

from pydantic import PostgresDsn
from pydantic_settings import BaseSettings
from sqlalchemy import create_engine


class Settings(BaseSettings):
    POSTGRES_SERVER: str
    POSTGRES_PORT: int = 5432
    POSTGRES_USER: str
    POSTGRES_PASSWORD: str
    POSTGRES_DB: str

    @property
    def url(self) -> str:
        return str(
            PostgresDsn.build(
                scheme="postgresql+psycopg",
                host=self.POSTGRES_SERVER,
                port=self.POSTGRES_PORT,
                username=self.POSTGRES_USER,
                password=self.POSTGRES_PASSWORD,
                path=self.POSTGRES_DB,
            )
        )


engine = create_engine(Settings().url, pool_size=4, max_overflow=0)
