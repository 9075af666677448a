"""clattn_text.h from Python: a tokenizer of libclattn_kit by ctypes."""

import ctypes
import os


class _Config(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("pattern", ctypes.c_char_p),
                ("specials", ctypes.POINTER(ctypes.c_char_p)),
                ("special_ids", ctypes.POINTER(ctypes.c_int32)),
                ("n_specials", ctypes.c_size_t), ("lowercase", ctypes.c_int)]


class _Options(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t),
                ("allow_special", ctypes.c_bool),
                ("add_special", ctypes.c_bool), ("invalid", ctypes.c_int),
                ("pair", ctypes.c_char_p), ("pair_bytes", ctypes.c_size_t),
                ("max_length", ctypes.c_int64)]


class _Encoding(ctypes.Structure):
    _fields_ = [("n", ctypes.c_int64),
                ("ids", ctypes.POINTER(ctypes.c_int32)),
                ("begins", ctypes.POINTER(ctypes.c_int64)),
                ("ends", ctypes.POINTER(ctypes.c_int64)),
                ("segments", ctypes.POINTER(ctypes.c_uint8)),
                ("added", ctypes.POINTER(ctypes.c_uint8)),
                ("truncated", ctypes.c_bool)]


_SINK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p,
                         ctypes.POINTER(ctypes.c_int32), ctypes.c_int64)


class _BpeConfig(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t),
                ("vocab_size", ctypes.c_int32),
                ("min_frequency", ctypes.c_int64),
                ("pattern", ctypes.c_char_p),
                ("specials", ctypes.POINTER(ctypes.c_char_p)),
                ("n_specials", ctypes.c_size_t),
                ("progress", ctypes.c_void_p),
                ("progress_user", ctypes.c_void_p)]


class Tokenizer:
    """One loaded tokenizer; build is the folder with libclattn_kit.so."""

    def __init__(self, build, path, pattern=None, specials=None, lowercase=-1):
        self._open(build)
        config = _Config()
        self.lib.clattn_tokenizer_config_init(ctypes.byref(config))
        config.pattern = pattern.encode() if pattern else None
        config.lowercase = lowercase
        if specials:
            names = [name.encode() for name in specials]
            config.specials = (ctypes.c_char_p * len(names))(*names)
            config.special_ids = (ctypes.c_int32 * len(names))(
                *specials.values())
            config.n_specials = len(names)
        self.handle = ctypes.c_void_p()
        self.check(self.lib.clattn_tokenizer_load(
            os.fspath(path).encode(), ctypes.byref(config),
            ctypes.byref(self.handle)))

    def _open(self, build):
        self.lib = ctypes.CDLL(os.path.join(build, "libclattn_kit.so"))
        core = ctypes.CDLL(os.path.join(build, "libclattn.so"))
        self._message = core.clattn_error_message
        self._message.restype = ctypes.c_char_p

    @classmethod
    def train(cls, build, text_path, vocab_size, min_frequency=2, pattern=None):
        made = cls.__new__(cls)
        made._open(build)
        config = _BpeConfig()
        made.lib.clattn_bpe_config_init(ctypes.byref(config))
        config.vocab_size = vocab_size
        config.min_frequency = min_frequency
        config.pattern = pattern.encode() if pattern else None
        made.handle = ctypes.c_void_p()
        made.check(made.lib.clattn_tokenizer_train_bpe(
            ctypes.byref(config), os.fspath(text_path).encode(),
            ctypes.byref(made.handle)))
        return made

    def check(self, status):
        if status != 0:
            raise ValueError(self._message().decode(errors="replace"))

    def __del__(self):
        if getattr(self, "handle", None):
            self.lib.clattn_tokenizer_destroy(self.handle)

    def options(self, **settings):
        options = _Options()
        self.lib.clattn_encode_options_init(ctypes.byref(options))
        for name, value in settings.items():
            setattr(options, name, value)
        return options

    def encode(self, text, places=False, **settings):
        """ids, or with places (ids, begins, ends, segments)."""
        options = self.options(**settings)
        out = _Encoding()
        self.check(self.lib.clattn_tokenizer_encode(
            self.handle, text, ctypes.c_size_t(len(text)),
            ctypes.byref(options), ctypes.byref(out)))
        n = out.n
        ids = out.ids[:n]
        result = ids if not places else (
            ids, out.begins[:n], out.ends[:n], out.segments[:n])
        self.lib.clattn_encoding_free(ctypes.byref(out))
        return result

    def encode_count(self, text):
        """Encodes and gives the number of tokens alone, for timing."""
        options = self.options(add_special=False)
        out = _Encoding()
        self.check(self.lib.clattn_tokenizer_encode(
            self.handle, text, ctypes.c_size_t(len(text)),
            ctypes.byref(options), ctypes.byref(out)))
        n = out.n
        self.lib.clattn_encoding_free(ctypes.byref(out))
        return n

    def stream(self, parts, **settings):
        """The ids of a text that comes in parts."""
        options = self.options(**settings)
        ids = []

        def sink(_, found, n):
            ids.extend(found[:n])
            return 0

        callback, stream = _SINK(sink), ctypes.c_void_p()
        self.check(self.lib.clattn_token_stream_create(
            self.handle, ctypes.byref(options), callback, None,
            ctypes.byref(stream)))
        try:
            for part in parts:
                self.check(self.lib.clattn_token_stream_push(
                    stream, part, ctypes.c_size_t(len(part))))
            self.check(self.lib.clattn_token_stream_finish(stream))
        finally:
            self.lib.clattn_token_stream_destroy(stream)
        return ids

    def decode(self, ids, skip_special=False):
        array = (ctypes.c_int32 * max(len(ids), 1))(*ids)
        text, size = ctypes.c_void_p(), ctypes.c_size_t()
        self.check(self.lib.clattn_tokenizer_decode(
            self.handle, array, ctypes.c_int64(len(ids)),
            ctypes.c_bool(skip_special), ctypes.byref(text),
            ctypes.byref(size)))
        made = ctypes.string_at(text, size.value)
        ctypes.CDLL(None).free(text)
        return made

    def save(self, folder):
        self.check(self.lib.clattn_tokenizer_save(
            self.handle, os.fspath(folder).encode()))
