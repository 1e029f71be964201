# syntax=docker/dockerfile:1
FROM python:3.13-slim AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/tiergate
COPY requirements.lock ./
RUN /opt/tiergate/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md catalog.yaml ./
COPY gateway gateway
COPY adapters adapters
COPY policies policies
RUN /opt/tiergate/bin/pip install --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN groupadd --system --gid 10001 tiergate \
    && useradd --system --uid 10001 --gid tiergate --home-dir /data --shell /usr/sbin/nologin tiergate \
    && install -d -o tiergate -g tiergate -m 0750 /data /etc/tiergate
COPY --from=build /opt/tiergate /opt/tiergate
ENV PATH=/opt/tiergate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TIERGATE_HOST=0.0.0.0 \
    TIERGATE_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 4000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('TIERGATE_PORT', '4000') + '/healthz', timeout=2)"]
CMD ["tiergate", "serve"]
