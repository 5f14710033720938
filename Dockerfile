# ntkpipe in a small image that workflow engines can use: bash, ps, no entrypoint of its own, no root.
#
#   docker build --tag ntkpipe:0.1.0 .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" ntkpipe:0.1.0 ntkpipe run --features ... --out results

FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock askama.toml ./
COPY crates crates
RUN cargo build --release --locked && strip target/release/ntkpipe

FROM debian:bookworm-slim
# Nextflow measures its tasks with ps.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends procps \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home ntkpipe
COPY --from=build /src/target/release/ntkpipe /usr/local/bin/
USER ntkpipe
WORKDIR /work
CMD ["ntkpipe", "--help"]
