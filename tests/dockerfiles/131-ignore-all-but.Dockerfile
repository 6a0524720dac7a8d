# .dockerignore: everything but a few things
FROM base
COPY . /c
COPY dir* one* /d/
