FROM node:24-trixie-slim AS build
WORKDIR /app
# better-sqlite3 is compiled where its prebuilt binary cannot be had; the image has Node's headers.
ENV npm_config_nodedir=/usr/local
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ make python3 \
 && rm -rf /var/lib/apt/lists/*
COPY package.json package-lock.json ./

FROM build AS dependencies
# For a CA key in a PKCS#11 token: leave out --omit=optional, have pkcs11js rebuilt too, and bring the
# library of the token, for Debian, into the last stage.
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund \
 && npm rebuild better-sqlite3
# What no running service needs: sources and objects of SQLite, and Prisma's compilers for other databases.
RUN cd node_modules/better-sqlite3 && rm -rf deps src build/Release/obj* \
 && cd ../@prisma/client/runtime && rm -f *cockroachdb* *mysql* *sqlserver* query_compiler_small*

FROM build AS service
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json ./
COPY prisma prisma
COPY src src
RUN npm run build

FROM node:24-trixie-slim
LABEL org.opencontainers.image.title="hgs-ca" \
      org.opencontainers.image.description="Certificates for Microsoft's Host Guardian Service, issued over HTTP from an internal certification authority." \
      org.opencontainers.image.licenses="MIT"
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY --from=service /app/dist dist
COPY package.json ./
COPY prisma prisma
COPY openapi openapi
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data
ENV NODE_ENV=production \
    HGSCA_DATA_DIR=/data
VOLUME /data
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# Ready means: the database answers and the key of the authority signs.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["node", "-e", "\
  const { HGSCA_HOST, HGSCA_PORT = '8080', HGSCA_TLS_CERTIFICATE_FILE } = process.env;\
  const host = [undefined, '', '0.0.0.0', '::'].includes(HGSCA_HOST) ? '127.0.0.1' : HGSCA_HOST;\
  const { get } = require(HGSCA_TLS_CERTIFICATE_FILE ? 'node:https' : 'node:http');\
  get({ host, port: HGSCA_PORT, path: '/readyz', rejectUnauthorized: false }, ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1))\
    .on('error', () => process.exit(1))"]
CMD ["node", "dist/main.js"]
