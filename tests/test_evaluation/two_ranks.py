"""Run a metric on two processes, as a distributed evaluation does."""

import json
import subprocess
import sys

FRAME = """
import json
import os
import sys

import torch

folder = sys.argv[1]
rank = 0 if os.fork() else 1
torch.distributed.init_process_group(
    'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
# Results meet in the working folder.
os.chdir(folder)
# BODY
with open(f'{folder}/{rank}.json', 'w') as stream:
    json.dump(values, stream)
torch.distributed.destroy_process_group()
if rank == 0:
    sys.exit(os.wait()[1])
"""


def run_on_two_ranks(imports, body, folder):
    """Run code that sets ``values`` on both ranks of a process group.

    Args:
        imports: Lines before the process forks.
        body: The code; it may use ``rank`` and ``folder``.
        folder: Where the processes meet and write.

    Returns:
        ``values`` of both ranks.
    """
    code = imports + FRAME.replace('# BODY', body)
    subprocess.run([sys.executable, '-c', code, str(folder)],
                   check=True, timeout=300)
    return [json.loads((folder / f'{rank}.json').read_text())
            for rank in range(2)]
