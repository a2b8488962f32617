"""Says what a caller may do: the scopes that a key or a token opens, and nothing else.

A scope is compared whole. `read:*` stands for every service, and no other scope holds one that it
does not name, but for `admin`, which holds `metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass

from featurekit.errors import RequestRefused
from featurekit.project.api_keys import is_scope

LIST, METRICS, ADMIN = "list:features", "metrics", "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: by a `key`, by a `token` of an issuer, or `anyone`, where nobody is asked who he
    is. `name` is the key's or the token's subject; `id` is the key's."""

    kind: str
    name: str
    scopes: frozenset[str]
    id: str = ""

    @property
    def who(self) -> str:
        """The caller as the audit log names it."""
        return " ".join(filter(None, (self.kind, self.name, self.id)))

    def may(self, scope: str) -> bool:
        """Whether the caller has a scope, as in `read:checkout`."""
        if self.kind == "anyone" or scope in self.scopes:
            return True
        verb, colon, name = scope.partition(":")
        if colon and verb in ("read", "push", "predict"):
            return bool(name) and f"{verb}:*" in self.scopes
        return scope == METRICS and ADMIN in self.scopes

    def need(self, scope: str) -> None:
        """RequestRefused, which names the scope, where the caller does not have it."""
        if self.may(scope):
            return
        # A service's name may come from the request: nothing of it but a scope goes into a header.
        shown = scope if is_scope(scope) else ""
        challenge = 'Bearer realm="featurekit", error="insufficient_scope"'
        raise RequestRefused(
            f"the caller lacks the scope {shown or scope[:80]!r}; ask with a key that has it (its "
            "owner makes one by `featurekit keys create`)",
            status=403,
            where="authorization",
            challenge=f'{challenge}, scope="{shown}"' if shown else challenge,
        )

    def sees(self, service: str) -> bool:
        """Whether the caller is told that there is a service, and what it takes and gives."""
        return self.may(f"read:{service}") or self.may(ADMIN)

    def need_sight(self, service: str) -> None:
        """RequestRefused where the caller is not told of a service, be it there or not."""
        if not self.sees(service):
            self.need(f"read:{service}")


ANYONE = Caller("anyone", "", frozenset())
"""Every caller, where nobody is asked."""


def unknown(why: str, write: str, *, token: bool = True) -> RequestRefused:
    """The error for a caller that is not known. `token` says whether it brought one."""
    challenge = 'Bearer realm="featurekit"' + (', error="invalid_token"' if token else "")
    return RequestRefused(f"{why}; {write}", status=401, where="authorization", challenge=challenge)
