"""A simulated GPU for machines without one: it computes on the CPU, reports ``cuda:0``, and refuses what CUDA refuses.

    python simulated_gpu.py                                # tests itself: deliberate mistakes must raise
    python simulated_gpu.py [--count] script.py arguments  # a script of yours, on the simulated GPU
    simulated_gpu.install()                                # in a process, from here on
    simulated_gpu.install("mps")                           # the same for a Mac's GPU, which knows no float64
    with simulated_gpu.simulated(): ...                    # undone afterwards

The process must not have run a backward before ``prepare()`` or ``install()``: autograd makes its threads then.

Inside, ``torch.cuda.is_available()`` is True, ``device="cuda"`` and ``.cuda()`` work, and

* an operation that mixes device and CPU tensors raises RuntimeError "Expected all tensors to be on the same device"
  (0-dim CPU tensors may join pointwise operations, CPU indices may index device tensors, as on CUDA);
* ``.numpy()`` and ``np.asarray`` of a device tensor raise TypeError;
* in inference mode as well; subclasses of Tensor stay subclasses;
* integer matrix products raise ``"addmm_cuda" not implemented for 'Long'``; a CPU generator for a device tensor raises;
* the backward of a GRU or LSTM that ran in evaluation mode raises, as cuDNN's does, and weights that no longer lie in
  one block (a deepcopy on the device) warn, as cuDNN does;
* random numbers on the device come from a generator of their own (seeded by ``torch.manual_seed``, kept by
  ``torch.cuda.get_rng_state_all``), so that a resume that forgets it shows.

As ``mps`` it reports ``mps:0``, refuses float64 as Metal does, and leaves out what is cuDNN's; that the operations
themselves are there on a Mac it cannot tell.

``with simulated_gpu.counting() as seen`` counts what costs time on a GPU: ``seen.syncs`` (the host waits for the
device: ``.item()``, ``.tolist()``, ``bool()``, ``nonzero``, a boolean index, ``.cpu()``, and a copy to the device
without ``non_blocking``), each with the line of code, ``seen.kernels`` and ``seen.h2d_bytes``.

How: a tensor subclass on torch's ``privateuseone`` device, whose ``__torch_dispatch__`` sees every ATen operation, in
forward and backward alike (composite operations arrive decomposed, as CUDA would run them), checks it, and runs it on
the CPU tensor underneath. Only the property ``device`` says "cuda:0". Factories and ``.to`` are patched to translate.

Limits: no speed, no memory, no streams, no asynchrony, no float differences of CUDA kernels, no autocast, one device;
C++ that asks "is it CUDA?" (fused kernels, cuDNN, foreach optimisers) takes the general path, so kernels of the
optimiser are overcounted; two backends in one process (``torch.compile``, multiprocess CUDA) are out of reach.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import runpy
import sys
import threading
import warnings

import numpy as np
import torch
from torch import nn
from torch.overrides import get_default_nowrap_functions
from torch.utils._device import _device_constructors
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _DummyPrivateUse1Hook,
    _setup_privateuseone_for_python_backend,
)

aten = torch.ops.aten
HERE = os.path.abspath(__file__)
CUDA = torch.device("cuda", 0)
NAME = "simgpu"
MIXED = "Expected all tensors to be on the same device, but found at least two devices, {} and cpu! (in {})"
NUMPY = "can't convert {} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
NO_FLOAT64 = (
    "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. Please use float32 "
    "instead."
)
_there = CUDA  # what the device calls itself


# ------------------------------------------------------------------------------------------------ what is counted


class Seen:
    """Counts: ``syncs`` by (kind, place), ``kernels`` (operations that launch something), ``h2d`` and ``d2h`` bytes."""

    def __init__(self):
        self.syncs: collections.Counter = collections.Counter()
        self.kernels = 0
        self.h2d_bytes = self.d2h_bytes = 0

    def total(self, *kinds: str) -> int:
        """How often the host waited, for these kinds or for any."""
        return sum(n for (kind, _), n in self.syncs.items() if not kinds or kind in kinds)

    def table(self, steps: int = 1) -> str:
        """One line for each kind and place, per step."""
        rows = sorted(self.syncs.items(), key=lambda item: -item[1])
        return "\n".join(f"{n / steps:8.2f}  {kind:14s} {place}" for (kind, place), n in rows)


_counters: list[Seen] = []


@contextlib.contextmanager
def counting():
    """Count inside; nests."""
    seen = Seen()
    _counters.append(seen)
    try:
        yield seen
    finally:
        _counters.remove(seen)


def _place() -> str:
    """The line of the caller's own code: the first frame that is neither this file's nor a library's."""
    frame, innermost = sys._getframe(2), None
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(HERE) and "torch/_ops.py" not in name and "<frozen" not in name:
            innermost = innermost or f"{os.path.basename(name)}:{frame.f_lineno}"
            if "site-packages" not in name and "/lib/python3" not in name:
                return (
                    f"{os.path.relpath(name)}:{frame.f_lineno}" if name.startswith("/") else f"{name}:{frame.f_lineno}"
                )
        frame = frame.f_back
    return innermost or "(autograd's own backward)"


def _sync(kind: str, bytes_down: int = 0) -> None:
    if _counters:
        place = _place()
        for seen in _counters:
            seen.syncs[kind, place] += 1
            seen.d2h_bytes += bytes_down


def _upload(size: int, blocking: bool) -> None:
    if _counters:
        place = _place()
        for seen in _counters:
            seen.h2d_bytes += size
            if blocking:
                seen.syncs["copy to device", place] += 1


# ------------------------------------------------------------------------------------------------ the device's rules

# Operations that may meet CPU tensors with axes.
_COPIES = {aten.copy_.default, aten._to_copy.default, aten.copy.default}
_INDEX = {aten.index.Tensor: 1, aten.index_put_.default: 1, aten.index_put.default: 1, aten._index_put_impl_.default: 1,
          aten._unsafe_index.Tensor: 1, aten._unsafe_index_put.default: 1}  # fmt: skip
_LENGTHS_ON_CPU = {aten._pack_padded_sequence.default}
_SCALARS_JOIN = {
    "index_put_", "index_put", "_index_put_impl_", "fill_", "fill", "masked_fill", "masked_fill_", "index_fill",
    "index_fill_", "where", "copy_",
}  # fmt: skip
_MATRIX = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "vdot", "addbmm"}
# The host must know the size or the value before it goes on.
_WAITS = {
    "_local_scalar_dense": "item/bool", "nonzero": "nonzero", "masked_select": "masked_select", "equal": "equal",
    "unique_dim": "unique", "_unique2": "unique", "unique_consecutive": "unique", "_unique": "unique",
    "bincount": "bincount", "histc": "histc", "linalg_svd": "linalg", "_linalg_svd": "linalg",
    "_linalg_eigh": "linalg", "linalg_qr": "linalg", "linalg_inv_ex": "linalg", "multinomial": "multinomial",
    "segment_reduce": "segment_reduce",
}  # fmt: skip
_INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool}


class DeviceTensor(torch.Tensor):
    """A tensor of the simulated device; the numbers are in ``_elem``, on the CPU."""

    @staticmethod
    def __new__(cls, elem: torch.Tensor):
        if _there.type == "mps" and elem.dtype in (torch.float64, torch.complex128):
            raise TypeError(NO_FLOAT64)
        with torch.inference_mode(False) if torch.is_inference_mode_enabled() else contextlib.nullcontext():
            tensor = torch.Tensor._make_wrapper_subclass(
                cls, elem.size(), strides=elem.stride(), storage_offset=elem.storage_offset(), dtype=elem.dtype,
                layout=elem.layout, device=torch.device(NAME, 0), requires_grad=False,
            )  # fmt: skip
        tensor._elem = elem
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    # What C++ would answer for a tensor of that device.
    device = property(lambda self: _there)
    is_cuda = property(lambda self: _there.type == "cuda")
    is_mps = property(lambda self: _there.type == "mps")
    is_cpu = property(lambda self: False)

    def get_device(self):
        return 0

    def numpy(self, *, force=False):
        if not force:
            raise TypeError(NUMPY.format(_there))
        return self.detach().cpu().numpy()

    def tolist(self):
        return self.detach().cpu().tolist()

    def as_subclass(self, cls):
        if cls is torch.Tensor:
            cls = DeviceTensor
        tensor = aten.alias.default(self)
        tensor.__class__ = cls if issubclass(cls, DeviceTensor) else _on_device(cls)
        return tensor

    def __array__(self, dtype=None, copy=None):
        raise TypeError(NUMPY.format(_there))

    def __dlpack__(self, **kwargs):
        raise BufferError("the simulated device does not export its memory")

    def data_ptr(self):
        return self._elem.data_ptr()

    def untyped_storage(self):
        return self._elem.untyped_storage()

    def __repr__(self, **kwargs):
        _sync("print")
        text = repr(self._elem)
        return f"{text[:-1]}, device='{_there}'{', requires_grad=True' if self.requires_grad else ''})"

    def __format__(self, spec):
        return self.item().__format__(spec) if self.dim() == 0 else object.__format__(self, spec)

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        if not self.is_leaf:
            raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support deepcopy")
        new = DeviceTensor(self._elem.clone()).requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            new._is_param = True
        if self.grad is not None:
            new.grad = self.grad.__deepcopy__(memo)
        memo[id(self)] = new
        return new

    def __reduce_ex__(self, protocol):
        _sync("save", self._elem.nbytes)
        return _rebuilt, (self._elem.detach().clone(), self.requires_grad, bool(getattr(self, "_is_param", False)))

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, other):
        if not isinstance(other, DeviceTensor) or other.shape != self.shape:
            raise NotImplementedError("the simulated device takes .data of its own tensors, of the same shape")
        self._elem = other._elem


class _Propagating(DeviceTensor):
    """What a subclass of Tensor without a ``__torch_dispatch__`` inherits: results are of the subclass, too."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        return result if func in get_default_nowrap_functions() else cls._like(result)

    @classmethod
    def _like(cls, result):
        if isinstance(result, torch.Tensor) and not isinstance(result, cls):
            return result.as_subclass(cls if isinstance(result, DeviceTensor) else cls._on_host)
        if isinstance(result, list | tuple):
            parts = [cls._like(part) for part in result]
            return type(result)(parts)
        return result


@functools.cache
def _on_device(cls: type) -> type:
    """Somebody's subclass of Tensor, on the device."""
    return type(cls.__name__, (cls, _Propagating), {"_on_host": cls})


def _rebuilt(elem: torch.Tensor, requires_grad: bool, parameter: bool) -> torch.Tensor:
    """What torch.load makes of a saved device tensor; where ``map_location`` says CPU, a CPU tensor."""
    if _state.map_location is not None and _there.type not in str(_state.map_location):
        return elem.requires_grad_(requires_grad)
    tensor = DeviceTensor(elem).requires_grad_(requires_grad)
    if parameter:
        tensor._is_param = True
    return tensor


class _State(threading.local):
    map_location = None


_state = _State()


def _leaves(values, found):
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            _leaves(value, found)
    return found


def _unwrap(value):
    if isinstance(value, DeviceTensor):
        return value._elem
    if isinstance(value, torch.device):
        return torch.device("cpu")
    if isinstance(value, list):
        return [_unwrap(v) for v in value]
    if isinstance(value, tuple):
        return tuple(_unwrap(v) for v in value)
    return value


def _run(func, args, kwargs):
    """One ATen operation that touches the device: checked, counted, computed."""
    if torch.is_inference_mode_enabled() and _is_composite(func):  # else autograd has taken it apart already
        return func.decompose(*args, **kwargs)
    tensors = _leaves([*args, *kwargs.values()], [])
    name = func._schema.name.partition("::")[2]
    _check(func, name, args, kwargs, tensors)
    to_cpu = _count(func, name, args, kwargs)
    random = torch.Tag.nondeterministic_seeded in func.tags and name != "native_dropout_backward"
    with _own_random_numbers() if random else contextlib.nullcontext():
        out = func(*_unwrap(tuple(args)), **{key: _unwrap(value) for key, value in kwargs.items()})
    if to_cpu:
        return out
    known = {id(t._elem): t for t in tensors if isinstance(t, DeviceTensor)}
    if func in _LENGTHS_ON_CPU:
        return DeviceTensor(out[0]), out[1]
    if func is aten.copy_.default and not isinstance(args[0], DeviceTensor):
        return out
    return _wrap(out, known, name)


@functools.cache
def _is_composite(func) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def _wrap(out, known, name):
    if isinstance(out, torch.Tensor):
        mine = known.get(id(out))
        if mine is None:
            return DeviceTensor(out)
        if mine.shape != out.shape or mine.stride() != out.stride():
            raise NotImplementedError(f"the simulated device cannot change a shape in place ({name})")
        return mine
    if isinstance(out, list | tuple):
        parts = [_wrap(part, known, name) for part in out]
        return type(out)(parts) if type(out) in (list, tuple) else type(out)(*parts)
    return out


def _check(func, name, args, kwargs, tensors) -> None:
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type == "cpu":
        raise RuntimeError(f"Expected a '{_there.type}' device type for generator but found 'cpu'")
    if name in _MATRIX:
        first = next(t for t in tensors if isinstance(t, DeviceTensor))
        if first.dtype in _INTEGERS:
            kind = str(first.dtype).removeprefix("torch.")
            kind = {"int64": "Long", "int32": "Int", "bool": "Bool"}.get(kind, kind.capitalize())
            raise NotImplementedError(f"\"addmm_cuda\" not implemented for '{kind}'")
    if func in _LENGTHS_ON_CPU:
        if isinstance(args[1], DeviceTensor):
            raise RuntimeError("'lengths' argument should be a 1D CPU int64 tensor, but got 1D cuda Long tensor")
        return
    strangers = [t for t in tensors if not isinstance(t, DeviceTensor)]
    if not strangers or func in _COPIES:
        return
    if name in ("_pack_padded_sequence_backward",):
        return
    if func in _INDEX:
        if not isinstance(args[0], DeviceTensor):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        indices = {id(t) for t in _leaves([args[_INDEX[func]]], [])}
        strangers = [t for t in strangers if id(t) not in indices]
    scalars = torch.Tag.pointwise in func.tags or name in _SCALARS_JOIN
    if any(t.dim() or not scalars for t in strangers):
        raise RuntimeError(MIXED.format(_there, func))


def _count(func, name, args, kwargs) -> bool:
    """Count the operation; True where its result lies on the CPU."""
    if func is aten._to_copy.default:
        device = kwargs.get("device")
        if isinstance(args[0], DeviceTensor):
            if device is not None and device.type == "cpu":
                if not kwargs.get("non_blocking"):
                    _sync("copy to CPU", args[0]._elem.nbytes)
                return True
        else:
            _upload(args[0].nbytes, not kwargs.get("non_blocking"))
    elif func is aten.copy_.default:
        blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        if not isinstance(args[1], DeviceTensor):
            _upload(args[1].nbytes, blocking)
        elif not isinstance(args[0], DeviceTensor) and blocking:
            _sync("copy to CPU", args[1]._elem.nbytes)
    elif name in _WAITS:
        _sync(_WAITS[name])
        if name == "_local_scalar_dense":
            return True
        if name == "equal":
            return True
    elif name == "repeat_interleave" and kwargs.get("output_size") is None:
        _sync("repeat_interleave")
    elif func in _INDEX:
        for index in args[1]:
            if index is None:
                continue
            if index.dtype in (torch.bool, torch.uint8):
                value = args[2] if len(args) > 2 else None
                if value is None or value.numel() != 1 or isinstance(value, DeviceTensor):
                    _sync("boolean index")
            elif not isinstance(index, DeviceTensor):
                _upload(index.nbytes, True)
    if _counters and not _is_view(func):
        for seen in _counters:
            seen.kernels += 1
    return False


@functools.cache
def _is_view(func) -> bool:
    returns = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


# ------------------------------------------------------------------------------------------------ its random numbers

_device_state = torch.Generator().manual_seed(0).get_state()


@contextlib.contextmanager
def _own_random_numbers():
    global _device_state
    host = torch.default_generator.get_state()
    torch.default_generator.set_state(_device_state)
    try:
        yield
    finally:
        _device_state = torch.default_generator.get_state()
        torch.default_generator.set_state(host)


def _seed_device(seed) -> None:
    global _device_state
    # not the CPU's numbers of the same seed
    _device_state = (
        torch.Generator().manual_seed((int(seed) * 6364136223846793005 + 1442695040888963407) % 2**63).get_state()
    )


def _device_rng_states():
    return [_device_state.clone()]


def _set_device_rng_states(states) -> None:
    global _device_state
    states = list(states)
    if not states:
        return
    if isinstance(states[0], DeviceTensor) or states[0].dtype != torch.uint8:
        raise TypeError("RNG state must be a torch.ByteTensor")
    _device_state = states[0].clone()


# ------------------------------------------------------------------------------------------------ kernels without input

_FACTORIES = [
    "empty.memory_format", "empty_strided", "zeros", "ones", "full", "arange", "arange.start", "arange.start_step",
    "eye", "eye.m", "linspace", "logspace", "rand", "randn", "randint", "randint.low", "randperm", "scalar_tensor",
    "tril_indices", "triu_indices", "empty_permuted",
]  # fmt: skip


def _factory(name: str):
    base, _, overload = name.partition(".")
    op = getattr(getattr(aten, base), overload or "default")
    random = torch.Tag.nondeterministic_seeded in op.tags

    def made(*args, **kwargs):
        kwargs.pop("pin_memory", None)
        kwargs["device"] = torch.device("cpu")
        if _counters and not base.startswith("empty"):
            for seen in _counters:
                seen.kernels += 1
        with _own_random_numbers() if random else contextlib.nullcontext():
            return DeviceTensor(op(*args, **kwargs))

    return made


_library = None


class _Hook(_DummyPrivateUse1Hook):
    def is_available(self) -> bool:
        return _saved is not None


def prepare() -> None:
    """Once a process, before its first backward: autograd makes its threads for the devices that it knows then.

    Does nothing to tensors elsewhere. :func:`install` does it, too.
    """
    global _library
    if _library is not None:
        return
    module = _DummyBackendModule()
    for key, value in {
        "is_available": lambda: _saved is not None, "device_count": lambda: int(_saved is not None),
        "current_device": lambda: 0, "_is_in_bad_fork": lambda: False, "manual_seed_all": _seed_device,
        "manual_seed": _seed_device, "get_rng_state": lambda *a: _device_state.clone(),
        "set_rng_state": lambda state, *a: _set_device_rng_states([state]), "synchronize": lambda *a: None,
        "get_amp_supported_dtype": lambda: [torch.bfloat16, torch.float16], "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
    }.items():  # fmt: skip
        setattr(module, key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _setup_privateuseone_for_python_backend(rename=NAME, backend_module=module, hook=_Hook())
    _library = torch.library.Library("aten", "IMPL")
    for name in _FACTORIES:
        _library.impl(name, _factory(name), "PrivateUse1")
    # Reached where C++ leaves Python out, as it does when it makes an index of a list.
    for op in (aten.copy_.default, aten._local_scalar_dense.default, aten._to_copy.default):
        _library.impl(op, lambda *args, _op=op, **kwargs: _run(_op, args, kwargs), "PrivateUse1")
    torch.serialization.add_safe_globals([_rebuilt])
    try:
        probe = DeviceTensor(torch.ones(1)).requires_grad_(True)
        (probe * 2).sum().backward()
    except RuntimeError as error:
        raise RuntimeError("simulated_gpu.prepare() must come before the first backward of the process") from error


# ------------------------------------------------------------------------------------------------ patches

_MAKERS = [
    "empty",
    "empty_permuted",
    "empty_strided",
    "ones",
    "arange",
    "eye",
    "full",
    "linspace",
    "logspace",
    "rand",
    "randn",
    "randint",
    "randperm",
    "range",
    "tril_indices",
    "triu_indices",
    "zeros",
    "scalar_tensor",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "rand_like",
    "randn_like",
    "randint_like",
]
_FROM_DATA = ["tensor", "as_tensor", "asarray"]
_METHODS = ["to", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "type"]


def _is_there(value) -> bool:
    return (isinstance(value, str) and value.partition(":")[0] == _there.type) or (
        isinstance(value, torch.device) and value.type == _there.type
    )


def _translated(function):
    def call(*args, **kwargs):
        if any(map(_is_there, args)) or _is_there(kwargs.get("device")):
            args = tuple(torch.device(NAME, 0) if _is_there(a) else a for a in args)
            if _is_there(kwargs.get("device")):
                kwargs["device"] = torch.device(NAME, 0)
        return function(*args, **kwargs)

    call.__name__ = getattr(function, "__name__", "call")
    call.__wrapped__ = function
    return call


def _from_data(function):
    def call(data, *args, device=None, **kwargs):
        if isinstance(data, DeviceTensor):
            if _is_there(device) or device is None:
                return data.to(kwargs["dtype"]) if kwargs.get("dtype") else data
            return data.to("cpu", *([kwargs["dtype"]] if kwargs.get("dtype") else []))
        if isinstance(data, list | tuple) and any(isinstance(x, DeviceTensor) for x in data):
            data = [x.item() if isinstance(x, DeviceTensor) and x.dim() == 0 else x for x in data]  # one wait each
        if not _is_there(device):
            return function(data, *args, **kwargs, **({} if device is None else {"device": device}))
        grad = kwargs.pop("requires_grad", False)
        return function(data, *args, **kwargs).detach().to(torch.device(NAME, 0)).requires_grad_(grad)

    call.__wrapped__ = function
    return call


def _apply(self, fn, recurse=True):
    """nn.Module._apply that keeps each parameter's identity between CPU and device, as CUDA does."""
    if recurse:
        for module in self.children():
            module._apply(fn)
    for param in self._parameters.values():
        if param is None:
            continue
        with torch.no_grad():
            applied = fn(param)
        if applied is param:
            continue
        grad = param.grad
        param.grad = None
        if isinstance(param, DeviceTensor) == isinstance(applied, DeviceTensor) and not isinstance(param, DeviceTensor):
            param.data = applied
        else:
            torch.utils.swap_tensors(param, nn.Parameter(applied, requires_grad=param.requires_grad))
        if grad is not None:
            with torch.no_grad():
                param.grad = fn(grad)
    for key, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[key] = fn(buffer)
    return self


_flat: set = set()  # pointers of RNN weights that lie in one block


def _flatten_parameters(self) -> None:
    weights = getattr(self, "_flat_weights", [])
    if weights and all(isinstance(w, DeviceTensor) for w in weights):
        _flat.add(tuple(w.data_ptr() for w in weights))


NOT_FLAT = (
    "RNN module weights are not part of single contiguous chunk of memory. This means they need to be compacted at "
    "every call, possibly greatly increasing memory usage. To compact weights again call flatten_parameters()."
)


class _Cudnn(torch.autograd.Function):
    """A whole recurrent network as one operation with a backward of its own, as in cuDNN."""

    @staticmethod
    def forward(ctx, real, args, training, *tensors):
        copies = {id(t): t._elem.detach().requires_grad_(t.is_floating_point()) for t in tensors}
        with torch.enable_grad(), _own_random_numbers():
            out = real(*_replaced(args, copies))
        ctx.inputs, ctx.out, ctx.training = list(copies.values()), out, training
        return tuple(DeviceTensor(part.detach()) for part in out)

    @staticmethod
    def backward(ctx, *grads):
        if not ctx.training:
            raise RuntimeError("cudnn RNN backward can only be called in training mode")
        out, grads = zip(*((o, g._elem) for o, g in zip(ctx.out, grads, strict=True) if g is not None), strict=True)
        found = torch.autograd.grad(out, ctx.inputs, grads, allow_unused=True)
        return None, None, None, *(None if g is None else DeviceTensor(g) for g in found)


def _replaced(value, copies):
    if isinstance(value, DeviceTensor):
        return copies[id(value)]
    if isinstance(value, list | tuple):
        return type(value)(_replaced(v, copies) for v in value)
    return value


def _rnn(real):
    def call(*args):
        tensors = _leaves(args, [])
        device = [t for t in tensors if isinstance(t, DeviceTensor)]
        if not device:
            return real(*args)
        packed = isinstance(args[1], torch.Tensor) and args[1].dtype == torch.int64
        allowed = {id(args[1])} if packed else set()
        if any(not isinstance(t, DeviceTensor) and id(t) not in allowed for t in tensors):
            raise RuntimeError(
                f"Input and parameter tensors are not at the same device, found input tensor at {_there} and parameter "
                "tensor at cpu"
            )
        weights = next(a for a in args if isinstance(a, list))
        cudnn = _there.type == "cuda"
        if cudnn and tuple(w.data_ptr() for w in weights) not in _flat:
            warnings.warn(NOT_FLAT, UserWarning, stacklevel=4)
        for seen in _counters:
            seen.kernels += 1
        training = args[7] if packed else args[6]
        return _Cudnn.apply(real, args, training or not cudnn, *device)

    return call


def _load(real):
    def call(*args, map_location=None, **kwargs):
        before, _state.map_location = _state.map_location, map_location
        try:
            return real(*args, map_location="cpu" if map_location is None else map_location, **kwargs)
        finally:
            _state.map_location = before

    return call


class _Properties:
    name, major, minor, total_memory, multi_processor_count = "simulated GPU", 9, 0, 80 * 2**30, 132


def _patches():
    """(object, name, replacement) of everything that is different while the device is there."""
    for name in _MAKERS:
        yield torch, name, _translated(getattr(torch, name))
    for name in _FROM_DATA:
        yield torch, name, _from_data(getattr(torch, name))
    for name in _METHODS:
        yield torch.Tensor, name, _translated(getattr(torch.Tensor, name))
    yield torch.Tensor, "pin_memory", lambda self, *a: self
    yield nn.Module, "_apply", _apply
    yield nn.RNNBase, "flatten_parameters", _flatten_parameters
    for name in ("gru", "lstm", "rnn_tanh", "rnn_relu"):
        yield torch._VF, name, _rnn(getattr(torch._VF, name))
    yield torch, "load", _load(torch.load)
    yield torch.backends.cudnn, "is_acceptable", lambda tensor: False
    yield from _cuda_patches() if _there.type == "cuda" else _mps_patches()


def _cuda_patches():
    to = torch.Tensor.to
    yield (
        torch.Tensor,
        "cuda",
        lambda self, device=None, non_blocking=False, **_: to(self, torch.device(NAME, 0), non_blocking=non_blocking),
    )
    functions = {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "is_initialized": lambda: True, "init": lambda: None, "_lazy_init": lambda: None,
        "set_device": lambda device: None, "empty_cache": lambda: None, "synchronize": lambda *a: _sync("synchronize"),
        "get_rng_state_all": _device_rng_states, "set_rng_state_all": _set_device_rng_states,
        "get_rng_state": lambda *a: _device_state.clone(), "set_rng_state": lambda s, *a: _set_device_rng_states([s]),
        "manual_seed": _seed_device, "manual_seed_all": _seed_device, "_is_in_bad_fork": lambda: False,
        "get_device_name": lambda *a: "simulated GPU", "get_device_capability": lambda *a: (9, 0),
        "get_device_properties": lambda *a: _Properties, "is_bf16_supported": lambda *a, **k: True,
        "memory_allocated": lambda *a: 0, "max_memory_allocated": lambda *a: 0, "memory_reserved": lambda *a: 0,
        "max_memory_reserved": lambda *a: 0, "reset_peak_memory_stats": lambda *a: None,
        "mem_get_info": lambda *a: (80 * 2**30, 80 * 2**30),
    }  # fmt: skip
    for name, function in functions.items():
        yield torch.cuda, name, function


def _mps_patches():
    yield torch.backends.mps, "is_available", lambda: True
    functions = {
        "get_rng_state": lambda: _device_state.clone(), "set_rng_state": lambda s: _set_device_rng_states([s]),
        "manual_seed": _seed_device, "synchronize": lambda: _sync("synchronize"), "current_allocated_memory": lambda: 0,
        "driver_allocated_memory": lambda: 0, "empty_cache": lambda: None,
    }  # fmt: skip
    for name, function in functions.items():
        yield torch.mps, name, function


_ABSENT = object()
_saved: list | None = None


def install(kind: str = "cuda") -> None:
    """From here on this process has a simulated GPU, ``"cuda"`` or ``"mps"``. Call it before anything asks for one."""
    global _saved, _there
    if _saved is not None:
        return
    _there = torch.device(kind, 0)
    prepare()
    _device_constructors()  # remembered: `with torch.device(...)` must know the real ones
    _saved = []
    for owner, name, new in list(_patches()):
        _saved.append((owner, name, owner.__dict__.get(name, _ABSENT)))
        setattr(owner, name, new)
    _forget_cached_answers()


def uninstall() -> None:
    """Take it away again. Tensors that are still on it keep working among themselves."""
    global _saved
    for owner, name, old in reversed(_saved or []):
        if old is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, old)
    _saved = None
    _forget_cached_answers()


def _forget_cached_answers() -> None:
    """accelerate remembers what devices there are."""
    for name in ("accelerate.utils.imports", "accelerate.utils.modeling", "accelerate.utils.environment"):
        for value in list(vars(sys.modules.get(name, sys)).values()) if name in sys.modules else []:
            if hasattr(value, "cache_clear"):
                value.cache_clear()
    state = sys.modules.get("accelerate.state")
    if state is not None:
        state.AcceleratorState._reset_state(reset_partial_state=True)


@contextlib.contextmanager
def simulated():
    """A simulated GPU inside the block only."""
    install()
    try:
        yield
    finally:
        uninstall()


# ------------------------------------------------------------------------------------------- does it find mistakes?


def self_test() -> None:
    """Deliberate mistakes that must raise, and right programs that must give the CPU's numbers."""
    import copy
    import io

    def raises(kind, function, part=""):
        try:
            function()
        except kind as error:
            assert part in str(error), error
            return
        raise AssertionError(f"did not raise {kind.__name__} ({part})")

    install()
    d = torch.arange(6.0, device="cuda").view(2, 3)
    h = torch.arange(6.0).view(2, 3)
    assert d.device == CUDA and d.is_cuda and d.to("cpu").device.type == "cpu" and str(d[0].device) == "cuda:0"
    mixed = "same device"
    for wrong in (
        lambda: d + h, lambda: h + d, lambda: d @ h.T, lambda: torch.cat([d, h]), lambda: torch.where(d > 1, d, h),
        lambda: d.masked_fill(h > 1, 0), lambda: d.gather(1, h.long()), lambda: d.index_select(0, torch.tensor([0])),
        lambda: torch.stack([d, h]), lambda: torch.einsum("ij,kj->ik", d, h), lambda: d * torch.ones(3),
        lambda: d + torch.from_numpy(np.ones((2, 3), np.float32)), lambda: d - torch.zeros(3),
        lambda: d.scatter(1, torch.zeros(2, 3, dtype=torch.long), 1.0), lambda: torch.ones(2, 3) * d.sum(),
        lambda: nn.Linear(3, 2)(d), lambda: nn.Linear(3, 2).cuda()(h), lambda: nn.Embedding(9, 2).cuda()(h.long()),
        lambda: nn.functional.cross_entropy(d, torch.tensor([0, 1])), lambda: torch.maximum(d, h),
        lambda: d.index_add(0, torch.tensor([0, 1]), d), lambda: torch.bmm(d[None], h.T[None]),
    ):  # fmt: skip
        raises(RuntimeError, wrong, mixed)
    raises(RuntimeError, lambda: h[d.long()], "indices should be")
    raises(TypeError, lambda: d.numpy(), "can't convert")
    raises(TypeError, lambda: np.asarray(d), "can't convert")
    raises(TypeError, lambda: np.zeros(9)[d.long()], "can't convert")
    raises(TypeError, lambda: torch.from_numpy(d))
    raises(NotImplementedError, lambda: d.long() @ d.long().T, "addmm_cuda")
    raises(RuntimeError, lambda: torch.rand(3, device="cuda", generator=torch.Generator()), "generator")
    lengths = torch.tensor([3, 2], device="cuda")
    raises(RuntimeError, lambda: nn.utils.rnn.pack_padded_sequence(d[..., None], lengths, batch_first=True), "CPU")
    gru = nn.GRU(3, 2).cuda().eval()
    raises(RuntimeError, lambda: gru(d[None])[0].sum().backward(), "cudnn RNN backward")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gru(d[None])
        assert not caught, caught[0].message
        copy.deepcopy(gru)(d[None])
        assert "contiguous chunk" in str(caught[0].message)
    # what CUDA allows
    d + torch.tensor(1.0), torch.where(d > 1, d, torch.tensor(0.0)), d[torch.tensor([1, 0])], d[np.array([1, 0])]
    d[[1, 0]], d.masked_fill(d > 1, torch.tensor(0.0)), h.copy_(d), d.clone().copy_(h), torch.tensor([1], device="cuda")
    changed = d.clone()
    changed[:, 1] = 7
    changed[0] += 1
    assert changed.tolist() == [[1, 8, 3], [3, 7, 5]]
    # counts
    with counting() as seen:
        bool(d.any()), d.tolist(), d[d > 1], d.cpu(), h.to("cuda"), h.to("cuda", non_blocking=True), d.max().item()
    assert sorted(kind for kind, _ in seen.syncs.elements()) == [
        "boolean index", "copy to CPU", "copy to CPU", "copy to device", "item/bool", "item/bool",
    ], seen.syncs  # fmt: skip
    # the same numbers as the CPU, through training, saving and loading
    results = {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        net = nn.ModuleDict(
            {"words": nn.Embedding(20, 8), "gru": nn.GRU(8, 8, batch_first=True), "norm": nn.BatchNorm1d(8),
             "layer": nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)}
        )  # fmt: skip
        optimiser = torch.optim.AdamW(net.parameters(), 0.01, eps=0.01)  # eps: a gradient of 0 stays one
        before = [id(p) for p in net.parameters()]
        net.to(device)
        assert before == [id(p) for p in net.parameters()]
        ids, mask = torch.arange(12).view(3, 4).to(device), torch.ones(3, 4, dtype=torch.bool, device=device)
        mask[1, 2:] = False
        for _ in range(3):
            x = net["layer"](net["gru"](net["words"](ids))[0], src_key_padding_mask=~mask)
            x = net["norm"](x[mask])
            loss = (x.sort(dim=0).values.cumsum(0) ** 2).mean() + x.logsumexp(1).topk(3).values.sum()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
        file = io.BytesIO()
        torch.save({"net": net.state_dict(), "optimiser": optimiser.state_dict()}, file)
        file.seek(0)
        state = torch.load(file, weights_only=True, map_location="cpu")
        assert all(value.device.type == "cpu" for value in state["net"].values())
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        net.eval()
        with torch.no_grad():
            results[device] = net["layer"](net["gru"](net["words"](ids))[0], src_key_padding_mask=~mask)[mask].cpu()
        assert next(net.parameters()).device.type == device and loss.device.type == device
    assert torch.allclose(results["cpu"], results["cuda"], atol=1e-5), (results["cpu"] - results["cuda"]).abs().max()
    with torch.inference_mode():
        there = nn.Linear(3, 2).cuda()(h.to("cuda"))
        assert there.device == CUDA and there.cpu().device.type == "cpu" and not isinstance(there.cpu(), DeviceTensor)
        raises(RuntimeError, lambda: d.clone() + h, mixed)

    class Marked(torch.Tensor):
        pass

    marked = torch.ones(2, 3).as_subclass(Marked).cuda()
    assert isinstance(marked, Marked) and isinstance(marked * 2, Marked) and (marked * d).device == CUDA
    assert not isinstance(marked.as_subclass(torch.Tensor) + d, Marked)
    assert type(marked.cpu()) is Marked and type(marked.max(dim=0).values) is type(marked)
    raises(RuntimeError, lambda: marked + h, mixed)
    # its random numbers are its own
    torch.manual_seed(3)
    one, there = torch.rand(2), torch.rand(2, device="cuda").cpu()
    torch.manual_seed(3)
    torch.rand(5, device="cuda")
    assert torch.equal(one, torch.rand(2)) and not torch.equal(one, there)
    uninstall()
    assert not torch.cuda.is_available()
    install("mps")
    assert not torch.cuda.is_available() and torch.backends.mps.is_available()
    d = torch.arange(6.0, device="mps").view(2, 3)
    assert str(d.device) == "mps:0" and not d.is_cuda and d.is_mps
    for wrong in (
        lambda: d.double(), lambda: torch.zeros(2, dtype=torch.float64, device="mps"), lambda: h.double().to("mps"),
        lambda: torch.tensor([1.0], dtype=torch.float64, device="mps"), lambda: torch.from_numpy(np.ones(2)).to("mps"),
    ):  # fmt: skip
        raises(TypeError, wrong, "float64")
    assert d.cpu().double().dtype == torch.float64
    raises(RuntimeError, lambda: d + h, "mps:0")
    lengths = torch.tensor([3, 2], device="mps")
    raises(RuntimeError, lambda: nn.utils.rnn.pack_padded_sequence(d[..., None], lengths, batch_first=True), "CPU")
    nn.GRU(3, 2).to("mps").eval()(d[None])[0].sum().backward()
    uninstall()
    assert not torch.backends.mps.is_available()
    print("simulated_gpu: all deliberate mistakes raised, right programs gave the CPU's numbers")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        self_test()
    else:
        sys.modules["simulated_gpu"] = sys.modules["__main__"]
        arguments = sys.argv[1:]
        count = arguments[0] == "--count"
        sys.argv = arguments[1:] if count else arguments
        install()
        with counting() as seen:
            runpy.run_path(sys.argv[0], run_name="__main__")
        if count:
            print(f"{seen.kernels} kernels, {seen.total()} waits, {seen.h2d_bytes} bytes to the device\n{seen.table()}")
