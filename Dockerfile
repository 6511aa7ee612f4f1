# UNBUILT: no container engine was at hand; checked by dockerfilelint, by hand, and tests/unit/test_containers.py.
#   docker build --tag noisetransfer:0.1.0 --build-arg COMMIT="$(git rev-parse HEAD)" .
#   mkdir -p results resources .snakemake
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD/results:/noisetransfer/results" \
#     --volume "$PWD/resources:/noisetransfer/resources" --volume "$PWD/.snakemake:/noisetransfer/.snakemake" \
#     noisetransfer:0.1.0 --cores all
# With GPUs: --gpus all before the image, --workflow-profile profiles/gpu behind it.
FROM python:3.11-slim-bookworm

LABEL org.opencontainers.image.title="noisetransfer" \
      org.opencontainers.image.description="Does noise shaped by one image modification protect a network against another?" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"

# what opencv loads; git and rsync for pods of a Kubernetes cluster
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git libgl1 libglib2.0-0 libsm6 libxext6 rsync \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /noisetransfer

COPY requirements.lock ./
RUN pip install --no-cache-dir --requirement requirements.lock
# plug-ins that the lock file leaves out: --build-arg PLUGINS="snakemake-executor-plugin-kubernetes snakemake-storage-plugin-fs"
ARG PLUGINS=""
RUN if [ -n "$PLUGINS" ]; then pip install --no-cache-dir --constraint requirements.lock $PLUGINS; fi

COPY CITATION.cff LICENSE README.md Snakefile config.yaml ./
COPY benchmarks ./benchmarks
COPY envs ./envs
COPY profiles ./profiles
COPY rules ./rules
COPY scripts ./scripts
COPY studies ./studies

# for provenance.json: the image has no .git
ARG COMMIT=""
ENV NOISETRANSFER_COMMIT=$COMMIT
# any user may run it; caches go to /tmp
ENV HOME=/tmp USER=noisetransfer
RUN useradd --no-create-home noisetransfer \
    && mkdir results resources .snakemake \
    && chown noisetransfer: . results resources .snakemake
USER noisetransfer

ENTRYPOINT ["snakemake"]
