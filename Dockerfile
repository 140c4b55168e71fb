# qakhunt for unattended runs, as a user without rights:
#   docker build -t qakhunt .
#   docker run --rm qakhunt run
# docs/guides/unattended.md says how it is run with a configuration and a state.
FROM python:3.13-slim AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/qakhunt \
    && /opt/qakhunt/bin/pip install --no-cache-dir '.[blob,ingestion]'

FROM python:3.13-slim
COPY --from=build /opt/qakhunt /opt/qakhunt
RUN useradd --uid 10001 --create-home --home-dir /var/lib/qakhunt qakhunt
ENV PATH=/opt/qakhunt/bin:$PATH PYTHONDONTWRITEBYTECODE=1
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/qakhunt
VOLUME /var/lib/qakhunt
ENTRYPOINT ["qakhunt"]
CMD ["--help"]
