# syntax=docker/dockerfile:1
# Compiler of policy changes: the pinned OPA command line, built from its Go module.
FROM golang:1.26-bookworm AS opa
WORKDIR /src
COPY tools/opa/ ./
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /opa .

# JavaScript and production dependencies.
FROM node:24.21.0-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY tools/build.ts tools/build.ts
COPY src/ src/
RUN npm run -s build && npm prune --omit=dev --omit=optional

FROM node:24.21.0-bookworm-slim
LABEL org.opencontainers.image.title="Portcullis" org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production
WORKDIR /app
COPY --from=opa /opa /usr/local/bin/opa
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules/ node_modules/
COPY --from=build /app/dist/ dist/
COPY policies/ policies/
COPY config/ config/
RUN mkdir -p /data && chown node:node /data
USER node
VOLUME /data
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8080/livez').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "dist/main.js"]
CMD ["serve", "-c", "/data/portcullis.yaml"]
