"""Writing results: whole or not at all, and never over what is not ours."""

from svdtrace.output.writing import (
    MANIFEST,
    check_folder,
    names_file,
    replaced_file,
    replaced_folder,
    result_files,
    write_manifest,
)

__all__ = [
    "MANIFEST",
    "check_folder",
    "names_file",
    "replaced_file",
    "replaced_folder",
    "result_files",
    "write_manifest",
]
