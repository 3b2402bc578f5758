"""Namespaces: filling in defaults, checking values, taking ports over."""

import types

import pytest

from plumpy.ports import InputPort, Port, PortNamespace, PortValidationError
from plumpy.utils import AttributesFrozendict


def namespace(_name="n", _options=None, **ports):
    """Make a namespace of ports; a dictionary stands for the options of an input."""
    result = PortNamespace(_name, **(_options or {}))
    for name, port in ports.items():
        result[name] = port if isinstance(port, Port) else InputPort(name, **port)
    return result


def problem(error):
    assert isinstance(error, PortValidationError), error
    return error.port, error.message


class TestMapping:
    def test_is_a_mapping_of_names_to_ports(self):
        ns = namespace(a={}, b={})
        assert list(ns) == ["a", "b"]
        assert len(ns) == 2
        assert "a" in ns
        assert ns.ports == dict(ns)
        del ns["a"]
        assert list(ns) == ["b"]
        with pytest.raises(KeyError):
            ns["a"]

    def test_takes_only_ports(self):
        with pytest.raises(TypeError, match="instance of Port"):
            PortNamespace("n")["a"] = 5

    def test_is_equal_by_content_and_not_hashable(self):
        assert PortNamespace("a") == PortNamespace("b")
        with pytest.raises(TypeError):
            hash(PortNamespace("a"))

    def test_get_port_follows_a_path(self):
        ns = namespace(s=namespace("s", b={}))
        assert ns.get_port("s.b") is ns["s"]["b"]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("x", "port 'x' does not exist in port namespace 'n'"),
            ("s.x", "port 'x' does not exist in port namespace 's'"),
            ("a.b", "'a' in port namespace 'n' is no namespace"),
            ("", "empty string"),
            ("s.", "empty string"),
            (5, "has to be a string"),
        ],
    )
    def test_get_port_says_what_is_missing(self, name, text):
        with pytest.raises(ValueError, match=text):
            namespace(a={}, s=namespace("s")).get_port(name)

    def test_get_port_ignores_create_dynamically(self):
        with (
            pytest.warns(DeprecationWarning, match="create_dynamically"),
            pytest.raises(ValueError),
        ):
            PortNamespace("n", dynamic=True).get_port("x", create_dynamically=True)

    def test_create_port_namespace_creates_what_is_missing(self):
        ns = PortNamespace("n")
        inner = ns.create_port_namespace("s.t.u", help="h", required=False)
        assert ns["s"]["t"]["u"] is inner
        assert (inner.help, inner.required) == ("h", False)
        assert (ns["s"].help, ns["s"].required) == (None, True)
        assert ns.create_port_namespace("s.t.u", help="other") is inner
        assert inner.help == "h"

    def test_create_port_namespace_does_not_go_through_ports(self):
        with pytest.raises(ValueError, match="the name 'a' in 'n' already contains a Port"):
            namespace(a={}).create_port_namespace("a.t")

    def test_namespaces_in_a_subclass_are_of_the_subclass_and_go_through_setitem(self):
        seen = []

        class Mine(PortNamespace):
            def __setitem__(self, key, port):
                seen.append((self.name, key))
                super().__setitem__(key, port)

        Mine("n").create_port_namespace("s.t")
        assert seen == [("n", "s"), ("s", "t")]

    def test_description(self):
        ns = namespace(a={"valid_type": int}, s=namespace("s", {"dynamic": True}))
        attrs = {
            "default": (),
            "dynamic": False,
            "valid_type": "None",
            "required": "True",
            "help": None,
        }
        assert ns.get_description() == {
            "_attrs": attrs,
            "a": {"name": "a", "required": "True", "valid_type": "<class 'int'>"},
            "s": {"_attrs": {**attrs, "dynamic": True}},
        }

    def test_a_valid_type_makes_a_namespace_dynamic_and_none_leaves_it_so(self):
        ns = PortNamespace("n", valid_type=int, dynamic=False)
        assert ns.dynamic
        ns.valid_type = None
        assert ns.dynamic
        ns.dynamic = False
        assert not ns.dynamic


class TestPreProcess:
    def test_given_values_come_first_then_defaults(self):
        ns = namespace(a={"default": 1}, b={}, c={"default": 3})
        result = ns.pre_process({"z": 0, "c": 9})
        assert list(result.items()) == [("z", 0), ("c", 9), ("a", 1)]
        assert type(result) is AttributesFrozendict

    def test_every_namespace_becomes_a_frozen_dictionary(self):
        ns = namespace(s=namespace("s", t=namespace("t", b={"default": 3})))
        result = ns.pre_process({"s": {"other": {"plain": 1}}})
        assert type(result.s) is AttributesFrozendict
        assert result.s.t == {"b": 3}
        assert type(result.s["other"]) is dict

    def test_values_may_be_any_mapping(self):
        ns = namespace(s=namespace("s", b={"default": 3}))
        given = types.MappingProxyType({"s": AttributesFrozendict(a=1)})
        assert ns.pre_process(given) == {"s": {"a": 1, "b": 3}}

    def test_given_values_are_not_changed(self):
        given = {"s": {}}
        namespace(s=namespace("s", b={"default": 3})).pre_process(given)
        assert given == {"s": {}}

    def test_callable_defaults_are_called_each_time(self):
        ns = namespace(a={"default": list})
        assert ns.pre_process({}).a is not ns.pre_process({}).a

    def test_a_namespace_without_a_value_is_there_if_it_has_ports(self):
        ns = namespace(
            empty=PortNamespace("empty"), some=namespace("some", {"required": False}, a={})
        )
        ns["some"]["a"].required = False
        assert ns.pre_process({}) == {"some": {}}

    def test_a_namespace_can_have_a_default(self):
        ns = namespace(s=namespace("s", {"default": {"a": 1}}, b={"default": 2}))
        assert ns.pre_process({}) == {"s": {"a": 1, "b": 2}}
        assert ns.pre_process({"s": {}}) == {"s": {"b": 2}}
        ns["s"].default = lambda: {"c": 3}
        assert ns.pre_process({}) == {"s": {"c": 3, "b": 2}}

    def test_defaults_may_be_left_out_where_nothing_is_given(self):
        ns = namespace(s=namespace("s", {"populate_defaults": False}, b={"default": 2}))
        assert ns.pre_process({}) == {}
        assert ns.pre_process({"s": {}}) == {"s": {"b": 2}}

    def test_a_subclass_may_pre_process_itself(self):
        class Mine(PortNamespace):
            def pre_process(self, port_values):
                return AttributesFrozendict(mine=dict(port_values))

        assert namespace(s=Mine("s")).pre_process({"s": {"a": 1}}) == {"s": {"mine": {"a": 1}}}

    def test_a_changed_port_is_noticed(self):
        ns = namespace(s=namespace("s", b={"default": 2}))
        assert ns.pre_process({}) == {"s": {"b": 2}}
        ns["s"]["b"].default = 3
        assert ns.pre_process({}) == {"s": {"b": 3}}
        ns["s"]["c"] = InputPort("c", default=4)
        assert ns.pre_process({}) == {"s": {"b": 3, "c": 4}}
        del ns["s"]["b"]
        ns.ports["d"] = InputPort("d", default=5)
        assert ns.pre_process({}) == {"s": {"c": 4}, "d": 5}

    def test_what_is_no_mapping_at_all_is_an_error(self):
        with pytest.raises(TypeError, match="have to be a mapping, not 5"):
            PortNamespace("n").pre_process(5)


class TestValidate:
    def test_declared_ports_are_checked_in_the_order_of_their_definition(self):
        ns = namespace(a={"valid_type": int}, b={"valid_type": int})
        assert ns.validate({"b": 1, "a": 2}) is None
        assert problem(ns.validate({"b": "x", "a": "x"}))[0] == "n.a"
        assert problem(ns.validate({"b": 1})) == (
            "n.a",
            "required value was not provided for 'a'",
        )

    def test_the_path_of_an_error_begins_with_the_breadcrumbs(self):
        ns = namespace(s=namespace("s", b={}))
        assert problem(ns.validate({"s": {}}, ("top",)))[0] == "top.n.s.b"

    @pytest.mark.parametrize("values", [None, {}, ()])
    def test_no_values_are_fine_if_none_are_required(self, values):
        assert namespace(_options={"required": False}, a={}).validate(values) is None
        assert problem(namespace(a={}).validate(values))[0] == "n.a"

    def test_unexpected_values_are_named(self):
        ns = namespace(s=namespace("s"))
        assert problem(ns.validate({"s": {"w": 2}})) == (
            "n.s",
            "Unexpected ports {'w': 2}, for a non dynamic namespace",
        )

    def test_dynamic_values_are_checked_by_type_at_any_depth(self):
        ns = PortNamespace("d", valid_type=int)
        assert ns.validate({"x": 1, "y": {"z": {"q": 2}}, "e": {}}) is None
        assert problem(ns.validate({"x": "s"})) == (
            "d.x",
            "Invalid type <class 'str'> for dynamic port value: expected <class 'int'>",
        )
        assert problem(ns.validate({"x": {"y": {"z": "s"}}}))[0] == "d.x.d.y.d.z"

    def test_a_namespace_that_is_dynamic_takes_anything(self):
        assert PortNamespace("d", dynamic=True).validate({"x": object()}) is None

    def test_the_validator_gets_a_dictionary_of_all_values(self):
        seen = []
        ns = namespace(
            _options={"dynamic": True, "validator": lambda *args: seen.append(args)}, a={}
        )
        given = {"a": 1, "z": 2}
        assert ns.validate(AttributesFrozendict(given)) is None
        assert seen == [(given, ns)]
        assert type(seen[0][0]) is dict

    def test_the_validator_is_asked_last(self):
        ns = namespace(_options={"validator": lambda values, port: "bad"}, a={"valid_type": int})
        assert problem(ns.validate({"a": "s"}))[0] == "n.a"
        assert problem(ns.validate({"a": 1, "z": 1}))[1].startswith("Unexpected")
        assert problem(ns.validate({"a": 1})) == ("n", "bad")

    def test_what_a_validator_does_to_the_dictionary_changes_nothing(self):
        given = {"a": 1}
        ns = namespace(_options={"validator": lambda values, port: values.clear()}, a={})
        assert ns.validate(given) is None
        assert given == {"a": 1}

    def test_port_validators_are_asked(self):
        ns = namespace(a={"validator": lambda value, port: f"{port.name} {value}"})
        assert problem(ns.validate({"a": 1})) == ("n.a", "a 1")
        ns["a"].validator = lambda value, port: 5
        with pytest.raises(AssertionError, match="non string type"):
            ns.validate({"a": 1})
        ns["a"].validator = lambda value: "one"
        with pytest.warns(UserWarning, match="single argument"):
            assert problem(ns.validate({"a": 1})) == ("n.a", "one")

    def test_a_port_class_may_validate_itself(self):
        class Mine(InputPort):
            def validate(self, value, breadcrumbs=()):
                return PortValidationError(f"mine {value}", ".".join((*breadcrumbs, self.name)))

        ns = namespace(a=Mine("a"))
        assert problem(ns.validate({})) == ("n.a", "mine ()")
        assert problem(ns.validate({"a": 1})) == ("n.a", "mine 1")

    def test_a_namespace_class_may_validate_itself(self):
        class Mine(PortNamespace):
            def validate(self, port_values=None, breadcrumbs=()):
                return PortValidationError(f"mine {port_values}", ".".join(breadcrumbs))

        ns = namespace(s=Mine("s"))
        assert problem(ns.validate({})) == ("n", "mine None")
        assert problem(ns.validate({"s": {"a": 1}})) == ("n", "mine {'a': 1}")

    def test_a_namespace_class_may_validate_dynamic_ports_itself(self):
        class Mine(PortNamespace):
            def validate_dynamic_ports(self, port_values, breadcrumbs=()):
                return PortValidationError(f"mine {port_values}", "p")

        ns = namespace(s=Mine("s", dynamic=True))
        assert problem(ns.validate({"s": {"a": 1}})) == ("p", "mine {'a': 1}")

    def test_a_changed_port_is_noticed(self):
        ns = namespace(s=namespace("s", b={"valid_type": int}))
        assert ns.validate({"s": {"b": 1}}) is None
        ns["s"]["b"].valid_type = str
        assert problem(ns.validate({"s": {"b": 1}}))[0] == "n.s.b"
        ns["s"]["b"].valid_type = None
        ns["s"].validator = lambda values, port: "no"
        assert problem(ns.validate({"s": {"b": 1}})) == ("n.s", "no")

    def test_validate_ports_takes_out_what_it_checks(self):
        ns = namespace(a={"valid_type": int})
        values = {"a": 1, "z": 2}
        assert ns.validate_ports(values, ("q",)) is None
        assert values == {"z": 2}
        assert problem(ns.validate_ports({"a": "s"}, ("q",)))[0] == "q.a"

    def test_project_keeps_what_has_a_port(self):
        """Values of a namespace are kept as they are: it may be dynamic. So it was in 0.26.1."""
        ns = namespace(a={}, s=namespace("s", b={}))
        nested = {"b": 3, "y": 4}
        assert ns.project({"a": 1, "z": 2, "s": nested}) == {"a": 1, "s": nested}
        assert ns.project({"s": 5}) == {"s": 5}


class TestAbsorb:
    @pytest.fixture
    def source(self):
        source = namespace(
            a={"default": 1},
            ns=namespace("ns", b={}, sub=namespace("sub", c={})),
            nsx=namespace("nsx", d={}),
        )
        source.help, source.dynamic = "of the source", True
        return source

    @staticmethod
    def paths(ns, prefix=""):
        result = []
        for name, port in ns.items():
            result.append(prefix + name)
            if isinstance(port, PortNamespace):
                result += TestAbsorb.paths(port, f"{prefix}{name}.")
        return result

    def absorbed(self, source, **options):
        target = PortNamespace("target")
        names = target.absorb(source, **options)
        assert names == list(target)
        return self.paths(target)

    EVERYTHING = ("a", "ns", "ns.b", "ns.sub", "ns.sub.c", "nsx", "nsx.d")

    @pytest.mark.parametrize(
        ("exclude", "left_out"),
        [
            (None, []),
            ([], []),
            (("nothing",), []),
            (("a",), ["a"]),
            (("ns",), ["ns", "ns.b", "ns.sub", "ns.sub.c"]),
            (["ns.b", "nsx.d"], ["ns.b", "nsx.d"]),
            (["ns.sub"], ["ns.sub", "ns.sub.c"]),
        ],
    )
    def test_exclude(self, source, exclude, left_out):
        expected = [path for path in self.EVERYTHING if path not in left_out]
        assert self.absorbed(source, exclude=exclude) == expected

    @pytest.mark.parametrize(
        ("include", "taken"),
        [
            (["a"], ["a"]),
            (("ns",), ["ns", "ns.b", "ns.sub", "ns.sub.c"]),
            (["ns.b"], ["ns", "ns.b"]),
            (["ns.sub"], ["ns", "ns.sub", "ns.sub.c"]),
            (["ns.sub.c", "a"], ["a", "ns", "ns.sub", "ns.sub.c"]),
            (["ns", "ns.b"], ["ns", "ns.b", "ns.sub", "ns.sub.c"]),
            (["nothing"], []),
        ],
    )
    def test_include(self, source, include, taken):
        assert self.absorbed(source, include=include) == taken

    def test_exclude_and_include_exclude_each_other(self, source):
        with pytest.raises(ValueError, match="mutually exclusive"):
            PortNamespace().absorb(source, exclude=[], include=[])

    def test_rules_that_are_no_sequence_are_an_error(self, source):
        with pytest.raises(TypeError, match="set"):
            PortNamespace().absorb(source, exclude={"a"})

    def test_ports_are_copies(self, source):
        target = PortNamespace("target")
        target.absorb(source)
        assert target["a"] is not source["a"]
        assert target["ns"] is not source["ns"]
        target["ns"]["b"].required = False
        assert source["ns"]["b"].required

    def test_properties_come_along_but_not_the_name(self, source):
        target = PortNamespace("target")
        target.absorb(source)
        assert (target.name, target.help, target.dynamic) == ("target", "of the source", True)

    def test_options_overrule_properties_and_stay_as_they_are(self, source):
        target = PortNamespace("target")
        options = {"help": "mine", "dynamic": False, "required": False}
        target.absorb(source, namespace_options=options)
        assert (target.help, target.dynamic, target.required) == ("mine", False, False)
        assert options == {"help": "mine", "dynamic": False, "required": False}

    def test_unknown_options_are_an_error(self, source):
        with pytest.raises(ValueError, match=r"\['bad'\], is not a supported"):
            PortNamespace().absorb(source, namespace_options={"bad": 1})

    def test_only_properties_of_plumpy_itself_are_handled_the_rest_is_copied_with_the_object(self):
        class Mine(PortNamespace):
            non_db = False

        source = PortNamespace("n")
        source["s"] = Mine("s")
        source["s"].non_db = True
        target = PortNamespace("target")
        target.absorb(source)
        assert type(target["s"]) is Mine
        assert target["s"].non_db is True

    def test_existing_ports_stay_or_are_replaced(self, source):
        target = namespace("target", a={"default": 9}, keep={})
        target.absorb(source)
        assert target["a"].default == 1
        assert "keep" in target

    def test_strip_namespace(self):
        strip = PortNamespace.strip_namespace
        assert strip("a", ".", ["a.b", "a", "c.d", "ab.c"]) == ["b"]
        assert strip("a", ".", None) is None
        assert strip("x", ".", ["a.b"]) == []
