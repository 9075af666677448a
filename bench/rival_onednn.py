"""Attention as a graph of oneDNN's C API, through ctypes: one fused partition.

The numbers are those of oneapi/dnnl/dnnl_graph_types.h (stable since 3.0)."""
import ctypes
import os
import sys
from ctypes import byref, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p

import numpy as np

CPU = 1
F16, BF16, F32 = 1, 2, 3
STRIDED = 2
VARIABLE = 1
FUSION = 1
ADD, DIVIDE, MATMUL, SOFTMAX = 2, 20, 39, 64
AXIS, TRANSPOSE_B, MODE = 0x30, 0x66, 0x84


class Version(ctypes.Structure):
    _fields_ = [("major", c_int), ("minor", c_int), ("patch", c_int),
                ("hash", c_char_p), ("cpu", ctypes.c_uint), ("gpu", ctypes.c_uint)]


class LogicalTensor(ctypes.Structure):
    _fields_ = [("id", c_size_t), ("ndims", c_int), ("dims", c_int64 * 12),
                ("dtype", c_int), ("property", c_int), ("layout", c_int),
                ("strides", c_int64 * 12)]


def library_folder():
    return os.path.join(sys.prefix, "lib")


class OneDnn:
    RUNTIMES = {1: "sequential", 2: "OpenMP", 4: "TBB", 8: "threadpool", 0x200: "SYCL"}

    def __init__(self):
        path = os.path.join(library_folder(), "libdnnl.so.3")
        self.lib = ctypes.CDLL(path)
        self.lib.dnnl_version.restype = ctypes.POINTER(Version)
        version = self.lib.dnnl_version().contents
        runtime = self.RUNTIMES.get(version.cpu, hex(version.cpu))
        self.version = f"{version.major}.{version.minor}.{version.patch} ({runtime})"
        self.engine, self.stream = c_void_p(), c_void_p()
        self.call("dnnl_engine_create", byref(self.engine), c_int(CPU), c_size_t(0))
        self.call("dnnl_stream_create", byref(self.stream), self.engine, c_int(1))

    def call(self, name, *args):
        status = getattr(self.lib, name)(*args)
        if status:
            raise RuntimeError(f"{name}: status {status}")


class Attention:
    """q [B,Hk,R,Sq,D], k [B,Hk,1,Skv,D], v [B,Hk,1,Skv,Dv] as in oneDNN's guide to
    grouped queries; four dimensions where every head has keys of its own. A mask
    [Sq,Skv] is added. Arrays are kept: they are the memory that is worked on."""

    def __init__(self, dnnl, dtype, q, k, v, mask):
        self.dnnl = dnnl
        self.keep, self.count, self.ops = [], 0, []
        b, h, s, d = q.shape
        g, t, dv = k.shape[1], k.shape[2], v.shape[3]
        lead = (b, h) if g == h else (b, g, h // g)
        keys = (b, h) if g == h else (b, g, 1)
        self.out = np.empty((b, h, s, dv), q.dtype)
        scale = np.full(1, d**0.5, np.float32)
        tensor_q = self.tensor(dtype, lead + (s, d))
        tensor_k = self.tensor(dtype, keys + (t, d))
        tensor_v = self.tensor(dtype, keys + (t, dv))
        tensor_out = self.tensor(dtype, lead + (s, dv))
        tensor_scale = self.tensor(F32, (1,))
        scores, scaled = self.tensor(F32, lead + (s, t)), self.tensor(F32, lead + (s, t))
        p = self.tensor(dtype, lead + (s, t))
        inputs = [(tensor_q, q), (tensor_k, k), (tensor_scale, scale)]
        self.op(MATMUL, [tensor_q, tensor_k], scores, transpose_b=True)
        self.op(DIVIDE, [scores, tensor_scale], scaled)
        if mask is not None:
            tensor_mask = self.tensor(F32, (1,) * len(lead) + (s, t))
            masked = self.tensor(F32, lead + (s, t))
            self.op(ADD, [scaled, tensor_mask], masked)
            inputs.append((tensor_mask, mask))
            scaled = masked
        self.op(SOFTMAX, [scaled], p, softmax=True)
        self.op(MATMUL, [p, tensor_v], tensor_out)
        inputs.append((tensor_v, v))
        self.compile(inputs, (tensor_out, self.out))

    def tensor(self, dtype, extent):
        strides = [1]
        for n in reversed(extent[1:]):
            strides.insert(0, strides[0] * n)
        t = LogicalTensor(self.count, len(extent), tuple(extent), dtype, VARIABLE,
                          STRIDED, tuple(strides))
        self.count += 1
        return t

    def op(self, kind, inputs, output, transpose_b=False, softmax=False):
        call, op = self.dnnl.call, c_void_p()
        call("dnnl_graph_op_create", byref(op), c_size_t(len(self.ops)), c_int(kind),
             str(len(self.ops)).encode())
        if transpose_b:
            yes = ctypes.c_uint8(1)
            call("dnnl_graph_op_set_attr_bool", op, TRANSPOSE_B, byref(yes), c_size_t(1))
        if softmax:
            last, mode = c_int64(-1), b"inf_as_zero"
            call("dnnl_graph_op_set_attr_s64", op, AXIS, byref(last), c_size_t(1))
            call("dnnl_graph_op_set_attr_str", op, MODE, mode, c_size_t(len(mode)))
        for tensor in inputs:
            call("dnnl_graph_op_add_input", op, byref(tensor))
        call("dnnl_graph_op_add_output", op, byref(output))
        self.ops.append(op)

    def compile(self, inputs, output):
        call, graph = self.dnnl.call, c_void_p()
        call("dnnl_graph_graph_create", byref(graph), c_int(CPU))
        for op in self.ops:
            call("dnnl_graph_add_op", graph, op)
        call("dnnl_graph_graph_finalize", graph)
        call("dnnl_graph_graph_filter", graph, c_int(FUSION))
        number, partition, supported = c_size_t(), c_void_p(), ctypes.c_uint8()
        call("dnnl_graph_graph_get_partition_num", graph, byref(number))
        if number.value != 1:
            raise RuntimeError(f"the graph is not fused: {number.value} partitions")
        call("dnnl_graph_graph_get_partitions", graph, c_size_t(1), byref(partition))
        call("dnnl_graph_partition_is_supported", partition, byref(supported))
        if not supported.value:
            raise RuntimeError("the partition is not supported")
        self.compiled = c_void_p()
        call("dnnl_graph_compiled_partition_create", byref(self.compiled), partition)
        # In the order of the partition's own ports.
        ports_in = (LogicalTensor * len(inputs))()
        call("dnnl_graph_partition_get_input_ports", partition, c_size_t(len(inputs)),
             ports_in)
        by_id = {tensor.id: (tensor, array) for tensor, array in inputs}
        inputs = [by_id[port.id] for port in ports_in]
        pointers = (ctypes.POINTER(LogicalTensor) * len(inputs))(
            *[ctypes.pointer(tensor) for tensor, _ in inputs])
        out_pointer = (ctypes.POINTER(LogicalTensor) * 1)(ctypes.pointer(output[0]))
        call("dnnl_graph_partition_compile", partition, self.compiled,
             c_size_t(len(inputs)), pointers, c_size_t(1), out_pointer, self.dnnl.engine)
        self.inputs = (c_void_p * len(inputs))(*[self.memory(*i) for i in inputs])
        self.outputs = (c_void_p * 1)(self.memory(*output))
        self.n_inputs = c_size_t(len(inputs))

    def memory(self, tensor, array):
        handle, array = c_void_p(), np.ascontiguousarray(array)
        self.keep.append(array)
        self.dnnl.call("dnnl_graph_tensor_create", byref(handle), byref(tensor),
                       self.dnnl.engine, array.ctypes.data_as(c_void_p))
        return handle

    def run(self):
        lib, stream = self.dnnl.lib, self.dnnl.stream
        status = lib.dnnl_graph_compiled_partition_execute(
            self.compiled, stream, self.n_inputs, self.inputs, c_size_t(1), self.outputs)
        if status or lib.dnnl_stream_wait(stream):
            raise RuntimeError(f"execution failed: status {status}")
