"""The library's tokenizers and models from Python, through ctypes.

    kit = Kit("build")                     libclattn_kit.so is in there
    model = kit.load(path, device="cpu")   a folder or a .gguf file
    encoding = model.encode("text", pair)
    out = model.run(encoding.ids, encoding.segments, watch=HIDDEN | ATTENTION)

Structures are those of clattn_model.h and clattn_text.h; the library refuses
them when their size is not what it expects.
"""
import ctypes as C
import os
from types import SimpleNamespace

import numpy as np

import clattn_text

HIDDEN, ATTENTION, STATISTICS, TOP, MAP = 1, 2, 4, 8, 16
PACKED = 2
F32, F16 = 1, 2

i64, f32p, i32p, i64p = (C.c_int64, C.POINTER(C.c_float), C.POINTER(C.c_int32),
                         C.POINTER(C.c_int64))


class Config(C.Structure):
    _fields_ = [("struct_size", C.c_size_t), ("kind", C.c_int),
                ("name", C.c_char * 64)] + [
        (name, i64) for name in (
            "vocab_size", "positions", "types", "layers", "heads", "kv_heads",
            "head_dim", "embed_dim", "hidden_dim")] + [
        ("norm_eps", C.c_float), ("rotary_base", C.c_double),
        ("causal", C.c_bool), ("pooler", C.c_bool), ("head", C.c_bool)]


class Layer(C.Structure):
    _fields_ = [(name, i64) for name in (
        "layer", "batch", "length", "heads", "kv_heads", "head_dim",
        "embed_dim")] + [
        ("hidden", f32p), ("attention", C.POINTER(f32p)), ("entropy", f32p),
        ("distance", f32p), ("top_keys", i32p), ("top_weights", f32p),
        ("map", C.POINTER(f32p))]


Watch = C.CFUNCTYPE(C.c_int, C.c_void_p, C.POINTER(Layer))


class Input(C.Structure):
    _fields_ = [("struct_size", C.c_size_t), ("layout", C.c_int), ("batch", i64),
                ("length", i64), ("lengths", i64p), ("ids", i32p),
                ("types", i32p)]


class Output(C.Structure):
    _fields_ = [("struct_size", C.c_size_t), ("hidden", f32p), ("logits", f32p),
                ("all_logits", f32p), ("pooled", f32p), ("embedding", f32p),
                ("pooling", C.c_int), ("normalize", C.c_bool),
                ("watch", C.c_uint32), ("on_layer", Watch), ("user", C.c_void_p),
                ("top", i64), ("map_block", i64)]


class AttentionOptions(C.Structure):
    _fields_ = [("struct_size", C.c_size_t), ("watch", C.c_uint32),
                ("dtype", C.c_int), ("top", i64), ("map_block", i64),
                ("model_name", C.c_char_p), ("progress", C.c_void_p),
                ("progress_user", C.c_void_p)]


def pointer(array, kind):
    return array.ctypes.data_as(kind) if array is not None else kind()


def copy(at, *shape):
    return np.ctypeslib.as_array(at, shape).copy()


class Error(Exception):
    pass


class Kit:
    def __init__(self, build):
        self.build = build
        self.lib = C.CDLL(os.path.join(build, "libclattn_kit.so"))
        self.lib.clattn_error_message.restype = C.c_char_p

    def __getattr__(self, name):
        """clattn_NAME, which raises what the library reports."""
        function = getattr(self.lib, "clattn_" + name)

        def call(*arguments):
            if function(*arguments) != 0:
                raise Error(self.lib.clattn_error_message().decode())
        return call

    def options(self, kind, name):
        made = kind()
        getattr(self.lib, "clattn_%s_init" % name)(C.byref(made))
        return made

    def load(self, path, device=None):
        return Model(self, path, device)


class Model:
    def __init__(self, kit, path, device):
        self.kit = kit
        self.context, self.queue, self.model = (C.c_void_p() for _ in range(3))
        index = C.c_int()
        self.text = clattn_text.Tokenizer(kit.build, path)
        self.tokenizer = self.text.handle
        kit.context_create(None, C.byref(self.context))
        kit.device_find(self.context, device.encode() if device else None,
                        C.byref(index))
        kit.queue_create(self.context, index, C.byref(self.queue))
        kit.model_load(self.context, index, self.queue, path.encode(), None,
                       C.byref(self.model))
        self.config = Config(C.sizeof(Config))
        kit.model_get_config(self.model, C.byref(self.config))

    def close(self):
        lib = self.kit.lib
        lib.clattn_model_destroy(self.model)
        lib.clattn_queue_destroy(self.queue)
        lib.clattn_context_destroy(self.context)

    def encode(self, text, pair=None, max_length=0):
        options = self.text.options(max_length=max_length)
        text = text.encode()
        if pair is not None:
            options.pair = pair.encode()
            options.pair_bytes = len(options.pair)
        made = clattn_text._Encoding()
        self.kit.tokenizer_encode(self.tokenizer, text, C.c_size_t(len(text)),
                                  C.byref(options), C.byref(made))
        n = made.n
        result = SimpleNamespace(
            ids=copy(made.ids, n), begins=copy(made.begins, n),
            ends=copy(made.ends, n), segments=copy(made.segments, n),
            added=copy(made.added, n), truncated=made.truncated)
        self.kit.lib.clattn_encoding_free(C.byref(made))
        return result

    def run(self, ids, types=None, watch=0, wanted=("hidden",)):
        """One request. wanted: hidden, all_logits, pooled, embedding."""
        return self.run_batch([ids], None if types is None else [types], watch,
                              wanted)

    def run_batch(self, requests, types=None, watch=0, wanted=("embedding",)):
        """Requests one after the other; results in the same order."""
        config = self.config
        lengths = np.array([len(ids) for ids in requests], np.int64)
        ids = np.concatenate(requests).astype(np.int32)
        if types is not None:
            types = np.concatenate(types).astype(np.int32)
        given = self.kit.options(Input, "model_input")
        given.layout, given.batch = PACKED, len(requests)
        given.lengths, given.ids = pointer(lengths, i64p), pointer(ids, i32p)
        given.types = pointer(types, i32p)
        output = self.kit.options(Output, "model_output")
        result = SimpleNamespace(layers={})
        shapes = {"hidden": (len(ids), config.embed_dim),
                  "all_logits": (len(ids), config.vocab_size),
                  "pooled": (len(requests), config.embed_dim),
                  "embedding": (len(requests), config.embed_dim)}
        for name in wanted:
            array = np.empty(shapes[name], np.float32)
            setattr(output, name, pointer(array, f32p))
            setattr(result, name, array)

        def look(_, at):
            layer = at.contents
            kept = SimpleNamespace()
            if layer.hidden:
                kept.hidden = copy(layer.hidden, len(ids), config.embed_dim)
            if layer.attention:
                kept.attention = [
                    copy(layer.attention[b], config.heads, n, n)
                    for b, n in enumerate(lengths)]
            if layer.entropy:
                kept.entropy = copy(layer.entropy, config.heads, len(ids))
                kept.distance = copy(layer.distance, config.heads, len(ids))
            result.layers[layer.layer] = kept
            return 0

        watcher = Watch(look)
        if watch:
            output.watch, output.on_layer = watch, watcher
        self.kit.model_run(self.model, self.queue, C.byref(given),
                           C.byref(output))
        return result

    def write_attention(self, text, path, pair=None, dtype=F16, watch=0):
        options = self.kit.options(AttentionOptions, "attention_options")
        options.dtype, options.watch = dtype, watch
        text = text.encode()
        pair = pair.encode() if pair is not None else None
        self.kit.model_write_attention(
            self.model, self.queue, self.tokenizer, text,
            C.c_size_t(len(text)), pair, C.c_size_t(len(pair or b"")),
            C.byref(options), path.encode())
