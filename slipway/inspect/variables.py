"""Variables that the app wants: secrets that the host may make, secrets of others, and plain values."""

from __future__ import annotations

import ast
import re

from slipway.inspect.database import vault
from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal
from slipway.inspect.settings import Variable

_SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|_KEY$|^KEY$|SALT|PRIVATE|CREDENTIAL|PEPPER")
_NOT_SECRET = re.compile(
    r"EXPIRE|MINUTES|SECONDS|_DAYS|HOURS|ALGORITHM|PUBLIC|LENGTH|ROUNDS|_TTL|_AGE|HEADER|COOKIE|SCHEME|PREFIX|LOCATION"
    r"|PATTERN|REGEX|_FIELDS|_COUNT$|_SIZE$|REUSE|_POLICY|^PGADMIN_|^GRAFANA_|^FLOWER_"
    r"|LIFETIME|TIMEOUT|KEY_ID$|ISSUER|(^|_)(MIN|MAX)_|_URL$|_PATH$|_NAME$|_FILE$|TOKEN_(PREFIX|TYPE|LIFETIME|ISSUER)"
)
# What only another party can give out. The host could make up a value, with which nothing would work.
_THEIRS = re.compile(
    r"(^|_)(ADYEN|ALIPAY|ALIYUN|APPLE|ATLASSIAN|BRAINTREE|CLERK|COGNITO|COHERE|DEEPSEEK|FLUTTERWAVE|GEMINI|GROQ|HUBSPOT|JIRA"
    r"|KEYCLOAK|KLARNA|LANGFUSE|LANGSMITH|LINKEDIN|LOGFIRE|MAPBOX|MICROSOFT|MISTRAL|MOLLIE|NOTION|ONESIGNAL|PAYSTACK|PINECONE"
    r"|PLAID|POSTHOG|PUSHER|QINIU|RAZORPAY|SHOPIFY|TENCENT|TWITTER|VONAGE|WECHAT|YANDEX|ZOOM)_"
    r"|ALGOLIA|AUTH0|CLOUDFLARE|DATADOG|GCP_|HCAPTCHA|OKTA|POSTMARK|RESEND|TURNSTILE|VAPID"
    r"|STRIPE|API_?KEY|API_?TOKEN|API_?SECRET|ACCESS_KEY|SMTP|MAIL|AWS|S3|GOOGLE|GITHUB|GITLAB|FACEBOOK|OPENAI|ANTHROPIC"
    r"|SENTRY|TWILIO|SENDGRID|CLIENT_SECRET|OAUTH|OIDC|SUPABASE|CLOUDINARY|TELEGRAM|BOT_TOKEN|SLACK|DISCORD|AZURE|LDAP"
    r"|FIREBASE|MINIO|HUGGING|HF_|PAYPAL|MAILGUN|RECAPTCHA|WEBHOOK|DSN$|NEW_RELIC|LICENSE|RABBIT|DEPLOY_|DOCKER|PRIVATE_KEY"
)
_OWN_KEY = re.compile(r"SECRET|JWT|SIGN|SALT|PEPPER|SESSION|ENCRYPT|CSRF|HASH|AUTH")
_ENVIRONMENT = re.compile(
    r"^(\w+_)?(ENV|ENVIRONMENT|APP_ENV|APP_ENVIRONMENT|FASTAPI_ENV|STAGE|RUN_ENV|DEPLOY_ENV|MODE)$"
)
# Of the server, of Python and of pip; they say nothing about the app.
_OURS = {
    "PORT",
    "HOST",
    "WEB_CONCURRENCY",
    "PYTHONUNBUFFERED",
    "PYTHONPATH",
    "PYTHONDONTWRITEBYTECODE",
    "HOME",
    "PATH",
    "USER",
    "TZ",
    "HOSTNAME",
    "CI",
    "WORKERS",
    "MODULE_NAME",
    "VARIABLE_NAME",
    "APP_MODULE",
    "LOG_LEVEL",
    "PWD",
    "DYNO",
    "PROMETHEUS_MULTIPROC_DIR",
    "RELEASE_TAG",
    "RELEASE_SHA",
    "STATE_DIRECTORY",
}
# Of these, what an app's own settings may want even where another server starts it.
_OF_A_SERVER = {"HOST": "127.0.0.1", "PORT": "8000", "WORKERS": "1"}


def propose(facts: Facts, proposal: Proposal, used: set[str]) -> None:
    known = {name.upper() for name in used}
    wanted = {name: one for name, one in facts.variables.items() if name.upper() not in known | _OURS}
    for name, value in _OF_A_SERVER.items():
        if (own := facts.variables.get(name)) and own.required:
            proposal.say("env", {name: value}, f"{own.origin} wants it, though nothing listens there")
    _environment(facts, proposal, wanted)
    for name, variable in wanted.items():
        title = name.upper()
        is_flag = variable.annotation in ("bool", "int", "float") or isinstance(variable.default, bool | int)
        if _SECRET.search(title) and not _NOT_SECRET.search(title) and not is_flag:
            _secret(proposal, variable)
        elif variable.required:
            _plain(facts, proposal, variable)
    if proposal.made_up:
        names = ", ".join(proposal.made_up)
        proposal.warn(f"No default and no example says what belongs into {names}: what env has is made up.")
    for name in sorted(facts.platforms.generated):
        if name in facts.variables:
            proposal.say("secrets", [name], "made by the platform before")


def _secret(proposal: Proposal, variable: Variable) -> None:
    title, name = variable.name.upper(), variable.name
    weak = isinstance(variable.default, str) and bool(variable.default)
    theirs = bool(_THEIRS.search(title)) and not re.search(r"^(JWT_|APP_|API_)?SECRET_?KEY$", title)
    if theirs:
        if variable.required:
            proposal.say("env", {name: vault(proposal.name, name)}, f"{name}: a secret of another party")
            where = vault(proposal.name, name).strip("{} ")
            proposal.warn(f"{name} comes from another party: put {where} into the vault.")
        return
    if re.search(r"SUPERUSER|ADMIN|FIRST_USER|DEFAULT_USER", title) and (variable.required or weak):
        proposal.say("secrets", [name], f"{name}: the first user's, {variable.origin}")
    elif variable.required:
        proposal.say("secrets", [name], f"{variable.origin} has no default")
    elif weak and _OWN_KEY.search(title) and not re.search(r"ENABLE|USE_", title):
        proposal.say("secrets", [name], f"the default of {name} is in the code")


def _plain(facts: Facts, proposal: Proposal, variable: Variable) -> None:
    value, origin = facts.example(variable.name)
    kind = variable.annotation.lower()
    title = variable.name.upper()
    shown = f"{variable.origin} has no default"
    if re.search(r"CORS|ORIGIN|ALLOWED_HOSTS|FRONTEND|TRUSTED_HOST", title):
        domain = proposal.lines["domains"][0]
        text = domain if "HOST" in title and "FRONTEND" not in title else f"https://{domain}"
        listed = bool(re.search(r"list|set|tuple|sequence|\[", kind)) or value.startswith("[")
        proposal.say("env", {variable.name: f'["{text}"]' if listed else text}, shown)
        return
    if value and not re.search(r"[<>]|change.?me|your[-_ ]|^x+$", value, re.IGNORECASE):
        proposal.say("env", {variable.name: value}, f"required, with the value of {origin}")
        if re.search(r"localhost|127\.0\.0\.1|://\w+:\d|@db\b", value):
            proposal.warn(f"{variable.name} is {value} in {origin}: an address that is not on the host perhaps.")
        return
    made_up = _made_up(facts, kind, title, proposal.lines["domains"][0])
    proposal.say("env", {variable.name: made_up}, shown)
    if made_up != "false" and not re.search(r"EXPIRE|MINUTES|ALGORITHM", title):
        proposal.made_up.append(variable.name)


def _made_up(facts: Facts, kind: str, title: str, domain: str) -> str:
    if re.search(r"MAIL_?PORT|SMTP_?PORT", title):
        return "587"
    if re.search(r"MAIL_?(SERVER|HOST)|SMTP_?(SERVER|HOST)", title):
        return "localhost"
    if title in ("DOMAIN", "HOSTNAME", "SERVER_NAME", "SERVER_HOST", "DOMAIN_NAME"):
        return domain
    if re.search(r"EMAIL(?!_(FROM_)?NAME)|MAIL_FROM$|MAIL_SENDER", title) or "email" in kind:
        return f"admin@{domain}" if "FROM" in title or "SENDER" in title else "admin@example.com"
    if "bool" in kind or re.search(
        r"^(TESTING|DEBUG|TEST_?MODE|DEV|DEV_?MODE)$|^(IS|USE|ENABLE)_|_(ENABLED|DEBUG)$", title
    ):
        return "false"
    if "int" in kind and title.endswith("_DB"):
        return "0"
    if "int" in kind or "float" in kind:
        return "30" if re.search(r"EXPIRE|MINUTES|TTL", title) else "1"
    if re.search(r"^(list|set|tuple|sequence)", kind):
        return "[]"
    if "url" in kind or title.endswith(("URL", "URI")):
        return "https://example.com"
    if "ALGORITHM" in title:
        return "HS256"
    allowed = _allowed(facts, kind)
    return allowed[0] if allowed else "change-me"


def _environment(facts: Facts, proposal: Proposal, wanted: dict[str, Variable]) -> None:
    """The variable that says which environment it is, with the word for production that the app knows."""
    names = [name for name in wanted if _ENVIRONMENT.match(name.upper())]
    names = [name for name in names if "TEST" not in name.upper()]
    if not names:
        return
    name = min(names, key=lambda one: (not re.search(r"ENV", one.upper()), len(one)))
    variable = wanted.pop(name)
    if re.search(r"prod", variable.source, re.IGNORECASE) and not isinstance(variable.default, str):
        return  # its default is a name such as Environment.PRODUCTION
    allowed = _allowed(facts, variable.annotation) or _compared(facts, name)
    if allowed and not re.search(r"prod", " ".join(allowed), re.IGNORECASE):
        return  # a switch for development, such as Literal["development"] | None
    word = next((one for one in allowed if one == "production"), "") or next(
        (one for one in allowed if re.match(r"prod", one, re.IGNORECASE)), "production"
    )
    if word == "production" and name != "ENV":
        proposal.say("environment_variable", name, f"{variable.origin} reads it")
    elif word != "production":
        proposal.say("env", {name: word}, f"{variable.origin} knows {', '.join(allowed[:4])}")


def _allowed(facts: Facts, annotation: str) -> list[str]:
    """The words that a Literal or an Enum allows; empty if neither."""
    found = re.findall(r"Literal\[([^\]]*)\]", annotation)
    if found:
        return re.findall(r"['\"]([^'\"]+)['\"]", " ".join(found))
    name = annotation.partition("|")[0].strip().rpartition(".")[2].removeprefix("Optional[").rstrip("]")
    for module in facts.modules:
        for node in module.nodes:
            if (
                isinstance(node, ast.ClassDef)
                and node.name.lower() == name.lower()
                and any("Enum" in ast.unparse(base) for base in node.bases)
            ):
                values = [one.value for one in node.body if isinstance(one, ast.Assign | ast.AnnAssign)]
                return [
                    value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)
                ]
    return []


def _compared(facts: Facts, name: str) -> list[str]:
    """The words that keys of a mapping beside the variable's reading have: {"local": …, "prod": …}."""
    variable = facts.variables[name]
    module = facts.code.modules.get(variable.origin)
    for node in module.nodes if module else []:
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
            if any(re.match(r"prod", key, re.IGNORECASE) for key in keys) and len(keys) == len(node.keys):
                return keys
    return []
