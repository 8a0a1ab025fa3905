"""Dataclasses from plain values, as JSON holds them, checked field by field."""

import dataclasses
import json
import math
import types
import typing

from rdi_tf.errors import ConfigError, DataError


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


def build_dataclass(cls, table, place):
    """A dataclass from nested dictionaries and lists, as JSON holds it.

    Args:
      cls: the dataclass; its fields are plain values, dictionaries, tuples of one type, dataclasses, and these or None.
      table: dictionary with its fields and no others; those with defaults, which older files lack, may be missing.
      place: what to call it in errors.

    Returns:
      The instance. Where a field is a float, 1 has become 1.0.

    Raises:
      DataError: names the first field that is missing, unknown, of another type, or too large for a float; or what a
        dataclass says of values that do not go together.
    """
    try:
        return _build(cls, table, "")
    except (_Misfit, ConfigError) as misfit:
        raise DataError(f"{place}: {misfit}"[:300]) from misfit


class _Misfit(Exception):
    """A value that does not fit, and its path."""


def _build(cls, table, path):
    hints = typing.get_type_hints(cls)
    if not isinstance(table, dict):
        raise _Misfit(f"{path}: expected an object, got {table!r}".removeprefix(": "))
    for name in hints:
        if name not in table and not _has_default(cls, name):
            raise _Misfit(f"missing entry {_join(path, name)}")
    for name in table:
        if name not in hints:
            raise _Misfit(f"unknown entry {_join(path, name)}")
    return cls(**{name: _convert(hints[name], value, _join(path, name)) for name, value in table.items()})


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
        if not isinstance(value, list):
            raise _Misfit(f"{path}: expected a list, got {value!r}")
        item = typing.get_args(hint)[0]
        return tuple(_convert(item, element, f"{path}[{index}]") for index, element in enumerate(value))
    accepted = (int, float) if hint is float else hint  # JSON may write 1.0 as 1
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise _Misfit(f"{path}: expected {hint.__name__}, got {value!r}")
    try:
        return hint(value)
    except OverflowError as error:
        raise _Misfit(f"{path}: expected a number that fits a float, got one that does not") from error
