"""Redis, and what Slipway does not provide."""

from __future__ import annotations

import re
import zlib

from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal

_URL = re.compile(
    r"(REDIS|VALKEY)\w*(URL|URI|DSN)$|CACHE_URL$"
    r"|^(CELERY_)?(BROKER|RESULT_BACKEND|CELERY_RESULT_BACKEND|CELERY_BACKEND|CELERY_BROKER)(_URL|_URI)?$"
)
_PART = re.compile(r"(REDIS|VALKEY)\w*?_{1,2}(HOST|SERVER|HOSTNAME|PORT|PASSWORD)$")
_CACHE = re.compile(r"^(\w+_)?CACHE_(HOST|SERVER|HOSTNAME|PORT|PASSWORD)$")
_ROLES = {"SERVER": "host", "HOSTNAME": "host"}
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
    parts = [
        name
        for name in facts.variables
        if _PART.search(name.upper()) and not re.search(r"TEST|SSL|TLS|CHECK|VERIFY", name.upper())
    ]
    parts = parts or [name for name in facts.variables if image and _CACHE.search(name.upper())]
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
    if urls or parts:
        _redis(facts, proposal, urls, parts, reason)
        return {*urls, *parts}
    proposal.say("services", ["redis"], reason)
    proposal.warn("No variable for the address of Redis was found: name it in services.redis.url if the app reads one.")
    return set()


def _redis(facts: Facts, proposal: Proposal, urls: list[str], parts: list[str], reason: str) -> None:
    """The line of services, and the variables beyond those that it can name."""
    ends: dict[str, list[str]] = {}
    for name in parts:
        end = name.upper().rpartition("_")[2]
        ends.setdefault(_ROLES.get(end, end.lower()), []).append(name)
    if ends.get("host"):
        # What the code makes of the parts itself needs no value.
        urls = [name for name in urls if "…" not in str(facts.variables[name].default or "")]
    form: dict[str, object] = {role: names[0] for role, names in ends.items()}
    if not urls and all(len(names) == 1 for names in ends.values()):
        proposal.say("services", {"redis": form}, reason)
    elif not ends or ("password" in ends and all(len(names) == 1 for names in ends.values())):
        proposal.say("services", {"redis": {"url": urls[0] if len(urls) == 1 else urls, **form}}, reason)
    else:
        # One name of each can be filled in. The others get the same address, for which the port has to be known.
        port = 20000 + zlib.crc32(proposal.name.encode()) % 8000
        form.pop("password", None)
        proposal.say("services", {"redis": {**form, "tcp_port": port}}, reason)
        values = {"host": "127.0.0.1", "port": str(port)}
        others = {name: values[role] for role in values for name in ends.get(role, [])[1:]}
        others.update(dict.fromkeys(urls, f"redis://127.0.0.1:{port}/0"))
        proposal.say("env", others, "the same Redis under other names")


def _is_redis(facts: Facts, name: str) -> bool:
    value = facts.example(name)[0] or facts.variables[name].default
    if not isinstance(value, str) or not value or "redis" in value or "REDIS" in name.upper():
        return True
    # A broker of Celery may as well be Redis, where its package is there.
    return value.startswith("amqp") and "redis" in facts.dependencies and "BROKER" in name.upper()
