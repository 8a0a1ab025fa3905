"""Dataclasses from plain values, as JSON holds them, checked field by field."""

import dataclasses
import json
import typing

from rdi_tf.errors import DataError


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

    def refuse_constant(constant):
        raise DataError(f"{place}: expected finite numbers, got {constant}")

    try:
        return json.loads(text, parse_constant=refuse_constant)
    except DataError:
        raise  # of `refuse_constant`
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: expected JSON, got text that is not: {error}") from error


def build_dataclass(cls, table, place):
    """A dataclass from nested dictionaries and lists, as JSON holds it.

    Args:
      cls: the dataclass; its fields are plain values, dictionaries, tuples of one type, and dataclasses.
      table: dictionary with its fields and no others; those with defaults, which older files lack, may be missing.
      place: what to call it in errors.

    Returns:
      The instance.

    Raises:
      DataError: names the first field that is missing, unknown or of another type.
    """
    hints = typing.get_type_hints(cls)
    if not isinstance(table, dict):
        raise DataError(f"{place}: expected its fields, got {table!r}"[:200])
    wrong = [name for name in hints if name not in table and not _has_default(cls, name)]
    wrong += sorted(map(str, set(table) - set(hints)))
    if wrong:
        raise DataError(f"{place}: missing or unknown: {', '.join(wrong)}")
    return cls(**{key: _convert(hint, table[key], f"{place}.{key}") for key, hint in hints.items() if key in table})


def _has_default(cls, name):
    field = cls.__dataclass_fields__[name]
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _convert(hint, value, place):
    if dataclasses.is_dataclass(hint):
        return build_dataclass(hint, value, place)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise DataError(f"{place}: expected a list, got {value!r}")
        return tuple(_convert(typing.get_args(hint)[0], item, place) for item in value)
    kinds = typing.get_args(hint) or (hint,)
    accepted = (*kinds, int) if float in kinds else kinds  # JSON may write 1.0 as 1
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise DataError(f"{place}: expected {getattr(hint, '__name__', hint)}, got {value!r}")
    return value
