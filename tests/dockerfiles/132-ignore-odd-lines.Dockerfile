# .dockerignore: comments, spaces, empty lines, dots, a byte order mark
FROM base
COPY . /c
