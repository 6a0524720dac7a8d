# Files that nobody may read, and setuid through copies
FROM base AS one
RUN echo x > /m && chmod 0 /m && echo y > /s && chmod 6711 /s && mkdir -m 2750 /g && touch /g/f && chown 3:4 /s /g
FROM base
COPY --from=one /m /s /
COPY --from=one /g /g
COPY --from=one --chown=5:6 /s /s2
COPY --from=one --chmod=0755 /s /m /c/
COPY strange /strange
