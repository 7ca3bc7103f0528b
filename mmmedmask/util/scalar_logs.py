"""The scalars.json of MMEngine's local backend: a JSON object per line."""

import json
from pathlib import Path


def read_scalar_log(path: str | Path) -> list[dict]:
    """Read the lines of a scalars.json.

    A last line that is cut is left out: the run was killed, or writes it now.

    Raises:
        ValueError: If another line is no JSON object; names file and line.
    """
    path = Path(path)
    *texts, rest = path.read_text('utf-8', 'replace').split('\n')
    lines = []
    for number, text in enumerate([*texts, rest], 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            if number > len(texts):
                break
            line = None
        if not isinstance(line, dict):
            raise ValueError(f'{path}, line {number} must be a JSON object, '
                             f'got {text[:60]!r}')
        lines.append(line)
    return lines
