"""Redis, and what Slipway does not provide."""

from __future__ import annotations

import re

from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal

_URL = re.compile(
    r"(REDIS|VALKEY)\w*(URL|URI|DSN)$|CACHE_URL$"
    r"|^(CELERY_)?(BROKER|RESULT_BACKEND|CELERY_RESULT_BACKEND|CELERY_BACKEND|CELERY_BROKER)(_URL|_URI)?$"
)
_PART = re.compile(r"(REDIS|VALKEY)\w*?_{1,2}(HOST|SERVER|HOSTNAME|PORT|PASSWORD|USER|USERNAME|DB)$")
_ROLES = {"SERVER": "host", "HOSTNAME": "host", "USERNAME": "user", "DB": "name"}
_OTHERS = {
    "rabbitmq": "RabbitMQ",
    "kafka": "Kafka",
    "elasticsearch": "Elasticsearch",
    "opensearch": "OpenSearch",
    "minio": "MinIO (S3)",
    "memcached": "Memcached",
    "qdrant": "Qdrant",
    "nats": "NATS",
    "mongo": "MongoDB",
    "keycloak": "Keycloak",
}


def propose(facts: Facts, proposal: Proposal) -> set[str]:
    """Propose the services; the names of the variables that are thereby given."""
    image = next((one.origin for one in facts.platforms.services if re.search(r"redis|valkey", one.image)), "")
    urls = [name for name in facts.variables if _URL.search(name.upper()) and "TEST" not in name.upper()]
    urls = [name for name in urls if _is_redis(facts, name)]
    parts = [name for name in facts.variables if _PART.search(name.upper()) and "TEST" not in name.upper()]
    package = next((one for one in ("redis", "aioredis", "arq", "aiocache") if one in facts.dependencies), "")
    for one in facts.platforms.services:
        product = next((title for key, title in _OTHERS.items() if key in one.image), "")
        if product and not (product == "MongoDB" and proposal.lines.get("database") == "none"):
            proposal.warn(
                f"{one.origin} has {product}, which Slipway does not provide: have it elsewhere if the app needs it."
            )
    if not (image or (package and (urls or parts))):
        return set()
    reason = image or f"{package} is installed"
    form: dict[str, list[str]] = {"url": urls} if urls else {}
    for name in parts:
        end = name.upper().rpartition("_")[2]
        form.setdefault(_ROLES.get(end, end.lower()), []).append(name)
    if form:
        short = {key: names[0] if len(names) == 1 else names for key, names in form.items()}
        proposal.say("services", {"redis": short}, reason)
    else:
        proposal.say("services", ["redis"], reason)
        proposal.warn(
            "No variable for the address of Redis was found: name it in services.redis.url if the app reads one."
        )
    return set(urls) | set(parts)


def _is_redis(facts: Facts, name: str) -> bool:
    value = facts.example(name)[0] or facts.variables[name].default
    if not isinstance(value, str) or not value or "redis" in value or "REDIS" in name.upper():
        return True
    # A broker of Celery may as well be Redis, where its package is there.
    return value.startswith("amqp") and "redis" in facts.dependencies and "BROKER" in name.upper()
