"""``flow`` and ``step``: each call of a decorated function is a run.

They record and nothing else: arguments, result, exceptions and timing are those of the function.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar, overload

from lamindb_plain.calls import Call

F = TypeVar("F", bound=Callable[..., Any])


@overload
def flow(function: F) -> F: ...
@overload
def flow(*, name: str | None = None) -> Callable[[F], F]: ...
def flow(function: Any = None, *, name: str | None = None) -> Any:
    """Record each call of a function as the run of a pipeline, which steps are part of."""
    if function is None:
        return functools.partial(flow, name=name)
    return _recorded(function, name, is_flow=True)


@overload
def step(function: F) -> F: ...
@overload
def step(*, name: str | None = None) -> Callable[[F], F]: ...
def step(function: Any = None, *, name: str | None = None) -> Any:
    """Record each call of a function as a run inside of the one that calls it.

    Its parameters are its arguments; its inputs the files that it is given or reads; its outputs
    those that it writes or returns. Works for plain, async and generator functions and methods, in
    threads and in processes.
    """
    if function is None:
        return functools.partial(step, name=name)
    return _recorded(function, name, is_flow=False)


def _recorded(function: Any, name: str | None, *, is_flow: bool) -> Any:
    if isinstance(function, staticmethod | classmethod):
        return type(function)(_recorded(function.__func__, name, is_flow=is_flow))
    start = functools.partial(Call, function, name, is_flow)
    if inspect.isasyncgenfunction(function):
        wrapper: Any = _of_async_generator(function, start)
    elif inspect.iscoroutinefunction(function):
        wrapper = _of_coroutine(function, start)
    elif inspect.isgeneratorfunction(function):
        wrapper = _of_generator(function, start)
    else:
        wrapper = _of_function(function, start)
    return functools.wraps(function)(wrapper)


def _of_function(function: Any, start: Callable[..., Call]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        run = start(args, options)
        try:
            result = function(*args, **options)
        except BaseException as error:
            run.fail(error)
            raise
        run.give(result)
        run.end()
        return result

    return call


def _of_coroutine(function: Any, start: Callable[..., Call]) -> Callable[..., Any]:
    async def call(*args: Any, **options: Any) -> Any:
        run = start(args, options)
        try:
            result = await function(*args, **options)
        except BaseException as error:
            run.fail(error)
            raise
        run.give(result)
        run.end()
        return result

    return call


def _of_generator(function: Any, start: Callable[..., Call]) -> Callable[..., Iterator[Any]]:
    def call(*args: Any, **options: Any) -> Any:
        run = start(args, options)
        run.pause()
        try:
            generator = function(*args, **options)
            act, given = generator.send, None
            while True:
                try:
                    with run.resumed():
                        item = act(given)
                except StopIteration as stop:
                    run.give(stop.value)
                    run.end()
                    return stop.value
                run.give(item)
                try:
                    act, given = generator.send, (yield item)
                except GeneratorExit:
                    with run.resumed():
                        generator.close()
                    run.end()
                    raise
                except BaseException as error:
                    act, given = generator.throw, error
        except GeneratorExit:
            raise
        except BaseException as error:
            run.fail(error)
            raise

    return call


def _of_async_generator(
    function: Any, start: Callable[..., Call]
) -> Callable[..., AsyncIterator[Any]]:
    async def call(*args: Any, **options: Any) -> Any:
        run = start(args, options)
        run.pause()
        try:
            generator = function(*args, **options)
            act, given = generator.asend, None
            while True:
                try:
                    with run.resumed():
                        item = await act(given)
                except StopAsyncIteration:
                    run.end()
                    return
                run.give(item)
                try:
                    act, given = generator.asend, (yield item)
                except GeneratorExit:
                    with run.resumed():
                        await generator.aclose()
                    run.end()
                    raise
                except BaseException as error:
                    act, given = generator.athrow, error
        except GeneratorExit:
            raise
        except BaseException as error:
            run.fail(error)
            raise

    return call
