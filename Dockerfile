# An image with the pinned packages of requirements/lock.txt.
#
#     docker build --build-arg DEVICE=cpu -t mmmedmask:cpu .
#     docker build --build-arg DEVICE=cuda -t mmmedmask:cuda .
#     docker run --rm --shm-size=8g -v "$PWD/data:/app/data" mmmedmask:cpu \
#         python tools/misc/doctor.py
#
# With CUDA add `--gpus all`; the CUDA libraries come with torch, the host needs
# a driver alone. DEVICE=cpu leaves them out, which makes it 4 GB smaller.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim-bookworm

ARG DEVICE=cuda
ENV PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

# What OpenCV loads.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
# The packages alone, so that a change of code does not install them again.
COPY requirements requirements
RUN pip install uv==0.13.8 \
    && case "$DEVICE" in \
      cuda) cp requirements/lock.txt pins.txt; BACKEND= ;; \
      cpu) grep -v -E '^(nvidia|cuda|triton)' requirements/lock.txt \
           > pins.txt; BACKEND=--torch-backend=cpu ;; \
      *) echo "DEVICE is cpu or cuda, got $DEVICE"; exit 1 ;; \
    esac \
    && uv pip install --system --no-cache $BACKEND \
      --build-constraints requirements/build.txt \
      --requirements pins.txt

COPY . .
RUN uv pip install --system --no-cache --no-deps --no-build-isolation \
    --editable .
CMD ["python", "tools/misc/doctor.py"]
