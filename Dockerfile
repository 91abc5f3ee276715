# Untested: no container engine was at hand where this was written. It follows the steps of the README.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends mold && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin daybook

FROM debian:bookworm-slim
# PostgreSQL's programs for the private server; no cluster of the system's is made.
RUN mkdir -p /etc/postgresql-common \
    && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
    && apt-get update && apt-get install -y --no-install-recommends postgresql ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/daybook --create-home daybook
COPY --from=build /src/target/release/daybook /usr/local/bin/daybook
COPY LICENSE /usr/share/doc/daybook/LICENSE
COPY demo/data/README.md demo/data/LICENSE-ODbL.txt /usr/share/doc/daybook/demo/
USER daybook
VOLUME /var/lib/daybook
EXPOSE 4000
ENV DAYBOOK_DATA_DIR=/var/lib/daybook DAYBOOK_LISTEN=0.0.0.0:4000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/4000 && printf 'GET /health/ready HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q 200"]
ENTRYPOINT ["daybook"]
CMD ["serve"]
