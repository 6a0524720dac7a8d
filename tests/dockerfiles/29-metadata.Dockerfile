# LABEL, EXPOSE, VOLUME, STOPSIGNAL, HEALTHCHECK, MAINTAINER
FROM base
LABEL a=1 "b c"="d e" f='g' h="i\
j" k=$BASE l='$BASE' m="x=y"
LABEL of=overridden empty=
LABEL old form
EXPOSE 80 53/udp 8000-8002 443/TCP
ARG PORT=99
EXPOSE $PORT ${PORT}/udp
VOLUME /v
VOLUME ["/x", "/y z"]
VOLUME /p /q
STOPSIGNAL SIGINT
HEALTHCHECK --interval=7s --timeout=3s --start-period=1m --start-interval=2s --retries=2 CMD cat /etc/passwd || exit 1
MAINTAINER somebody <some@body>
