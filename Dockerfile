# The image of a Bento, which is the build context. `headgate containerize` builds and tries it;
# without Headgate:
#
#   docker build -f Dockerfile .headgate/bentoml/bentos/headgate/VERSION
#
# The container needs nothing but a writable /tmp: it runs as nobody in particular, on a read-only root.
ARG BASE=python:3.11-slim-bookworm

# What serving these models needs, and nothing else. The same packages make the same files: times are those
# of the epoch, and bytecode says nothing of them.
FROM ${BASE} AS packages
# 1 for ONNX Runtime on CUDA; its libraries come as packages, the driver from the host.
ARG GPU=0
# Where other builds of packages are, say PyTorch's for CPUs.
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY env/python/requirements.txt /tmp/requirements.txt
RUN python3 -m venv --without-pip /opt/venv \
    && if [ "${GPU}" = 1 ]; then \
        sed -i 's/^onnxruntime==/onnxruntime-gpu[cuda,cudnn]==/' /tmp/requirements.txt; \
    fi \
    && pip --python /opt/venv/bin/python install --no-compile -r /tmp/requirements.txt dumb-init==1.2.5.post1 \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib \
    && find /opt/venv -exec touch --no-dereference --date=@0 {} +

FROM packages AS code
COPY src/headgate /bento/src/headgate
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /bento/src/headgate \
    && find /bento -exec touch --no-dereference --date=@0 {} +

FROM ${BASE}
COPY --from=packages /opt/venv /opt/venv
COPY --from=code /bento/src/headgate /bento/src/headgate
COPY bento.yaml /bento/
COPY src/service.py src/app.p[y] src/headgate.toml src/models.lock /bento/src/
COPY src/requirements /bento/src/requirements
COPY src/models /bento/src/models
# The models last: all before them is the same for the next version.
COPY src/.headgate /bento/src/.headgate
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/bento/src \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BENTOML_DO_NOT_TRACK=True \
    HOME=/tmp
WORKDIR /bento/src
USER 10001:10001
EXPOSE 3000 3001
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-m", "headgate.serving.healthy"]
ENTRYPOINT ["dumb-init", "--single-child", "--", "python", "-m", "headgate.serving", "/bento", "--host", "0.0.0.0"]
