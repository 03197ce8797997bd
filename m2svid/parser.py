"""The parser of every verb: it takes words as people type them, and shows many options under headings."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, get_args, get_origin

from jsonargparse import ArgumentParser, Namespace

from m2svid.errors import UserError

SHORT = {"-h": "--help", "-o": "--output", "--from": "--source"}  # `from` is no name for a parameter
_FIRST = "most used"
_GENERAL = ("help", "config", "print_config")
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "collections.abc.Sequence": "a list",
    "list": "a list",
    "NoneType": "null",
}
_EXPECTED = r"Expected (?:a )?(?:<class '([\w.]+)'>|typing\.Literal\[([^\]]*)\])"


class Parser(ArgumentParser):
    """jsonargparse's parser, which also takes `-o`, hyphens for underscores, a switch without a value, inputs
    before, between and after the options, and behind `--` inputs that begin with a dash.

    Args:
        sections: option -> its heading in `--help all`. The options without one come first, and `--help`
            explains them alone. If not given, there are no headings.
        **options: jsonargparse's.
    """

    def __init__(self, *args: Any, sections: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sections = sections

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Namespace:
        """Parse words; raises UserError for an option that there isn't."""
        words = list(sys.argv[1:] if args is None else args)
        if {"-h", "--help"}.intersection(words):
            self._arrange_help(everything=words[-1] == "all")
        return super().parse_args(self._spelled_out(words), *rest, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise UserError with jsonargparse's message in plain words."""
        key = (re.match(r'Parser key "([\w.]+)"', message) or ["", ""])[1]
        option = f"--{key}" in self._option_string_actions
        spelled = f"--{key.replace('_', '-')}" if option else key
        raise UserError(reworded(message, spelled, f"{self.prog} --help")) from ex

    def _arrange_help(self, everything: bool) -> None:
        for action in self._actions:
            short = [word for word, name in SHORT.items() if name in action.option_strings]
            names = [name.replace("_", "-") for name in action.option_strings]
            action.option_strings = list(dict.fromkeys([*short, *names]))
        if self._sections is None:
            return
        arranged: dict[str, list[argparse.Action]] = {name: [] for name in (_FIRST, *self._sections.values())}
        general = self._action_groups.pop(1)  # after the positional ones, as argparse makes it
        own = [action for action in general._group_actions if action.dest in _GENERAL]
        for action in general._group_actions:
            if action not in own:
                arranged[self._sections.get(action.dest, _FIRST)].append(action)
        general._group_actions[:] = own
        for title in arranged if everything else (_FIRST,):
            self.add_argument_group(title)._group_actions.extend(arranged[title])
        self._action_groups.append(general)
        inputs = [action.dest.upper() for action in self._positionals._group_actions]
        self.usage = " ".join([self.prog, *inputs, "[options]"])
        if not everything:
            more = sum(map(len, arranged.values())) - len(arranged.pop(_FIRST))
            self.epilog = f"{more} more options ({', '.join(arranged)}): {self._all_options()}"

    def _spelled_out(self, words: Sequence[str]) -> list[str]:
        """The words as jsonargparse takes them: `--option_name=value` first, then the inputs."""
        options: list[str] = []
        inputs: list[str] = []
        waiting = deque(words)
        while waiting:
            word = waiting.popleft()
            if word == "--":
                inputs += waiting
                break
            if not self._is_option(word):
                inputs.append(word)
                continue
            name, equals, value = self._known(word)
            action = self._option_string_actions.get(name)
            if not equals and _is_switch(action):
                follows = bool(waiting) and waiting[0].lower() in ("true", "false")
                equals, value = "=", waiting.popleft() if follows else "true"
            valued = action is None or action.nargs not in (0, "?")
            if not equals and valued and waiting and not self._is_option(waiting[0]):
                equals, value = "=", waiting.popleft()
            options.append(f"{name}{equals}{value}")
        places = [action for action in self._actions if not action.option_strings]
        if inputs and len(places) == 1 and places[0].nargs is None and _is_list(places[0]):
            inputs = [json.dumps(inputs)]
        return [*options, *(["--"] if any(word.startswith("-") for word in inputs) else []), *inputs]

    @staticmethod
    def _is_option(word: str) -> bool:
        return word.startswith("--") or word.partition("=")[0] in SHORT

    def _known(self, word: str) -> tuple[str, str, str]:
        """Name, equals sign and value of an option as jsonargparse knows it."""
        typed, equals, value = word.partition("=")
        name = "--" + SHORT.get(typed, typed)[2:].replace("-", "_")
        known = self._option_string_actions
        if name not in known and name.split(".")[0] not in {other.split(".")[0] for other in known}:
            close = get_close_matches(name, known, 1)
            meant = f"did you mean {close[0].replace('_', '-')}? " if close else ""
            raise UserError(f"there is no option {typed}: {meant}{self._all_options()} explains them all")
        return name, equals, value

    def _all_options(self) -> str:
        return f"{self.prog} --help{' all' if self._sections else ''}"


def reworded(message: str, key: str, more: str) -> str:
    """Put a message of jsonargparse into one sentence; those about classes stay as they are.

    Args:
        message: about a value, or a missing one.
        key: of the value, as it is to be told.
        more: the command that explains the options.
    """
    tried = re.findall(r"^ *- (.*)", message, re.MULTILINE) or message.splitlines()[1:2]
    kinds = [re.match(_EXPECTED, text.strip()) for text in tried]
    value = re.search(r"(?:Got|Given) value: (.*)", message, re.DOTALL)
    if key and value and kinds and all(kind and (kind[2] or kind[1] in _KINDS) for kind in kinds):
        choices = list(
            dict.fromkeys(choice.strip("'") for kind in kinds if kind[2] for choice in kind[2].split(", "))
        )
        one = [f"one of {', '.join(choices)}"] if len(choices) > 1 else choices
        allowed = [*one, *dict.fromkeys(_KINDS[kind[1]] for kind in kinds if not kind[2])]
        return f"{key} must be {' or '.join(allowed)}, not {value[1].strip()}"
    if bare := re.match(r"argument ([\w./-]+): expected one argument", message):
        return f"{bare[1]} needs a value: {more} explains it"
    if missing := re.match(r"the following arguments are required: (.*)", message):
        return f"{missing[1]} must be given: {more} explains every input"
    if unknown := re.match(r"unrecognized arguments: ([^-].*)", message):
        return f"there is no place for {unknown[1]}: {more} explains every input"
    return re.sub(r'^Parser key "[\w.]+":\s*', f"{key}: ", message)


def _is_switch(action: argparse.Action | None) -> bool:
    hint = getattr(action, "_typehint", None)
    return bool in (hint, *get_args(hint))


def _is_list(action: argparse.Action) -> bool:
    hint = getattr(action, "_typehint", None)
    return list in map(get_origin, (hint, *get_args(hint)))
