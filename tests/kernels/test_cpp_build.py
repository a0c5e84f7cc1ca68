"""The C++ kernels are compiled once, and where they cannot be, that is said."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sj_lowlat.errors import InputError
from sj_lowlat.kernels import FireRule, cpp_build, cpp_kernel, multi_step, select

SOURCE = 'extern "C" long long twice(long long n) { return 2 * n; }'
ARGUMENTS = torch.ones(2, 1, 3), torch.ones(1, 3), torch.ones(()), FireRule.plain(), None
pytestmark = pytest.mark.skipif(cpp_build.compiler() is None, reason="needs a C++ compiler")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own; nothing is remembered from before, or afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forgetful = cpp_build.build, cpp_kernel.available, cpp_kernel._library
    for function in forgetful:
        function.cache_clear()
    yield tmp_path / "sj_lowlat" / "kernels"
    for function in forgetful:
        function.cache_clear()


def test_is_compiled_once_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = cpp_build.build(SOURCE)
    assert library is not None and library.twice(ctypes.c_longlong(21)) == 42
    (file,) = cache.iterdir()
    cpp_build.build.cache_clear()
    monkeypatch.setattr(cpp_build, "_compile", None)  # another run finds it there
    assert cpp_build.build(SOURCE) is not None
    assert list(cache.iterdir()) == [file]


def test_a_cache_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    library = cpp_build.build(SOURCE)
    assert library is not None and library.twice(ctypes.c_longlong(4)) == 8


def test_a_compiler_that_knows_no_options_but_the_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "plain"
    plain.write_text(
        '#!/bin/sh\ncase "$*" in *march*|*openmp*|*-lgomp*) exit 1;; esac\n'
        f'exec {shutil.which(cpp_build.compiler() or "")} "$@"\n'
    )
    plain.chmod(0o755)
    monkeypatch.setenv("CXX", str(plain))
    assert cpp_kernel.available()
    assert torch.equal(multi_step(*ARGUMENTS, "cpp"), multi_step(*ARGUMENTS, "reference"))


@pytest.mark.parametrize("broken", ["none", "fails"])
def test_no_compiler(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpp_build, "compiler", lambda: None if broken == "none" else shutil.which("false"))
    assert select.choose(torch.device("cpu")) == "reference"
    assert multi_step(*ARGUMENTS, "auto").any()
    with pytest.raises(InputError, match='"cpp" needs a C\\+\\+ compiler.*CXX.*"reference"'):
        multi_step(*ARGUMENTS, "cpp")
