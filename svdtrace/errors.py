"""Errors of `svdtrace`: one small hierarchy; every message ends with what to do."""


class SvdtraceError(Exception):
    """Base of everything that `svdtrace` raises on purpose."""


class PromptError(SvdtraceError):
    """A prompt, a prompt file or a role that cannot be used."""


class SettingError(SvdtraceError):
    """A setting outside its range, or a combination that has no meaning."""


class RootError(SvdtraceError):
    """A root that names no head, role or position of the model and its prompts."""


class EdgeError(SvdtraceError):
    """An edge's name that names no writer, head, role or position of the model and its prompts."""


class ModelError(SvdtraceError):
    """A model that lacks what a command needs."""


class PathError(SvdtraceError):
    """A name that means no path: an empty one, or the home of a user who has none."""


class OutputError(SvdtraceError):
    """A folder or file that cannot be written, or must not be replaced."""


class TraceFolderError(SvdtraceError):
    """A folder that does not hold a trace, or holds a damaged one."""


class TruthError(SvdtraceError):
    """A folder that does not say what is true of its model, or says it wrongly."""


class QueryError(SvdtraceError):
    """A question that cannot be asked of the tables."""


class FrameError(SvdtraceError):
    """A table that cannot become a data frame: no library for them is installed."""


class BenchError(SvdtraceError):
    """A measurement that could not be made."""


class OptionError(SvdtraceError):
    """An option of the command line that cannot be understood."""


class SvdtraceWarning(UserWarning):
    """What went otherwise than was asked, though the result stands."""
