"""Dataclasses from plain values, as JSON and TOML hold them, checked field by field."""

import dataclasses
import json
import math
import types
import typing

from rdi_tf.errors import ConfigError, DataError

_LONGEST_SHOWN = 100  # characters of what a file holds that an error repeats


def parse_json(text, place):
    """Plain values from JSON text.

    Args:
      text: the text.
      place: what to call it in errors.

    Returns:
      Dictionaries, lists, strings, numbers, booleans and None.

    Raises:
      DataError: text that is no JSON, holds NaN or infinities, or more digits or levels than Python reads.
    """

    def refuse(number):
        raise DataError(f"{place}: expected finite numbers, got {number}")

    def finite(number):  # 1e999 is a number in JSON, and none in Python
        return float(number) if math.isfinite(float(number)) else refuse(number)

    try:
        return json.loads(text, parse_constant=refuse, parse_float=finite)
    except DataError:
        raise  # of `refuse`
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: expected JSON, got text that is not: {error}") from error


def build_dataclass(cls, table, place="", error=DataError):
    """A dataclass from nested dictionaries and lists, as JSON and TOML hold it.

    Args:
      cls: the dataclass; its fields are plain values, dictionaries, tuples (of one type, of any or of a fixed
        length), dataclasses, and these or None.
      table: dictionary with its fields and no others; those with defaults, which older files lack, may be missing.
      place: what to call it in errors; empty to start them with the field.
      error: what to raise.

    Returns:
      The instance. Where a field is a float, 1 has become 1.0.

    Raises:
      DataError, or what `error` says: names the first field that is missing, unknown, of another type, or too large for
        a float; or what a dataclass says of values that do not go together.
    """
    try:
        return _build(cls, table, "")
    except (_Misfit, ConfigError) as misfit:
        raise error(f"{place}: {misfit}" if place else str(misfit)) from misfit


class _Misfit(Exception):
    """A value that does not fit, and its path."""


def _build(cls, table, path):
    hints = typing.get_type_hints(cls)
    if not isinstance(table, dict):
        raise _misfit(path, "keys with values", table)
    for name in hints:
        if name not in table and not _has_default(cls, name):
            raise _Misfit(f"missing key {_join(path, name)}")
    for name in table:
        if name not in hints:
            raise _Misfit(f"unknown key {_clipped(_join(path, name))}; expected one of {', '.join(hints)}")
    return cls(**{name: _convert(hints[name], value, _join(path, name)) for name, value in table.items()})


def _misfit(path, expected, value):
    found = f"expected {expected}, got {_clipped(repr(value))}"
    return _Misfit(f"{path}: {found}" if path else found)


def _clipped(text):
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _join(path, name):
    return f"{path}.{name}" if path else name


def _has_default(cls, name):
    field = cls.__dataclass_fields__[name]
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _convert(hint, value, path):
    if isinstance(hint, types.UnionType):  # X | None is the only union there is
        return None if value is None else _convert(typing.get_args(hint)[0], value, path)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, path)
    if typing.get_origin(hint) is tuple:
        return _convert_tuple(typing.get_args(hint), value, path)
    accepted = (int, float) if hint is float else hint  # JSON may write 1.0 as 1
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise _misfit(path, hint.__name__, value)
    try:
        return hint(value)
    except OverflowError as error:
        raise _Misfit(f"{path}: expected a number that fits a float, got one that does not") from error


def _convert_tuple(item_types, value, path):
    first, *rest = item_types
    any_length = rest == [...]
    if not isinstance(value, (list, tuple)) or not (any_length or len(value) == 1 + len(rest)):
        raise _misfit(path, "a list" if any_length else f"a list of {1 + len(rest)}", value)
    return tuple(_convert(first, element, f"{path}[{index}]") for index, element in enumerate(value))
