# A file with two names in the context and in a stage
FROM base AS one
RUN echo x > /a && ln /a /b && mkdir /d && ln /a /d/c
FROM base
COPY dir /d/
COPY dir/some dir/other /two/
COPY --from=one /a /b /s/
COPY --from=one /d /t/
COPY --from=one / /all/
