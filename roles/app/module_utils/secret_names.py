"""The setting `secrets` of an app: names of variables whose values the inventory has, or else the host makes once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slipway.base.errors import RefusedError
from slipway.slot import envfile

# Of variables that somebody else gives out, or that are no secret text at all: random characters would be wrong there.
_PROVIDERS = (
    "ALGOLIA|ANTHROPIC|AUTH0|AWS|AZURE|CLOUDFLARE|CLOUDINARY|DATADOG|DISCORD|EMAIL|FACEBOOK|"
    "FIREBASE|GCP|GITHUB|GITLAB|GMAIL|GOOGLE|HCAPTCHA|HF|HUGGINGFACE|LDAP|MAIL|MAILCHIMP|"
    "MAILGUN|MINIO|NEWRELIC|OKTA|OPENAI|PAYPAL|POSTMARK|RECAPTCHA|RESEND|S3|SENDGRID|SENTRY|"
    "SLACK|SMTP|STRIPE|SUPABASE|TELEGRAM|TURNSTILE|TWILIO|VAPID"
)
_FOREIGN = re.compile(
    rf"(?:^|_)(?:{_PROVIDERS})_|_API_?KEY$|ACCESS_?KEY|(?:^|_)DSN$|WEBHOOK|CLIENT_(?:ID|SECRET)$|BOT_TOKEN$"
    r"|(?:^|_)(?:URL|URI|HOST|PORT|SERVER|EMAIL|USER|USERNAME|DOMAIN|BUCKET|REGION)$",
    re.IGNORECASE,
)


def with_secrets(names: Sequence[str], env: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of an app, with those of `names` that they lack as ones that the host makes.

    RefusedError for a name that the host cannot make up.
    """
    found = dict(env)
    for name in names:
        if not envfile.NAME.fullmatch(name):
            raise RefusedError(f"secrets has '{name}', which cannot be the name of a variable.")
        if found.get(name) == "":
            raise RefusedError(
                f"secrets has {name}, and env.{name} is empty. Set it from ansible-vault, or take it out of env: then "
                "the host makes one."
            )
        if found.get(name) is not None:
            continue
        if _FOREIGN.search(name):
            raise RefusedError(
                f"secrets has {name}, which looks like something that somebody else gives out, and the host would make "
                f"random text of it. Set env.{name} from ansible-vault; or, if it is the app's own, to"
                " {generate: true}."
            )
        found[name] = {"generate": True}
    return found
