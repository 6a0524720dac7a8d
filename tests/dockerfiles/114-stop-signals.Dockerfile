# STOPSIGNAL: a number, a name, from a variable
FROM base AS one
STOPSIGNAL 9
FROM base
COPY --from=one / /other
ARG S=usr1
STOPSIGNAL SIG$S
