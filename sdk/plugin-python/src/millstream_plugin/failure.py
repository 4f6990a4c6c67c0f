"""Why a record fails: whatever the transform raises. The pipeline's policy decides what becomes of the record, the message
goes with it into the dead letter."""

#: Causes that are told, at most.
CAUSES_MAX = 16


class Reject(Exception):
    """A record's failure with a message of one's own; any other exception does as well."""


def message_of(error: BaseException) -> str:
    """The message of an exception, with its causes (``raise … from …``) after colons."""
    messages: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(messages) < CAUSES_MAX:
        messages.append(_words(cause))
        cause = cause.__cause__
    return ": ".join(messages)


def _words(error: BaseException) -> str:
    # A bare `KeyError('id')` has no words but its key.
    if isinstance(error, KeyError) and len(error.args) == 1:
        return f"there is no {error.args[0]!r}"
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__
