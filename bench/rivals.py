#!/usr/bin/env python3
"""clattn beside what Python programs use: PyTorch, ONNX Runtime, OpenVINO, oneDNN.

    make bench-python                      all of it, in a virtual environment
    bench/rivals.py --shim build/bench/libclattn_bench.so [--shapes FILE] ...

How it is measured:
  - Every contestant, clattn too, lives in a process of its own, loaded from Python
    and called in the same loop. Only one of them is awake at any time: the others
    are stopped (SIGSTOP). So nobody's thread pool takes the cores of another, and
    each may wait for work as it does by default, spinning or not: a setting that
    helps one rival alone is neither forbidden to it nor forced on the rest.
  - Every contestant gets the same number of threads (--threads), by its own
    switch; below the number of cores all are kept on the same cores as well.
  - Inputs are the same numbers. Each result is checked on sampled rows against
    double precision before it is timed; a wrong one is reported and not timed.
  - Samples are interleaved, A B C A B C, each of several calls (at least 10 ms)
    after a warm-up call. Before and after each a probe of a few milliseconds finds
    what the machine gives at that moment: multiply-adds in registers, and reads of
    memory. A sample whose two probes disagree by more than 15% is dropped, unless
    none would remain.
  - Of samples the median counts. The ratio rival/clattn is the median over the
    rounds in which both were kept and saw like probes; with fewer than three such
    rounds, the ratio of the medians. Above 1 clattn is faster.
  - fraction_of_probe is the time that the probes would allow (FLOPs at the first
    or bytes at the second, whichever takes longer) by the time taken. Of data that
    stays in a cache it can exceed 1; of f16 and bf16 too, where a machine
    multiplies them faster than the probe's f32.
  - On a machine that others use as well, --threads 1 --clock cpu counts the
    process's CPU time where it is less than the clock's: what its neighbours take
    is left out, of the probes as well.

Exit status: 0; 1 if a result was wrong; 2 if clattn itself could not be measured.
"""
import argparse
import collections
import ctypes
import gc
import json
import math
import multiprocessing
import os
import resource
import signal
import statistics
import sys
import time

from rival_libraries import RIVALS, Clattn, Unsupported
import rival_problems as problems
import rival_training

SAMPLE_SECONDS = 0.01  # a sample is at least so long
ROUNDS = 15            # at most
LEAST_ROUNDS = 5
PROBES_AGREE = 0.15
PR_SET_PDEATHSIG = 1

Sample = collections.namedtuple("Sample", "seconds fma read agreed")


# ---- one contestant in its process ---------------------------------------------
def limit_memory(gigabytes):
    """An unfused rival must fail at 64k tokens, not take the machine along."""
    pages = int(open("/proc/self/statm").read().split()[0])
    now = pages * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + int(gigabytes * 2**30),) * 2)


def timed(contestant, calls):
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(calls):
        contestant.run()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return (min(seconds, cpu) if contestant.by_cpu else seconds) / calls


def prepare(contestant, shape):
    if (shape.training or shape.backward) and not contestant.trains:
        raise Unsupported("no gradients")
    contestant.prepare(shape, shape.inputs())
    contestant.first = timed(contestant, 1)  # and what is made on the first call
    rows = shape.sample(contestant.result())
    return {"rows": rows, "path": contestant.path}


def calibrate(contestant):
    """Calls that a sample takes."""
    if contestant.first > 10 * SAMPLE_SECONDS:
        return 1
    seconds = timed(contestant, 1)
    if seconds < SAMPLE_SECONDS:
        seconds = timed(contestant, max(1, int(SAMPLE_SECONDS / 4 / seconds)))
    return max(1, round(SAMPLE_SECONDS / seconds))


def release(contestant):
    contestant.release()
    gc.collect()


def measure(contestant, calls):
    if calls > 1:  # a long call needs no warm-up
        contestant.run()
    return timed(contestant, calls)


def serve(connection, kind, options):
    """Answers requests with (answer, None) or (None, reason)."""
    commands = {"prepare": prepare, "calibrate": calibrate, "measure": measure,
                "release": release}
    # Stopped processes do not see that their parent is gone: have them killed.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        contestant = kind(options)
        contestant.by_cpu = options.clock == "cpu"
        contestant.opened = dict(contestant.__dict__)
        limit_memory(options.memory)
        about = {"version": contestant.version,
                 "device": getattr(contestant, "device", "CPU")}
        connection.send((about, None))
    except Exception as error:
        connection.send((None, reason_of(error)))
        return
    while True:
        command, *arguments = connection.recv()
        try:
            connection.send((commands[command](contestant, *arguments), None))
        except Exception as error:
            connection.send((None, reason_of(error)))


def reason_of(error):
    kind = "" if isinstance(error, Unsupported) else type(error).__name__ + ": "
    text = kind + (" ".join(str(error).split()) or "no message")
    return text if len(text) <= 200 else text[:60] + " ... " + text[-130:]


class Process:
    """A contestant, stopped unless it is asked something."""

    def __init__(self, kind, options):
        self.name, self.version, self.device, self.reason = kind.name, None, None, None
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        self.connection = ours
        variables = kind.environment(options.threads)
        before = dict(os.environ)
        os.environ.update(variables)
        self.process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, kind, options), daemon=True)
        self.process.start()
        os.environ.clear()
        os.environ.update(before)
        theirs.close()
        about, self.reason = self.answer()
        if about:
            self.version, self.device = about["version"], about["device"]

    def ask(self, *request):
        """Wakes it, returns (answer, reason) and stops it again."""
        if self.reason:
            return None, self.reason
        os.kill(self.process.pid, signal.SIGCONT)
        self.connection.send(request)
        return self.answer()

    def answer(self):
        try:
            answer = self.connection.recv()
            os.kill(self.process.pid, signal.SIGSTOP)
            return answer
        except (EOFError, ConnectionError):
            self.process.join()
            self.reason = f"its process ended with {self.process.exitcode}"
            return None, self.reason

    def close(self):
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


# ---- measuring -------------------------------------------------------------------
class Prober:
    """What the machine gives now: FLOP/s and bytes a second."""

    def __init__(self, shim, threads, by_cpu):
        lib, self.threads, self.by_cpu = ctypes.CDLL(shim), threads, by_cpu
        self.fma, self.read = lib.shim_probe_fma, lib.shim_probe_read
        for probe in (self.fma, self.read):
            probe.restype = ctypes.c_double
            probe.argtypes = [ctypes.c_int, ctypes.c_double]
        self()

    def __call__(self):
        return self.rate(self.fma, 0.003), self.rate(self.read, 0.004)

    def rate(self, probe, seconds):
        cpu, start = time.process_time(), time.perf_counter()
        rate = probe(self.threads, seconds)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        return rate * wall / cpu if self.by_cpu and 0 < cpu < wall else rate


def agree(a, b, which):
    return abs(a[which] - b[which]) <= PROBES_AGREE * max(a[which], b[which])


def bound(shape, fma, read):
    """0 if multiply-adds limit this shape, 1 if reading does; and the seconds."""
    times = shape.flops / max(fma, 1), shape.bytes / max(read, 1)
    return times.index(max(times)), max(times)


def measure_shape(shape, processes, prober, budget):
    """Rows for the table: the first contestant is clattn."""
    want = shape.reference()
    rows, field = [], []
    for process in processes:
        row = {"name": shape.name, "device": process.device,
               "rival": None if process.name == Clattn.name else process.name,
               "path": None, "version": process.version, "dtype": shape.dtype,
               "causal": shape.causal, "threads": prober.threads,
               "clock": "cpu" if prober.by_cpu else "wall", "seconds": None,
               "gflops": None, "gbps": None, "fraction_of_probe": None,
               "ratio": None, "samples": 0, "wrong": False, "reason": None}
        rows.append(row)
        answer, row["reason"] = process.ask("prepare", shape)
        if row["reason"]:
            continue
        row["path"] = answer["path"]
        row["reason"] = shape.wrong(answer["rows"], want)
        row["wrong"] = row["reason"] is not None
        if row["wrong"]:
            continue
        calls, row["reason"] = process.ask("calibrate")
        if calls:
            field.append((process, row, calls))
    take_samples(shape, field, prober, budget)
    for process in processes:
        process.ask("release")
    return rows


def done(rounds, spent, budget):
    return spent > budget * (1 if rounds >= LEAST_ROUNDS else 5)


def take_samples(shape, field, prober, budget):
    samples = [[] for _ in field]  # by contestant and round; None: not taken or failed
    spent = [0.0] * len(field)
    which = bound(shape, *prober())[0]
    for round_ in range(ROUNDS):
        if all(done(round_, seconds, budget) for seconds in spent):
            break
        before = prober()
        for i, (process, row, calls) in enumerate(field):
            samples[i].append(None)
            if done(round_, spent[i], budget):
                continue
            start = time.perf_counter()
            seconds, row["reason"] = process.ask("measure", calls)
            spent[i] += time.perf_counter() - start if seconds else math.inf
            after = prober()
            if seconds:
                probes = [(a + b) / 2 for a, b in zip(before, after)]
                samples[i][-1] = Sample(seconds, *probes, agree(before, after, which))
            before = after
    for i, (process, row, calls) in enumerate(field):
        good = [s for s in samples[i] if s and s.agreed] or [s for s in samples[i] if s]
        if good:
            summarise(shape, row, good)
        if i and field[0][1]["rival"] is None and row["seconds"]:
            row["ratio"] = ratio(samples[0], samples[i], which, field[0][1], row)


def summarise(shape, row, samples):
    seconds = statistics.median(s.seconds for s in samples)
    row.update(
        seconds=seconds, gflops=shape.flops / seconds * 1e-9,
        gbps=shape.bytes / seconds * 1e-9, samples=len(samples),
        probe_gflops=statistics.median(s.fma for s in samples) * 1e-9,
        probe_gbps=statistics.median(s.read for s in samples) * 1e-9,
        fraction_of_probe=statistics.median(
            bound(shape, s.fma, s.read)[1] / s.seconds for s in samples))


def ratio(ours, theirs, which, our_row, their_row):
    pairs = [b.seconds / a.seconds for a, b in zip(ours, theirs)
             if a and b and a.agreed and b.agreed and agree(a[1:3], b[1:3], which)]
    return (statistics.median(pairs) if len(pairs) >= 3
            else their_row["seconds"] / our_row["seconds"])


# ---- the table -------------------------------------------------------------------
def print_rows(rows):
    for row in rows:
        who = row["rival"] or f"clattn {row['path'] or ''}".strip()
        if row["seconds"] is None:
            word = "WRONG" if row["wrong"] else "not run"
            line = f"{word}: {row['reason']}"
        else:
            ratio = f"{row['ratio']:6.2f}" if row["ratio"] else f"{'':6}"
            line = (f"{row['seconds'] * 1e3:10.3f} {row['gflops']:8.1f} "
                    f"{row['gbps']:7.2f} {row['fraction_of_probe']:6.2f} {ratio} "
                    f"{row['samples']:3d}")
        print(f"{row['name']:24} {who:18} {line}", flush=True)


def print_summary(rows):
    compared = [r for r in rows if r["ratio"]]
    close = [r for r in compared if r["ratio"] < 1.5]
    print(f"\n{len(compared)} comparisons; clattn is not 1.5 times as fast in "
          f"{len(close)}:")
    for row in sorted(close, key=lambda r: r["ratio"]):
        print(f"  {row['ratio']:5.2f}  {row['name']:24} {row['rival']}")


# ---- the program -----------------------------------------------------------------
def arguments():
    here = os.path.dirname(os.path.abspath(__file__))
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--shim", default="build/bench/libclattn_bench.so", help="made by make benches")
    add("--shapes", default=os.path.join(here, "shapes", "models.txt"))
    add("--no-layer", action="store_true", help="without the layer's shapes")
    add("--no-training", action="store_true",
        help="without gradients and the training step")
    add("--only", action="append", metavar="TEXT", help="shapes whose name has it")
    add("--rival", action="append", metavar="TEXT", help="rivals whose name has it")
    add("--device", default="cpu", help="clattn's, as CLATTN_DEVICE; default cpu")
    add("--threads", type=int, default=cores, help=f"default: all cores, {cores}")
    add("--budget", type=float, default=3, metavar="SECONDS",
        help="a contestant and shape; default 3")
    add("--memory", type=float, metavar="GIB",
        default=available_memory() / (len(RIVALS) + 1),
        help="that a contestant may take beyond its library; default: its share")
    add("--clock", choices=("wall", "cpu"), default="wall",
        help="cpu: for one thread on a machine that others use")
    add("--json", metavar="FILE", help="write the results there as well")
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu goes with --threads 1: threads that spin count")
    options.shim = os.path.abspath(options.shim)
    return options


def available_memory():
    for line in open("/proc/meminfo"):
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) / 2**20
    return 4.0


def chosen_shapes(options):
    shapes = problems.read_shapes(options.shapes)
    if not options.no_layer:
        shapes += problems.layer_shapes()
    if not options.no_training:
        shapes += problems.backward_shapes() + rival_training.SHAPES
    if options.only:
        shapes = [s for s in shapes if any(text in s.name for text in options.only)]
    return shapes


def run_group(shapes, options, cores):
    """All shapes that want the same number of threads."""
    os.sched_setaffinity(0, sorted(cores)[:options.threads])
    prober = Prober(options.shim, options.threads, options.clock == "cpu")
    kinds = [kind for kind in RIVALS if not options.rival or
             any(text.lower() in kind.name.lower() for text in options.rival)]
    processes = [Process(kind, options) for kind in [Clattn] + kinds]
    try:
        print(f"\n{options.threads} threads: {probe_text(prober)}")
        for p in processes:
            print(f"  {p.name:18} " + (f"not run: {p.reason}" if p.reason
                                       else f"{p.version}  {p.device}"))
        print(f"\n{'shape':24} {'who':18} {'ms':>10} {'GFLOP/s':>8} {'GB/s':>7} "
              f"{'probe':>6} {'ratio':>6}   n", flush=True)
        for shape in shapes:
            rows = measure_shape(shape, processes, prober, options.budget)
            print_rows(rows)
            yield from rows
    finally:
        for process in processes:
            process.close()
        os.sched_setaffinity(0, cores)


def probe_text(prober):
    fma, read = (statistics.median(x) for x in zip(*(prober() for _ in range(7))))
    return f"probes give {fma * 1e-9:.0f} GFLOP/s and {read * 1e-9:.1f} GB/s now"


def main():
    options = arguments()
    shapes, cores, rows = chosen_shapes(options), os.sched_getaffinity(0), []
    default = options.threads
    groups = collections.defaultdict(list)
    for shape in shapes:
        groups[shape.threads or default].append(shape)
    for threads, group in groups.items():
        if options.clock == "cpu" and threads != 1:
            raise SystemExit(f"{group[0].name}: --clock cpu is for one thread")
        options.threads = threads
        for row in run_group(group, options, cores):
            rows.append(row)
            if options.json:  # what is there counts even if the run is cut short
                with open(options.json, "w") as file:
                    json.dump(rows, file, indent=1)
    print_summary(rows)
    if any(row["wrong"] for row in rows):
        return 1
    return 2 if any(not r["rival"] and not r["seconds"] for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
