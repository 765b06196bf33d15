"""Finds plugins by their entry points and keeps a broken one from hurting the others."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import random
import re
import sys
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from types import ModuleType
from typing import Any

import pluggy

from corelab import contracts, hooks
from corelab.components import Component, Kind
from corelab.errors import ConfigError, CorelabError, PluginError, hint

GROUP = "corelab"
"""The entry-point group in which plugins announce their index modules."""
ALLOW = "CORELAB_PLUGINS"
"""Environment variable: the plugins or distributions to load, by commas; all if it is not set."""
SINK_HOOKS = ("corelab_run_started", "corelab_run_logged", "corelab_run_ended")


@dataclass(frozen=True)
class Plugin:
    """An installed plugin: an entry point and the distribution that owns it."""

    name: str
    distribution: str
    version: str
    module: str = ""
    """Its index."""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class Offer:
    """A component and the plugin that offers it."""

    component: Component
    plugin: Plugin


def identify(distribution: Distribution | None) -> tuple[str, str]:
    """Name and version of DISTRIBUTION, read without parsing its whole metadata."""
    header = (distribution.read_text("METADATA") or "") if distribution else ""
    fields = dict(
        line.split(": ", 1) for line in header.split("\n\n", 1)[0].splitlines() if ": " in line
    )
    return fields.get("Name", "unknown"), fields.get("Version", "")


def installed() -> dict[str, str]:
    """Every installed distribution and its version."""
    return dict(sorted(identify(d) for d in distributions()))


def one_line(error: BaseException) -> str:
    """What ERROR says, on one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, CorelabError) else f"{type(error).__name__}: {text}"


class Plugins:
    """What is installed: the offers of every plugin, the sinks, and what is broken and why."""

    def __init__(self, entries: Iterable[EntryPoint] | None = None) -> None:
        self.offers: list[Offer] = []
        self.sinks: dict[Plugin, str] = {}
        """Plugins that listen to runs, each with its summary."""
        self.broken: dict[Plugin, str] = {}
        self.disallowed: list[Plugin] = []
        """Plugins that the list of those allowed does not name; they are not imported."""
        self._manager = pluggy.PluginManager("corelab")
        self._manager.add_hookspecs(hooks)
        self._manager_names: dict[str, Plugin] = {}
        found = entry_points(group=GROUP) if entries is None else entries
        listed = {Plugin(e.name, *identify(e.dist), e.module): e for e in found}
        allowed = _allowed(listed)
        for plugin, entry in sorted(listed.items(), key=lambda both: both[0].name):
            if plugin not in allowed:
                self.disallowed.append(plugin)
                continue
            try:
                self._add(entry, plugin)
            except (Exception, SystemExit) as error:  # whatever a plugin does wrong stays its own
                self.broken[plugin] = one_line(error)
        self._refuse_doubles()

    def _add(self, entry: EntryPoint, plugin: Plugin) -> None:
        module = entry.load()
        wants = getattr(module, "corelab_api", None)
        if not (isinstance(wants, tuple) and [type(n) for n in wants] == [int, int]):
            raise PluginError(
                "does not say which API it was written for: its index module needs "
                f"`corelab_api = {hooks.API}`"
            )
        if wants[0] != hooks.API[0] or wants[1] > hooks.API[1]:
            newer = wants > hooks.API
            raise PluginError(
                f"was written for corelab API {wants[0]}.{wants[1]}, this is "
                f"{hooks.API[0]}.{hooks.API[1]}: "
                + ("upgrade corelab-ml" if newer else f"upgrade {plugin.distribution}")
            )
        _check_hooks(module)
        key = f"{plugin.distribution}:{plugin.name}"
        if self._manager.has_plugin(key):
            raise PluginError(f"{plugin.distribution} has two plugins called {plugin.name!r}")
        self._manager.register(module, key)
        self._manager_names[key] = plugin
        try:
            self._manager.check_pending()
            offers = list(getattr(module, "corelab_components", tuple)())
            for offered in offers:
                if not isinstance(offered, Component):
                    raise PluginError(f"it offers {offered!r}, which is not a Component")
        except BaseException:
            self._manager.unregister(name=key)
            raise
        self.offers += [Offer(component, plugin) for component in offers]
        if any(hasattr(module, hook) for hook in SINK_HOOKS):
            summary = (module.__doc__ or "").strip().split("\n")[0].rstrip(".")
            self.sinks[plugin] = summary

    def _refuse_doubles(self) -> None:
        """One distribution that offers a name twice cannot be told apart by its own name."""
        seen: set[tuple[str, ...]] = set()
        for offer in list(self.offers):
            c, owner = offer.component, offer.plugin.distribution
            if (key := (c.kind, c.provides, c.name, owner)) in seen:
                self.broken[offer.plugin] = f"{owner} offers the {c.kind} {c.name!r} twice"
                self.offers.remove(offer)
            seen.add(key)

    def clash(self, offer: Offer) -> str:
        """Who else offers the same, and how to name this one; "" if nobody does."""
        c = offer.component
        same = [o for o in self.offers if o is not offer and o.component.name == c.name]
        same = [o for o in same if (o.component.kind, o.component.provides) == (c.kind, c.provides)]
        owners = " and ".join(str(o.plugin) for o in same)
        label = f"{offer.plugin.distribution}:{c.name}"
        return owners and f"also offered by {owners}: name this one {label}"

    def find(self, kind: Kind, name: str, user: Offer | None = None) -> Offer:
        """The offer called NAME (or `distribution:NAME`) that fits USER, the algorithm, if given.

        PluginError: it is unknown, ambiguous, or provides what the algorithm does not use.
        """
        found, (_, bare) = self._matching(kind, name, user), self.split_owner(name)
        if not found:
            others = self._matching(kind, name, None)
            misfit = self._misfit(others[0], bare, user) if others and user else ""
            raise PluginError(misfit or self.unknown(kind, bare, self.names(kind, user)))
        if len(found) > 1:
            owners = " and ".join(sorted({str(o.plugin) for o in found}))
            ways = " or ".join(self.shortest(o, bare, user) for o in found)
            raise PluginError(
                f"{kind} {name!r} is offered by {owners}: say which one you mean: {ways}"
            )
        if deprecated := found[0].component.deprecated:
            deprecated.warn(f"the {kind} {bare!r} of {found[0].plugin}", stacklevel=2)
        return found[0]

    def shortest(self, offer: Offer, name: str, user: Offer | None) -> str:
        """The shortest way to name OFFER, known as NAME, so that `find` finds no other."""
        c, owner = offer.component, offer.plugin.distribution
        for way in (name, f"{c.provides}/{name}", f"{owner}:{name}"):
            if self._matching(c.kind, way, user) == [offer]:
                return way
        return f"{owner}:{c.provides}/{name}"

    def _matching(self, kind: Kind, name: str, user: Offer | None) -> list[Offer]:
        """The offers that answer to NAME and fit USER: those called so, or else with a pattern."""
        owner, name = self.split_owner(name)
        fitting = [
            o
            for o in self.offers
            if o.component.kind == kind
            and owner in ("", o.plugin.distribution)
            and (user is None or o.component.provides in user.component.uses)
        ]
        called = [
            o
            for o in fitting
            if name in (o.component.name, f"{o.component.provides}/{o.component.name}")
        ]
        return called or [
            o for o in fitting if o.component.pattern and re.fullmatch(o.component.pattern, name)
        ]

    def split_owner(self, name: str) -> tuple[str, str]:
        """`distribution:name` in two; ("", name) if it does not begin with a plugin's owner."""
        prefix, colon, rest = name.partition(":")
        owners = {_canonical(o.plugin.distribution): o.plugin.distribution for o in self.offers}
        if colon and _canonical(prefix) in owners:
            return owners[_canonical(prefix)], rest
        return "", name

    def unknown(self, kind: Kind, name: str, known: Iterable[str]) -> str:
        """The sentence for a NAME that is none of those KNOWN."""
        sentence = f"there is no {kind} {name!r}: {hint(name, known, 'installed')}"
        if self.broken and "did you mean" not in sentence:
            plugin, why = next(iter(self.broken.items()))
            sentence += f" (plugin {plugin.name!r} of {plugin} is broken: {why})"
        return sentence

    def _misfit(self, offer: Offer, name: str, user: Offer) -> str:
        c, u = offer.component, user.component
        kinds = {o.component.provides for o in self.offers if o.component.kind == c.kind}
        fit = [k for k in u.uses if k in kinds]
        sentence = f"{c.kind} {name!r} is of the kind {c.provides!r}, and {u.name} "
        if not fit:
            return sentence + f"works without a {c.kind}"
        return sentence + (
            f"needs one of the kind {' or '.join(map(repr, fit))}: for example "
            + ", ".join(self.names(c.kind, user)[:3])
        )

    def names(self, kind: Kind, user: Offer | None = None) -> list[str]:
        """What people can type for KIND, examples of patterns included."""
        return [
            name
            for o in self.offers
            if o.component.kind == kind
            and (user is None or o.component.provides in user.component.uses)
            for name in (o.component.examples if o.component.pattern else [o.component.name])
        ]

    def load(self, offer: Offer) -> Any:
        """The class (of a verb: the function) behind OFFER.

        PluginError if it cannot be imported or is not what it says.
        """
        c = offer.component
        module, _, attribute = c.target.partition(":")
        what = f"{c.kind} {c.name!r} of {offer.plugin}"
        drawn = random.getstate()  # some libraries draw from the global generator on their import
        try:
            loaded = getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:
            raise PluginError(f"{what} cannot be loaded: {one_line(error)}") from error
        finally:
            random.setstate(drawn)
        if c.kind == "verb":
            if not callable(loaded):
                raise PluginError(f"{what} cannot be used: {attribute} is not a function")
            return loaded
        promised = getattr(contracts, c.kind.capitalize())
        names = [*promised.__annotations__, *(n for n in vars(promised) if not n.startswith("_"))]
        missing = [n for n in names if n != "progress" and not hasattr(loaded, n)]
        if missing:
            raise PluginError(f"{what} cannot be used: {attribute} has no {', '.join(missing)}")
        config = loaded.Config
        frozen = getattr(getattr(config, "__dataclass_params__", None), "frozen", False)
        if not frozen:
            raise PluginError(f"{what} cannot be used: its Config is not a frozen dataclass")
        for field in dataclasses.fields(config):
            if field.name == "name":
                raise PluginError(f"{what} cannot be used: its Config may not have a field `name`")
            if field.default is field.default_factory is dataclasses.MISSING:
                raise PluginError(f"{what} cannot be used: its option {field.name} has no default")
        return loaded

    def tell(
        self,
        hook: str,
        only: Container[Plugin],
        report: Callable[[Plugin, str], None],
        **facts: Any,
    ) -> None:
        """Call HOOK of every sink in ONLY; one that raises is reported and the others go on."""
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            plugin = self._manager_names[implementation.plugin_name]
            if plugin in only:
                try:
                    implementation.function(*(facts[a] for a in implementation.argnames))
                except (Exception, SystemExit) as error:
                    why = f"failed in {hook} and was passed over: {one_line(error)}"
                    report(plugin, f"the sink {plugin.name!r} {why}")


def _check_hooks(module: ModuleType) -> None:
    """PluginError for what MODULE meant to be called, and never would be."""
    known = {n for n in vars(hooks) if n.startswith("corelab_")}
    for name, value in vars(module).items():
        if name.startswith("corelab_") and callable(value):
            if name not in known:
                raise PluginError(f"there is no hook {name}; {hint(name, known, 'hooks')}")
            if not hasattr(value, "corelab_impl"):
                raise PluginError(f"{name} is not marked with @hookimpl, so it is never called")
            told = inspect.signature(getattr(hooks, name)).parameters
            for p in inspect.signature(value).parameters.values():
                if p.name not in told and p.default is p.empty and p.kind is not p.VAR_KEYWORD:
                    has = ", ".join(told) or "none"
                    raise PluginError(f"{name} has no parameter {p.name!r}: it has {has}")


def _canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _allowed(listed: Iterable[Plugin]) -> set[Plugin]:
    """Those of the plugins LISTED that may be imported. ConfigError if one allowed is not there."""
    allow = os.environ.get(ALLOW)
    if allow is None:
        return set(listed)
    names = {_canonical(name.strip()) for name in allow.split(",") if name.strip()}
    answers = {p: {_canonical(p.name), _canonical(p.distribution)} for p in listed}
    known = {name for both in answers.values() for name in both}
    for name in sorted(names - known):
        raise ConfigError(f"{ALLOW} allows {name!r}, which is not installed; {hint(name, known)}")
    return {plugin for plugin in listed if answers[plugin] & names}


def warn(text: str) -> None:
    """One line on standard error."""
    print(f"corelab: {text}", file=sys.stderr)
