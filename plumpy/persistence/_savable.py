"""Objects that can be turned into a saved state, a dictionary of plain values, and back."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ..base.utils import call_with_super_check, function_of_hook, super_check, unchecked
from ..loaders import DefaultObjectLoader, ObjectLoader, get_object_loader
from ..utils import SAVED_STATE_TYPE
from ._context import LoadSaveContext, PrivateSave
from ._copy import IMMUTABLE, PLAIN, copied

META = "!!meta"
META__CLASS_NAME = "class_name"
META__USER = "user"
META__TYPES = "types"
META__TYPE__METHOD = "m"
META__TYPE__SAVABLE = "S"
META__OBJECT_LOADER = "object_loader"
META__VERSION = "version"

# The format of bundles. Raise it when something is stored that an older release would misread.
FORMAT_VERSION = 1

SavableClsType = TypeVar("SavableClsType", bound="type[Savable]")


class Lazy(property):
    """A savable member that comes into being when it is asked for.

    Until then its saved form is known, and it is neither made to be saved nor to be loaded.

    :param form: makes the form of a member that is not there yet, by the names of the default
        loader
    :param is_absent: whether the member is not there, and would be saved in that form in this
        context
    """

    def __init__(
        self,
        getter: Callable[[Any], Any],
        setter: Callable[[Any, Any], None],
        form: Callable[[], SAVED_STATE_TYPE],
        is_absent: Callable[[Any, LoadSaveContext | None], bool],
    ) -> None:
        super().__init__(getter, setter)
        self.form = form
        self.expected_form = form()
        self.is_absent = is_absent


class Savable:
    """An object that can be saved into and loaded from a dictionary.

    Name the members to be stored with :func:`auto_persist`; override
    :meth:`save_instance_state` and :meth:`load_instance_state` (and call ``super()``) for the rest.
    An object is loaded without its constructor being called.
    """

    CLASS_NAME: str = "class_name"

    _auto_persist: set[str] | None = None
    _persist_configured = False
    #: Members that come into being when they are asked for, by name.
    _lazy_members: Mapping[str, Lazy] = types.MappingProxyType({})

    @classmethod
    def auto_persist(cls, *members: str) -> None:
        """Add members to those that are stored without further ado."""
        if "_auto_persist" not in cls.__dict__:
            cls._auto_persist = set(cls._auto_persist or ())
        assert cls._auto_persist is not None
        cls._auto_persist.update(members)

    @classmethod
    def persist(cls) -> None:
        """Hook for subclasses to call :meth:`auto_persist` in, before the first save or load."""

    @staticmethod
    def load(saved_state: SAVED_STATE_TYPE, load_context: LoadSaveContext | None = None) -> Savable:
        """Make a new object from a saved state.

        :param load_context: handed to the ``load_instance_state`` of the class
        :raises ValueError: if the class that the state names is not there or cannot be saved
        """
        if load_context is None or load_context.loader is None:
            load_context = _ensure_object_loader(load_context, saved_state)
        loader: Any = load_context.loader
        try:
            class_name = saved_state[META][META__CLASS_NAME]
        except KeyError:
            raise ValueError("Class name not found in saved state") from None
        load_cls = loader.load_object(class_name)
        recreate = getattr(load_cls, "recreate_from", None)
        if not callable(recreate):
            raise ValueError(f"`{class_name}` from a saved state is not a class that can be loaded")
        return recreate(saved_state, load_context)  # type: ignore[no-any-return]

    @classmethod
    def recreate_from(
        cls, saved_state: SAVED_STATE_TYPE, load_context: LoadSaveContext | None = None
    ) -> Savable:
        """Make a new object of this class from a saved state, without calling the constructor."""
        if load_context is None or load_context.loader is None:
            load_context = _ensure_object_loader(load_context, saved_state)
        obj = cls.__new__(cls)
        load = function_of_hook(cls, "load_instance_state")
        if load is not None:
            load(obj, saved_state, load_context)
        else:
            call_with_super_check(obj.load_instance_state, saved_state, load_context)
        return obj

    @super_check
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: LoadSaveContext | None
    ) -> None:
        """Set this object up from a saved state. Overriding methods must call ``super()``."""
        cls = type(self)
        if "_persist_configured" not in cls.__dict__:
            cls._ensure_persist_configured()
        if cls._auto_persist:
            self.load_members(cls._auto_persist, saved_state, load_context)

    @super_check
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: LoadSaveContext | None
    ) -> None:
        """Put the state of this object into ``out_state``. Overriding methods call ``super()``."""
        cls = type(self)
        if "_persist_configured" not in cls.__dict__:
            cls._ensure_persist_configured()
        members = cls._auto_persist
        if not members:
            return
        if cls.save_members is Savable.save_members:
            self._save_members(members, out_state, save_context)
        else:
            self.save_members(members, out_state)

    def save(self, save_context: LoadSaveContext | None = None) -> SAVED_STATE_TYPE:
        """Return the saved state of this object.

        :param save_context: its loader, if any, identifies the classes and is named in the state,
            so that a later load finds them by the same one
        :raises ValueError: if the class of this object could not be found again at load time
        """
        meta: dict[str, Any] = {}
        loader = None if save_context is None else save_context.loader
        if loader is None:
            loader = get_object_loader()
        else:
            name = get_object_loader().identify_object(type(loader))
            meta[META__USER] = {META__OBJECT_LOADER: name}
        meta[META__CLASS_NAME] = loader.identify_object(type(self))
        meta[META__VERSION] = FORMAT_VERSION
        out_state: SAVED_STATE_TYPE = {META: meta}
        save = function_of_hook(type(self), "save_instance_state")
        if save is not None:
            save(self, out_state, save_context)
            if type(save_context) is PrivateSave:
                save_context.states[id(out_state)] = out_state
        else:
            context = LoadSaveContext() if save_context is None else save_context
            call_with_super_check(self.save_instance_state, out_state, context)
        return out_state

    def save_members(self, members: Iterable[str], out_state: SAVED_STATE_TYPE) -> None:
        """Store members of this object: copies of plain values, own methods by name, and the saved
        state of whatever is savable itself.

        :raises TypeError: for a method of another object
        """
        self._save_members(members, out_state, None)

    def load_members(
        self,
        members: Iterable[str],
        saved_state: SAVED_STATE_TYPE,
        load_context: LoadSaveContext | None = None,
    ) -> None:
        """Set members of this object from what :meth:`save_members` stored."""
        member_types = saved_state[META].get(META__TYPES, ())
        for member in members:
            value = saved_state[member]
            if member in member_types:
                lazy = self._lazy_members.get(member)
                if (
                    lazy is not None
                    and value == lazy.expected_form
                    and load_context is not None
                    and type(load_context.loader) is DefaultObjectLoader
                ):
                    continue
                value = self._get_value(saved_state, member, load_context)
            setattr(self, member, value)

    @staticmethod
    def set_custom_meta(out_state: SAVED_STATE_TYPE, name: str, value: Any) -> None:
        """Store a note of the user's own beside the state."""
        Savable._get_create_meta(out_state).setdefault(META__USER, {})[name] = value

    @staticmethod
    def get_custom_meta(saved_state: SAVED_STATE_TYPE, name: str) -> Any:
        """Return what :meth:`set_custom_meta` stored.

        :raises ValueError: if there is no such note
        """
        try:
            return saved_state[META][META__USER][name]
        except KeyError:
            raise ValueError(f"Unknown meta key '{name}'") from None

    def _save_members(
        self,
        members: Iterable[str],
        out_state: SAVED_STATE_TYPE,
        save_context: LoadSaveContext | None,
    ) -> None:
        lazy_members = self._lazy_members
        made = save_context.values if type(save_context) is PrivateSave else {}
        for member in members:
            if member in lazy_members and lazy_members[member].is_absent(self, save_context):
                form = out_state[member] = lazy_members[member].form()
                _set_type(out_state, member, META__TYPE__SAVABLE)
                made[id(form)] = form
                continue
            value = getattr(self, member)
            kind = type(value)
            if kind in IMMUTABLE:
                out_state[member] = value
            elif kind in PLAIN:
                copy = out_state[member] = copied(value, member) if value else kind()
                made[id(copy)] = copy
            elif isinstance(value, types.MethodType):
                if value.__self__ is not self:
                    raise TypeError(
                        f"Cannot persist methods of other classes: `{member}` of "
                        f"{type(self).__name__} is {value!r}"
                    )
                _set_type(out_state, member, META__TYPE__METHOD)
                out_state[member] = value.__name__
            elif isinstance(value, Savable):
                _set_type(out_state, member, META__TYPE__SAVABLE)
                out_state[member] = value.save(save_context)
            else:
                copy = out_state[member] = copied(value, member)
                made[id(copy)] = copy

    @classmethod
    def _ensure_persist_configured(cls) -> None:
        if "_persist_configured" not in cls.__dict__:
            cls._persist_configured = True
            cls.persist()

    @staticmethod
    def _get_create_meta(out_state: SAVED_STATE_TYPE) -> dict[str, Any]:
        meta: dict[str, Any] = out_state.setdefault(META, {})
        return meta

    @staticmethod
    def _set_class_name(out_state: SAVED_STATE_TYPE, name: str) -> None:
        out_state.setdefault(META, {})[META__CLASS_NAME] = name

    @staticmethod
    def _get_class_name(saved_state: SAVED_STATE_TYPE) -> str:
        try:
            name: str = saved_state[META][META__CLASS_NAME]
        except KeyError:
            raise ValueError("Class name not found in saved state") from None
        return name

    @staticmethod
    def _set_meta_type(out_state: SAVED_STATE_TYPE, name: str, type_spec: Any) -> None:
        _set_type(out_state, name, type_spec)

    @staticmethod
    def _get_meta_type(saved_state: SAVED_STATE_TYPE, name: str) -> Any:
        try:
            return saved_state[META][META__TYPES][name]
        except KeyError:
            return None

    def _get_value(
        self, saved_state: SAVED_STATE_TYPE, name: str, load_context: LoadSaveContext | None
    ) -> Any:
        value = saved_state[name]
        type_spec = Savable._get_meta_type(saved_state, name)
        if type_spec == META__TYPE__SAVABLE:
            return Savable.load(value, load_context)
        if type_spec == META__TYPE__METHOD:
            method = getattr(self, value)
            if not isinstance(method, types.MethodType) or method.__self__ is not self:
                raise ValueError(
                    f"`{name}` in the saved state of {type(self).__name__} names {value!r}, "
                    "which is not one of its methods"
                )
            return method
        return value


def _set_type(out_state: SAVED_STATE_TYPE, name: str, type_spec: Any) -> None:
    meta = out_state[META] if META in out_state else out_state.setdefault(META, {})
    if META__TYPES in meta:
        meta[META__TYPES][name] = type_spec
    else:
        meta[META__TYPES] = {name: type_spec}


#: What the hooks come to that nothing overrides.
load_own_members: Callable[..., None] = unchecked[Savable.load_instance_state]
save_own_members: Callable[..., None] = unchecked[Savable.save_instance_state]


def auto_persist(*members: str) -> Callable[[SavableClsType], SavableClsType]:
    """Class decorator: store these members, and those of the parent class, with the object."""

    def wrapped(savable_cls: SavableClsType) -> SavableClsType:
        savable_cls.auto_persist(*members)
        return savable_cls

    return wrapped


def loader_of(saved_state: SAVED_STATE_TYPE) -> ObjectLoader | None:
    """Return the global loader, unless the state names one that has to be looked for."""
    return None if META__USER in saved_state[META] else get_object_loader()


def _ensure_object_loader(
    context: LoadSaveContext | None, saved_state: SAVED_STATE_TYPE
) -> LoadSaveContext:
    """Return the context with a loader: its own, or the one the state names, or the global one."""
    if context is None:
        context = LoadSaveContext()
    elif context.loader is not None:
        return context
    loader = get_object_loader()
    meta = saved_state.get(META)
    if meta and META__USER in meta and META__OBJECT_LOADER in meta[META__USER]:
        name = meta[META__USER][META__OBJECT_LOADER]
        loader_class = loader.load_object(name)
        if not (isinstance(loader_class, type) and issubclass(loader_class, ObjectLoader)):
            raise ValueError(f"`{name}`, named as the loader of a saved state, is no ObjectLoader")
        loader = loader_class()
    return context._with_loader(loader)
