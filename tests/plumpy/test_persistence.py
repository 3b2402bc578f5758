"""Saving and loading single objects: members, contexts, bundles, futures, YAML."""

import asyncio
import copy
import pickle
import subprocess
import sys
import uuid
from unittest import mock

import pytest
import yaml

import plumpy
from plumpy import persistence
from plumpy.exceptions import PersistenceError
from plumpy.loaders import DefaultObjectLoader
from plumpy.persistence import Bundle, LoadSaveContext, Savable, SavableFuture, auto_persist


@auto_persist("value", "callback")
class Thing(Savable):
    def __init__(self, value=None):
        self.value = value
        self.callback = self.method

    def method(self):
        return self.value


@auto_persist("inner")
class Holder(Thing):
    inner = None


class CallsNoSuper(Savable):
    def save_instance_state(self, out_state, save_context):
        pass


class ByAnotherName(DefaultObjectLoader):
    """Identifies classes by a prefix, so that the default loader cannot find them."""

    def identify_object(self, obj):
        return "other-" + super().identify_object(obj)

    def load_object(self, identifier):
        if not identifier.startswith("other-"):
            raise ValueError(f"{identifier} is from another loader")
        return super().load_object(identifier.removeprefix("other-"))


class TestSavable:
    def test_members_are_stored_by_name_with_the_class(self):
        assert Thing([1]).save() == {
            "!!meta": {
                "class_name": f"{__name__}:Thing",
                "types": {"callback": "m"},
                "version": 1,
            },
            "value": [1],
            "callback": "method",
        }

    def test_loading_calls_no_constructor(self):
        state = Thing(3).save()
        with mock.patch.object(Thing, "__init__", side_effect=AssertionError):
            loaded = Savable.load(state)
        assert (type(loaded), loaded.value) == (Thing, 3)
        assert loaded.callback == loaded.method

    def test_values_are_copied(self):
        thing = Thing({"a": [1, {2}]})
        state = thing.save()
        thing.value["a"].append(3)
        assert state["value"] == {"a": [1, {2}]}

    def test_copies_keep_shared_references_and_cycles(self):
        shared = []
        thing = Thing([shared, shared])
        thing.value.append(thing.value)
        value = thing.save()["value"]
        assert value[0] is value[1]
        assert value[2] is value
        assert value[0] is not shared

    def test_members_of_the_parent_class_are_stored_too_but_not_the_other_way_round(self):
        assert Holder._auto_persist == {"value", "callback", "inner"}
        assert Thing._auto_persist == {"value", "callback"}

    def test_savable_members_are_stored_as_their_state(self):
        holder = Holder(1)
        holder.inner = Thing(2)
        loaded = Savable.load(holder.save())
        assert (type(loaded.inner), loaded.inner.value) == (Thing, 2)

    def test_methods_of_other_objects_cannot_be_stored(self):
        thing = Thing()
        thing.callback = Thing().method
        with pytest.raises(TypeError, match="Cannot persist methods of other classes"):
            thing.save()

    def test_what_cannot_be_copied_is_named_by_its_path(self):
        with pytest.raises(PersistenceError, match=r"`value\.x\[1\]\.y`.*generator"):
            Thing({"x": [1, {"y": (i for i in "a")}]}).save()

    def test_a_stored_method_must_be_one_of_the_object(self):
        state = Thing().save()
        for name in ("__class__", "value", "no_such_method"):
            state["callback"] = name
            with pytest.raises((ValueError, AttributeError)):
                Savable.load(state)

    def test_an_override_has_to_call_super(self):
        with pytest.raises(AssertionError, match="save_instance_state"):
            CallsNoSuper().save()

    def test_persist_is_called_before_the_first_save(self):
        class Late(Savable):
            @classmethod
            def persist(cls):
                super().persist()
                cls.auto_persist("late")

        with mock.patch.dict(vars(sys.modules[__name__]), Late=Late):
            late = Late()
            late.late = 5
            assert late.save()["late"] == 5
            assert late.save()["late"] == 5

    def test_a_class_that_could_not_be_found_again_is_refused_when_it_is_saved(self):
        class Local(Savable):
            pass

        with pytest.raises(ValueError, match="top level of a module"):
            Local().save()

    @pytest.mark.parametrize("state", [{}, {"!!meta": {}}])
    def test_a_state_without_a_class_cannot_be_loaded(self, state):
        with pytest.raises(ValueError, match="Class name not found in saved state"):
            Savable.load(state)

    def test_notes_can_be_stored_with_a_state(self):
        state = Thing().save()
        Savable.set_custom_meta(state, "mine", 5)
        assert Savable.get_custom_meta(state, "mine") == 5
        with pytest.raises(ValueError, match="Unknown meta key 'other'"):
            Savable.get_custom_meta(state, "other")

    def test_a_custom_loader_is_used_for_everything_inside_too(self):
        holder = Holder(1)
        holder.inner = Thing(2)
        state = holder.save(LoadSaveContext(loader=ByAnotherName()))
        assert state["!!meta"]["class_name"] == f"other-{__name__}:Holder"
        assert state["inner"]["!!meta"]["class_name"] == f"other-{__name__}:Thing"
        loaded = Savable.load(state, LoadSaveContext(loader=ByAnotherName()))
        assert loaded.inner.value == 2


class TestLoadSaveContext:
    def test_values_are_attributes(self):
        context = LoadSaveContext(x=1, y=2)
        assert (context.x, "x" in context, "z" in context) == (1, True, False)
        with pytest.raises(AttributeError, match="item 'z' not found"):
            context.z

    def test_copies_have_more_values_and_the_same_loader(self):
        loader = DefaultObjectLoader()
        context = LoadSaveContext(loader=loader, x=1)
        other = context.copyextend(x=2, y=3)
        assert (other.x, other.y, other.loader, context.x) == (2, 3, loader, 1)
        assert context.copyextend(loader=None).loader is None

    def test_contexts_can_be_copied_and_pickled(self):
        context = LoadSaveContext(x=1)
        for other in (copy.copy(context), copy.deepcopy(context)):
            assert other.x == 1
        assert pickle.loads(pickle.dumps(context)).x == 1


class TestBundle:
    def test_is_the_state_and_loads_it(self):
        bundle = Bundle(Thing([1]))
        assert isinstance(bundle, dict)
        assert bundle["value"] == [1]
        assert bundle.unbundle().value == [1]

    def test_dereference_shares_nothing_with_the_object(self):
        class References(Savable):
            def save_instance_state(self, out_state, save_context):
                super().save_instance_state(out_state, save_context)
                out_state["live"] = live

        live = [1]
        with mock.patch.dict(vars(sys.modules[__name__]), References=References):
            assert Bundle(References())["live"] is live
            assert Bundle(References(), dereference=True)["live"] is not live

    def test_has_the_version_of_its_format(self):
        assert Bundle(Thing())["!!meta"]["version"] == 1

    def test_is_equal_to_what_the_object_saves(self):
        """As in 0.26.1, whose users compare the two."""
        assert Bundle(Thing([1])) == Thing([1]).save()

    def test_a_later_format_is_refused(self):
        bundle = Bundle(Thing())
        bundle["!!meta"]["version"] = 2
        with pytest.raises(PersistenceError, match="format 2, this release reads up to 1"):
            bundle.unbundle()

    def test_no_version_means_an_earlier_release(self):
        bundle = Bundle(Thing(3))
        del bundle["!!meta"]["version"]
        assert bundle.unbundle().value == 3

    def test_pickles(self):
        assert pickle.loads(pickle.dumps(Bundle(Thing([1])))).unbundle().value == [1]


class TestYaml:
    @pytest.mark.parametrize("loader", [yaml.Loader, yaml.FullLoader, yaml.UnsafeLoader])
    def test_bundles_and_uuids_have_tags_of_their_own(self, loader):
        bundle = Bundle(Thing([uuid.UUID(int=3)]))
        text = yaml.dump(bundle)
        assert text.startswith("!plumpy:Bundle\n")
        assert "!uuid '00000000-0000-0000-0000-000000000003'" in text
        loaded = yaml.load(text, Loader=loader)
        assert (type(loaded), loaded) == (Bundle, bundle)

    def test_subclasses_of_the_default_classes_inherit_the_tags(self):
        class Dumper(yaml.Dumper):
            pass

        class Loader(yaml.Loader):
            pass

        value = {"id": uuid.UUID(int=3), "bundle": Bundle(Thing())}
        assert yaml.load(yaml.dump(value, Dumper=Dumper), Loader=Loader) == value

    def test_process_classes_are_names(self):
        assert yaml.dump(plumpy.Process) == "!!python/name:plumpy.processes.Process ''\n"

    def test_a_bundle_may_contain_itself(self):
        bundle = Bundle(Thing())
        bundle["self"] = bundle
        loaded = yaml.load(yaml.dump(bundle), Loader=yaml.FullLoader)
        assert loaded["self"] is loaded

    def test_the_safe_loader_is_left_alone(self):
        with pytest.raises(yaml.YAMLError):
            yaml.safe_load("!uuid '00000000-0000-0000-0000-000000000003'")

    def test_the_tags_are_the_only_change_to_pyyaml(self):
        code = (
            "import yaml\n"
            "tables = ['yaml_constructors', 'yaml_multi_constructors', 'yaml_representers',"
            " 'yaml_multi_representers', 'yaml_implicit_resolvers']\n"
            "classes = [getattr(yaml, n) for n in dir(yaml) if n.endswith(('Loader', 'Dumper'))]\n"
            "look = lambda: {(c.__name__, t, repr(k)) for c in classes for t in tables"
            " for k in getattr(c, t, ())}\n"
            "before = look()\n"
            "import plumpy\n"
            "print(sorted((c, k) for c, t, k in look() - before))\n"
        )
        shown = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        added = {(cls, key.split(".")[-1].strip("'>")) for cls, key in eval(shown)}
        loaders = {
            (cls, tag)
            for cls in ("FullLoader", "Loader", "UnsafeLoader")
            for tag in ("!plumpy:Bundle", "!uuid")
        }
        assert added == loaders | {("Dumper", "Bundle"), ("Dumper", "UUID")}


class TestSavableFuture:
    async def test_a_pending_future_is_pending_again(self):
        state = SavableFuture(loop=asyncio.get_running_loop()).save()
        assert state == {
            "!!meta": {"class_name": "plumpy.persistence:SavableFuture"},
            "_state": "PENDING",
            "_result": None,
        }
        assert not Savable.load(state).done()

    async def test_a_result_comes_back(self):
        future = SavableFuture(loop=asyncio.get_running_loop())
        result = [1]
        future.set_result(result)
        state = future.save()
        result.append(2)
        assert Savable.load(state).result() == [1]

    async def test_an_exception_comes_back_and_nobody_has_to_look_at_it_again(self):
        future = SavableFuture(loop=asyncio.get_running_loop())
        future.set_exception(KeyError("k"))
        problems = []
        asyncio.get_running_loop().set_exception_handler(lambda *args: problems.append(args))
        loaded = Savable.load(future.save())
        assert repr(loaded.exception()) == "KeyError('k')"
        loaded = Savable.load(future.save())
        del loaded, future
        assert problems == []

    async def test_the_loop_of_the_context_is_taken(self):
        state = SavableFuture(loop=asyncio.get_running_loop()).save()
        loop = asyncio.new_event_loop()
        try:
            assert Savable.load(state, LoadSaveContext(loop=loop)).get_loop() is loop
        finally:
            loop.close()

    def test_any_future_can_be_saved_as_one(self):
        future = asyncio.Future(loop=mock.Mock())
        future.set_result(3)
        assert persistence.saved_future(future)["_result"] == 3
