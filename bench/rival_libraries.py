"""Who is measured: a class a contestant, all with the same interface.

    name                    as tables and files have it
    environment(threads)    variables that must stand before the process starts
    Contestant(options)     imports and opens; what it raises is the reason why
                            this contestant is not run
    version                 of the library
    prepare(shape, data)    makes the problem ready; Unsupported says why it cannot
    path                    which implementation serves it, where that is known
    run()                   computes it once, and returns when it is done
    result()                {"out": [B,H,Sq,Dv]}, the layer's {"out", "weights"},
                            {"d_q", "d_k", "d_v"}, or what a training step gives
    release()               forgets the problem

Threads are set by each library's own switch. Waiting is left as each library has
it by default: only one contestant's process is ever awake (see rivals.py).
"""
import ctypes
import os

import numpy as np

from rival_problems import from_bf16


class Unsupported(Exception):
    """The library does not offer what the shape asks for."""


def causal_mask(shape):
    """bool [Sq,Skv], true where a row sees a key; the last row sees all."""
    rows = np.arange(shape.q_len)[:, None] + shape.kv_len - shape.q_len
    return np.arange(shape.kv_len)[None, :] <= rows


def needs_mask(shape):
    """Causal, and not the square case that libraries have a switch for. With
    one query the mask hides nothing."""
    return shape.causal and shape.q_len > 1 and shape.q_len != shape.kv_len


def is_square_causal(shape):
    return shape.causal and shape.q_len > 1 and shape.q_len == shape.kv_len


class Contestant:
    name = ""
    path = None
    trains = False  # offers gradients and training

    @staticmethod
    def environment(threads):
        return {"OMP_NUM_THREADS": str(threads)}

    def release(self):
        """Back to what stood once the library was open."""
        self.__dict__ = dict(self.opened, opened=self.opened)


class Clattn(Contestant):
    name = "clattn"
    trains = True
    DTYPES = {"f32": 1, "f16": 2, "bf16": 4}
    LAYER_SLOTS = ["x", "wq", "wk", "wv", "wo", "bq", "bk", "bv", "bo"]
    LAYER_OUT, LAYER_WEIGHTS = 9, 10
    D_OUT, GRADIENTS = 5, {"d_q": 6, "d_k": 7, "d_v": 8}

    @staticmethod
    def environment(threads):
        return {"CLATTN_THREADS": str(threads)}

    def __init__(self, options):
        self.lib = ctypes.CDLL(options.shim)
        for name in ("clattn_version", "clattn_error_message", "shim_device_name",
                     "shim_plan_info", "shim_gpt_name"):
            if not hasattr(self.lib, name):  # built without the kit
                continue
            getattr(self.lib, name).restype = ctypes.c_char_p
        self.handle, self.problem = ctypes.c_void_p(), None
        self.call("shim_open", options.device.encode(), ctypes.byref(self.handle))
        self.device = self.lib.shim_device_name(self.handle).decode()
        self.version = self.lib.clattn_version().decode()

    def call(self, name, *args):
        if getattr(self.lib, name)(*args):
            raise Unsupported(self.lib.clattn_error_message().decode())

    def prepare(self, shape, data):
        self.shape, self.problem = shape, ctypes.c_void_p()
        if shape.training:
            return self.prepare_training(shape, data)
        sizes = lambda *n: [ctypes.c_int64(i) for i in n]
        s, made = shape, ctypes.byref(self.problem)
        if shape.embed:
            self.call("shim_layer", self.handle,
                      *sizes(s.batch, s.q_len, s.embed, s.q_heads), int(s.weights), made)
            names, self.path = self.LAYER_SLOTS, "layer"
        else:
            self.call("shim_attention", self.handle,
                      *sizes(s.batch, s.q_heads, s.kv_heads, s.q_len, s.kv_len,
                             s.qk_dim, s.v_dim),
                      self.DTYPES[s.dtype], int(s.causal), 0, int(s.backward), made)
            names = ["q", "k", "v"]
            info = self.lib.shim_plan_info(self.problem).decode()
            self.path = "fused" if "\nused: fused" in "\n" + info else "unfused"
        for slot, name in enumerate(names):
            self.call("shim_write", self.problem, slot, *self.memory(data[name]))
        if shape.backward:
            self.call("shim_write", self.problem, self.D_OUT, *self.memory(data["d_out"]))
            self.call("shim_forward", self.problem)
            self.path += " backward"

    def prepare_training(self, shape, data):
        if not hasattr(self.lib, "shim_gpt_new"):
            raise Unsupported("built without the kit")
        made, floats = ctypes.c_void_p(), ctypes.POINTER(ctypes.c_float)
        self.call("shim_gpt_new", self.handle,
                  *(ctypes.c_int64(n) for n in (
                      shape.vocab, shape.context, shape.layers, shape.heads,
                      shape.embed, shape.batch)), ctypes.byref(made))
        self.lib.shim_gpt_tensors.restype = ctypes.c_int64
        for i in range(self.lib.shim_gpt_tensors(made)):
            index = ctypes.c_int64(i)
            name = self.lib.shim_gpt_name(made, index).decode()
            self.call("shim_gpt_write", made, index,
                      data["weights"][name].ctypes.data_as(floats))
        ids = [data[x].ctypes.data_as(ctypes.c_void_p) for x in ("inputs", "targets")]
        loss, norm = ctypes.c_float(), ctypes.c_float()
        self.path, steps = "training", []

        def run():
            self.call("shim_gpt_step", made, *ids, ctypes.c_float(shape.rate),
                      ctypes.byref(loss), ctypes.byref(norm))
            steps.append((loss.value, norm.value))

        self.run, self.result = run, lambda: shape.history(run, steps)
        self.release_gpt = lambda: self.lib.shim_gpt_free(made)

    @staticmethod
    def memory(x):
        return x.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(x.nbytes)

    def run(self):
        if self.lib.shim_run(self.problem):
            raise RuntimeError(self.lib.clattn_error_message().decode())

    def result(self):
        s = self.shape
        if s.embed:
            got = {"out": np.empty((s.batch, s.q_len, s.embed), np.float32)}
            self.call("shim_read", self.problem, self.LAYER_OUT, *self.memory(got["out"]))
            if s.weights:
                got["weights"] = np.empty((s.batch, s.q_len, s.kv_len), np.float32)
                self.call("shim_read", self.problem, self.LAYER_WEIGHTS,
                          *self.memory(got["weights"]))
            return got
        dtype = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16}[s.dtype]
        if s.backward:
            extents = {"d_q": (s.q_heads, s.q_len, s.qk_dim),
                       "d_k": (s.kv_heads, s.kv_len, s.qk_dim),
                       "d_v": (s.kv_heads, s.kv_len, s.v_dim)}
            got = {name: np.empty((s.batch, *extent), dtype)
                   for name, extent in extents.items()}
            for name, slot in self.GRADIENTS.items():
                self.call("shim_read", self.problem, slot, *self.memory(got[name]))
            return got
        out = np.empty((s.batch, s.q_heads, s.q_len, s.v_dim), dtype)
        self.call("shim_read", self.problem, 3, *self.memory(out))
        return {"out": out}

    def release(self):
        if "release_gpt" in self.__dict__:
            self.release_gpt()
        self.lib.shim_problem_free(self.problem)
        super().release()


class PyTorch(Contestant):
    """scaled_dot_product_attention; for a layer nn.MultiheadAttention, in
    evaluation and inference mode, which lets it take its fast path."""

    name = "PyTorch"
    trains = True

    def __init__(self, options):
        import torch
        torch.set_num_threads(options.threads)
        self.torch, self.version = torch, torch.__version__
        self.guard = torch.inference_mode()
        self.guard.__enter__()

    def tensor(self, x):
        if x.dtype == np.uint16:
            return self.torch.from_numpy(x.view(np.int16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(x)

    def prepare(self, shape, data):
        if shape.training:
            return self.prepare_training(shape, data)
        torch, data = self.torch, {name: self.tensor(x) for name, x in data.items()}
        if shape.embed:
            return self.prepare_layer(shape, data)
        attention = torch.nn.functional.scaled_dot_product_attention
        options = {"is_causal": is_square_causal(shape)}
        if shape.q_heads != shape.kv_heads:
            options["enable_gqa"] = True
        if needs_mask(shape):
            options["attn_mask"] = torch.from_numpy(causal_mask(shape))
        q, k, v = (data[name] for name in "qkv")
        self.path = "scaled_dot_product_attention"
        if shape.backward:
            return self.prepare_backward(attention, (q, k, v), data["d_out"], options)

        def run():
            self.out = attention(q, k, v, **options)

        self.run = run
        self.result = lambda: {"out": self.out.float().numpy()}

    def prepare_backward(self, attention, inputs, d_out, options):
        torch = self.torch
        with torch.inference_mode(False), torch.enable_grad():
            inputs = [x.clone().requires_grad_() for x in inputs]
            d_out, out = d_out.clone(), attention(*inputs, **options)

        def run():
            with torch.inference_mode(False):
                self.grads = torch.autograd.grad(out, inputs, d_out, retain_graph=True)

        self.run = run
        self.result = lambda: {
            name: x.numpy() for name, x in zip(("d_q", "d_k", "d_v"), self.grads)}

    def prepare_training(self, shape, data):
        import rival_training
        torch, self.path = self.torch, "nn.Module, fused AdamW"
        with torch.inference_mode(False), torch.enable_grad():
            step, steps = rival_training.torch_step(shape, data), []

        def run():
            with torch.inference_mode(False), torch.enable_grad():
                steps.append(step())

        self.run, self.result = run, lambda: shape.history(run, steps)

    def prepare_layer(self, shape, data):
        layer = self.torch.nn.MultiheadAttention(
            shape.embed, shape.q_heads, batch_first=True).eval()
        layer.in_proj_weight.copy_(self.torch.cat([data["w" + i] for i in "qkv"]))
        layer.in_proj_bias.copy_(self.torch.cat([data["b" + i] for i in "qkv"]))
        layer.out_proj.weight.copy_(data["wo"])
        layer.out_proj.bias.copy_(data["bo"])
        x, weights = data["x"], shape.weights
        self.path = f"nn.MultiheadAttention, need_weights={weights}"

        def run():
            self.out = layer(x, x, x, need_weights=weights)

        names = ("out", "weights") if weights else ("out",)
        self.run = run
        self.result = lambda: {n: x.numpy() for n, x in zip(names, self.out)}


class OnnxRuntime(Contestant):
    """One node in a graph; inputs and outputs bound, so that nothing is copied."""

    DTYPES = {"f32": np.float32, "f16": np.float16}

    def __init__(self, options):
        import onnx
        import onnxruntime
        self.onnx, self.ort = onnx, onnxruntime
        self.version = onnxruntime.__version__
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = options.threads
        self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 4

    def bind(self, node, domain, version, arrays, out_extent, dtype):
        helper = self.onnx.helper
        of = lambda x: helper.np_dtype_to_tensor_dtype(x.dtype)
        values = [helper.make_tensor_value_info(n, of(x), x.shape)
                  for n, x in arrays.items()]
        out = np.empty(out_extent, dtype)
        result = helper.make_tensor_value_info("out", of(out), out_extent)
        model = helper.make_model(
            helper.make_graph([node], "attention", values, [result]),
            opset_imports=[helper.make_opsetid("", 23)]
            + ([helper.make_opsetid(domain, version)] if domain else []),
            ir_version=11)
        try:
            session = self.ort.InferenceSession(
                model.SerializeToString(), self.options,
                providers=["CPUExecutionProvider"])
        except Exception as error:
            raise Unsupported(str(error))
        self.keep = arrays
        value = self.ort.OrtValue.ortvalue_from_numpy
        binding = session.io_binding()
        for name, x in arrays.items():
            binding.bind_ortvalue_input(name, value(x))
        bound = value(out)
        binding.bind_ortvalue_output("out", bound)
        self.run = lambda: session.run_with_iobinding(binding)
        self.bound = bound

    def check(self, shape):
        if shape.embed:
            raise Unsupported("the layer is compared with nn.MultiheadAttention")
        if shape.dtype not in self.DTYPES:
            raise Unsupported(f"no {shape.dtype} on the CPU")


class OnnxAttention(OnnxRuntime):
    name = "ONNX Attention-23"

    def prepare(self, shape, data):
        self.check(shape)
        names = ["q", "k", "v"]
        if needs_mask(shape):
            data, names = dict(data, mask=causal_mask(shape)), names + ["mask"]
        node = self.onnx.helper.make_node(
            "Attention", names, ["out"], is_causal=int(is_square_causal(shape)))
        extent = (shape.batch, shape.q_heads, shape.q_len, shape.v_dim)
        self.bind(node, None, 0, data, extent, data["q"].dtype)

    def result(self):
        return {"out": self.bound.numpy()}


class OnnxMha(OnnxRuntime):
    """The contrib operator, in its own layout [B,S,H*D]."""

    name = "ONNX Runtime MHA"

    def prepare(self, shape, data):
        self.check(shape)
        if shape.q_heads != shape.kv_heads:
            raise Unsupported("no grouped queries")
        if needs_mask(shape):
            raise Unsupported("causal only for as many queries as keys")
        packed = {n: np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(
            x.shape[0], x.shape[2], -1) for n, x in data.items()}
        node = self.onnx.helper.make_node(
            "MultiHeadAttention", ["q", "k", "v"], ["out"], domain="com.microsoft",
            num_heads=shape.q_heads, unidirectional=int(is_square_causal(shape)))
        self.shape = shape
        extent = (shape.batch, shape.q_len, shape.q_heads * shape.v_dim)
        self.bind(node, "com.microsoft", 1, packed, extent, data["q"].dtype)

    def result(self):
        s = self.shape
        out = self.bound.numpy().reshape(s.batch, s.q_len, s.q_heads, s.v_dim)
        return {"out": out.transpose(0, 2, 1, 3)}


class OpenVino(Contestant):
    """ScaledDotProductAttention, static shapes. It knows no groups: queries that
    share keys are rows of one head where there is no mask, which costs nothing;
    else keys are broadcast, as exported models do it. The precision of the shape's type is asked for: without
    that OpenVINO computes f32 models in bf16 where the machine has it."""

    name = "OpenVINO"

    def __init__(self, options):
        import openvino
        from openvino import opset13
        self.ov, self.ops = openvino, opset13
        self.version = openvino.__version__.split("-")[0]
        self.core = openvino.Core()
        self.threads = options.threads

    def tensor(self, x):
        types = self.ov.Type
        if x.dtype == np.uint16:
            tensor = self.ov.Tensor(types.bf16, self.ov.Shape(x.shape))
            ctypes.memmove(tensor.data.ctypes.data, x.ctypes.data, x.nbytes)
            return tensor
        return self.ov.Tensor(x, shared_memory=True)

    def prepare(self, shape, data):
        if shape.embed:
            raise Unsupported("the layer is compared with nn.MultiheadAttention")
        ov, ops = self.ov, self.ops
        dtype = {"f32": ov.Type.f32, "f16": ov.Type.f16, "bf16": ov.Type.bf16}[shape.dtype]
        grouped = shape.q_heads != shape.kv_heads
        if grouped and (not shape.causal or shape.q_len == 1):
            grouped, rows = False, shape.q_heads // shape.kv_heads * shape.q_len
            data = dict(data, q=data["q"].reshape(
                shape.batch, shape.kv_heads, rows, shape.qk_dim))
        q, k, v = (ops.parameter(data[n].shape, dtype) for n in "qkv")
        parameters, inputs = [q, k, v], [data[n] for n in "qkv"]
        heads = lambda x, dim: x
        if grouped:
            group = shape.q_heads // shape.kv_heads

            def heads(x, dim):
                b, h, s = shape.batch, shape.kv_heads, shape.kv_len
                x = ops.unsqueeze(x, ops.constant(2))
                x = ops.broadcast(x, ops.constant([b, h, group, s, dim]))
                return ops.reshape(x, ops.constant([b, h * group, s, dim]), False)

        arguments = [q, heads(k, shape.qk_dim), heads(v, shape.v_dim)]
        if needs_mask(shape):
            mask = causal_mask(shape)
            parameters.append(ops.parameter(mask.shape, ov.Type.boolean))
            arguments.append(parameters[-1])
            inputs.append(mask)
        node = ops.scaled_dot_product_attention(
            *arguments, causal=is_square_causal(shape))
        compiled = self.core.compile_model(
            ov.Model([node], parameters, "attention"), "CPU",
            {"INFERENCE_NUM_THREADS": self.threads, "PERFORMANCE_HINT": "LATENCY",
             "INFERENCE_PRECISION_HINT": dtype.get_type_name()})
        self.request, self.keep = compiled.create_infer_request(), inputs
        for i, x in enumerate(inputs):
            self.request.set_input_tensor(i, self.tensor(x))
        self.shape = shape

    def run(self):
        self.request.infer(share_outputs=True)  # no copy of what comes out

    def result(self):
        s, x = self.shape, self.request.get_output_tensor(0).data
        extent = (s.batch, s.q_heads, s.q_len, s.v_dim)
        if s.dtype == "bf16":
            bits = np.ctypeslib.as_array(
                ctypes.cast(x.ctypes.data, ctypes.POINTER(ctypes.c_uint16)), extent)
            return {"out": from_bf16(bits)}
        return {"out": x.reshape(extent)}


class OneDnnGraph(Contestant):
    """oneDNN's graph API. The package's CPU runtime is SYCL on TBB, whose CPU
    device it brings along; threads by the mask of usable cores."""

    name = "oneDNN"

    @staticmethod
    def environment(threads):
        from rival_onednn import library_folder
        folder = library_folder()
        return {"LD_LIBRARY_PATH": folder, "DPCPP_CPU_NUM_CUS": str(threads),
                "OCL_ICD_FILENAMES": os.path.join(folder, "libintelocl.so")}

    def __init__(self, options):
        import rival_onednn
        self.onednn = rival_onednn
        self.dnnl = rival_onednn.OneDnn()
        self.version = self.dnnl.version

    def prepare(self, shape, data):
        if shape.embed:
            raise Unsupported("the layer is compared with nn.MultiheadAttention")
        mask = None
        if shape.causal and shape.q_len > 1:
            mask = np.where(causal_mask(shape), np.float32(0), np.float32(-np.inf))
        dtype = {"f32": self.onednn.F32, "f16": self.onednn.F16,
                 "bf16": self.onednn.BF16}[shape.dtype]
        self.attention = self.onednn.Attention(self.dnnl, dtype, **data, mask=mask)
        self.run = self.attention.run

    def result(self):
        return {"out": self.attention.out}


RIVALS = [PyTorch, OnnxAttention, OnnxMha, OpenVino, OneDnnGraph]
