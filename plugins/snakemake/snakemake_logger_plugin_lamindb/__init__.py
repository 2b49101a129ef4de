"""What Snakemake finds by this name: ``snakemake --logger lamindb``.

Every ``snakemake`` process on the machine imports this package, asked for or not, so that an error
here would break them all: it imports nothing of ours before it is asked for, and lets nothing out.
"""

import logging
from dataclasses import dataclass, field
from typing import Any, List, Optional  # noqa: UP035 - Snakemake looks at these very types

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Each field is an option ``--logger-lamindb-<name>``."""

    instance: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "The lamindb instance to record into: its name, or a folder with one. Default: "
            "the one of the working directory.",
            "env_var": True,
        },
    )
    include: List[str] = field(  # noqa: UP006
        default_factory=list,
        metadata={
            "help": "Record only files that match one of these patterns, such as 'results/**'.",
            "nargs": "+",
            "metavar": "PATTERN",
        },
    )
    exclude: List[str] = field(  # noqa: UP006
        default_factory=list,
        metadata={
            "help": "Record no file that matches one of these patterns, such as '*.log'.",
            "nargs": "+",
            "metavar": "PATTERN",
        },
    )
    copy: bool = field(
        default=False,
        metadata={
            "help": "Copy outputs into the instance's storage, rather than record them in place.",
            "env_var": True,
        },
    )
    strict: bool = field(
        default=False,
        metadata={
            "help": "Refuse to start where nothing can be recorded, for want of an instance or of "
            "its database.",
            "env_var": True,
        },
    )


class LogHandler(LogHandlerBase):
    """Attaches what records to Snakemake's logger; the queue of log records is of no use to it."""

    def __post_init__(self) -> None:
        self._attached: Any = None
        # nothing in the queue is for this handler, and so nothing has to be formatted for it
        self.setLevel(logging.CRITICAL + 1)
        settings = self.settings or LogHandlerSettings()
        if getattr(settings, "strict", False):
            from lamindb_snakemake.attach import require_database

            require_database(settings)
        try:
            from lamindb_snakemake.attach import attach

            self._attached = attach(settings, is_dryrun=bool(self.common_settings.dryrun))
        except Exception as error:  # whatever is wrong with us must not stop a workflow
            logging.getLogger("lamindb").warning(
                "this workflow is not recorded: %s: %s", type(error).__name__, error
            )

    def emit(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        """Called twice by newer versions, and only at the end of the process by older ones."""
        if self._attached is not None:
            self._attached.close()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        return False

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        # else --quiet would hide jobs from it
        return True

    @property
    def has_formatter(self) -> bool:
        return True

    @property
    def needs_rulegraph(self) -> bool:
        return False
