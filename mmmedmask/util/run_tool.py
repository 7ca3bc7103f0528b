"""End a tool's process as other programs end; needs nothing but Python."""

import errno
import os
import select
import signal
import sys
from collections.abc import Callable

#: Numbers of errors of what cannot be written: its disk, or who may.
NO_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's ``main`` and end the process with its status.

    Three ends are without a traceback: Ctrl-C, a disk that takes no more,
    and a reader of the output that goes away, as in ``| head``, whose status
    is that of the signal.
    """
    name = os.path.basename(sys.argv[0])
    status: object = 128 + signal.SIGPIPE
    try:
        try:
            status = main()
        except SystemExit as end:
            # Tools say in a line what is wrong with files; this is one.
            if isinstance(end.__context__, BrokenPipeError):
                raise end.__context__ from None
            status = end.code
        # A closed standard output is None.
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        if sys.stdout is None or not _has_no_reader(sys.stdout.fileno()):
            raise
        # What is left in the buffer would be an error once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in NO_WRITING:
            raise
        status = f'{name}: {error}'
    except KeyboardInterrupt:
        text = f'\n{name}: stopped\n'
        sys.excepthook = lambda *_: sys.stderr.write(text)
        raise
    sys.exit(status)


def _has_no_reader(descriptor: int) -> bool:
    """Whether a descriptor is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))
