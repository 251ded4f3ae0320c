# A whole version is named, so a build of today and one of next month agree. Another base with
# Python 3.11 or newer and the venv module will do: --build-arg PYTHON=IMAGE[@DIGEST]
ARG PYTHON=docker.io/library/python:3.13.9-slim-trixie

FROM ${PYTHON} AS build
# pip's own variables, for a build that must not or cannot ask the package index.
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
COPY pyproject.toml README.md LICENSE /source/
COPY circumvent /source/circumvent
COPY plugins /source/plugins
RUN python3 -m venv /opt/circumvent \
    && /opt/circumvent/bin/python -m pip install --no-cache-dir --quiet /source \
    && /opt/circumvent/bin/python -m pip uninstall --quiet --yes pip
RUN install --directory --mode=0700 /state/circumvent

FROM ${PYTHON}
COPY --from=build /opt/circumvent /opt/circumvent
COPY --from=build --chown=10001:10001 /state /var/lib
# Configuration: /etc/circumvent/circumvent.toml, and CIRCUMVENT_... variables over it.
ENV PATH=/opt/circumvent/bin:$PATH \
    HOME=/var/lib/circumvent \
    XDG_CONFIG_HOME=/etc \
    PYTHONDONTWRITEBYTECODE=1 \
    CIRCUMVENT_STATE_DIR=/var/lib/circumvent \
    CIRCUMVENT_LISTEN=0.0.0.0:1080
USER 10001:10001
VOLUME /var/lib/circumvent
EXPOSE 1080
# Not whether a process runs, but whether a request comes back through the SOCKS port.
HEALTHCHECK --interval=60s --timeout=25s --start-period=30s --retries=3 \
    CMD ["circumvent", "status", "--check"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["circumvent"]
CMD ["run"]
