"""Processes whose checkpoints, written by plumpy 0.26.1, are the files in this directory.

The module is imported under this name by the script that makes the files and by the tests that
read them, with the released package and with this one.
"""

import plumpy
from plumpy import if_, while_


class CodedError(Exception):
    """Has a constructor that pickle and YAML cannot call again."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Waiter(plumpy.Process):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("number", valid_type=int, default=5)
        spec.input("nested.text", valid_type=str, required=False)
        spec.outputs.dynamic = True

    async def run(self):
        return plumpy.Wait(self.after, "for a push", {"since": [1, 2]})

    def after(self, value=None):
        self.out("value", value)
        return 7


class Failing(plumpy.Process):
    async def run(self):
        raise ValueError("no good", 3)


class Counting(plumpy.WorkChain):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("limit", valid_type=int, default=3)
        spec.outputs.dynamic = True
        spec.outline(
            cls.start,
            while_(cls.below_limit)(cls.count, if_(cls.is_even)(cls.note_even).else_(cls.note_odd)),
            cls.finish,
        )

    def start(self):
        self.ctx.count = 0
        self.ctx.notes = []

    def below_limit(self):
        return self.ctx.count < self.inputs.limit

    def count(self):
        self.ctx.count += 1

    def is_even(self):
        return self.ctx.count % 2 == 0

    def note_even(self):
        self.ctx.notes.append("even")

    def note_odd(self):
        self.ctx.notes.append("odd")

    def finish(self):
        self.out("notes", list(self.ctx.notes))
