# COPY of empty folders, of an empty context part
FROM base
COPY empty /e1
COPY empty /e2/
COPY empty empty /e3/
COPY --chown=app empty /e4/e5
ADD empty /e6
