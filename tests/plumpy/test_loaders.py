"""Identifiers of objects, and what looking one up may do."""

import collections
import sys

import pytest

from plumpy import loaders
from plumpy.loaders import DefaultObjectLoader, ObjectLoader

LOADER = DefaultObjectLoader()


class Outer:
    class Inner:
        pass


def function():
    pass


def same_name():
    class Outer:
        pass

    return Outer


@pytest.fixture
def module_on_path(tmp_path, monkeypatch):
    """Write a module that leaves a mark when it is imported; return its name and the mark."""
    mark = tmp_path / "imported"
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(name, text):
        path = tmp_path.joinpath(*name.split("."))
        for parent in reversed(path.relative_to(tmp_path).parents):
            (tmp_path / parent).mkdir(exist_ok=True)
        for parent in list(path.relative_to(tmp_path).parents)[:-1]:
            init = tmp_path / parent / "__init__.py"
            if not init.exists():
                init.write_text(f"open({str(mark)!r}, 'w').close()\n")
        path.with_suffix(".py").write_text(f"open({str(mark)!r}, 'w').close()\n{text}\n")
        names.append(name)
        return mark

    yield write
    for name in names:
        for part in [name, name.split(".")[0]]:
            sys.modules.pop(part, None)


@pytest.mark.parametrize("obj", [Outer, function, collections.OrderedDict, DefaultObjectLoader])
def test_an_identifier_leads_back_to_its_object(obj):
    assert LOADER.load_object(LOADER.identify_object(obj)) is obj


def test_an_identifier_is_the_module_and_the_name():
    assert LOADER.identify_object(DefaultObjectLoader) == "plumpy.loaders:DefaultObjectLoader"


@pytest.mark.parametrize("obj", [Outer.Inner, same_name()])
def test_objects_that_could_not_be_found_again_have_no_identifier(obj):
    with pytest.raises(ValueError, match="top level of a module"):
        LOADER.identify_object(obj)


@pytest.mark.parametrize(
    "identifier",
    [
        "os",
        "os:path:join",
        "os.path.join",
        "",
        ":",
        ":name",
        "collections:",
        "no_such_module:name",
        "collections:no_such_name",
        "collections.no_such_module:name",
        "..:x",
        "a b:c",
    ],
)
def test_a_bad_identifier_is_a_value_error(identifier):
    with pytest.raises(ValueError, match=r"identifier|object"):
        LOADER.load_object(identifier)


def test_a_module_is_imported_for_a_class_that_it_defines(module_on_path):
    mark = module_on_path("defines_it", "class Thing: pass")
    assert LOADER.load_object("defines_it:Thing").__name__ == "Thing"
    assert mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        "from collections import OrderedDict as Thing",
        "Thing = dict",
        "try:\n    import json as Thing\nexcept ImportError:\n    Thing = None",
        "if True:\n    def Thing(): pass",
        "from os.path import *\nThing = 1",
        "def __getattr__(name): return name",
    ],
)
def test_a_module_is_imported_for_a_name_that_it_binds_in_another_way(module_on_path, text):
    module_on_path("binds_it", text)
    assert LOADER.load_object("binds_it:Thing") is not None


def test_a_module_in_a_package_is_imported(module_on_path):
    module_on_path("some_package.inner", "class Thing: pass")
    assert LOADER.load_object("some_package.inner:Thing").__module__ == "some_package.inner"


@pytest.mark.parametrize(
    "text", ["", "class Other: pass", "def f():\n    Thing = 1", "class A:\n    Thing = 1", "1 +"]
)
def test_a_module_without_the_name_is_not_imported(module_on_path, text):
    mark = module_on_path("side_effect", text)
    with pytest.raises(ValueError, match="side_effect"):
        LOADER.load_object("side_effect:Thing")
    assert not mark.exists()


def test_a_package_is_not_imported_for_a_module_without_the_name(module_on_path):
    mark = module_on_path("package_too.inner", "class Other: pass")
    with pytest.raises(ValueError, match="does not define it"):
        LOADER.load_object("package_too.inner:Thing")
    assert not mark.exists()


def test_a_module_that_fails_on_import_is_a_value_error(module_on_path):
    module_on_path("fails", "class Thing: pass\nimport no_such_module_at_all")
    with pytest.raises(ValueError, match="no_such_module_at_all"):
        LOADER.load_object("fails:Thing")


def test_standard_modules_are_not_imported_for_a_name():
    """`antigravity` opens a web browser when it is imported; it does bind `webbrowser`."""
    with pytest.raises(ValueError, match="standard module"):
        LOADER.load_object("antigravity:webbrowser")
    assert "antigravity" not in sys.modules


def test_a_class_built_from_a_function_has_the_identifier_of_the_function():
    """AiiDA makes a process class of a function and keeps the function under its name."""
    built = type("function", (), {"__module__": __name__})
    assert LOADER.identify_object(built) == f"{__name__}:function"


def test_the_global_loader_is_the_default_one_until_another_is_set():
    class Mine(ObjectLoader):
        def load_object(self, identifier):
            return identifier

        def identify_object(self, obj):
            return "x"

    assert isinstance(loaders.get_object_loader(), DefaultObjectLoader)
    mine = Mine()
    loaders.set_object_loader(mine)
    try:
        assert loaders.get_object_loader() is mine
    finally:
        loaders.set_object_loader(None)
    assert isinstance(loaders.get_object_loader(), DefaultObjectLoader)
