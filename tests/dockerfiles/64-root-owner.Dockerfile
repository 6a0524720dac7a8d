# The root folder itself changes
FROM base
RUN chmod 711 / && chown 1:2 /
