# .dockerignore: patterns, exceptions, order
FROM base
COPY . /c
COPY do* /d/
