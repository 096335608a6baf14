"""A release that says that it is another one."""

from app.normal import Normal


class Behaviour(Normal):
    sha = "0123456789abcdef0123456789abcdef01234567"
