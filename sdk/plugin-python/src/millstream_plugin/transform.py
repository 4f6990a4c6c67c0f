"""A plugin: a function from a record to any number of records, its configuration, and the loop that calls it for every record
of a batch. The same loop runs in a component and in tests."""

import inspect
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, get_type_hints

from . import report
from .columns import Batch, records
from .config import read_config
from .failure import message_of
from .output import Output

P = ParamSpec("P")

_SHAPE = (
    "a transform is `def name(record: Record, config: Config, out: Output) -> None`, "
    "the configuration (a dataclass) may be left out"
)


class Transform(Generic[P]):
    """A function that ``@transform`` made a plugin. Calling it calls the function."""

    def __init__(self, function: Callable[P, None]) -> None:
        if not inspect.isfunction(function):
            raise TypeError(_SHAPE)
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("a transform is neither async nor a generator: it writes to `out`")
        parameters = list(inspect.signature(function).parameters)
        if len(parameters) not in (2, 3):
            raise TypeError(_SHAPE)
        self.function = function
        self.has_config = len(parameters) == 3
        self._config_name = parameters[1] if self.has_config else None
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        self.function(*args, **kwargs)

    def configure(self, value: Any) -> Any:
        """Checks a step's ``with`` and fills in defaults; raises with a message for the pipeline's author."""
        if self._config_name is None:
            return read_config(None, value)
        hints = get_type_hints(self.function, include_extras=True)
        if self._config_name not in hints:
            raise TypeError(f"the parameter `{self._config_name}` needs the type of the configuration: {_SHAPE}")
        return read_config(hints[self._config_name], value)

    def run(self, config: Any, batch: Batch, out: Output, reject: Callable[[int, str], None]) -> None:
        """Runs the function over one batch; ``reject`` gets each failing record's index and message."""
        report._set_now(max(batch.timestamps, default=0))
        function: Callable[..., None] = self.function
        for index, record in enumerate(records(batch)):
            out._begin_record(record)
            try:
                if self.has_config:
                    function(record, config, out)
                else:
                    function(record, out)
            except Exception as error:
                out._roll_back()
                reject(index, message_of(error))


def transform(function: Callable[P, None]) -> Transform[P]:
    """Makes a function the plugin's transform: ``(record, config, out)``, or the same without a configuration. ``Config`` is a
    dataclass; it is read from the step's ``with``. A module has one transform."""
    return Transform(function)
