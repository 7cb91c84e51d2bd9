"""Why trials fail: a line for people, and what it means for the process that ran them."""

from __future__ import annotations

from fusion.component import masked

OUT_OF_MEMORY = "out of memory"
# What allocators say that raise a plain RuntimeError: torch on the CPU, cuBLAS and cuDNN, the CUDA driver.
_FULL = ("can't allocate memory", "not enough memory", "_STATUS_ALLOC_FAILED", "CUDA error: out of memory")


_QUOTING = ("polars", "pyarrow", "pandas", "pydicom")


class Poisoned(RuntimeError):
    """This process can run no further trial; another one must take its place."""


def failure_text(error: BaseException) -> str:
    """Say in one line why something failed; the text of an error that may quote a patient's data is not passed on."""
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if quotes_data(error):
        return type(error).__name__
    lines = masked(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def quotes_data(error: BaseException) -> bool:
    """Tell whether an error is of a kind whose text names the value that was not liked, which may be a patient's."""
    return isinstance(error, KeyError | UnicodeError) or type(error).__module__.partition(".")[0] in _QUOTING


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory is full; torch's own is told by its name, as nothing here needs torch."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)


def is_poisoned(error: BaseException) -> bool:
    """Tell whether an error says that the GPU context of this process is lost.

    After an assertion or an illegal access in a kernel everything this process asks of CUDA fails, whatever the trial.
    """
    accelerator = type(error).__name__ == "AcceleratorError" or str(error).startswith("CUDA error: ")
    return isinstance(error, RuntimeError) and accelerator and not is_out_of_memory(error)
