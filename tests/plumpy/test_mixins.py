"""The context of a process."""

from __future__ import annotations

import asyncio

import plumpy


class WithContext(plumpy.ContextMixin, plumpy.Process):
    pass


def test_context_is_saved_with_the_process() -> None:
    loop = asyncio.new_event_loop()
    process = WithContext(loop=loop)
    process.ctx.number = 5
    bundle = plumpy.Bundle(process, dereference=True)
    assert bundle["_context"] == {"number": 5}
    loaded = bundle.unbundle(plumpy.LoadSaveContext(loop=loop))
    assert isinstance(loaded, WithContext)
    assert loaded.ctx.number == 5
    assert loaded.pid == process.pid
    assert loaded.uuid == process.uuid
    loop.close()
