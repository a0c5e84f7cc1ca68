"""The C++ kernels are compiled once, and where they cannot be, that is said."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from sj_lowlat.errors import InputError
from sj_lowlat.kernels import FireRule, cpp_build, cpp_cache, cpp_kernel, multi_step, select
from sj_lowlat.kernels.pool import pool_counts

SOURCE = 'extern "C" long long twice(long long n) { return 2 * n; }'
ARGUMENTS = torch.ones(2, 1, 3), torch.ones(1, 3), torch.ones(()), FireRule.plain(), None
COMPILER = cpp_build.compiler()
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler"),
    pytest.mark.filterwarnings("error"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own; nothing is remembered from before, or afterwards."""
    base = tmp_path / "my cäche"
    monkeypatch.setenv("XDG_CACHE_HOME", str(base))
    forgetful = (
        cpp_build.build,
        cpp_build._warn,
        cpp_build._version,
        cpp_kernel.available,
        cpp_kernel._compiled,
    )
    for function in forgetful:
        function.cache_clear()
    yield base / "sj_lowlat" / "kernels"
    for function in forgetful:
        function.cache_clear()


def twice(number: int) -> int | None:
    """By a library that is built or found anew, as another process does."""
    cpp_build.build.cache_clear()
    library = cpp_build.build(SOURCE, "twice")
    return None if library is None else library.twice(ctypes.c_longlong(number))


@pytest.fixture
def wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a shell script before the compiler; it appends its words to the file that is returned."""

    def wrap(script: str) -> Path:
        log, program = tmp_path / "log", tmp_path / "wrapped"
        program.write_text(f'#!/bin/sh\necho "$*" >> "{log}"\n{script}\nexec {COMPILER} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("CXX", str(program))
        return log

    return wrap


def test_is_compiled_once_and_kept(cache: Path, wrapped: Callable[[str], Path]) -> None:
    log = wrapped("")
    umask = os.umask(0o002)
    try:
        assert twice(21) == 42
        (file,) = cache.iterdir()
        log.write_text("")
        assert twice(21) == 42  # another process finds it there
    finally:
        os.umask(umask)
    assert "-c" not in log.read_text()
    assert list(cache.iterdir()) == [file] and cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", ["version", "path", "cpu"])
def test_another_compiler_or_cpu_compiles_anew(
    what: str, cache: Path, wrapped: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped("")
    assert twice(21) == 42
    if what == "version":
        wrapped('case "$*" in --version) echo 99; exit;; esac')
        cpp_build._version.cache_clear()
    elif what == "path":
        monkeypatch.delenv("CXX")
    else:
        monkeypatch.setattr(cpp_build, "_machine", lambda: "another")
    assert twice(21) == 42
    assert len(list(cache.iterdir())) == 2


def plant(cache: Path, source: str) -> Path:
    """Put a library of another source where the next process looks for that of ``SOURCE``."""
    assert twice(21) == 42
    (good,) = cache.iterdir()
    key = good.name.split("-")[0]
    good.unlink()
    return cpp_cache.keep(cache, key, lambda work: cpp_build._compile(COMPILER or "", source, work))


PLANTED = SOURCE.replace("2 *", "3 *")


def test_a_planted_library_would_be_found(cache: Path) -> None:
    plant(cache, PLANTED)
    assert twice(21) == 63  # so that the next test means something


@pytest.mark.parametrize("how", ["folder for all", "parent for all", "foreign", "link to a folder for all"])
def test_a_folder_that_others_can_write_to_is_not_used(
    how: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(cache, PLANTED)
    if how == "foreign":
        uid = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    elif how == "parent for all":
        cache.parents[1].chmod(0o777)
    else:
        cache.chmod(0o777)
    if how.startswith("link"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "link"))
        (tmp_path / "link" / "sj_lowlat").mkdir(parents=True, mode=0o700)
        (tmp_path / "link" / "sj_lowlat" / "kernels").symlink_to(cache)
    before = set(Path(tempfile.gettempdir()).glob("sj_lowlat-*"))
    reason = "belongs to another user" if how == "foreign" else "others may write to"
    with pytest.warns(UserWarning, match=f"each process compiles its own.*{reason}.*XDG_CACHE_HOME") as said:
        assert twice(21) == 42
        assert twice(21) == 42
    assert len(said) == 1
    assert set(Path(tempfile.gettempdir()).glob("sj_lowlat-*")) == before


@pytest.mark.parametrize("how", ["for all", "a link", "foreign"])
def test_a_library_of_others_in_the_own_folder_is_replaced(how: str, cache: Path, tmp_path: Path) -> None:
    planted = plant(cache, PLANTED)
    if how == "for all":
        planted.chmod(0o777)
    elif how == "foreign":
        if os.geteuid():
            pytest.skip("needs root")
        os.chown(planted, 12345, -1)
    else:
        planted.rename(tmp_path / "elsewhere.so")
        planted.symlink_to(tmp_path / "elsewhere.so")
    assert twice(21) == 42
    (file,) = cache.iterdir()
    assert file.is_file() and not file.is_symlink() and file.stat().st_uid == os.geteuid()


@pytest.mark.parametrize("damage", ["empty", "cut off", "a hole", "one bit"])
def test_a_damaged_library_is_compiled_anew(damage: str, cache: Path) -> None:
    assert twice(21) == 42
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.unlink()  # the old one is in use by this process
    file.write_bytes(
        {
            "empty": b"",
            "cut off": whole[:middle],
            "a hole": whole[:256] + bytes(1024) + whole[1280:],
            "one bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        }[damage]
    )
    assert twice(21) == 42
    assert file.read_bytes() == whole and list(cache.iterdir()) == [file]


def test_a_library_without_the_function_is_compiled_anew(cache: Path) -> None:
    planted = plant(cache, 'extern "C" int another() { return 1; }')
    assert twice(21) == 42
    assert not planted.exists()


def test_a_compiler_that_leaves_the_function_out(cache: Path) -> None:
    with pytest.warns(UserWarning, match='"reference".*libraries without the functions'):
        assert cpp_build.build("", "twice") is None
    assert not list(cache.iterdir())


@pytest.mark.parametrize("how", ["relative", "no home"])
def test_no_folder_of_ones_own(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_entry(uid: int) -> None:
        raise KeyError(uid)

    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    if how == "relative":
        monkeypatch.setenv("XDG_CACHE_HOME", "cache")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert twice(21) == 42
        assert list((tmp_path / "home" / ".cache" / "sj_lowlat" / "kernels").iterdir())
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", no_entry)
        with pytest.warns(UserWarning, match="each process compiles its own: this user has no home folder"):
            assert twice(21) == 42
    assert not list(here.iterdir())


def test_a_cache_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    with pytest.warns(UserWarning, match="each process compiles its own"):
        assert twice(4) == 8


def test_what_a_killed_compilation_left_goes(cache: Path) -> None:
    for name in ("work-old", "work-new"):
        (cache / name).mkdir(parents=True)
        (cache / name / "kernel.o").write_text("")
    os.utime(cache / "work-old", (0, 0))
    assert twice(21) == 42
    assert {path.name for path in cache.glob("work-*")} == {"work-new"}


@pytest.mark.parametrize("unknown", ["*openmp*|*gomp*", "*512*", "*march*", "*march*|*512*|*openmp*|*gomp*"])
def test_a_compiler_that_does_not_know_an_option_gets_the_others(
    unknown: str, wrapped: Callable[[str], Path]
) -> None:
    log = wrapped(f'case "$*" in {unknown}) exit 1;; esac')
    assert cpp_kernel.available()
    compiled = log.read_text().splitlines()[-2]
    for word in ("openmp", "512", "march"):
        assert (word in compiled) != (word in unknown)
    assert torch.equal(multi_step(*ARGUMENTS, "cpp"), multi_step(*ARGUMENTS, "reference"))


def test_openmp_below_a_folder_with_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "7f01-7f02 r-xp 00006000 fd:00 1537\t  /x/my venv/lib/libgomp.so.1"
    monkeypatch.setattr(cpp_build, "_lines", lambda file: ["7f00-7f01 rw-p 00000000 00:00 0", "", line])
    assert cpp_build._openmp.__wrapped__() == "/x/my venv/lib/libgomp.so.1"


def test_a_full_disk_is_no_unknown_option(
    cache: Path, wrapped: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary_file = tempfile.TemporaryFile

    def full(dir: Path) -> object:
        if cache in dir.parents:
            raise OSError(28, "No space left on device")
        return temporary_file(dir=dir)

    log = wrapped(f'case "$TMPDIR$*" in "{cache}"*--version) ;; "{cache}"*) exit 1;; esac')
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.warns(UserWarning, match="each process compiles its own.*No space left on device"):
        assert twice(21) == 42
    assert not list(cache.iterdir())
    assert all("-march=native" in line for line in log.read_text().splitlines() if "-c " in line)


def test_a_compiler_that_does_not_end(
    wrapped: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = wrapped('case "$*" in *-c*) exec sleep 60;; esac')
    monkeypatch.setattr(cpp_build, "_SECONDS", 1)
    with pytest.warns(UserWarning, match='"reference".*timed out after 1 seconds'):
        assert twice(21) is None
    assert len([line for line in log.read_text().splitlines() if "-c" in line]) == 1


@pytest.mark.parametrize("broken", ["none", "false", "true"])
def test_no_compiler(broken: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpp_build, "compiler", lambda: None if broken == "none" else shutil.which(broken))
    with pytest.warns(UserWarning, match='"reference", because none can be compiled') as said:
        assert select.choose(torch.device("cpu")) == "reference"
        assert multi_step(*ARGUMENTS, "auto").any()
        with pytest.raises(InputError, match='"cpp" needs a C\\+\\+ compiler.*CXX.*"reference"'):
            multi_step(*ARGUMENTS, "cpp")
    assert len(said) == 1
    assert not cache.exists() or not list(cache.iterdir())


def test_one_kernel_that_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older compiler does not know ``_Float16``, a disk fills up: ``auto`` takes the reference there."""
    assert cpp_kernel.available()
    monkeypatch.setattr(cpp_kernel, "build", lambda source, function: None)
    v, half = torch.ones(1, 3), torch.ones(2, 1, 3, dtype=torch.float16)
    assert torch.equal(multi_step(half, v, *ARGUMENTS[2:], "auto"), torch.ones(2, 1, 3).half())
    assert v.tolist() == [[1, 1, 1]]
    with pytest.raises(InputError, match='"cpp" needs a C\\+\\+ compiler'):
        multi_step(half, v, *ARGUMENTS[2:], "cpp")
    spikes = torch.ones(2, 1, 1, 2, 2).contiguous()
    count, sent = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1)
    assert pool_counts(spikes, count, sent, nn.MaxPool2d(2)).flatten().tolist() == [1, 1]
    assert sent.item() == 2


_FORK = """
import os, signal, torch
from sj_lowlat.kernels import FireRule, multi_step

torch.set_num_threads(2)
conv = torch.nn.Conv2d(8, 8, 3)

def work():
    currents, v = torch.ones(8, 1, 1 << 14), torch.zeros(1, 1 << 14)
    multi_step(currents, v, torch.ones(()), FireRule.plain(), kernel="cpp")
    conv(torch.ones(4, 8, 64, 64)).sum().item()

work()
child = os.fork()
if not child:
    signal.alarm(20)  # that of OpenMP waits for ever
    work()
    os._exit(0 if torch.get_num_threads() == 1 else 1)
assert os.waitpid(child, 0)[1] == 0 and torch.get_num_threads() == 2
"""


def test_a_forked_child_runs_with_one_thread() -> None:
    subprocess.run([sys.executable, "-c", _FORK], check=True, timeout=60)
