# Capabilities and attributes of files in the context
FROM base
COPY attributes /a/
COPY --chown=3:4 attributes /b/
