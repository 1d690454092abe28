"""What a page may ask an exploration for, and with which values: the schema of its messages."""

from typing import Any

from ex5lib.errors import SettingError
from ex5lib.explorer.choices import CHOSEN
from ex5lib.explorer.fields import Field, Number, checked, flag, text

Messages = dict[str, dict[str, Field]]
_COUNT = Number("a number that the page sends", 0, 2**53 - 1, whole=True)
_SHARE = Number("a place in the picture", 0, 1)
_FILE: dict[str, Field] = {"name": text, "size": _COUNT, "at": _COUNT, "data": bytes}  # one of its parts

# {action: its fields}. Of a change any, of the others all must be there; "data" comes beside the message.
MESSAGES: Messages = {
    "change": CHOSEN,
    "paint": {"stroke": _COUNT, "data": bytes},
    "accept": {"damage": _COUNT, "on": flag},
    "restore": {"number": _COUNT},
    "choose": {"name": text},
    "upload": _FILE,
    "mask": _FILE,
    "pick": {"face": _COUNT},
    "look": {"x": _SHARE, "y": _SHARE, "side": _SHARE},
    "follow": {"on": flag},
    "run": {},
    "stop": {},
    "another": {},
    "reset": {},
    "save": {},
}
# The same of a page that restores a photo.
RESTORING: Messages = {
    **{action: MESSAGES[action] for action in ("upload", "mask")},
    "paint": MESSAGES["paint"] | {"photo": _COUNT},
    "switch": {"damage": text, "on": flag},
    "pick": {"face": Number("the face's number", 0, 2**53 - 1, whole=True, optional=True)},  # None: all of them
    "take": {"recipe": text},
    "restore": {},
    "another": {},
    "stop": {},
    "show": {"number": _COUNT},
}


def read(message: object, data: bytes, known: Messages = MESSAGES) -> tuple[str, dict[str, Any]]:
    """The action that a page asks for and its arguments: the message {"do": action, …}, and the bytes beside it.

    Raises:
        SettingError: unless the message is exactly as ``known`` says.
    """
    asked = dict(message) if isinstance(message, dict) else {}
    action = asked.pop("do", None)
    if not isinstance(action, str) or action not in known:
        raise SettingError("The page asked for something unknown: reload it.")
    fields = known[action]
    if "data" in asked or (data and "data" not in fields):
        raise SettingError("The page sent bytes where none belong: reload it.")
    if "data" in fields:
        asked["data"] = data
    values = checked(fields, asked)
    if action != "change" and (missing := fields.keys() - values.keys()):
        raise SettingError(f"The page left out {', '.join(sorted(missing))}: reload it.")
    return action, values
