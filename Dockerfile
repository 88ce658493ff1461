# One image for the API and the workers; docker-compose.yml starts both from it. It writes to /data, /models
# and /tmp alone, in compose to /thumbnails too, and needs no capability: run it with --read-only --tmpfs /tmp --cap-drop ALL.
# The version is the one of package-lock.json: raise both together.
FROM node:24.21.0-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# No install script is needed: native code comes prebuilt, and onnxruntime's script only downloads GPU libraries.
RUN npm ci --omit=dev --ignore-scripts
# onnxruntime brings its libraries for every platform, and a browser build that Node never loads.
RUN rm -rf node_modules/onnxruntime-web \
  && find node_modules/onnxruntime-node/bin -mindepth 3 -maxdepth 3 -type d \
    ! -path "*/linux/$(node -p process.arch)" -exec rm -rf {} +

FROM node:24.21.0-slim
# glibc would otherwise keep freed blocks of large images, and spread them over an arena per thread.
ENV MALLOC_MMAP_THRESHOLD_=1000000 MALLOC_ARENA_MAX=2
# On this HOST it starts only with API_KEYS, or with ALLOW_ANONYMOUS=true.
ENV NODE_ENV=production \
  HOST=0.0.0.0 \
  DATA_DIR=/data \
  MODELS_DIR=/models
WORKDIR /app
# Named volumes get the owner of the folder that they are mounted over; compose has one for /thumbnails.
RUN install -d -o node -g node /data /models /thumbnails /compiled
COPY --from=dependencies /app/node_modules node_modules
COPY package.json LICENSE ./
COPY models models
COPY workers workers
COPY src src
USER node
# Compiles what the programs load, once: they start in less than half the time.
ENV NODE_COMPILE_CACHE=/compiled
RUN node --input-type=module -e "for (const file of [ \
  'src/serve.ts', 'src/run-worker.ts', 'models/embedding/transformers-model.ts', 'src/vectors/qdrant/vector-store.ts', \
  'src/queue/redis/queue.ts', 'src/queue/spool/spooled-queue.ts', \
  'src/queue/sqlite/queue.ts', 'src/vectors/sqlite/vector-store.ts']) await import('./' + file)"
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 8000}/livez`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# There is no build step. Without Redis this process also runs a worker; with Redis, start: node workers/main.ts
CMD ["node", "--disable-warning=ExperimentalWarning", "src/main.ts"]
